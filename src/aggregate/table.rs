//! An open-addressing hash table from a key of 64 bits to a small cell, entries inline: a look-up touches one cache line.
//!
//! Entries stand in the order of their hashes (linear probing from `hash * capacity`), so growing and emptying read memory
//! in sequence. A big table is split into shards by the hash's upper bits, each of which grows on its own: growing never
//! holds twice the memory. Key 0 means an empty entry. Whoever calls gives the hash, made once for all tables it is used in.

use crate::prefetch::prefetch;

/// Upper bits of the hash that choose the shard of a big table.
const SHARD_BITS: u32 = 6;
/// Entries with which a table is split into shards.
const SPLIT_AT: usize = 4096;
/// Entries a shard begins with.
const CAPACITY_MIN: usize = 8;

#[derive(Clone, Copy, Debug, Default)]
struct Entry<C> {
    key: u64,
    cell: C,
}

/// Where a key is looked for first. Out of date when the table has grown; then the key is not found there and looked for anew.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    shard: u32,
    at: u32,
}

#[derive(Clone, Debug)]
struct Shard<C> {
    entries: Vec<Entry<C>>,
    used: usize,
}

impl<C> Default for Shard<C> {
    fn default() -> Self {
        Self { entries: Vec::new(), used: 0 }
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Table<C> {
    /// None, one, or 2^[`SHARD_BITS`].
    shards: Vec<Shard<C>>,
    len: usize,
    capacity: usize,
}

impl<C> Default for Table<C> {
    fn default() -> Self {
        Self { shards: Vec::new(), len: 0, capacity: 0 }
    }
}

impl<C: Copy + Default> Shard<C> {
    /// Where a hash belongs.
    #[inline]
    fn place(&self, hash: u64) -> usize {
        let bits = (hash << SHARD_BITS) >> 32;
        ((bits * self.entries.len() as u64) >> 32) as usize
    }

    /// The index of a key's entry, or of the empty one where it belongs. There is always one that is empty, but in a shard
    /// without entries, of which the index is 0.
    #[inline]
    fn find(&self, hash: u64, key: u64) -> usize {
        self.find_from(self.place(hash), key)
    }

    #[inline]
    fn find_from(&self, mut at: usize, key: u64) -> usize {
        loop {
            match self.entries.get(at) {
                Some(held) if held.key == key || held.key == 0 => return at,
                Some(_) => at += 1,
                None if at == 0 => return 0,
                None => at = 0,
            }
        }
    }

    fn is_full(&self) -> bool {
        (self.used + 1) * 4 > self.entries.len() * 3
    }

    /// Makes room for `more` entries.
    #[cold]
    fn grow(&mut self, more: usize, hash_of: &impl Fn(u64) -> u64) {
        let wanted = ((self.used + more) * 4 / 3 + 1).max(self.entries.len() + self.entries.len() / 2);
        let grown = vec![Entry::default(); wanted.max(CAPACITY_MIN)];
        for entry in std::mem::replace(&mut self.entries, grown).into_iter().filter(|entry| entry.key != 0) {
            let at = self.find(hash_of(entry.key), entry.key);
            self.entries[at] = entry;
        }
    }
}

impl<C: Copy + Default> Table<C> {
    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held.
    pub(crate) fn used_bytes(&self) -> usize {
        self.capacity * size_of::<Entry<C>>() + self.shards.len() * size_of::<Shard<C>>()
    }

    #[inline]
    fn shard_of(&self, hash: u64) -> usize {
        if self.shards.len() > 1 { (hash >> (u64::BITS - SHARD_BITS)) as usize } else { 0 }
    }

    /// Has a key's entry fetched into the cache, and says where that is.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) -> Place {
        let number = self.shard_of(hash);
        let Some(shard) = self.shards.get(number) else { return Place::default() };
        let at = shard.place(hash);
        shard.entries.get(at).inspect(|entry| prefetch(*entry));
        Place { shard: number as u32, at: at as u32 }
    }

    /// As [`Table::entry`], for a key whose place was asked for before.
    #[inline]
    pub(crate) fn entry_at(&mut self, place: Place, hash: u64, key: u64, hash_of: impl Fn(u64) -> u64) -> &mut C {
        let shard = place.shard as usize;
        if let Some(held) = self.shards.get(shard)
            && let at = held.find_from(place.at as usize, key)
            && held.entries.get(at).is_some_and(|held| held.key == key)
        {
            return &mut self.shards[shard].entries[at].cell;
        }
        self.entry(hash, key, hash_of)
    }

    /// The cell of a key that is there.
    #[inline]
    pub(crate) fn get(&mut self, hash: u64, key: u64) -> Option<&mut C> {
        let shard = self.shard_of(hash);
        let shard = self.shards.get_mut(shard)?;
        let at = shard.find(hash, key);
        shard.entries.get_mut(at).filter(|held| held.key == key).map(|held| &mut held.cell)
    }

    /// The cell of a key, made when there is none. `hash_of` gives the hash of any key held.
    #[inline]
    pub(crate) fn entry(&mut self, hash: u64, key: u64, hash_of: impl Fn(u64) -> u64) -> &mut C {
        let shard = self.shard_of(hash);
        if let Some(held) = self.shards.get(shard)
            && let at = held.find(hash, key)
            && held.entries.get(at).is_some_and(|held| held.key == key)
        {
            return &mut self.shards[shard].entries[at].cell;
        }
        self.insert(hash, key, &hash_of)
    }

    #[cold]
    fn insert(&mut self, hash: u64, key: u64, hash_of: &impl Fn(u64) -> u64) -> &mut C {
        if self.shards.is_empty() {
            self.shards.push(Shard::default());
        } else if self.len >= SPLIT_AT && self.shards.len() == 1 {
            self.split(hash_of);
        }
        self.len += 1;
        self.place_new(hash, Entry { key, cell: C::default() }, hash_of)
    }

    /// Puts an entry whose key is not there yet into its shard, which grows when it is full.
    fn place_new(&mut self, hash: u64, entry: Entry<C>, hash_of: &impl Fn(u64) -> u64) -> &mut C {
        let shard = self.shard_of(hash);
        let shard = &mut self.shards[shard];
        if shard.is_full() {
            self.capacity -= shard.entries.len();
            shard.grow(1, hash_of);
            self.capacity += shard.entries.len();
        }
        let at = shard.find(hash, entry.key);
        shard.used += 1;
        shard.entries[at] = entry;
        &mut shard.entries[at].cell
    }

    #[cold]
    fn split(&mut self, hash_of: &impl Fn(u64) -> u64) {
        let whole = std::mem::take(&mut self.shards);
        self.shards.resize_with(1 << SHARD_BITS, Shard::default);
        self.capacity = 0;
        let least = (SPLIT_AT * 2) >> SHARD_BITS;
        for (index, shard) in self.shards.iter_mut().enumerate() {
            // None like another: they would all grow at the same time, again and again, and the memory by leaps.
            shard.grow(least + least * index / (2 << SHARD_BITS), hash_of);
            self.capacity += shard.entries.len();
        }
        for entry in whole.into_iter().flat_map(|shard| shard.entries).filter(|entry| entry.key != 0) {
            self.place_new(hash_of(entry.key), entry, hash_of);
        }
    }

    /// Makes room for `more` keys. Needed before keys are inserted in the order of another table, which is that of their
    /// hashes: they would crowd at the beginning of a table that has yet to grow.
    pub(crate) fn reserve(&mut self, more: usize, hash_of: impl Fn(u64) -> u64) {
        if self.shards.is_empty() {
            self.shards.push(Shard::default());
        }
        if self.shards.len() == 1 && self.len + more > SPLIT_AT {
            self.split(&hash_of);
        }
        let each = more / self.shards.len() + more / self.shards.len() / 8 + 1;
        self.capacity = 0;
        for shard in &mut self.shards {
            if (shard.used + each) * 4 > shard.entries.len() * 3 {
                shard.grow(each, &hash_of);
            }
            self.capacity += shard.entries.len();
        }
    }

    /// Every key with its cell, in the order of hashes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &C)> {
        let entries = self.shards.iter().flat_map(|shard| &shard.entries);
        entries.filter(|entry| entry.key != 0).map(|entry| (entry.key, &entry.cell))
    }

    /// Every key with its cell, taken out.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (u64, C)> {
        let entries = self.shards.into_iter().flat_map(|shard| shard.entries);
        entries.filter(|entry| entry.key != 0).map(|entry| (entry.key, entry.cell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};

    fn hash_of(key: u64) -> u64 {
        key.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn each_key_has_one_cell_whatever_the_size(
            keys in prop_oneof![prop::collection::vec(1u64..50, 0..200), prop::collection::vec(1u64..30_000, 0..20_000)],
        ) {
            let mut table: Table<u64> = Table::default();
            let mut want: BTreeMap<u64, u64> = BTreeMap::new();
            let mut places = VecDeque::new();
            for (n, key) in keys.iter().enumerate() {
                prop_assert_eq!(table.get(hash_of(*key), *key).is_some(), want.contains_key(key));
                // Every other one by a place from before the table may have grown.
                let ahead = keys.get(n + 50).unwrap_or(key);
                places.push_back((*ahead, table.prefetch(hash_of(*ahead))));
                if places.len() > 50 && n % 2 == 0 && let Some((key, place)) = places.pop_front() {
                    *table.entry_at(place, hash_of(key), key, hash_of) += n as u64;
                    *want.entry(key).or_default() += n as u64;
                }
                *table.entry(hash_of(*key), *key, hash_of) += n as u64;
                *want.entry(*key).or_default() += n as u64;
            }
            prop_assert_eq!(table.len(), want.len());
            prop_assert_eq!(table.iter().map(|(key, cell)| (key, *cell)).collect::<BTreeMap<_, _>>(), want.clone());
            prop_assert_eq!(table.into_entries().collect::<BTreeMap<_, _>>(), want);
        }
    }

    #[test]
    fn room_for_keys_in_the_order_of_their_hashes_is_used_whole() {
        let mut keys: Vec<u64> = (1..200_000).collect();
        keys.sort_by_key(|key| hash_of(*key));
        let mut table: Table<u64> = Table::default();
        table.reserve(keys.len(), hash_of);
        for key in &keys {
            *table.entry(hash_of(*key), *key, hash_of) += 1;
        }
        assert!(table.used_bytes() < keys.len() * 16 * 3);
        assert!(keys.iter().all(|key| table.get(hash_of(*key), *key) == Some(&mut 1)));
    }
}
