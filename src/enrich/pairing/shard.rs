//! One shard of the waiting records: buckets of 8, the tags of a bucket on one cache line. A full bucket gives up the record
//! that it took in first.

use std::hint::black_box;

/// Records of a bucket: 8 tags of 8 bytes are a cache line.
const WAYS: usize = 8;

/// Bytes a waiting record takes.
pub const ENTRY_BYTES: usize = size_of::<u64>() + size_of::<Slot>();

/// Time after which a record is not taken for the other direction any more, s. Conversations are exported every 15 minutes at
/// the latest by the gateways we know; the other direction comes with the same or the next export.
const WAIT_MAX_S: i32 = 1800;

/// Rows whose buckets are read at once before they are worked on, so that their cache misses overlap.
pub(super) const BLOCK: usize = 16;

/// A record on its way through the table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    /// Hash of the conversation; 0 = has no other direction.
    pub tag: u64,
    /// First packet, ms since the Unix epoch.
    pub start_ms: i64,
    /// When the collector received it, s since the Unix epoch.
    pub seen_s: u32,
    /// Exporter's hash (30 bits), direction, SYN.
    pub who: u32,
    /// Row in its batch, or [`Waiting::PAIRED`].
    pub row: u32,
}

impl Waiting {
    /// In place of the row of a record that is done with.
    pub const PAIRED: u32 = u32::MAX;

    pub fn who(exporter: u32, forward: bool, syn: bool) -> u32 {
        exporter << 2 | u32::from(forward) << 1 | u32::from(syn)
    }

    pub fn exporter(&self) -> u32 {
        self.who >> 2
    }

    pub fn has_syn(&self) -> bool {
        self.who & 1 != 0
    }

    pub fn is_opposite(&self, other: &Self) -> bool {
        (self.who ^ other.who) & 2 != 0
    }
}

/// What became of a row.
pub(super) enum Found {
    /// It is the later record of a conversation; this is the earlier one.
    Pair(Waiting),
    /// It took the place of another.
    Evicted,
}

/// What is kept of a waiting record beside its tag.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    start_ms: i64,
    seen_s: u32,
    who: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Tags([u64; WAYS]);

/// Buckets of one shard.
#[derive(Debug)]
pub(super) struct Shard {
    buckets: usize,
    /// Empty until the first record comes.
    tags: Vec<Tags>,
    slots: Vec<[Slot; WAYS]>,
    /// The way of each bucket that was filled first.
    oldest: Vec<u8>,
    waiting: usize,
}

impl Shard {
    pub fn new(entries: usize) -> Self {
        let buckets = (entries / WAYS).max(1);
        Self { buckets, tags: Vec::new(), slots: Vec::new(), oldest: Vec::new(), waiting: 0 }
    }

    pub fn bytes_max(&self) -> usize {
        self.buckets * (WAYS * ENTRY_BYTES + 1)
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes in a block of rows in order; tells what became of those that found something.
    pub fn take(&mut self, block: &[Waiting], mut found: impl FnMut(&Waiting, Found)) {
        if self.tags.is_empty() {
            self.tags = vec![Tags::default(); self.buckets];
            self.slots = vec![[Slot::default(); WAYS]; self.buckets];
            self.oldest = vec![0; self.buckets];
        }
        // Independent loads first: their misses run side by side.
        black_box(block.iter().fold(0, |sum, row| sum ^ self.tags[self.bucket(row.tag)].0[0]));
        for row in block.iter().filter(|row| row.row != Waiting::PAIRED) {
            let bucket = self.bucket(row.tag);
            match self.tags[bucket].0.iter().position(|tag| *tag == row.tag) {
                Some(way) => {
                    if let Some(earlier) = self.meet(bucket, way, row) {
                        found(row, Found::Pair(earlier));
                    }
                }
                None => {
                    if self.insert(bucket, row) {
                        found(row, Found::Evicted);
                    }
                }
            }
        }
    }

    /// A record of the same conversation waits: its pair if it is the other direction. Else the row takes its place, but a
    /// start with SYN stays the start.
    fn meet(&mut self, bucket: usize, way: usize, row: &Waiting) -> Option<Waiting> {
        let slot = &mut self.slots[bucket][way];
        let Slot { start_ms, seen_s, who } = *slot;
        let earlier = Waiting { tag: row.tag, start_ms, seen_s, who, row: Waiting::PAIRED };
        let expired = is_expired(seen_s, row.seen_s);
        if earlier.is_opposite(row) && !expired {
            self.tags[bucket].0[way] = 0;
            self.waiting -= 1;
            return Some(earlier);
        }
        let keep_start = earlier.has_syn() && !row.has_syn() && !earlier.is_opposite(row) && !expired;
        if !keep_start {
            (slot.start_ms, slot.who) = (row.start_ms, row.who);
        }
        slot.seen_s = row.seen_s;
        None
    }

    /// Puts a row in a free place, else in that of the oldest. Gives whether a record was lost that might have met its pair.
    fn insert(&mut self, bucket: usize, row: &Waiting) -> bool {
        let tags = &mut self.tags[bucket].0;
        let oldest = &mut self.oldest[bucket];
        let mut way = usize::from(*oldest) % WAYS;
        if tags[way] != 0 {
            way = tags.iter().position(|tag| *tag == 0).unwrap_or(way);
        }
        if way == usize::from(*oldest) % WAYS {
            *oldest = (*oldest + 1) % WAYS as u8;
        }
        let slot = &mut self.slots[bucket][way];
        let taken = tags[way] != 0;
        let lost = taken && !is_expired(slot.seen_s, row.seen_s);
        self.waiting += usize::from(!taken);
        tags[way] = row.tag;
        *slot = Slot { start_ms: row.start_ms, seen_s: row.seen_s, who: row.who };
        lost
    }

    /// By bits that do not choose the shard.
    #[inline]
    fn bucket(&self, tag: u64) -> usize {
        (((tag & u64::from(u32::MAX)) * self.buckets as u64) >> 32) as usize
    }
}

/// Workers take slabs in any order, so an earlier record may have been received later.
fn is_expired(seen_s: u32, now_s: u32) -> bool {
    now_s.wrapping_sub(seen_s) as i32 > WAIT_MAX_S
}
