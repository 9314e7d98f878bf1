//! Rows of a rollup that stand for the same bucket and key, made one.
//!
//! A bucket that is open for hours is emitted again and again, each time with what came since: the rows add up.

use std::hash::BuildHasher as _;

use hashbrown::{HashMap, HashTable};
use sink_api::column::{Dict, DictValue};
use sink_api::rollup::{KeyColumn, RollupRows};

type State = foldhash::fast::RandomState;

/// A row by its part and its place there.
#[derive(Clone, Copy)]
struct Place {
    part: usize,
    row: usize,
}

/// Adds rows of the same bucket and key up, into the first of them. All parts are of one rollup. Gives the rows that are left, counted
/// over all parts, in the order in which they came.
pub(super) fn add_up(parts: &mut [RollupRows]) -> Vec<u32> {
    let names = Names::of(parts);
    let hashes = names.hashes(parts);
    let (mut held, mut left) = (HashTable::<Place>::with_capacity(hashes.len()), Vec::new());
    let places = parts.iter().enumerate().flat_map(|(part, rows)| (0..rows.len()).map(move |row| Place { part, row }));
    for (number, (here, hash)) in places.collect::<Vec<_>>().into_iter().zip(hashes).enumerate() {
        let is_same = |other: &Place| names.are_same(parts, here, *other);
        match held.find(hash, is_same).copied() {
            Some(other) => add(parts, here, other),
            None => {
                // There is room for all: none is hashed again.
                held.insert_unique(hash, here, |_| 0);
                left.push(number as u32);
            }
        }
    }
    left
}

/// Adds a row's sums to another's. They wrap, as they do where they come from.
fn add(parts: &mut [RollupRows], from: Place, to: Place) {
    let (more, cut_bytes) = (parts[from.part].measures(from.row), parts[from.part].cut_bytes.get(from.row).copied());
    let RollupRows { bytes, packets, flows, rtt_ms_sum, rtt_count, cut_bytes: cut, .. } = &mut parts[to.part];
    let sums = [bytes, packets, flows, rtt_ms_sum, rtt_count];
    for (sums, more) in sums.into_iter().zip([more.bytes, more.packets, more.flows, more.rtt_ms_sum, more.rtt_count]) {
        sums[to.row] = sums[to.row].wrapping_add(more);
    }
    // Each bounds what a host lost to its row: to both it lost no more than the sum.
    if let (Some(cut), Some(more)) = (cut.get_mut(to.row), cut_bytes) {
        *cut = cut.saturating_add(more);
    }
}

/// Numbers for texts and UUIDs that are the same in all parts: by part, by key, by code. Other keys have none.
struct Names(Vec<Vec<Vec<u32>>>);

impl Names {
    fn of(parts: &[RollupRows]) -> Self {
        let keys = parts.first().map_or(0, |part| part.keys.len());
        let mut names = vec![Vec::with_capacity(keys); parts.len()];
        for key in 0..keys {
            let (mut texts, mut uuids) =
                (HashMap::with_hasher(State::default()), HashMap::with_hasher(State::default()));
            for (part, names) in parts.iter().zip(&mut names) {
                names.push(match &part.keys[key].1 {
                    KeyColumn::Text(dict) => numbers(dict, &mut texts),
                    KeyColumn::Uuid(dict) => numbers(dict, &mut uuids),
                    _ => Vec::new(),
                });
            }
        }
        Self(names)
    }

    /// Of every row's bucket and keys, over all parts.
    fn hashes(&self, parts: &[RollupRows]) -> Vec<u64> {
        let state = State::default();
        let mut all = Vec::with_capacity(parts.iter().map(RollupRows::len).sum());
        for (rows, names) in parts.iter().zip(&self.0) {
            let begun = all.len();
            all.extend(rows.bucket.iter().map(|bucket| state.hash_one(bucket)));
            let hashes = &mut all[begun..];
            // Only what is the same must have the same hash: a null may share that of a number.
            let mut mix = |value: &mut dyn FnMut(usize) -> u64| {
                for (row, hash) in hashes.iter_mut().enumerate() {
                    *hash = state.hash_one(hash.rotate_left(1) ^ value(row));
                }
            };
            for ((_, column), names) in rows.keys.iter().zip(names) {
                match column {
                    KeyColumn::U8(column) => mix(&mut |row| column.value_or_default(row).into()),
                    KeyColumn::U16(column) => mix(&mut |row| column.value_or_default(row).into()),
                    KeyColumn::U32(column) => mix(&mut |row| column.value_or_default(row).into()),
                    KeyColumn::U64(column) => mix(&mut |row| column.value_or_default(row)),
                    KeyColumn::Ip(column) => {
                        mix(&mut |row| column.get(row).map_or(0, |ip| (ip.0 >> 64) as u64 ^ ip.0 as u64))
                    }
                    KeyColumn::Text(dict) => mix(&mut |row| named(dict, names, row).unwrap_or_default()),
                    KeyColumn::Uuid(dict) => mix(&mut |row| named(dict, names, row).unwrap_or_default()),
                }
            }
        }
        all
    }

    /// Whether two rows are of the same bucket and key.
    fn are_same(&self, parts: &[RollupRows], a: Place, b: Place) -> bool {
        let (rows, others) = (&parts[a.part], &parts[b.part]);
        let names = self.0[a.part].iter().zip(&self.0[b.part]);
        let mut columns = rows.keys.iter().zip(&others.keys).zip(names);
        rows.bucket[a.row] == others.bucket[b.row]
            && columns.all(|(((_, column), (_, other)), (own, theirs))| match (column, other) {
                (KeyColumn::U8(column), KeyColumn::U8(other)) => column.get(a.row) == other.get(b.row),
                (KeyColumn::U16(column), KeyColumn::U16(other)) => column.get(a.row) == other.get(b.row),
                (KeyColumn::U32(column), KeyColumn::U32(other)) => column.get(a.row) == other.get(b.row),
                (KeyColumn::U64(column), KeyColumn::U64(other)) => column.get(a.row) == other.get(b.row),
                (KeyColumn::Ip(column), KeyColumn::Ip(other)) => column.get(a.row) == other.get(b.row),
                (KeyColumn::Text(column), KeyColumn::Text(other)) => {
                    named(column, own, a.row) == named(other, theirs, b.row)
                }
                (KeyColumn::Uuid(column), KeyColumn::Uuid(other)) => {
                    named(column, own, a.row) == named(other, theirs, b.row)
                }
                // Of one rollup, a key has one type.
                _ => false,
            })
    }
}

/// A row's number of a dictionary column; a row that is null has none.
fn named<T: DictValue>(dict: &Dict<T>, names: &[u32], row: usize) -> Option<u64> {
    (dict.codes()[row] as usize).checked_sub(1).map(|index| names[index].into())
}

/// The numbers of a column's values.
fn numbers<T: DictValue>(dict: &Dict<T>, known: &mut HashMap<T, u32, State>) -> Vec<u32> {
    let number = |value: &T| {
        known.get(value).copied().unwrap_or_else(|| {
            let next = known.len() as u32;
            known.insert(value.clone(), next);
            next
        })
    };
    dict.values().iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use sink_api::rollup::{Measures, RollupDef};

    use super::*;
    use crate::support::{DAY_START_MS, Random, sums};

    /// Every row's bucket and keys as text, with what it says.
    fn rows(parts: &[RollupRows]) -> Vec<(String, Measures, u64)> {
        let row = |part: &RollupRows, row: usize| {
            let keys = part.keys.iter().map(|(key, column)| column.value(key.kind(), row).to_string());
            let text = keys.fold(part.bucket[row].to_string(), |text, key| text + "|" + &key);
            (text, part.measures(row), part.cut_bytes.get(row).copied().unwrap_or_default())
        };
        parts.iter().flat_map(|part| (0..part.len()).map(|at| row(part, at)).collect::<Vec<_>>()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_bucket_and_key_is_left_once_with_its_sums(seed in any::<u64>(), sizes in prop::collection::vec(0usize..400, 0..5)) {
            let mut random = Random(seed);
            let mut emitted: Vec<_> = sizes.iter().map(|rows| sums(&mut random, *rows, DAY_START_MS)).collect();
            for (index, def) in RollupDef::defaults().iter().enumerate() {
                let mut parts: Vec<RollupRows> = emitted.iter_mut().map(|sums| {
                    let rows = &mut sums.rows[index];
                    assert_eq!(rows.rollup, def.name);
                    rows.clone()
                }).collect();
                let before = rows(&parts);
                let left = add_up(&mut parts);
                let after = rows(&parts);
                let mut want: BTreeMap<&str, (Measures, u64)> = BTreeMap::new();
                let mut first = Vec::new();
                for (number, (text, measures, cut)) in before.iter().enumerate() {
                    if !want.contains_key(&**text) {
                        first.push(number as u32);
                    }
                    let (sum, cuts) = want.entry(text).or_default();
                    sum.add(measures);
                    *cuts += cut;
                }
                prop_assert_eq!(&left, &first);
                for number in left {
                    let (text, measures, cut) = &after[number as usize];
                    prop_assert_eq!(want.get(&**text), Some(&(*measures, *cut)));
                }
            }
        }
    }
}
