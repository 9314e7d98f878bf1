//! The way in for datagrams that do not come from a socket: HTTP ingest, replay of captures, tests. Same framing, same
//! accounts, same queue.

use crossbeam_channel::Receiver;

use super::framer::{Framer, Reject};
use super::slab::{Outlet, Receipt, Slab};
use crate::flow::Addr;
use crate::flow::time::now_ms;
use crate::wire::{self, Header};

/// Puts datagrams into the queue. Not shared between threads; streams of two injectors are followed apart.
#[derive(Debug)]
pub struct Injector {
    framer: Framer,
    slab: Option<Slab>,
    outlet: Outlet,
}

/// Every slab is in use: the workers are behind. Nothing was taken or counted; try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue to the workers is full")]
pub struct Busy;

/// What became of a body of datagrams.
#[derive(Debug)]
pub struct Ingested {
    /// Well-formed datagrams.
    pub accepted_datagrams: u64,
    /// Records that they hold.
    pub accepted_flows: u64,
    /// What was not taken.
    pub rejected: Vec<Rejected>,
    /// One per slab: tells when its flows stand in the log.
    pub receipts: Vec<Receiver<Receipt>>,
}

/// A part of a body that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where it begins, bytes.
    pub offset: usize,
    /// Why.
    pub reason: BodyReject,
}

/// Why a part of a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyReject {
    /// Dropped as it would be on a socket.
    #[error(transparent)]
    Datagram(#[from] Reject),
    /// The body ends before the datagram does; what follows cannot be told apart.
    #[error("the datagram needs {needs} bytes, the body has {has} left")]
    Short {
        /// Bytes of header and announced records.
        needs: usize,
        /// Bytes left.
        has: usize,
    },
}

impl Injector {
    pub(super) fn new(framer: Framer, outlet: Outlet) -> Self {
        Self { framer, slab: None, outlet }
    }

    /// Puts one datagram in. It goes to the workers when its slab is full or [`Injector::flush`] is called.
    ///
    /// # Errors
    /// [`Busy`] when there is no slab for it. The inner result says whether the datagram was taken, and its records.
    pub fn push(
        &mut self,
        exporter: Addr,
        source_port: u16,
        received_at_ms: i64,
        datagram: &[u8],
    ) -> Result<Result<u16, Reject>, Busy> {
        let datagram = self.cut(datagram);
        if self.slab.as_ref().is_some_and(|slab| !slab.has_room(datagram.len())) {
            self.flush()?;
        }
        let slab = match &mut self.slab {
            Some(slab) => slab,
            None => self.slab.insert(self.outlet.pool.take().ok_or(Busy)?),
        };
        self.framer.tick(received_at_ms, Some(slab));
        Ok(self.framer.push(slab, exporter, source_port, received_at_ms, datagram))
    }

    /// Sends off what was put in. Gives the receipt of the slab, `None` when there was nothing.
    ///
    /// # Errors
    /// [`Busy`] when the queue does not take it; the datagrams stay here.
    pub fn flush(&mut self) -> Result<Option<Receiver<Receipt>>, Busy> {
        match self.slab.take() {
            Some(slab) if !slab.is_empty() => self.send(slab).map(Some),
            other => {
                self.slab = other;
                Ok(None)
            }
        }
    }

    /// Takes a body of datagrams back to back, each header + count x record long; all of it or, when the queue is full,
    /// nothing. The first part that cannot be told apart ends it.
    ///
    /// # Errors
    /// [`Busy`]; nothing was taken or counted.
    pub fn ingest(
        &mut self,
        exporter: Addr,
        source_port: u16,
        received_at_ms: i64,
        body: &[u8],
    ) -> Result<Ingested, Busy> {
        self.flush()?;
        let mut empty = self.reserve(body.len())?;
        let mut report =
            Ingested { accepted_datagrams: 0, accepted_flows: 0, rejected: Vec::new(), receipts: Vec::new() };
        self.framer.tick(received_at_ms, self.slab.as_mut());
        let mut offset = 0;
        while offset < body.len() {
            let rest = &body[offset..];
            let length = first_length(rest);
            if length > rest.len() {
                self.framer.reject(exporter, received_at_ms, rest);
                report.rejected.push(Rejected { offset, reason: BodyReject::Short { needs: length, has: rest.len() } });
                break;
            }
            let datagram = self.cut(&rest[..length]);
            if self.slab.as_ref().is_some_and(|slab| !slab.has_room(datagram.len())) {
                report.receipts.extend(self.flush()?);
            }
            let slab = match &mut self.slab {
                Some(slab) => slab,
                None => self.slab.insert(empty.pop().ok_or(Busy)?),
            };
            match self.framer.push(slab, exporter, source_port, received_at_ms, datagram) {
                Ok(records) => {
                    report.accepted_datagrams += 1;
                    report.accepted_flows += u64::from(records);
                }
                Err(reason) => report.rejected.push(Rejected { offset, reason: reason.into() }),
            }
            offset += length;
        }
        empty.into_iter().for_each(|slab| self.outlet.pool.give(slab));
        report.receipts.extend(self.flush()?);
        Ok(report)
    }

    /// Slabs for a body of this length, however its datagrams fall.
    fn reserve(&self, body_bytes: usize) -> Result<Vec<Slab>, Busy> {
        let needed = 2 * (body_bytes / self.outlet.pool.slab_bytes().max(1)) + 1;
        let mut slabs = Vec::with_capacity(needed.min(self.outlet.pool.slabs_max()));
        while slabs.len() < needed {
            match self.outlet.pool.take() {
                Some(slab) => slabs.push(slab),
                None => {
                    slabs.into_iter().for_each(|slab| self.outlet.pool.give(slab));
                    return Err(Busy);
                }
            }
        }
        Ok(slabs)
    }

    /// What of a datagram fits into a slab: all of it, but for bodies and captures with absurd counts.
    fn cut<'a>(&self, datagram: &'a [u8]) -> &'a [u8] {
        &datagram[..datagram.len().min(self.outlet.pool.slab_bytes())]
    }

    fn send(&mut self, mut slab: Slab) -> Result<Receiver<Receipt>, Busy> {
        let (ticket, receipt) = crossbeam_channel::bounded(1);
        slab.set_ticket(ticket);
        match self.outlet.filled.try_send(slab) {
            Ok(()) => {
                self.framer.slab_sent();
                Ok(receipt)
            }
            Err(refused) => {
                self.slab = Some(refused.into_inner());
                Err(Busy)
            }
        }
    }
}

/// Bytes that the first datagram of a body says it takes; the whole rest when its version is unknown.
fn first_length(rest: &[u8]) -> usize {
    let version = rest.get(..2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    match (wire::lengths(version), Header::parse(rest)) {
        (Some((header_bytes, record_bytes)), Some(header)) => header_bytes + usize::from(header.count) * record_bytes,
        (Some((header_bytes, _)), None) => header_bytes,
        (None, _) => rest.len(),
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        if self.framer.has_losses_to_tell()
            && let Some(mut slab) = self.slab.take().or_else(|| self.outlet.pool.take())
        {
            self.framer.finish(now_ms(), &mut slab);
            self.slab = Some(slab);
        }
        if self.flush().is_err()
            && let Some(slab) = self.slab.take()
        {
            self.framer.slab_dropped(&slab);
            self.outlet.pool.give(slab);
        }
    }
}
