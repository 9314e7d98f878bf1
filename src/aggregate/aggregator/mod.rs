//! The aggregator without its thread: flows in, partial sums out, an injected clock.

mod emission;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::config::Config;
use super::counters::Counters;
use super::family::Family;
use super::gathered::Gathered;
use super::groups::Groups;
use super::out::Out;
use super::rollup::{Block, Emitted, Rollup};
use super::schedule::Schedule;
use super::top::TopTracker;
use super::view::{Maps, Names};
use crate::flow::rollup::Shape;
use crate::flow::{Field, FlowBatch, Key, RollupDef, RollupRows, RollupSums};

/// Flows gone through together at the most: all that a slab holds, with 2 MiB of shares and keys. Flows reach back into some 16
/// buckets of a minute, and only where one gets many at a time its memory can be fetched ahead.
const BLOCK_ROWS_MAX: usize = 16_384;
/// As many are gone through together however little room is left.
const BLOCK_ROWS_MIN: usize = 512;
/// What a flow may take whose keys are all new: in some buckets of the narrow rollups, once in each other, and its numbers.
const FLOW_BYTES_MAX: usize = 1024;
/// Buckets of one rollup that may be open; more (flows with made-up times) are emitted early.
const BUCKETS_MAX: usize = 4096;
/// Part of the memory up to which new keys are let in; the rest is for tables that grow.
const ADMIT_PERCENT: usize = 95;
/// Part of the memory that names and numbers of keys may take; beyond it they are forgotten, for which everything is emitted.
const NAMES_PERCENT: usize = 40;

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
    groups: Groups,
    /// Of the block at hand.
    gathered: Gathered,
    rollups: Vec<Entry>,
    families: Vec<Family>,
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
    rollup: Rollup,
    /// Index of the shares it is booked by.
    width: usize,
    /// Rows on their way out.
    out: Option<Out>,
    /// Numbers of the buckets to be emitted, ascending.
    due: VecDeque<i64>,
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
            groups: Groups::default(),
            gathered: Gathered::default(),
            rollups: Vec::new(),
            families: Vec::new(),
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
        let mut groups = Groups::default();
        let problem = |def: &RollupDef, problem: String| format!("rollup {}: {problem}", def.name);
        let mut rollups: Vec<Rollup> = defs
            .iter()
            .map(|def| Rollup::new(def, &mut groups).map_err(|text| problem(def, text)))
            .collect::<Result<_, _>>()?;
        let families = Family::find_all(&mut rollups, &mut groups)?;
        groups.link();
        self.drain_all();
        self.leftover.extend(self.rollups.iter_mut().filter_map(|entry| entry.out.take()).flat_map(Out::into_entries));
        (self.groups, self.families) = (groups, families);
        self.gathered.shares.clear();
        self.rollups.clear();
        for rollup in rollups {
            let width = self.gathered.share(rollup.unit);
            self.rollups.push(Entry { rollup, width, out: None, due: VecDeque::new(), emitted: None });
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
        let firsts = self.rollups.iter().flat_map(|entry| entry.rollup.buckets.iter());
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
            let own = sums.open.iter().filter(|open| open.rollup == entry.rollup.def.name);
            let open: HashMap<i64, u64> =
                own.map(|open| (open.bucket.div_euclid(entry.rollup.def.bucket_ms), open.drained_upto)).collect();
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
        let refused = self.names.refused();
        self.maps.fill(batch, &self.dictionaries, self.per_subscriber, &mut self.names);
        self.counters.refused_names.add(self.names.refused() - refused);
        self.counters.flows.add(batch.len() as u64);
        let mut drained = false;
        let mut start = 0;
        while start < batch.len() {
            let end = batch.len().min(start + self.block_rows());
            self.add_block(position, batch, start..end, now_ms);
            start = end;
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

    /// How many flows to go through next: as many as there is room for new keys of, since what has no room is known between blocks.
    fn block_rows(&self) -> usize {
        (self.room_bytes() / FLOW_BYTES_MAX).clamp(BLOCK_ROWS_MIN, BLOCK_ROWS_MAX)
    }

    /// Bytes left for new keys.
    fn room_bytes(&self) -> usize {
        let admitted = self.config.memory_max_bytes as usize / 100 * ADMIT_PERCENT;
        admitted.saturating_sub(self.held_bytes())
    }

    fn add_block(&mut self, position: u64, batch: &FlowBatch, rows: std::ops::Range<usize>, now_ms: i64) {
        let long = self.gathered.fill(batch, rows.clone(), self.config.flow_span_max_ms as i64);
        self.counters.long_spans.add(long as u64);
        let admit = self.room_bytes() > 0;
        let is_free = admit && self.replay_upto.is_none();
        if !is_free {
            self.fold();
        }
        let rows = rows.start as u32..rows.end as u32;
        self.groups.fill(batch, &self.maps, rows.clone(), admit);
        let Self { gathered, groups, names, families, .. } = self;
        let gathered: &Gathered = gathered;
        for (index, entry) in self.rollups.iter_mut().enumerate() {
            let (rows, emitted) = (rows.clone(), entry.emitted.as_ref());
            let shares = &gathered.shares[entry.width];
            let block = Block { batch, rows, gathered, shares, position, now_ms, admit, emitted };
            entry.rollup.mark(&block);
            match families.iter_mut().find(|family| is_free && family.has(index)) {
                Some(family) if family.is_first(index) => family.add(&block, groups, names),
                Some(_) => {}
                None => self.counters.refused_keys.add(entry.rollup.add(&block, groups, names)),
            }
        }
    }

    /// Moves what families hold to their rollups.
    fn fold(&mut self) {
        for family in &mut self.families {
            family.fold(&mut self.rollups, |entry| &mut entry.rollup, &mut self.groups);
        }
    }

    /// Bytes held by keys and sums.
    pub fn held_bytes(&self) -> usize {
        let families: usize = self.families.iter().map(Family::used_bytes).sum();
        self.name_bytes() + families + self.rollups.iter().map(|entry| entry.rollup.buckets.used_bytes()).sum::<usize>()
    }

    /// Bytes held by names and numbers of keys, which stay when sums are emitted.
    fn name_bytes(&self) -> usize {
        self.names.used_bytes() + self.groups.used_bytes()
    }

    fn are_names_too_many(&self) -> bool {
        self.names.is_full() || self.name_bytes() > self.config.memory_max_bytes as usize / 100 * NAMES_PERCENT
    }

    fn is_over_bounds(&self) -> bool {
        self.held_bytes() > self.config.memory_max_bytes as usize
            || self.rollups.iter().any(|entry| entry.rollup.buckets.len() > BUCKETS_MAX)
    }
}
