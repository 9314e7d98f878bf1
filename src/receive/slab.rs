//! Slabs: pooled buffers in which whole datagrams travel from the receivers to the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use crossbeam_queue::ArrayQueue;

use crate::flow::StreamProgress;
use crate::telemetry::Exposition;
use crate::telemetry::ledger::Account;
use crate::wire::Header;

/// Packed datagrams with one [`Frame`] each, and the streams that they belong to.
#[derive(Debug)]
pub struct Slab {
    bytes: Box<[u8]>,
    used_bytes: usize,
    frames: Vec<Frame>,
    streams: Vec<SlabStream>,
    flows: u64,
    first_received_ms: i64,
    ticket: Option<Ticket>,
}

/// One well-formed datagram of a slab.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Where the datagram begins in the slab, bytes.
    pub offset: u32,
    /// Its stream: index into [`Slab::streams`].
    pub stream: u32,
    /// Its header.
    pub header: Header,
    /// Whole records that it holds and announces; they follow the header without gaps.
    pub records: u16,
    /// When it came, ms since the Unix epoch.
    pub received_at_ms: i64,
}

/// A stream that has datagrams in a slab, or losses to tell.
#[derive(Clone, Debug)]
pub struct SlabStream {
    /// Its progress; `flows` counts records before decoding.
    pub progress: StreamProgress,
    /// What its progress says is lost. Booked in the account once the log holds the progress: a collector that dies before
    /// finds the loss again at its next start, and counts it then.
    pub losses: Losses,
    /// The exporter's account.
    pub account: Arc<Account>,
}

/// Sequence units that never arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// On the way.
    pub gap: u64,
    /// While no collector ran, or with the one before.
    pub crash: u64,
}

impl SlabStream {
    /// Books what its progress says is lost.
    pub fn book_losses(&self) {
        let Losses { gap, crash } = self.losses;
        if self.losses != Losses::default() {
            self.account.sequence_gap.add(gap);
            self.account.lost_in_crash.add(crash);
        }
    }

    /// What is left of it when its datagrams are dropped: their units become a gap in what the log is told next.
    pub fn into_gap(mut self) -> Self {
        let progress = &mut self.progress;
        progress.gap = progress.gap.wrapping_add(std::mem::take(&mut progress.sequence_units));
        (progress.datagrams, progress.flows) = (0, 0);
        self
    }

    /// Whether both are of one stream.
    pub fn is_of_stream(&self, other: &Self) -> bool {
        let key = |p: &StreamProgress| (p.exporter, p.source_port, p.version, p.source_id);
        key(&self.progress) == key(&other.progress)
    }

    /// Adds what another slab tells of the same stream.
    pub fn merge(&mut self, other: &Self) {
        let (mine, its) = (&mut self.progress, &other.progress);
        mine.next_sequence = its.next_sequence;
        mine.sequence_units = mine.sequence_units.wrapping_add(its.sequence_units);
        mine.gap = mine.gap.wrapping_add(its.gap);
        mine.datagrams += its.datagrams;
        mine.flows += its.flows;
        self.losses += other.losses;
    }
}

impl std::ops::AddAssign for Losses {
    fn add_assign(&mut self, other: Self) {
        self.gap += other.gap;
        self.crash += other.crash;
    }
}

/// What became of a slab that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Its flows stand in the log up to this position.
    Logged(u64),
    /// The log refused them.
    Refused,
}

type Ticket = Sender<Receipt>;

impl Slab {
    fn new(bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes].into_boxed_slice(),
            used_bytes: 0,
            frames: Vec::new(),
            streams: Vec::new(),
            flows: 0,
            first_received_ms: 0,
            ticket: None,
        }
    }

    /// The framed datagrams, in order of receipt.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The streams of its datagrams, and those with losses to tell.
    pub fn streams(&self) -> &[SlabStream] {
        &self.streams
    }

    /// The streams, for booking gaps of slabs before.
    pub(super) fn streams_mut(&mut self) -> &mut Vec<SlabStream> {
        &mut self.streams
    }

    /// The datagrams' bytes, one after another.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used_bytes]
    }

    /// Records that its frames hold.
    pub fn flows(&self) -> u64 {
        self.flows
    }

    /// When its first datagram came, ms since the Unix epoch; 0 while it is empty.
    pub fn first_received_ms(&self) -> i64 {
        self.first_received_ms
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether a datagram of this length fits.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() - self.used_bytes >= bytes
    }

    /// Tells who waits for this slab, if anybody, what became of it. A slab that is given back without this counts as
    /// refused.
    pub fn acknowledge(&mut self, receipt: Receipt) {
        if let Some(ticket) = self.ticket.take() {
            // Whoever waited may have gone.
            let _ = ticket.try_send(receipt);
        }
    }

    pub(super) fn set_ticket(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    /// Notes that a datagram of some stream came.
    pub(super) fn touch(&mut self, received_at_ms: i64) {
        if self.first_received_ms == 0 {
            self.first_received_ms = received_at_ms;
        }
    }

    /// Adds a stream; gives its index.
    pub(super) fn add_stream(&mut self, stream: SlabStream) -> u32 {
        self.streams.push(stream);
        self.streams.len() as u32 - 1
    }

    /// Copies a datagram in. The caller has asked [`Slab::has_room`]; a datagram that does not fit is left out.
    pub(super) fn add(&mut self, mut frame: Frame, datagram: &[u8]) {
        let end = self.used_bytes + datagram.len();
        let Some(room) = self.bytes.get_mut(self.used_bytes..end) else { return };
        room.copy_from_slice(datagram);
        frame.offset = self.used_bytes as u32;
        self.used_bytes = end;
        self.flows += u64::from(frame.records);
        self.frames.push(frame);
    }

    /// Forgets what is in it, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.used_bytes = 0;
        self.frames.clear();
        self.streams.clear();
        self.flows = 0;
        self.first_received_ms = 0;
        self.ticket = None;
    }
}

/// The slabs of the process: a bounded number, each either free, being filled, queued or with a worker.
#[derive(Debug)]
pub struct Pool {
    free: ArrayQueue<Slab>,
    made: AtomicUsize,
    slabs_max: usize,
    slab_bytes: usize,
}

impl Pool {
    /// A pool of at most `slabs_max` slabs, made when first needed.
    pub fn new(slabs_max: usize, slab_bytes: usize) -> Self {
        Self { free: ArrayQueue::new(slabs_max.max(1)), made: AtomicUsize::new(0), slabs_max, slab_bytes }
    }

    /// An empty slab, `None` when all are in use.
    pub fn take(&self) -> Option<Slab> {
        if let Some(slab) = self.free.pop() {
            return Some(slab);
        }
        let made = self.made.fetch_update(Relaxed, Relaxed, |made| (made < self.slabs_max).then_some(made + 1));
        match made {
            Ok(_) => Some(Slab::new(self.slab_bytes)),
            // One may have come back since.
            Err(_) => self.free.pop(),
        }
    }

    /// Takes a slab back.
    pub fn give(&self, mut slab: Slab) {
        slab.clear();
        // There is room for every slab that exists.
        let _ = self.free.push(slab);
    }

    /// Slabs that exist at most.
    pub fn slabs_max(&self) -> usize {
        self.slabs_max
    }

    /// Size of each, bytes.
    pub fn slab_bytes(&self) -> usize {
        self.slab_bytes
    }
}

/// The workers' end: filled slabs come out, empty ones go back.
#[derive(Clone, Debug)]
pub struct SlabQueue {
    pub(super) filled: Receiver<Slab>,
    pub(super) pool: Arc<Pool>,
}

/// What [`SlabQueue::take`] found.
#[derive(Debug)]
pub enum Taken {
    /// A filled slab.
    Slab(Slab),
    /// None came in time.
    Nothing,
    /// None will come any more.
    Closed,
}

impl SlabQueue {
    /// The next slab, waiting for one at most this long.
    pub fn take(&self, wait: Duration) -> Taken {
        match self.filled.recv_timeout(wait) {
            Ok(slab) => Taken::Slab(slab),
            Err(RecvTimeoutError::Timeout) => Taken::Nothing,
            Err(RecvTimeoutError::Disconnected) => Taken::Closed,
        }
    }

    /// Gives a slab back.
    pub fn recycle(&self, slab: Slab) {
        self.pool.give(slab);
    }

    /// Slabs that wait for a worker.
    pub fn waiting(&self) -> usize {
        self.filled.len()
    }

    /// Adds the queue to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        let queued = self.waiting() as f64;
        out.gauge("netflow_receive_queue_slabs", "Slabs that wait for a worker.", &[], queued);
        let limit = self.slabs_max() as f64;
        out.gauge("netflow_receive_queue_slabs_max", "Slabs that exist at most.", &[], limit);
    }

    /// Slabs that exist at most.
    pub fn slabs_max(&self) -> usize {
        self.pool.slabs_max()
    }
}

/// The receivers' end.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    pub filled: Sender<Slab>,
    pub pool: Arc<Pool>,
}

/// A pool and both ends of its queue.
pub(super) fn queue(slabs_max: usize, slab_bytes: usize) -> (Outlet, SlabQueue) {
    let pool = Arc::new(Pool::new(slabs_max, slab_bytes));
    let (sender, receiver) = crossbeam_channel::bounded(slabs_max.max(1));
    (Outlet { filled: sender, pool: pool.clone() }, SlabQueue { filled: receiver, pool })
}
