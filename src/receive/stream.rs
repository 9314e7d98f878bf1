//! One export stream: its numbers, and what of it the slab that is being filled tells.

use std::sync::Arc;

use super::framer::StreamKey;
use super::sequence::{Numbering, Sequence, Step};
use super::slab::{Frame, Losses, Slab, SlabStream};
use crate::flow::StreamProgress;
use crate::telemetry::ledger::Account;
use crate::wire::{self, Header};

/// One export stream as its framer knows it.
#[derive(Debug)]
pub(super) struct Stream {
    pub account: Arc<Account>,
    /// `None` for versions without numbers.
    pub sequence: Option<Sequence>,
    pub last_seen_ms: i64,
    /// Its entry in the slab with this serial.
    slab_serial: u64,
    slab_index: u32,
    /// Stands in the next progress: units of dropped slabs, of holes given up between datagrams, of the time before the
    /// start.
    pub carried_gap: u32,
    /// The part of it that is loss.
    pub carried_losses: Losses,
}

impl Stream {
    /// A stream without a datagram yet, `ahead` numbers after where it stood when the collector last stopped; `crash` of them
    /// are loss.
    pub fn new(account: Arc<Account>, now_ms: i64, ahead: i32, crash: u64) -> Self {
        Self {
            account,
            sequence: None,
            last_seen_ms: now_ms,
            slab_serial: 0,
            slab_index: 0,
            carried_gap: ahead as u32,
            carried_losses: Losses { gap: 0, crash },
        }
    }

    /// Frames one datagram into the slab with this serial; gives the records it holds.
    pub fn frame(
        &mut self,
        key: StreamKey,
        header: &Header,
        received_at_ms: i64,
        datagram: &[u8],
        (slab, slab_serial): (&mut Slab, u64),
    ) -> u16 {
        let known = self.known_before(header);
        let step = self.observe(header, received_at_ms);
        let (records, used_bytes) = self.account_for(header, datagram.len(), received_at_ms);
        self.enter(key, known, received_at_ms, (slab, slab_serial));
        if let Some(entry) = slab.streams_mut().get_mut(self.slab_index as usize) {
            let progress = &mut entry.progress;
            progress.next_sequence = self.sequence.as_ref().map_or(0, Sequence::next);
            progress.sequence_units = progress.sequence_units.wrapping_add(step.units);
            progress.gap = progress.gap.wrapping_add(step.gap);
            progress.datagrams += 1;
            progress.flows += u32::from(records);
            entry.losses.gap += step.lost;
        }
        if records > 0 {
            let frame = Frame { offset: 0, stream: self.slab_index, header: *header, records, received_at_ms };
            slab.add(frame, &datagram[..used_bytes]);
        }
        records
    }

    fn observe(&mut self, header: &Header, now_ms: i64) -> Step {
        self.last_seen_ms = now_ms;
        if !header.has_sequence() {
            return Step::default();
        }
        let Some(sequence) = &mut self.sequence else {
            self.sequence = Some(Sequence::new(header));
            return Step { units: u32::from(header.count), ..Step::default() };
        };
        let before = sequence.numbering();
        let step = sequence.observe(header, now_ms);
        if step != (Step { units: step.units, ..Step::default() }) {
            self.account.reordered.add(u64::from(step.reordered));
            self.account.restarts.add(u64::from(step.restarted));
        }
        if sequence.numbering() != before {
            let counts_datagrams = sequence.numbering() == Numbering::Datagrams;
            self.account.sequence_counts_datagrams.set(i64::from(counts_datagrams));
        }
        step
    }

    /// Counts a well-formed datagram; gives the records it holds and the bytes that header and records take.
    fn account_for(&self, header: &Header, length: usize, now_ms: i64) -> (u16, usize) {
        let (header_bytes, record_bytes) = wire::lengths(header.version).unwrap_or((length, 1));
        let records = wire::records_in(header.version, length).min(usize::from(header.count)) as u16;
        let account = &*self.account;
        account.datagrams.add(1);
        account.datagram_bytes.add(length as u64);
        account.flows.add(u64::from(header.count));
        account.last_seen_ms.set(now_ms);
        account.version.set(i64::from(header.version));
        if records < header.count {
            account.torn_flows.add(u64::from(header.count - records));
        }
        let used_bytes = header_bytes + usize::from(records) * record_bytes;
        if length > used_bytes && records == header.count {
            account.long_datagrams.add(1);
        }
        (records, used_bytes)
    }

    /// The number up to which everything was told, but for open holes, before this datagram.
    fn known_before(&self, header: &Header) -> Option<u32> {
        let known = |sequence: &Sequence| sequence.next().wrapping_sub(sequence.open_units());
        header.has_sequence().then(|| self.sequence.as_ref().map_or(header.sequence, known))
    }

    /// Enters the stream into the slab unless it is there, and what it carries into its progress. `known` is the number up
    /// to which everything was told or is carried; `None` for versions without numbers.
    fn enter(&mut self, key: StreamKey, known: Option<u32>, now_ms: i64, (slab, slab_serial): (&mut Slab, u64)) {
        slab.touch(now_ms);
        if self.slab_serial != slab_serial {
            self.slab_serial = slab_serial;
            let progress = StreamProgress {
                exporter: key.exporter,
                source_port: key.source_port,
                version: key.version,
                source_id: key.source_id,
                has_sequence: known.is_some(),
                first_sequence: known.unwrap_or(0).wrapping_sub(self.carried_gap),
                next_sequence: known.unwrap_or(0),
                sequence_units: 0,
                gap: 0,
                datagrams: 0,
                flows: 0,
            };
            self.slab_index =
                slab.add_stream(SlabStream { progress, losses: Losses::default(), account: self.account.clone() });
        }
        if let Some(entry) = slab.streams_mut().get_mut(self.slab_index as usize) {
            entry.progress.gap = entry.progress.gap.wrapping_add(std::mem::take(&mut self.carried_gap));
            entry.losses += std::mem::take(&mut self.carried_losses);
        }
    }

    /// Puts what it carries into the slab, without a datagram.
    pub fn tell(&mut self, key: StreamKey, now_ms: i64, slab: (&mut Slab, u64)) {
        let known = self.sequence.as_ref().map(|sequence| sequence.next().wrapping_sub(sequence.open_units()));
        self.enter(key, known, now_ms, slab);
    }

    pub fn carry(&mut self, lost: u64) {
        self.carried_gap = self.carried_gap.wrapping_add(lost as u32);
        self.carried_losses.gap += lost;
    }

    pub fn has_losses_to_tell(&self) -> bool {
        self.carried_gap != 0 || self.sequence.as_ref().is_some_and(Sequence::has_holes)
    }

    /// Gives up its holes and tells the slab.
    pub fn finish(&mut self, key: StreamKey, now_ms: i64, slab: (&mut Slab, u64)) {
        if self.has_losses_to_tell() {
            let lost = self.sequence.as_mut().map_or(0, Sequence::finish);
            self.carry(lost);
            self.tell(key, now_ms, slab);
        }
    }
}
