//! Framing: allow-list, version and header check, sequence accounting, one [`Frame`] per well-formed datagram.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::config::Protocol;
use super::sequence::{JUMP_MAX, Sequence};
use super::slab::{Slab, SlabStream};
use super::stream::Stream;
use crate::flow::Addr;
use crate::telemetry::ledger::{Account, Ledger};
use crate::wire::{self, Header};

/// Streams that one framer follows; the idlest go when more come. Spoofed sources cannot fill the memory.
pub const STREAMS_MAX: usize = 8192;
/// Part of the streams that goes at once, so that a flood of new ones pays for one sweep in many.
const STREAMS_EVICTED: usize = STREAMS_MAX / 8;
/// Accounts of exporters without a well-formed datagram that one framer remembers.
const STRANGERS_MAX: usize = 1024;

/// Identity of an export stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The exporter's address.
    pub exporter: Addr,
    /// The exporter's UDP source port.
    pub source_port: u16,
    /// Export protocol version.
    pub version: u8,
    /// Engine type and id (v5).
    pub source_id: u32,
}

/// Where the streams stood when the collector last stopped: the number expected next, by stream.
#[derive(Debug, Default)]
pub struct Restored(Mutex<HashMap<StreamKey, u32>>);

impl Restored {
    /// From what the log and the state store remember.
    pub fn new(streams: impl IntoIterator<Item = (StreamKey, u32)>) -> Self {
        Self(Mutex::new(streams.into_iter().collect()))
    }

    fn take(&self, key: &StreamKey) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }
}

/// Who may send what. Replaced as a whole on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Empty = everybody.
    allow: Vec<IpNet>,
    protocols: Vec<Protocol>,
}

impl Admission {
    /// From the configuration's lists.
    pub fn new(allow: &[IpNet], protocols: &[Protocol]) -> Self {
        Self { allow: allow.to_vec(), protocols: protocols.to_vec() }
    }

    fn allows(&self, exporter: Addr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&exporter.to_ip()))
    }

    fn accepts(&self, version: u16) -> bool {
        self.protocols.iter().any(|protocol| protocol.version() == version)
    }
}

/// Why a datagram was dropped whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Shorter than the header of its version.
    #[error("shorter than its header")]
    Malformed,
    /// A version that is unknown or not accepted.
    #[error("version {0} is not accepted")]
    UnknownVersion(u16),
    /// The exporter is not on the allow-list.
    #[error("the exporter is not on the allow-list")]
    NotAllowed,
}

/// Frames the datagrams of one socket, one injector or one test. Not shared: order within a stream is all.
#[derive(Debug)]
pub struct Framer {
    streams: hashbrown::HashMap<StreamKey, Stream, foldhash::fast::RandomState>,
    strangers: HashMap<Addr, Arc<Account>>,
    ledger: Arc<Ledger>,
    restored: Arc<Restored>,
    admission: Arc<ArcSwap<Admission>>,
    admitted: Arc<Admission>,
    slab_serial: u64,
    holes_open: bool,
}

impl Framer {
    /// A framer that knows no stream yet.
    pub fn new(ledger: Arc<Ledger>, admission: Arc<ArcSwap<Admission>>, restored: Arc<Restored>) -> Self {
        let admitted = admission.load_full();
        Self {
            streams: hashbrown::HashMap::default(),
            strangers: HashMap::new(),
            ledger,
            restored,
            admission,
            admitted,
            slab_serial: 1,
            holes_open: false,
        }
    }

    /// To be called now and then (the receivers do after each `recvmmsg`): takes over a changed allow-list, gives up holes
    /// that waited long enough. The slab that is being filled tells the log; without one the stream's next progress does.
    pub fn tick(&mut self, now_ms: i64, mut slab: Option<&mut Slab>) {
        if !std::ptr::eq(Arc::as_ptr(&self.admission.load()), Arc::as_ptr(&self.admitted)) {
            self.admitted = self.admission.load_full();
            let admitted = &self.admitted;
            self.streams.retain(|key, _| admitted.allows(key.exporter) && admitted.accepts(u16::from(key.version)));
        }
        if self.holes_open {
            self.holes_open = false;
            for (key, stream) in &mut self.streams {
                if let Some(sequence) = stream.sequence.as_mut().filter(|sequence| sequence.has_holes()) {
                    let lost = sequence.expire(now_ms);
                    self.holes_open |= sequence.has_holes();
                    stream.carry(lost);
                    if let Some(slab) = slab.as_deref_mut().filter(|_| lost > 0) {
                        stream.tell(*key, now_ms, (slab, self.slab_serial));
                    }
                }
            }
        }
    }

    /// Frames one datagram into the slab, which has room for it; gives the number of records it holds.
    ///
    /// # Errors
    /// Why the datagram was dropped; it is counted.
    pub fn push(
        &mut self,
        slab: &mut Slab,
        exporter: Addr,
        source_port: u16,
        received_at_ms: i64,
        datagram: &[u8],
    ) -> Result<u16, Reject> {
        let mut header = match Header::parse(datagram) {
            Some(header) if self.admitted.accepts(header.version) => header,
            _ => return Err(self.reject(exporter, received_at_ms, datagram)),
        };
        let key = StreamKey { exporter, source_port, version: header.version as u8, source_id: header.source_id() };
        let stream = match self.streams.get_mut(&key) {
            Some(stream) => stream,
            None => {
                let stream = self.open_stream(key, &header, received_at_ms, datagram, slab)?;
                self.streams.entry(key).or_insert(stream)
            }
        };
        if !header.is_possible() {
            // What it announces is no count of anything: if records are missing, the next datagram's number tells.
            header.count = wire::records_in(header.version, datagram.len()) as u16;
            stream.account.count_replaced.add(1);
        }
        let records = stream.frame(key, &header, received_at_ms, datagram, (slab, self.slab_serial));
        self.holes_open |= stream.sequence.as_ref().is_some_and(Sequence::has_holes);
        Ok(records)
    }

    /// The slab that was filled goes to the workers; the next datagram begins another.
    pub fn slab_sent(&mut self) {
        self.slab_serial += 1;
    }

    /// The slab that was filled is dropped because the queue is full: counts what was in it.
    pub fn slab_dropped(&mut self, slab: &Slab) {
        self.slab_serial += 1;
        for SlabStream { progress, losses, account } in slab.streams() {
            account.queue_full_datagrams.add(u64::from(progress.datagrams));
            account.queue_full_flows.add(u64::from(progress.flows));
            let key = StreamKey {
                exporter: progress.exporter,
                source_port: progress.source_port,
                version: progress.version,
                source_id: progress.source_id,
            };
            if let Some(stream) = self.streams.get_mut(&key) {
                let units = progress.sequence_units.wrapping_add(progress.gap);
                stream.carried_gap = stream.carried_gap.wrapping_add(units);
                stream.carried_losses += *losses;
            }
        }
    }

    /// The end: what still waits in holes is lost, and the slab tells the log so.
    pub fn finish(&mut self, now_ms: i64, slab: &mut Slab) {
        for (key, stream) in &mut self.streams {
            stream.finish(*key, now_ms, (slab, self.slab_serial));
        }
        self.holes_open = false;
    }

    /// Whether [`Framer::finish`] has anything to tell.
    pub fn has_losses_to_tell(&self) -> bool {
        self.streams.values().any(Stream::has_losses_to_tell)
    }

    /// Streams followed.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    fn open_stream(
        &mut self,
        key: StreamKey,
        header: &Header,
        now_ms: i64,
        datagram: &[u8],
        slab: &mut Slab,
    ) -> Result<Stream, Reject> {
        if !self.admitted.allows(key.exporter) {
            return Err(self.reject(key.exporter, now_ms, datagram));
        }
        if self.streams.len() >= STREAMS_MAX {
            self.evict(now_ms, slab);
        }
        self.strangers.remove(&key.exporter);
        let account = self.ledger.account(key.exporter.to_ip());
        if account.first_seen_ms.get() == 0 {
            account.first_seen_ms.set(now_ms);
        }
        // Stands in the next record, so that a later start does not find the same hole again; a jump back or far ahead is
        // told too, but is a restart of the exporter and no loss.
        let expected = self.restored.take(&key).filter(|_| header.has_sequence()).unwrap_or(header.sequence);
        let ahead = header.sequence.wrapping_sub(expected) as i32;
        let crash = if (1..=JUMP_MAX).contains(&ahead) { ahead as u64 } else { 0 };
        Ok(Stream::new(account, now_ms, ahead, crash))
    }

    /// Drops the streams that were idle longest.
    fn evict(&mut self, now_ms: i64, slab: &mut Slab) {
        let mut seen: Vec<i64> = self.streams.values().map(|stream| stream.last_seen_ms).collect();
        let (_, cutoff, _) = seen.select_nth_unstable(STREAMS_EVICTED);
        let (cutoff, mut left) = (*cutoff, STREAMS_EVICTED);
        self.streams.retain(|key, stream| {
            let goes = stream.last_seen_ms <= cutoff && left > 0;
            if goes {
                left -= 1;
                stream.finish(*key, now_ms, (slab, self.slab_serial));
            }
            !goes
        });
    }

    /// Counts a datagram that is dropped whole, and says why.
    pub(super) fn reject(&mut self, exporter: Addr, now_ms: i64, datagram: &[u8]) -> Reject {
        let allowed = self.admitted.allows(exporter);
        // Whoever is not allowed gets no account: spoofed sources would use up those of real exporters.
        let owner = if allowed { exporter } else { Addr::from(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) };
        if self.strangers.len() >= STRANGERS_MAX {
            self.strangers.clear();
        }
        let ledger = &self.ledger;
        let account = self.strangers.entry(owner).or_insert_with(|| ledger.account(owner.to_ip()));
        account.datagrams.add(1);
        account.datagram_bytes.add(datagram.len() as u64);
        account.last_seen_ms.set(now_ms);
        let version = datagram.get(..2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
        if !allowed {
            account.not_allowed.add(1);
            Reject::NotAllowed
        } else if datagram.len() >= 2 && (wire::lengths(version).is_none() || !self.admitted.accepts(version)) {
            account.unknown_version.add(1);
            self.ledger.malformed.push(now_ms, exporter, datagram, || format!("version {version} is not accepted"));
            Reject::UnknownVersion(version)
        } else {
            account.malformed.add(1);
            let reason = || format!("{} bytes are no datagram of version {version}", datagram.len());
            self.ledger.malformed.push(now_ms, exporter, datagram, reason);
            Reject::Malformed
        }
    }
}
