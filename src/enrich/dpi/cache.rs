//! Verdicts by conversation, bounded: two generations a shard; when the young one is full it becomes the old one, and the
//! old one goes. So at least the newest half is always there, and nothing is sorted.

use std::hash::BuildHasher;
use std::sync::{PoisonError, RwLock};

use hashbrown::HashMap;

use super::{Tuple, Verdict};

/// Shards, each with its lock. A power of two.
const SHARDS: usize = 16;

/// Bytes of an entry: a table is filled to 7/8 at most and its size is a power of two, so 16/7 of the entry and its tag.
pub(super) const ENTRY_BYTES: u64 = (size_of::<(Tuple, Verdict)>() as u64 + 1) * 16 / 7 + 1;

type Hasher = foldhash::fast::RandomState;
type Table = HashMap<Tuple, Verdict, Hasher>;

#[derive(Debug)]
pub(super) struct Cache {
    hasher: Hasher,
    /// Entries of one generation of one shard.
    entries_max: usize,
    shards: [RwLock<Generations>; SHARDS],
}

#[derive(Debug, Default)]
struct Generations {
    young: Table,
    old: Table,
}

impl Cache {
    pub fn new(memory_max_bytes: u64) -> Self {
        let entries = memory_max_bytes / ENTRY_BYTES;
        let entries_max = (entries as usize / SHARDS / 2).max(1);
        Self { hasher: Hasher::default(), entries_max, shards: Default::default() }
    }

    pub fn put(&self, tuple: Tuple, verdict: Verdict) {
        let mut shard = self.shard(&tuple).write().unwrap_or_else(PoisonError::into_inner);
        if shard.young.len() >= self.entries_max && !shard.young.contains_key(&tuple) {
            let shard = &mut *shard;
            std::mem::swap(&mut shard.young, &mut shard.old);
            shard.young.clear();
        }
        shard.young.insert(tuple, verdict);
    }

    pub fn get(&self, tuple: &Tuple) -> Option<Verdict> {
        let shard = self.shard(tuple).read().unwrap_or_else(PoisonError::into_inner);
        shard.young.get(tuple).or_else(|| shard.old.get(tuple)).copied()
    }

    pub fn len(&self) -> usize {
        let lens = self.shards.iter().map(|shard| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.young.len() + shard.old.len()
        });
        lens.sum()
    }

    /// By bits of the hash that the tables themselves do not use for their place (low) nor their tag (top 7).
    fn shard(&self, tuple: &Tuple) -> &RwLock<Generations> {
        &self.shards[(self.hasher.hash_one(tuple) >> 48) as usize % SHARDS]
    }
}
