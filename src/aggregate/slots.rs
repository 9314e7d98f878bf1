//! Keys of one rollup and their slots: numbers from 0 in the order in which keys were first seen.

use std::hash::{BuildHasher, Hasher};

/// Asks the processor to load what is there into its cache: keys and cells lie scattered over tens of MiB, and waiting for
/// them one by one costs ten times the rest of the work.
#[inline]
pub(super) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(place).cast::<i8>();
        // SAFETY: both addresses are within `place`; a prefetch changes nothing that a program can see.
        unsafe {
            _mm_prefetch(first, _MM_HINT_T0);
            _mm_prefetch(first.add(size_of::<T>().saturating_sub(1)), _MM_HINT_T0);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Entries the index starts with; a power of two.
const INDEX_MIN: usize = 1024;

/// Open addressing over `(hash, slot + 1)`, 0 = empty; at most half full. The hash is kept, so growing touches no key.
#[derive(Debug)]
pub(super) struct Slots<const W: usize> {
    keys: Vec<[u64; W]>,
    index: Vec<u64>,
    state: foldhash::fast::RandomState,
}

impl<const W: usize> Default for Slots<W> {
    fn default() -> Self {
        // Seeded at random: source addresses can be chosen by an attacker.
        Self { keys: Vec::new(), index: vec![0; INDEX_MIN], state: foldhash::fast::RandomState::default() }
    }
}

impl<const W: usize> Slots<W> {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn key(&self, slot: u32) -> &[u64; W] {
        &self.keys[slot as usize]
    }

    /// Bytes held.
    pub(super) fn used_bytes(&self) -> usize {
        self.keys.len() * size_of::<[u64; W]>() + self.index.len() * size_of::<u64>()
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u64; W]) -> u32 {
        let mut hasher = self.state.build_hasher();
        for word in key {
            hasher.write_u64(*word);
        }
        (hasher.finish() >> 32) as u32
    }

    /// First step of finding a key: has its place in the index fetched.
    #[inline]
    pub(super) fn prefetch_index(&self, hash: u32) {
        prefetch(&self.index[hash as usize & (self.index.len() - 1)]);
    }

    /// Second step: has the key fetched that is probably the one.
    #[inline]
    pub(super) fn prefetch_key(&self, hash: u32) {
        let entry = self.index[hash as usize & (self.index.len() - 1)];
        if (entry >> 32) as u32 == hash
            && let Some(key) = self.keys.get((entry as u32).wrapping_sub(1) as usize)
        {
            prefetch(key);
        }
    }

    /// Slot of a key with its hash; a new one only when `admit` says so.
    #[inline]
    pub(super) fn resolve(&mut self, hash: u32, key: &[u64; W], admit: bool) -> Option<u32> {
        let mask = self.index.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let entry = self.index[at];
            if entry == 0 {
                break;
            }
            let slot = entry as u32 - 1;
            if (entry >> 32) as u32 == hash && self.keys[slot as usize] == *key {
                return Some(slot);
            }
            at = (at + 1) & mask;
        }
        (admit && self.keys.len() < (u32::MAX - 1) as usize).then(|| self.insert(hash, key))
    }

    #[cold]
    fn insert(&mut self, hash: u32, key: &[u64; W]) -> u32 {
        if (self.keys.len() + 1) * 2 > self.index.len() {
            let grown = vec![0; self.index.len() * 2];
            for entry in std::mem::replace(&mut self.index, grown).into_iter().filter(|entry| *entry != 0) {
                self.place(entry);
            }
        }
        self.keys.push(*key);
        let slot = self.keys.len() as u32 - 1;
        self.place(u64::from(hash) << 32 | u64::from(slot + 1));
        slot
    }

    fn place(&mut self, entry: u64) {
        let mask = self.index.len() - 1;
        let mut at = (entry >> 32) as usize & mask;
        while self.index[at] != 0 {
            at = (at + 1) & mask;
        }
        self.index[at] = entry;
    }

    /// Forgets every key but the given slots, which ascend; slot `kept[i]` becomes `i`.
    pub(super) fn keep(&mut self, kept: &[u32]) {
        let keys: Vec<_> = kept.iter().map(|slot| self.keys[*slot as usize]).collect();
        let size = (keys.len() * 4).next_power_of_two().max(INDEX_MIN);
        self.index.clear();
        self.index.shrink_to(size);
        self.index.resize(size, 0);
        self.keys = Vec::with_capacity(keys.len());
        for key in keys {
            let hash = self.hash(&key);
            self.insert(hash, &key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn keys_have_one_slot_each_before_and_after_forgetting(keys in prop::collection::vec(0u64..3000, 0..5000)) {
            let mut slots: Slots<2> = Slots::default();
            let mut want: HashMap<u64, u32> = HashMap::new();
            for key in &keys {
                let key = [*key, 7];
                let slot = slots.resolve(slots.hash(&key), &key, true).unwrap();
                let next = want.len() as u32;
                prop_assert_eq!(slot, *want.entry(key[0]).or_insert(next));
                prop_assert_eq!(slots.key(slot), &key);
            }
            let kept: Vec<u32> = (0..slots.len() as u32).step_by(3).collect();
            slots.keep(&kept);
            prop_assert_eq!(slots.len(), kept.len());
            for (key, slot) in want {
                let key = [key, 7];
                let now = slots.resolve(slots.hash(&key), &key, false);
                prop_assert_eq!(now, (slot % 3 == 0).then_some(slot / 3));
            }
        }
    }
}
