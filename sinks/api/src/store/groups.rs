//! Numbers of groups in order of appearance, found by their key codes through one hash table of numbers.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// An odd number without a pattern: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Groups and their keys: `stride` codes each, one group after another.
#[derive(Debug)]
pub(super) struct Groups {
    stride: usize,
    table: HashTable<u32>,
    keys: Vec<u64>,
    /// Differs from question to question, so that nobody can send keys that all meet in one place.
    seed: u64,
    /// The group found last: rows are stored by customer, so the same key often follows itself.
    last: usize,
}

impl Groups {
    /// No groups, of keys of `stride` codes.
    pub fn new(stride: usize) -> Self {
        let seed = RandomState::default().hash_one(stride);
        Self { stride, table: HashTable::new(), keys: Vec::new(), seed, last: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len() / self.stride
    }

    /// A group's key.
    pub fn key(&self, group: u32) -> &[u64] {
        &self.keys[group as usize * self.stride..][..self.stride]
    }

    /// All keys, in order of their groups.
    pub fn keys(&self) -> impl Iterator<Item = &[u64]> {
        self.keys.chunks_exact(self.stride)
    }

    /// The group of a key, a new one when it has none; `None` when there are `groups_max` already.
    #[inline]
    pub fn find(&mut self, key: &[u64], groups_max: usize) -> Option<u32> {
        if self.keys.get(self.last * self.stride..).is_some_and(|held| same(held, key)) {
            return Some(self.last as u32);
        }
        let hash = hash(self.seed, key);
        let (keys, stride) = (&self.keys, self.stride);
        let of = |group: u32| &keys[group as usize * stride..][..stride];
        let group = match self.table.find(hash, |group| same(of(*group), key)) {
            Some(group) => *group,
            None if self.len() >= groups_max => return None,
            None => {
                let (group, seed) = (self.len() as u32, self.seed);
                self.table.insert_unique(hash, group, |group| self::hash(seed, of(*group)));
                self.keys.extend_from_slice(key);
                group
            }
        };
        self.last = group as usize;
        Some(group)
    }
}

/// Whether what is held begins with a key. A loop by index: for keys as short as these a call of `memcmp` costs more.
#[inline]
fn same(held: &[u64], key: &[u64]) -> bool {
    let Some(held) = held.get(..key.len()) else { return false };
    let mut differ = 0;
    for at in 0..key.len() {
        differ |= held[at] ^ key[at];
    }
    differ == 0
}

/// Multiplies and folds: every bit of a key reaches the upper and lower bits that the table looks at.
#[inline]
fn hash(seed: u64, key: &[u64]) -> u64 {
    key.iter().fold(seed, |hash, code| {
        let product = u128::from(hash ^ code) * u128::from(FACTOR);
        (product as u64 ^ (product >> 64) as u64).rotate_left(23)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_number_and_the_bound_holds_for_new_keys_only() {
        let mut groups = Groups::new(2);
        for round in 0..2 {
            for n in 0..1000u64 {
                assert_eq!(groups.find(&[n, n << 40], 1000), Some(n as u32), "round {round}");
            }
        }
        assert_eq!(groups.find(&[7, 7], 1000), None);
        assert_eq!(groups.len(), 1000);
        assert_eq!(groups.key(5), [5, 5 << 40]);
        assert_eq!(groups.keys().count(), 1000);
    }

    #[test]
    fn neighbouring_keys_spread_over_the_table() {
        let mut low = std::collections::HashSet::new();
        let mut high = std::collections::HashSet::new();
        for n in 0..4096u64 {
            let hash = hash(42, &[0, n << 16]);
            low.insert(hash & 0xfff);
            high.insert(hash >> 52);
        }
        // Of 4096 balls in 4096 boxes 63 % of the boxes get one.
        assert!(low.len() > 2200 && high.len() > 2200, "{} {}", low.len(), high.len());
    }
}
