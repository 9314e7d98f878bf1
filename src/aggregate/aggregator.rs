//! The aggregator without its thread: flows in, partial sums out, an injected clock.

use std::collections::HashMap;
use std::sync::Arc;

use super::cells::Pool;
use super::config::Config;
use super::counters::Counters;
use super::rollup::{Block, Emitted, Out, State, state};
use super::schedule::{Due, Schedule};
use super::share::{Share, Width};
use super::top::TopTracker;
use super::view::{Maps, Names};
use crate::flow::rollup::{OpenBucket, Shape};
use crate::flow::{Field, FlowBatch, Key, RollupDef, RollupRows, RollupSums};

/// Flows gone through together: their shares and keys stay in the second-level cache.
const BLOCK_ROWS: usize = 512;
/// Rows of one emission, after which it ends with the bucket at hand; about 20 MiB.
const EMISSION_ROWS: usize = 200_000;
/// Buckets of one rollup that may be open; more (flows with made-up times) are emitted early.
const BUCKETS_MAX: usize = 4096;
/// Part of the memory up to which new keys are let in; the rest is for known keys in new buckets.
const ADMIT_PERCENT: usize = 95;

/// Sums flows up by the rollups' keys. See the module's documentation.
pub struct Aggregator {
    defs: Arc<Vec<RollupDef>>,
    config: Config,
    counters: Arc<Counters>,
    names: Names,
    maps: Maps,
    /// Dictionary columns that some rollup groups by.
    dictionaries: Vec<Field>,
    per_subscriber: bool,
    pool: Pool,
    /// Distinct widths, with the shares of the block at hand.
    widths: Vec<(Width, Vec<Share>)>,
    rollups: Vec<Entry>,
    schedule: Schedule,
    top: TopTracker,
    /// Last position taken into account.
    position: u64,
    /// While reading again after a crash: up to where.
    replay_upto: Option<u64>,
    /// Rows of rollups that are no more.
    leftover: Vec<RollupRows>,
}

struct Entry {
    def: RollupDef,
    /// Index into `widths`.
    width: usize,
    state: Box<dyn State>,
    /// Rows on their way out.
    out: Option<Out>,
    /// Buckets up to this number are to be emitted.
    drain_through: Option<i64>,
    emitted: Option<Emitted>,
}

impl Aggregator {
    /// An empty aggregator.
    ///
    /// # Errors
    /// Says which rollup cannot be kept and why; those of [`Config::rollups`] always can.
    pub fn new(defs: Arc<Vec<RollupDef>>, config: Config, counters: Arc<Counters>) -> Result<Self, String> {
        let mut aggregator = Self {
            defs: Arc::default(),
            config,
            counters,
            names: Names::default(),
            maps: Maps::default(),
            dictionaries: Vec::new(),
            per_subscriber: false,
            pool: Pool::default(),
            widths: Vec::new(),
            rollups: Vec::new(),
            schedule: Schedule::default(),
            top: TopTracker::default(),
            position: 0,
            replay_upto: None,
            leftover: Vec::new(),
        };
        aggregator.redefine(defs)?;
        Ok(aggregator)
    }

    /// Replaces the rollups. What was pending for the old ones is emitted next.
    ///
    /// # Errors
    /// As [`Aggregator::new`]; then everything stays as it was.
    pub fn redefine(&mut self, defs: Arc<Vec<RollupDef>>) -> Result<(), String> {
        let states: Vec<_> = defs
            .iter()
            .map(|def| state(def).map_err(|problem| format!("rollup {}: {problem}", def.name)))
            .collect::<Result<_, _>>()?;
        self.drain_all();
        self.leftover.extend(self.rollups.iter_mut().filter_map(|entry| entry.out.take()).flat_map(Out::into_entries));
        self.widths.clear();
        self.rollups.clear();
        for (def, state) in defs.iter().zip(states) {
            let known = self.widths.iter().position(|(width, _)| width.ms() == def.bucket_ms);
            let width = known.unwrap_or_else(|| {
                self.widths.push((Width::new(def.bucket_ms), Vec::new()));
                self.widths.len() - 1
            });
            let emitted = None;
            self.rollups.push(Entry { def: def.clone(), width, state, out: None, drain_through: None, emitted });
        }
        let keys = || defs.iter().flat_map(|def| &def.by);
        self.dictionaries =
            Field::ALL.iter().copied().filter(|field| keys().any(|key| *key == Key::Field(*field))).collect();
        self.per_subscriber = defs.iter().any(|def| def.shape == Shape::PerSubscriber);
        self.defs = defs;
        Ok(())
    }

    /// The rollups in force.
    pub fn defs(&self) -> &Arc<Vec<RollupDef>> {
        &self.defs
    }

    /// Last log position taken into account.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// First log position that would have to be read again if everything emitted so far were all that is left.
    pub fn replay_from(&self) -> u64 {
        let firsts = self.rollups.iter().flat_map(|entry| entry.state.buckets().iter());
        let first = firsts.map(|(_, bucket)| bucket.first_position).min();
        first.unwrap_or(self.position + 1).min(self.position + 1)
    }

    /// Goes on after a crash, on a fresh aggregator: with the last emission found in the log, give it every record from
    /// `sums.replay_from` on. Nothing is emitted before `sums.upto` is reached.
    pub fn restore(&mut self, sums: &RollupSums) {
        self.position = sums.replay_from.saturating_sub(1);
        if sums.upto <= self.position {
            return;
        }
        self.replay_upto = Some(sums.upto);
        for entry in &mut self.rollups {
            let own = sums.open.iter().filter(|open| open.rollup == entry.def.name);
            let open: HashMap<i64, u64> =
                own.map(|open| (open.bucket.div_euclid(entry.def.bucket_ms), open.drained_upto)).collect();
            entry.emitted = Some(Emitted { upto: sums.upto, open });
        }
    }

    /// Takes note of a record without flows.
    pub fn pass(&mut self, position: u64) {
        self.position = position;
        self.counters.position.set(position as i64);
        if self.replay_upto.is_some_and(|upto| position >= upto) {
            self.replay_upto = None;
            for entry in &mut self.rollups {
                entry.emitted = None;
            }
        }
    }

    /// Adds the flows of one record. Positions grow from call to call.
    pub fn add(&mut self, position: u64, batch: &FlowBatch, now_ms: i64) {
        if batch.ragged_column().is_some() {
            self.counters.refused_batches.add(1);
            return self.pass(position);
        }
        let refused = self.names.texts.refused + self.names.uuids.refused;
        self.maps.fill(batch, &self.dictionaries, self.per_subscriber, &mut self.names);
        self.counters.refused_names.add(self.names.texts.refused + self.names.uuids.refused - refused);
        self.counters.flows.add(batch.len() as u64);
        let mut drained = false;
        for start in (0..batch.len()).step_by(BLOCK_ROWS) {
            let end = batch.len().min(start + BLOCK_ROWS);
            self.add_block(position, batch, start..end, now_ms);
            if self.is_over_bounds() {
                self.drain_early();
                drained = true;
            }
        }
        if drained {
            // Some buckets hold a part of this record, which no list of open buckets can say: empty them all.
            self.drain_all();
        }
        self.schedule.added(batch.len() as u64);
        self.pass(position);
    }

    fn add_block(&mut self, position: u64, batch: &FlowBatch, rows: std::ops::Range<usize>, now_ms: i64) {
        let span_max_ms = self.config.flow_span_max_ms as i64;
        let long = rows.clone().filter(|row| span_ms(batch, *row) > span_max_ms).count();
        self.counters.long_spans.add(long as u64);
        for (width, shares) in &mut self.widths {
            shares.clear();
            shares.extend(rows.clone().map(|row| {
                let (start, end) = (batch.span_start_ms(row), batch.time.value_or_default(row));
                let (bytes, packets) = (batch.bytes.value_or_default(row), batch.packets.value_or_default(row));
                Share::of(*width, start, end, span_max_ms, bytes, packets)
            }));
        }
        let admit = self.held_bytes() < self.config.memory_max_bytes as usize / 100 * ADMIT_PERCENT;
        for entry in &mut self.rollups {
            let block = Block {
                batch,
                maps: &self.maps,
                rows: rows.start as u32..rows.end as u32,
                shares: &self.widths[entry.width].1,
                position,
                now_ms,
                admit,
                emitted: entry.emitted.as_ref(),
            };
            let refused = entry.state.add(&block, &mut self.pool);
            self.counters.refused_keys.add(refused);
        }
    }

    /// Bytes held by keys and sums.
    pub fn held_bytes(&self) -> usize {
        self.pool.used_bytes() + self.rollups.iter().map(|entry| entry.state.used_bytes()).sum::<usize>()
    }

    fn is_over_bounds(&self) -> bool {
        self.held_bytes() > self.config.memory_max_bytes as usize
            || self.rollups.iter().any(|entry| entry.state.buckets().len() > BUCKETS_MAX)
    }

    fn drain_early(&mut self) {
        self.counters.early_emissions.add(1);
        self.drain_all();
    }

    /// Moves everything into rows on their way out.
    fn drain_all(&mut self) {
        for index in 0..self.rollups.len() {
            while self.drain_first(index, None) {}
            self.rollups[index].state.tidy(&mut self.pool);
        }
    }

    /// Moves the first bucket of a rollup into rows. False when there is none.
    fn drain_first(&mut self, index: usize, now_ms: Option<i64>) -> bool {
        let entry = &mut self.rollups[index];
        if entry.out.is_none() {
            entry.out = entry.state.new_out();
        }
        let Some(out) = &mut entry.out else { return false };
        let from = out.last().len();
        let Some(number) = entry.state.drain_first(&self.names, &mut self.pool, out) else { return false };
        if entry.def.has_cut_bytes() {
            let complete = now_ms.is_some_and(|now_ms| (number + 1).saturating_mul(entry.def.bucket_ms) <= now_ms);
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
        match self.schedule.due(now_ms, self.held_bytes(), self.config.memory_max_bytes as usize) {
            Due::Nothing => {}
            Due::Wide => {
                self.counters.early_emissions.add(1);
                for entry in self.rollups.iter_mut().filter(|entry| Schedule::is_wide(entry.def.bucket_ms)) {
                    entry.drain_through = Some(i64::MAX);
                }
            }
            Due::Late { open_as_well } => self.plan_late(now_ms, open_as_well),
            Due::Everything => {
                self.counters.early_emissions.add(1);
                self.flush();
            }
        }
        self.next_part(now_ms)
    }

    fn plan_late(&mut self, now_ms: i64, open_as_well: bool) {
        for entry in &mut self.rollups {
            let through = self.schedule.drain_through(now_ms, entry.def.bucket_ms, open_as_well, entry.state.buckets());
            entry.drain_through = entry.drain_through.max(through);
        }
    }

    /// Makes everything due: [`Aggregator::emit`] then gives all sums, open buckets as partials.
    pub fn flush(&mut self) {
        for entry in &mut self.rollups {
            entry.drain_through = Some(i64::MAX);
        }
    }

    fn next_part(&mut self, now_ms: i64) -> Option<RollupSums> {
        let waiting = |entry: &Entry| entry.out.as_ref().map_or(0, Out::len);
        let mut rows: usize = self.rollups.iter().map(waiting).sum();
        for index in 0..self.rollups.len() {
            let Some(through) = self.rollups[index].drain_through else { continue };
            while rows < EMISSION_ROWS && self.rollups[index].state.buckets().first().is_some_and(|n| n <= through) {
                let before = waiting(&self.rollups[index]);
                self.drain_first(index, Some(now_ms));
                rows += waiting(&self.rollups[index]) - before;
            }
            if self.rollups[index].state.buckets().first().is_none_or(|n| n > through) {
                self.rollups[index].drain_through = None;
                self.rollups[index].state.tidy(&mut self.pool);
            }
        }
        self.forget_names();
        let keys: usize = self.rollups.iter().map(|entry| entry.state.keys()).sum();
        self.counters.keys_held.set(keys as i64);
        self.counters.held_bytes.set(self.held_bytes() as i64);
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
            let open = entry.state.buckets().iter().map(|(number, bucket)| OpenBucket {
                rollup: entry.def.name.clone(),
                bucket: number.saturating_mul(entry.def.bucket_ms),
                drained_upto: bucket.first_position.saturating_sub(1),
            });
            open.collect::<Vec<_>>()
        };
        self.rollups.iter().flat_map(buckets).collect()
    }

    /// Starts the numbering of names anew once they are too many and no key holds one.
    fn forget_names(&mut self) {
        let unused = self.rollups.iter().all(|entry| entry.state.keys() == 0 && entry.out.is_none());
        if unused && (self.names.texts.is_full() || self.names.uuids.is_full()) {
            self.names.texts.clear();
            self.names.uuids.clear();
        }
    }
}

fn span_ms(batch: &FlowBatch, row: usize) -> i64 {
    batch.time.value_or_default(row).saturating_sub(batch.span_start_ms(row))
}
