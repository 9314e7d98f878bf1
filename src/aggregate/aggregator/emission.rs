//! What leaves the aggregator: which buckets are due, and their rows a part at a time.

use super::super::family::Family;
use super::super::out::Out;
use super::super::rollup::Rollup;
use super::super::schedule::{Due, Tick, is_wide};
use super::{Aggregator, Entry};
use crate::flow::rollup::OpenBucket;
use crate::flow::{RollupDef, RollupSums};

/// Rows of one emission, after which it ends with the bucket at hand; about 20 MiB.
const EMISSION_ROWS: usize = 200_000;

impl Entry {
    /// Makes buckets due. Adds no flows until they are emitted.
    fn plan(&mut self, is_due: impl Fn(&RollupDef, i64, i64) -> bool) {
        let Rollup { def, buckets, .. } = &self.rollup;
        let due = buckets.iter().filter(|(number, bucket)| is_due(def, *number, bucket.first_ms));
        self.due = due.map(|(number, _)| number).collect();
        if !self.due.is_empty() {
            self.rollup.settle();
        }
    }
}

impl Aggregator {
    pub(super) fn drain_early(&mut self) {
        self.counters.early_emissions.add(1);
        self.drain_all();
    }

    /// Moves everything into rows on their way out.
    pub(super) fn drain_all(&mut self) {
        self.flush();
        for index in 0..self.rollups.len() {
            while self.drain_first(index, None) {}
        }
    }

    /// Moves the first bucket of a rollup that is due into rows. False when there is none.
    fn drain_first(&mut self, index: usize, now_ms: Option<i64>) -> bool {
        let entry = &mut self.rollups[index];
        let Some(number) = entry.due.pop_front() else { return false };
        if entry.out.is_none() {
            entry.out = entry.rollup.new_out();
        }
        let Some(out) = &mut entry.out else { return false };
        let from = out.last().len();
        if entry.rollup.drain(number, &self.names, &self.groups, out) && entry.rollup.def.has_cut_bytes() {
            let end = number.saturating_add(1).saturating_mul(entry.rollup.def.bucket_ms);
            let complete = now_ms.is_some_and(|now_ms| end <= now_ms);
            // A bucket that fills an entry and begins another shows its later rows only.
            let from = if out.last().len() < from { 0 } else { from };
            self.top.add(out.last(), from, complete, self.config.top_talkers, &self.counters.top);
        }
        true
    }

    /// What is due at this time, a part at a time: call it until it gives `None`. An emission holds what was added up to
    /// [`Aggregator::position`]; append it to the log before adding more.
    pub fn emit(&mut self, now_ms: i64) -> Option<RollupSums> {
        if self.replay_upto.is_some() {
            return None;
        }
        let own = self.heaviest_wide().map_or(0, |entry| entry.rollup.buckets.used_bytes());
        let wide = self.families.iter().map(Family::used_bytes).fold(own, usize::max);
        match self.schedule.due(now_ms, (self.held_bytes(), wide), self.config.memory_max_bytes as usize) {
            Due::Nothing if self.are_names_too_many() => self.flush(),
            Due::Nothing => {}
            Due::Tick(tick) => self.plan_tick(&tick),
            Due::Heaviest => {
                self.counters.early_emissions.add(1);
                self.fold();
                if let Some(heaviest) = self.heaviest_wide() {
                    heaviest.plan(|_, _, _| true);
                }
            }
            Due::Heavy => {
                self.counters.early_emissions.add(1);
                self.plan_heavy();
            }
            Due::Everything => {
                self.counters.early_emissions.add(1);
                self.flush();
            }
        }
        self.next_part(now_ms)
    }

    /// The rollup of wide buckets that holds most.
    fn heaviest_wide(&mut self) -> Option<&mut Entry> {
        let wide = self.rollups.iter_mut().filter(|entry| is_wide(entry.rollup.def.bucket_ms));
        wide.max_by_key(|entry| entry.rollup.buckets.used_bytes())
    }

    /// Makes the rollups due that hold most, until half of the memory would be free without them.
    fn plan_heavy(&mut self) {
        self.fold();
        let mut left = self.held_bytes();
        let mut rollups: Vec<&mut Entry> = self.rollups.iter_mut().collect();
        rollups.sort_by_key(|entry| std::cmp::Reverse(entry.rollup.buckets.used_bytes()));
        for entry in rollups {
            if left <= self.config.memory_max_bytes as usize / 2 {
                break;
            }
            left = left.saturating_sub(entry.rollup.buckets.used_bytes());
            entry.plan(|_, _, _| true);
        }
    }

    fn plan_tick(&mut self, tick: &Tick) {
        for entry in self.rollups.iter_mut().filter(|entry| entry.due.is_empty()) {
            entry.plan(|def, number, first_ms| tick.is_due(def, number, first_ms));
        }
        for family in &mut self.families {
            let rollups = self.rollups.iter().enumerate();
            if rollups.filter(|(_, entry)| !entry.due.is_empty()).any(|(index, _)| family.has(index)) {
                family.fold(&mut self.rollups, |entry| &mut entry.rollup, &mut self.groups);
            }
        }
    }

    /// Makes everything due: [`Aggregator::emit`] then gives all sums, open buckets as partials.
    pub fn flush(&mut self) {
        self.fold();
        for entry in &mut self.rollups {
            entry.plan(|_, _, _| true);
        }
    }

    fn next_part(&mut self, now_ms: i64) -> Option<RollupSums> {
        let waiting = |entry: &Entry| entry.out.as_ref().map_or(0, Out::len);
        let mut rows: usize = self.rollups.iter().map(waiting).sum();
        for index in 0..self.rollups.len() {
            while rows < EMISSION_ROWS {
                let before = waiting(&self.rollups[index]);
                if !self.drain_first(index, Some(now_ms)) {
                    break;
                }
                rows += waiting(&self.rollups[index]) - before;
            }
        }
        let in_families: usize = self.families.iter().map(Family::keys).sum();
        let keys: usize = self.rollups.iter().map(|entry| entry.rollup.buckets.keys()).sum();
        self.counters.keys_held.set((in_families + keys) as i64);
        self.counters.held_bytes.set(self.held_bytes() as i64);
        if self.are_names_too_many() && self.rollups.iter().all(|entry| entry.rollup.buckets.len() == 0) {
            self.names.clear();
            self.groups.clear();
        }
        let mut parts = std::mem::take(&mut self.leftover);
        parts.extend(self.rollups.iter_mut().filter_map(|entry| entry.out.take()).flat_map(Out::into_entries));
        if parts.is_empty() {
            return None;
        }
        self.counters.rows.add(parts.iter().map(|rows| rows.len() as u64).sum());
        self.counters.emissions.add(1);
        Some(RollupSums { upto: self.position, replay_from: self.replay_from(), open: self.open(), rows: parts })
    }

    fn open(&self) -> Vec<OpenBucket> {
        let buckets = |entry: &'_ Entry| {
            let open = entry.rollup.buckets.iter().map(|(number, bucket)| OpenBucket {
                rollup: entry.rollup.def.name.clone(),
                bucket: number.saturating_mul(entry.rollup.def.bucket_ms),
                drained_upto: bucket.first_position.saturating_sub(1),
            });
            open.collect::<Vec<_>>()
        };
        self.rollups.iter().flat_map(buckets).collect()
    }
}
