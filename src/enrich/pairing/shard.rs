//! One shard of the waiting records: buckets of two cache lines that lie side by side, fetched well before they are needed. A
//! full bucket gives up the record that it took in first.

use crate::prefetch::prefetch;

/// Records of a bucket: as many as two cache lines hold.
pub(super) const WAYS: usize = 6;

/// Bytes a waiting record takes, with its share of what a bucket needs.
pub const ENTRY_BYTES: usize = size_of::<Bucket>().div_ceil(WAYS);

/// Time after which a record is not taken for the other direction any more, s. Conversations are exported every 15 minutes at
/// the latest by the gateways we know; the other direction comes with the same or the next export.
const WAIT_MAX_S: i32 = 1800;

/// How many rows ahead buckets are fetched into the cache: what the memory takes to answer.
const ROWS_AHEAD: usize = 48;

/// A record on its way through the table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    /// Hash of the conversation; 0 = has no other direction.
    pub tag: u64,
    /// First packet, ms since the Unix epoch modulo 2^32 (49.7 days): only differences of seconds count, and exports tell ages
    /// up to 24.8 days.
    pub start_ms: u32,
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
    start_ms: u32,
    seen_s: u32,
    who: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(128))]
struct Bucket {
    /// 0 = free.
    tags: [u64; WAYS],
    slots: [Slot; WAYS],
    /// The way that was filled first.
    oldest: u8,
}

const _: () = assert!(size_of::<Bucket>() == 128);

/// Buckets of one shard.
#[derive(Debug)]
pub(super) struct Shard {
    count: usize,
    /// Empty until the first record comes.
    buckets: Vec<Bucket>,
    waiting: usize,
}

impl Shard {
    pub fn new(entries: usize) -> Self {
        Self { count: (entries / WAYS).max(1), buckets: Vec::new(), waiting: 0 }
    }

    pub fn bytes_max(&self) -> usize {
        self.count * size_of::<Bucket>()
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Has the buckets of the first rows, which will be taken in next, fetched into the cache.
    pub fn fetch(&mut self, rows: &[Waiting]) {
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket::default(); self.count];
        }
        rows.iter().take(ROWS_AHEAD).for_each(|row| prefetch(&self.buckets[self.bucket(row.tag)]));
    }

    /// Takes in rows in order, after [`Shard::fetch`]; tells what became of those that found something.
    pub fn take(&mut self, rows: &[Waiting], mut found: impl FnMut(&Waiting, Found)) {
        for (i, row) in rows.iter().enumerate() {
            if let Some(ahead) = rows.get(i + ROWS_AHEAD) {
                prefetch(&self.buckets[self.bucket(ahead.tag)]);
            }
            let at = self.bucket(row.tag);
            let bucket = &mut self.buckets[at];
            let outcome = match bucket.ways_with(row.tag) {
                0 => bucket.insert(row),
                ways => bucket.meet(ways.trailing_zeros() as usize, row),
            };
            match outcome {
                Outcome::Took => self.waiting += 1,
                Outcome::Changed => {}
                Outcome::Met(earlier) => {
                    self.waiting -= 1;
                    found(row, Found::Pair(earlier));
                }
                Outcome::Evicted => found(row, Found::Evicted),
            }
        }
    }

    /// By bits that do not choose the shard.
    #[inline]
    fn bucket(&self, tag: u64) -> usize {
        (((tag & u64::from(u32::MAX)) * self.buckets.len() as u64) >> 32) as usize
    }
}

/// What a row did to its bucket.
enum Outcome {
    /// It took a free place.
    Took,
    /// It took the place of a record of its own conversation, or of one that had expired.
    Changed,
    /// It took out its other direction.
    Met(Waiting),
    /// It took the place of a record that might have met its pair.
    Evicted,
}

impl Bucket {
    /// The ways with this tag, a bit each; all are looked at, which takes less than a branch that cannot be foreseen.
    #[inline]
    fn ways_with(&self, tag: u64) -> u32 {
        self.tags.iter().enumerate().fold(0, |ways, (way, other)| ways | u32::from(*other == tag) << way)
    }

    /// A record of the same conversation waits: its pair if it is the other direction. Else the row takes its place, but a
    /// start with SYN stays the start.
    fn meet(&mut self, way: usize, row: &Waiting) -> Outcome {
        let slot = &mut self.slots[way];
        let Slot { start_ms, seen_s, who } = *slot;
        let earlier = Waiting { tag: row.tag, start_ms, seen_s, who, row: Waiting::PAIRED };
        let expired = is_expired(seen_s, row.seen_s);
        if earlier.is_opposite(row) && !expired {
            self.tags[way] = 0;
            return Outcome::Met(earlier);
        }
        let keep_start = earlier.has_syn() && !row.has_syn() && !earlier.is_opposite(row) && !expired;
        if !keep_start {
            (slot.start_ms, slot.who) = (row.start_ms, row.who);
        }
        slot.seen_s = row.seen_s;
        Outcome::Changed
    }

    /// Puts a row in a free place, else in that of the oldest.
    #[inline]
    fn insert(&mut self, row: &Waiting) -> Outcome {
        let free = self.ways_with(0);
        let oldest = usize::from(self.oldest) % WAYS;
        let way = if free == 0 || free >> oldest & 1 != 0 { oldest } else { free.trailing_zeros() as usize };
        if way == oldest {
            self.oldest = ((oldest + 1) % WAYS) as u8;
        }
        let slot = &mut self.slots[way];
        let lost = !is_expired(slot.seen_s, row.seen_s);
        self.tags[way] = row.tag;
        *slot = Slot { start_ms: row.start_ms, seen_s: row.seen_s, who: row.who };
        match (free, lost) {
            (0, true) => Outcome::Evicted,
            (0, false) => Outcome::Changed,
            _ => Outcome::Took,
        }
    }
}

/// Workers take slabs in any order, so an earlier record may have been received later.
fn is_expired(seen_s: u32, now_s: u32) -> bool {
    now_s.wrapping_sub(seen_s) as i32 > WAIT_MAX_S
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A bucket as it is described: places that hold a record or none, and the one that was filled first.
    #[derive(Default)]
    struct Model {
        ways: [Option<Waiting>; WAYS],
        oldest: usize,
    }

    impl Model {
        /// What is told of a row: the start of its pair, or that one was lost.
        fn take(&mut self, row: &Waiting) -> Option<Result<u32, ()>> {
            let lives = |other: &Waiting| row.seen_s as i32 - other.seen_s as i32 <= WAIT_MAX_S;
            if let Some(way) = self.ways.iter_mut().find(|way| way.is_some_and(|other| other.tag == row.tag)) {
                let other = way.take().unwrap();
                if lives(&other) && other.is_opposite(row) {
                    return Some(Ok(other.start_ms));
                }
                let keep = lives(&other) && other.has_syn() && !row.has_syn();
                *way = Some(if keep { Waiting { seen_s: row.seen_s, ..other } } else { *row });
                return None;
            }
            let way = match self.ways[self.oldest] {
                None => self.oldest,
                Some(_) => self.ways.iter().position(Option::is_none).unwrap_or(self.oldest),
            };
            if way == self.oldest {
                self.oldest = (self.oldest + 1) % WAYS;
            }
            self.ways[way].replace(*row).filter(lives).map(|_| Err(()))
        }
    }

    proptest! {
        #[test]
        fn a_bucket_is_as_described(rows in prop::collection::vec((1u64..12, 0u32..9, any::<bool>(), any::<bool>()), 0..300)) {
            let (mut shard, mut model) = (Shard::new(WAYS), Model::default());
            let mut seen_s = 1000;
            for (row, (tag, later, forward, syn)) in (0..).zip(rows) {
                // Now and then so much later that all before has expired.
                seen_s += if later == 8 { WAIT_MAX_S as u32 } else { later };
                let row = Waiting { tag, start_ms: row, seen_s, who: Waiting::who(7, forward, syn), row };
                let mut told = None;
                shard.fetch(&[row]);
                shard.take(&[row], |_, found| told = Some(match found {
                    Found::Pair(earlier) => Ok(earlier.start_ms),
                    Found::Evicted => Err(()),
                }));
                prop_assert_eq!(told, model.take(&row));
                prop_assert_eq!(shard.waiting(), model.ways.iter().flatten().count());
            }
        }
    }
}
