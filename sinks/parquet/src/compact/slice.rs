use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use sink_api::column::{Dict, DictValue};
use sink_api::rollup::{KeyColumn, RollupRows};

/// Most times that a slice is halved.
const BITS_MAX: u32 = 32;

/// Buckets and keys whose hash ends in certain bits; without bits all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slice {
    bits: u32,
    end: u64,
}

impl Slice {
    /// Whether it has every key.
    pub fn is_all(self) -> bool {
        self.bits == 0
    }

    /// Keeps one half and gives the other; none when it has been halved too often.
    pub fn halve(&mut self) -> Option<Self> {
        let Self { bits, end } = *self;
        if bits == BITS_MAX {
            return None;
        }
        self.bits = bits + 1;
        Some(Self { bits: bits + 1, end: end | 1 << bits })
    }

    /// The rows that belong to it.
    pub fn rows(self, part: &RollupRows) -> Vec<u32> {
        let mask = (1 << self.bits) - 1;
        let numbered = (0..).zip(hashes(part));
        numbered.filter(|(_, hash)| hash & mask == self.end).map(|(row, _)| row).collect()
    }
}

/// A hash of each row's bucket and key, the same in every part.
fn hashes(part: &RollupRows) -> Vec<u64> {
    let mut hashes: Vec<u64> = part.bucket.iter().map(|bucket| mix(0, *bucket as u64)).collect();
    for (_, column) in &part.keys {
        match column {
            KeyColumn::U8(c) => add(&mut hashes, |row| c.get(row).map(u64::from)),
            KeyColumn::U16(c) => add(&mut hashes, |row| c.get(row).map(u64::from)),
            KeyColumn::U32(c) => add(&mut hashes, |row| c.get(row).map(u64::from)),
            KeyColumn::U64(c) => add(&mut hashes, |row| c.get(row)),
            KeyColumn::Ip(c) => {
                add(&mut hashes, |row| c.get(row).map(|addr| mix((addr.0 >> 64) as u64, addr.0 as u64)))
            }
            KeyColumn::Text(c) => add_dict(&mut hashes, c),
            KeyColumn::Uuid(c) => add_dict(&mut hashes, c),
        }
    }
    hashes
}

fn add(hashes: &mut [u64], value: impl Fn(usize) -> Option<u64>) {
    for (row, hash) in hashes.iter_mut().enumerate() {
        *hash = mix(*hash, value(row).map_or(u64::MAX, |value| value.wrapping_add(1)));
    }
}

fn add_dict<T: DictValue>(hashes: &mut [u64], column: &Dict<T>) {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let values: Vec<u64> = column.values().iter().map(|value| hasher.hash_one(value)).collect();
    let of_code = |code: u32| code.checked_sub(1).map_or(0, |index| values[index as usize]);
    for (hash, code) in hashes.iter_mut().zip(column.codes()) {
        *hash = mix(*hash, of_code(*code));
    }
}

/// Stirs a value into a hash so that every bit of both reaches the low ones.
fn mix(hash: u64, value: u64) -> u64 {
    let product = u128::from(hash ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    (product >> 64) as u64 ^ product as u64
}
