//! The buckets of one rollup and what each holds.
//!
//! The shares in the middle of a long span are not booked bucket by bucket: they are steps, `+m` at the second bucket of the
//! span and `-m` at the last. [`Buckets::settle`] turns steps into sums, before anything is emitted; all steps of a key add
//! up to nothing, so none are left then. Steps wrap.

use std::collections::BTreeMap;

use super::others::Others;
use super::share::Share;
use super::sums::{Amount, Sums};
use super::table::Table;
use crate::flow::Measures;

/// Entries of the direct-mapped cache from bucket number to bucket; above the 60 buckets a span can cover.
const CACHE: usize = 128;

/// From this bucket on, each bucket of the key gets this much more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) bytes: u64,
    pub(super) packets: u64,
}

/// One bucket that may hold sums not emitted yet.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Log position of the first share it may hold.
    pub(super) first_position: u64,
    /// Wall clock when it got it, ms since the Unix epoch.
    pub(super) first_ms: i64,
    pub(super) sums: Sums,
    pub(super) steps: Table<Step>,
    /// `talkers`: hosts that are no customers.
    pub(super) others: Option<Box<Others>>,
}

impl Bucket {
    fn used_bytes(&self) -> usize {
        let others = self.others.as_ref().map_or(0, |others| others.used_bytes());
        self.sums.used_bytes() + self.steps.used_bytes() + others
    }
}

/// The buckets of one rollup, by number (start divided by width).
#[derive(Debug)]
pub(super) struct Buckets {
    slab: Vec<Bucket>,
    free: Vec<u32>,
    by_number: BTreeMap<i64, u32>,
    cache: [(i64, u32); CACHE],
    has_steps: bool,
}

/// A cache entry that no bucket number matches at its place: the index of `i64::MIN` is 0, and entry 0 holds 1.
const NO_ENTRY: [(i64, u32); CACHE] = {
    let mut entries = [(i64::MIN, 0); CACHE];
    entries[0] = (1, 0);
    entries
};

impl Default for Buckets {
    fn default() -> Self {
        Self { slab: Vec::new(), free: Vec::new(), by_number: BTreeMap::new(), cache: NO_ENTRY, has_steps: false }
    }
}

impl Buckets {
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Bytes held.
    pub(super) fn used_bytes(&self) -> usize {
        let own = self.slab.len() * size_of::<Bucket>() + self.by_number.len() * 2 * size_of::<(i64, u32)>();
        own + self.slab.iter().map(Bucket::used_bytes).sum::<usize>()
    }

    /// Keys held, over all buckets.
    pub(super) fn keys(&self) -> usize {
        let others = |bucket: &Bucket| bucket.others.as_ref().map_or(0, |others| others.keys());
        self.slab.iter().map(|bucket| bucket.sums.len() + others(bucket)).sum()
    }

    /// Makes sure that a bucket is there. Call it for every bucket of a span before booking the flow.
    pub(super) fn mark(&mut self, number: i64, position: u64, now_ms: i64) {
        if self.by_number.contains_key(&number) {
            return;
        }
        let bucket = Bucket { first_position: position, first_ms: now_ms, ..Bucket::default() };
        let id = match self.free.pop() {
            Some(id) => {
                self.slab[id as usize] = bucket;
                id
            }
            None => {
                self.slab.push(bucket);
                self.slab.len() as u32 - 1
            }
        };
        self.by_number.insert(number, id);
    }

    /// A bucket that was marked.
    #[inline]
    pub(super) fn marked(&mut self, number: i64) -> &mut Bucket {
        let entry = &mut self.cache[number as usize % CACHE];
        if entry.0 != number {
            // A number that was not marked cannot happen; it would book into some other bucket, which keeps the sums whole.
            *entry = (number, self.by_number.get(&number).copied().unwrap_or_default());
        }
        &mut self.slab[entry.1 as usize]
    }

    /// Has what a flow with these shares adds to fetched into the cache: its key's sums, and steps for a long span.
    #[inline]
    pub(super) fn prefetch(&mut self, share: &Share, hash: u64) {
        let (first, last) = (share.first(), share.last);
        self.marked(last).sums.prefetch(hash);
        if share.has_steps() {
            self.marked(first).sums.prefetch(hash);
            self.marked(first + 1).steps.prefetch(hash);
            self.marked(last).steps.prefetch(hash);
        } else {
            (first..last).for_each(|number| self.marked(number).sums.prefetch(hash));
        }
    }

    /// Each bucket of `second..last` gets this much more.
    pub(super) fn step(
        &mut self,
        (second, last): (i64, i64),
        (hash, key): (u64, u64),
        step: Step,
        hash_of: impl Fn(u64) -> u64,
    ) {
        self.has_steps = true;
        let up = self.marked(second).steps.entry(hash, key, &hash_of);
        up.bytes = up.bytes.wrapping_add(step.bytes);
        up.packets = up.packets.wrapping_add(step.packets);
        let down = self.marked(last).steps.entry(hash, key, &hash_of);
        down.bytes = down.bytes.wrapping_sub(step.bytes);
        down.packets = down.packets.wrapping_sub(step.packets);
    }

    /// Turns all steps into sums.
    pub(super) fn settle(&mut self, hash_of: impl Fn(u64) -> u64) {
        if !std::mem::take(&mut self.has_steps) {
            return;
        }
        let order: Vec<(i64, u32)> = self.by_number.iter().map(|(number, id)| (*number, *id)).collect();
        for (at, (number, id)) in order.iter().enumerate() {
            let bucket = &mut self.slab[*id as usize];
            let steps = std::mem::take(&mut bucket.steps);
            if steps.is_empty() {
                continue;
            }
            bucket.sums.reserve(steps.len(), &hash_of);
            for (key, step) in steps.iter().filter(|(_, step)| **step != Step::default()) {
                let more = Measures { bytes: step.bytes, packets: step.packets, ..Measures::default() };
                bucket.sums.add(hash_of(key), key, Amount::of(&more), &hash_of);
            }
            // A step that is not nothing reaches into the next bucket, which is marked then.
            let Some((_, next)) = order.get(at + 1).filter(|(next, _)| *next == number + 1) else { continue };
            let next = &mut self.slab[*next as usize].steps;
            if next.is_empty() {
                *next = steps;
                continue;
            }
            next.reserve(steps.len(), &hash_of);
            for (key, step) in steps.into_entries().filter(|(_, step)| *step != Step::default()) {
                let sum = next.entry(hash_of(key), key, &hash_of);
                sum.bytes = sum.bytes.wrapping_add(step.bytes);
                sum.packets = sum.packets.wrapping_add(step.packets);
            }
        }
    }

    /// Every bucket with its number, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Bucket)> {
        self.by_number.iter().map(|(number, id)| (*number, &self.slab[*id as usize]))
    }

    /// Takes every bucket out, ascending. Settle before.
    pub(super) fn take_all(&mut self) -> Vec<(i64, Bucket)> {
        let numbers: Vec<i64> = self.by_number.keys().copied().collect();
        numbers.into_iter().filter_map(|number| Some((number, self.take(number)?))).collect()
    }

    /// Takes a bucket out. Settle before.
    pub(super) fn take(&mut self, number: i64) -> Option<Bucket> {
        let id = self.by_number.remove(&number)?;
        self.cache = NO_ENTRY;
        self.free.push(id);
        Some(std::mem::take(&mut self.slab[id as usize]))
    }
}
