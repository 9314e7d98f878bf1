//! Rows of a rollup that stand for the same bucket and key, made one.
//!
//! A bucket that is open for hours is emitted again and again, each time with what came since: the rows add up.

use sink_api::rollup::RollupRows;
use sink_api::store::number_rows;

/// A row by its part and its place there.
#[derive(Clone, Copy)]
struct Place {
    part: usize,
    row: usize,
}

/// Adds rows of the same bucket and key up, into the first of them. All parts are of one rollup. Gives the rows that are left, counted
/// over all parts, in the order in which they came.
pub(super) fn add_up(parts: &mut [RollupRows]) -> Vec<u32> {
    let mut groups = number_rows(parts).into_iter().zip(0..);
    let (mut firsts, mut left) = (Vec::<Place>::new(), Vec::new());
    for part in 0..parts.len() {
        for (row, (group, number)) in (0..parts[part].len()).zip(&mut groups) {
            let here = Place { part, row };
            match firsts.get(group as usize) {
                Some(first) => add(parts, here, *first),
                None => {
                    firsts.push(here);
                    left.push(number);
                }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use sink_api::rollup::{Measures, RollupDef};

    use super::*;
    use crate::support::{DAY_START_MS, Random, key_text, sums};

    /// Every row's bucket and keys as text, with what it says.
    fn rows(parts: &[RollupRows]) -> Vec<(String, Measures, u64)> {
        let row = |part: &RollupRows, row: usize| {
            (key_text(part, row), part.measures(row), part.cut_bytes.get(row).copied().unwrap_or_default())
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
