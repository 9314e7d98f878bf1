//! The heaviest sources of the last complete bucket of `talkers`, from the rows as they are emitted.

use std::collections::{BTreeMap, HashMap};

use super::counters::Top;
use crate::flow::rollup::{KeyColumn, Role};
use crate::flow::{Addr, Key, RollupRows};

/// Sources looked at each time a bucket is emitted: the heaviest.
const CANDIDATES: usize = 1000;
/// Sources added up for one bucket; more come only from many emissions of one bucket.
const HOSTS_MAX: usize = 10_000;
/// Buckets added up at once: the open one, the last complete one and one before.
const BUCKETS_MAX: usize = 3;

/// Sums by bucket start and source. Small and bounded; a source that is light in every emission may be missed.
#[derive(Debug, Default)]
pub(super) struct TopTracker {
    buckets: BTreeMap<i64, HashMap<Addr, u64>>,
}

impl TopTracker {
    /// Takes the rows from `from` on, all of one bucket. Shows the `count` heaviest when the bucket is `complete`.
    pub(super) fn add(&mut self, rows: &RollupRows, from: usize, complete: bool, count: usize, top: &Top) {
        let Some(&bucket) = rows.bucket.get(from) else { return };
        let (Some(KeyColumn::Ip(hosts)), Some(KeyColumn::U8(roles))) =
            (column(rows, Key::Host), column(rows, Key::Role))
        else {
            return;
        };
        let is_source = |row: &usize| roles.get(*row) == Some(Role::Src as u8) && hosts.get(*row).is_some();
        let mut heaviest: Vec<usize> = (from..rows.len()).filter(is_source).collect();
        if heaviest.len() > CANDIDATES {
            heaviest.select_nth_unstable_by_key(CANDIDATES, |row| std::cmp::Reverse(rows.bytes[*row]));
            heaviest.truncate(CANDIDATES);
        }
        let sums = self.buckets.entry(bucket).or_default();
        for row in heaviest {
            let Some(host) = hosts.get(row) else { continue };
            if sums.len() < HOSTS_MAX || sums.contains_key(&host) {
                let sum = sums.entry(host).or_default();
                *sum = sum.saturating_add(rows.bytes[row]);
            }
        }
        if complete {
            let mut list: Vec<(Addr, u64)> = sums.iter().map(|(host, bytes)| (*host, *bytes)).collect();
            list.sort_unstable_by_key(|(host, bytes)| (std::cmp::Reverse(*bytes), *host));
            list.truncate(count);
            top.set(bucket, list);
        }
        while self.buckets.len() > BUCKETS_MAX {
            self.buckets.pop_first();
        }
    }
}

fn column(rows: &RollupRows, key: Key) -> Option<&KeyColumn> {
    rows.keys.iter().find(|(k, _)| *k == key).map(|(_, column)| column)
}
