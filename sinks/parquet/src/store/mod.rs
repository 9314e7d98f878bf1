//! Answers questions from the files that the manifest lists, and from the log's tail after the manifest's cursor.
//!
//! An answer rests on one snapshot: a state of the manifest, and the log after that state's cursor. When a commit happens
//! while the tail is read, so that the log may have dropped what the manifest read before does not have, both are read
//! again. Files that a snapshot lists stay readable for ten minutes after they left the store.

mod by_address;
mod parallel;
mod prune;
mod scan;
mod snapshot;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sink_api::rollup::{Record, RollupDef};
use sink_api::sink::{LogTail, Retention};
use sink_api::store::group::{GROUPS_MAX, Grouper};
use sink_api::store::plan::plan;
use sink_api::store::{Answer, FlowStore, FlowsQuestion, FlowsSummary, Question, StoreError, Tier};
use sink_api::{Clock, FlowBatch, LogId, SinkContext};

use crate::config::Config;
use crate::layout::Partitioning;
use crate::manifest::{ManifestReader, State};
use crate::sink::oldest_kept_ms;
use scan::Scan;

pub(crate) use scan::Footers;

/// Rows of the log's tail that a listing of flows may hold: what one commit takes at the most.
const TAIL_ROWS_MAX: usize = 4_000_000;

/// The store, for reading. Shared by all request threads.
pub struct ParquetStore {
    name: String,
    folder: PathBuf,
    log_id: LogId,
    tail: Arc<dyn LogTail>,
    rollups: Arc<Vec<RollupDef>>,
    clock: Clock,
    retention: Retention,
    manifest: ManifestReader,
    footers: Footers,
}

impl ParquetStore {
    /// The store in the configured folder. Nothing needs to be there yet.
    pub fn new(config: &Config, context: &SinkContext) -> Self {
        Self {
            name: context.name.clone(),
            folder: config.path.clone(),
            log_id: context.log_id,
            tail: context.tail.clone(),
            rollups: context.rollups.clone(),
            clock: context.clock.clone(),
            retention: config.retention,
            manifest: ManifestReader::new(&config.path),
            footers: Footers::default(),
        }
    }

    fn down(&self, reason: impl std::fmt::Display) -> StoreError {
        StoreError::Down { store: self.name.clone(), reason: reason.to_string() }
    }

    fn check(&self, deadline: Instant) -> Result<(), StoreError> {
        if Instant::now() < deadline { Ok(()) } else { Err(StoreError::Deadline { store: self.name.clone() }) }
    }

    /// The first time that is kept by days or months.
    fn kept_from(&self, by: Partitioning) -> i64 {
        oldest_kept_ms(self.retention, by, (self.clock)())
    }

    fn scan<'a>(&'a self, deadline: Instant) -> Scan<'a> {
        Scan { store: self, deadline }
    }

    /// Reads the tail after a state's cursor. False when the state is too old for it.
    fn read_tail(
        &self,
        state: &State,
        visit: &mut dyn FnMut(&Record) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        snapshot::read_tail(&*self.tail, &self.manifest, self.log_id, state, visit, &self.name)
    }
}

impl FlowStore for ParquetStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, question: &Question) -> Result<Answer, StoreError> {
        let plan = plan(&self.name, question, &self.rollups, self.kept_from(Partitioning::Day))?;
        loop {
            self.check(question.deadline)?;
            let state = self.manifest.current().map_err(|e| self.down(e))?;
            let mut grouper = Grouper::new(&self.name, question, &plan, GROUPS_MAX);
            let consistent = self.read_tail(&state, &mut |record| {
                self.check(question.deadline)?;
                match (record, &plan.tier) {
                    (Record::Flows(batch), Tier::Detail) => grouper.add_batch(batch),
                    (Record::Sums(sums), Tier::Rollup(name)) => {
                        let mut rows = sums.rows.iter().filter(|rows| *rows.rollup == **name);
                        rows.try_for_each(|rows| grouper.add_rollup(rows))
                    }
                    _ => Ok(()),
                }
            })?;
            if !consistent {
                continue;
            }
            self.scan(question.deadline).sum(&state, question, &plan, &mut grouper)?;
            let by = plan.rollup.as_ref().map_or(Partitioning::Day, Partitioning::of);
            return Ok(grouper.finish(plan.held_from(self.kept_from(by))));
        }
    }

    fn flows(
        &self,
        question: &FlowsQuestion,
        visit: &mut dyn FnMut(&FlowBatch, &[u32]) -> bool,
    ) -> Result<FlowsSummary, StoreError> {
        let kept_from = self.kept_from(Partitioning::Day);
        let expired_before = (question.range.from < kept_from).then_some(kept_from);
        let (state, tail) = self.flows_snapshot(question)?;
        let mut rows = 0;
        let mut go_on = true;
        let mut give = |batch: &FlowBatch, selected: &[u32]| {
            if go_on && !selected.is_empty() {
                rows += selected.len() as u64;
                go_on = visit(batch, selected);
            }
            go_on
        };
        self.scan(question.deadline).list(&state, question, &mut give)?;
        for (batch, selected) in &tail {
            self.check(question.deadline)?;
            if !give(batch, selected) {
                break;
            }
        }
        Ok(FlowsSummary { rows, expired_before })
    }
}

/// Batches of the tail, and the rows of each that match.
type Tail = Vec<(Arc<FlowBatch>, Vec<u32>)>;

impl ParquetStore {
    /// A state and the matching part of the tail after it.
    fn flows_snapshot(&self, question: &FlowsQuestion) -> Result<(Arc<State>, Tail), StoreError> {
        loop {
            self.check(question.deadline)?;
            let state = self.manifest.current().map_err(|e| self.down(e))?;
            let mut tail: Tail = Vec::new();
            let mut held = 0;
            let consistent = self.read_tail(&state, &mut |record| {
                self.check(question.deadline)?;
                if let Record::Flows(batch) = record {
                    let mut selected = Vec::new();
                    select(question, batch, &mut selected);
                    if !selected.is_empty() {
                        held += batch.len();
                        tail.push((batch.clone(), selected));
                    }
                }
                if held > TAIL_ROWS_MAX {
                    return Err(self.down("it is too far behind the log to list flows; sums can be asked"));
                }
                Ok(())
            })?;
            if consistent {
                return Ok((state, tail));
            }
        }
    }
}

/// Replaces `rows` by the rows of a batch that a listing wants.
fn select(question: &FlowsQuestion, batch: &FlowBatch, rows: &mut Vec<u32>) {
    question.filter.select(batch, rows);
    let times = batch.time.values();
    rows.retain(|row| times.get(*row as usize).is_some_and(|time| question.range.contains(*time)));
}
