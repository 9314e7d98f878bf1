//! A store in memory over entries of the log: the reference that every store's answers are compared with, and a sink for
//! tests of what stands around sinks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::group::{GROUPS_MAX, Grouper};
use super::plan::plan;
use super::{Answer, FlowStore, FlowsQuestion, FlowsSummary, Question, StoreError, Tier};
use crate::rollup::{Record, RollupDef};
use crate::sink::{Group, LogId, Sink, SinkConfig, SinkContext, SinkError};
use crate::{Entry, FlowBatch};

/// Entries in memory by log and position; an entry that comes again replaces itself.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    name: String,
    rollups: Arc<Vec<RollupDef>>,
    entries: Arc<Mutex<Entries>>,
}

type Entries = BTreeMap<(LogId, u64), Record>;

impl MemoryStore {
    /// An empty store that will hold detail and these rollups.
    pub fn new(name: &str, rollups: Arc<Vec<RollupDef>>) -> Self {
        Self { name: name.to_owned(), rollups, entries: Arc::default() }
    }

    /// Adds an entry of a log.
    pub fn insert(&self, log: LogId, entry: Entry) {
        self.lock().insert((log, entry.position), entry.record);
    }

    /// The last position held of a log.
    pub fn cursor(&self, log: LogId) -> Option<u64> {
        self.lock().range((log, 0)..=(log, u64::MAX)).next_back().map(|((_, position), _)| *position)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, deadline: Instant) -> Result<(), StoreError> {
        if Instant::now() < deadline { Ok(()) } else { Err(StoreError::Deadline { store: self.name.clone() }) }
    }
}

impl FlowStore for MemoryStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, question: &Question) -> Result<Answer, StoreError> {
        let plan = plan(&self.name, question, &self.rollups, i64::MIN)?;
        let mut grouper = Grouper::new(&self.name, question, &plan, GROUPS_MAX);
        for record in self.lock().values() {
            self.check(question.deadline)?;
            match (record, &plan.tier) {
                (Record::Flows(batch), Tier::Detail) => grouper.add_batch(batch)?,
                (Record::Sums(sums), Tier::Rollup(name)) => {
                    sums.rows
                        .iter()
                        .filter(|rows| *rows.rollup == **name)
                        .try_for_each(|rows| grouper.add_rollup(rows))?;
                }
                _ => {}
            }
        }
        Ok(grouper.finish(None))
    }

    fn flows(
        &self,
        question: &FlowsQuestion,
        visit: &mut dyn FnMut(&FlowBatch, &[u32]) -> bool,
    ) -> Result<FlowsSummary, StoreError> {
        let mut summary = FlowsSummary { rows: 0, expired_before: None };
        let mut rows = Vec::new();
        let batches: Vec<_> = self.lock().values().filter_map(batch_of).collect();
        for batch in batches {
            self.check(question.deadline)?;
            question.filter.select(&batch, &mut rows);
            let times = batch.time.values();
            rows.retain(|row| question.range.contains(times[*row as usize]));
            summary.rows += rows.len() as u64;
            if !rows.is_empty() && !visit(&batch, &rows) {
                break;
            }
        }
        Ok(summary)
    }
}

fn batch_of(record: &Record) -> Option<Arc<FlowBatch>> {
    match record {
        Record::Flows(batch) => Some(Arc::clone(batch)),
        Record::Sums(_) | Record::Alerts(_) => None,
    }
}

/// Configuration of a sink over a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// Where entries go.
    pub store: MemoryStore,
}

impl SinkConfig for MemoryConfig {
    fn open(&self, context: &SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(MemorySink { store: self.store.clone(), log: context.log_id }))
    }

    fn store(&self, _: &SinkContext) -> Result<Option<Arc<dyn FlowStore>>, SinkError> {
        Ok(Some(Arc::new(self.store.clone())))
    }

    fn memory_bytes_max(&self) -> u64 {
        u64::MAX
    }
}

struct MemorySink {
    store: MemoryStore,
    log: LogId,
}

impl Sink for MemorySink {
    fn cursor(&mut self) -> Result<Option<u64>, SinkError> {
        Ok(self.store.cursor(self.log))
    }

    fn write(&mut self, group: &mut dyn Group) -> Result<(), SinkError> {
        let mut entries = Vec::new();
        while let Some(entry) = group.next()? {
            entries.push(entry);
        }
        entries.into_iter().for_each(|entry| self.store.insert(self.log, entry));
        Ok(())
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}
