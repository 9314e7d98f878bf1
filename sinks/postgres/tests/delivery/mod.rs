//! A deliverer in small: sends the entries of a log to a sink until all are there, whatever breaks.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use sink_api::conformance::{DataSet, LOG, Options};
use sink_api::sink::{Group, LogTail, SinkCounters};
use sink_api::{Entry, FlowBatch, Record, RollupDef, Sink, SinkConfig, SinkContext, SinkError};

/// How long everything may take.
const DEADLINE: Duration = Duration::from_secs(240);

pub struct Log {
    pub set: DataSet,
    pub context: SinkContext,
}

impl Log {
    pub fn new(flows: usize) -> Self {
        let rollups = Arc::new(RollupDef::defaults());
        let set = DataSet::new(&Options { flows, days: 6, detail: true }, &rollups);
        let now = set.now_ms;
        let context = SinkContext {
            name: "faults".to_owned(),
            log_id: LOG,
            tail: Arc::new(NoTail),
            rollups,
            clock: Arc::new(move || now),
        };
        Self { set, context }
    }

    /// Moves the flows so that they end at a time, and leaves the rollups out.
    pub fn shift_to(&mut self, end_ms: i64) {
        let delta = end_ms - self.set.now_ms;
        let flows = std::mem::take(&mut self.set.entries).into_iter().filter_map(|entry| match entry.record {
            Record::Flows(batch) => Some(batch),
            Record::Sums(_) => None,
        });
        for (position, batch) in (1..).zip(flows) {
            let mut batch = (*batch).clone();
            for column in [&mut batch.time, &mut batch.flow_start, &mut batch.received_at] {
                column.values_mut().iter_mut().for_each(|ms| *ms += delta);
            }
            self.set.entries.push(Entry { position, record: Record::Flows(Arc::new(batch)) });
        }
        self.set.now_ms = end_ms;
        self.context.clock = Arc::new(move || end_ms);
    }

    /// Flows that fulfil a condition.
    pub fn count_flows(&self, holds: impl Fn(&FlowBatch, usize) -> bool) -> usize {
        let count = |entry: &Entry| match &entry.record {
            Record::Flows(batch) => (0..batch.len()).filter(|row| holds(batch, *row)).count(),
            Record::Sums(_) => 0,
        };
        self.set.entries.iter().map(count).sum()
    }

    /// Flows and their bytes.
    pub fn totals(&self) -> (i64, i64) {
        let batches = self.set.entries.iter().filter_map(|entry| match &entry.record {
            Record::Flows(batch) => Some(batch),
            Record::Sums(_) => None,
        });
        batches.fold((0, 0), |(flows, bytes), batch| {
            (flows + batch.len() as i64, bytes + batch.bytes.values().iter().sum::<u64>() as i64)
        })
    }

    /// Checks that every flow is there exactly once, in detail and in sums.
    pub fn assert_stored(&self, client: &mut postgres::Client) {
        let mut ask = |sql: &str| {
            let row = client.query_one(sql, &[]).unwrap();
            (row.get::<_, i64>(0), row.get::<_, i64>(1))
        };
        let totals = self.totals();
        assert_eq!(ask("SELECT count(*), sum(bytes)::bigint FROM flows"), totals, "detail");
        for rollup in ["traffic", "geo"] {
            let sums = ask(&format!("SELECT sum(flows)::bigint, sum(bytes)::bigint FROM flows_{rollup}"));
            assert_eq!(sums, totals, "{rollup}");
        }
        let sums =
            ask("SELECT sum(flows)::bigint, sum(bytes)::bigint FROM flows_usage WHERE direction <> 'internal_in'");
        let null = ask("SELECT count(*), count(*) FROM flows_usage WHERE direction IS NULL");
        assert_eq!((sums, null), (totals, (0, 0)), "usage");
    }
}

struct NoTail;

impl LogTail for NoTail {
    fn read_after(&self, _: u64, _: &mut dyn FnMut(&Entry) -> bool) -> std::io::Result<()> {
        Ok(())
    }
}

/// A sink that is opened again after each error, as the contract says.
pub struct Deliverer<'a> {
    config: &'a dyn SinkConfig,
    log: &'a Log,
    sink: Option<Box<dyn Sink>>,
    /// Entries known to be stored.
    pub stored: usize,
    pub errors: Vec<String>,
    pub set_aside: Vec<(u64, usize, String)>,
    deadline: Instant,
}

impl<'a> Deliverer<'a> {
    pub fn new(config: &'a dyn SinkConfig, log: &'a Log) -> Self {
        let deadline = Instant::now() + DEADLINE;
        Self { config, log, sink: None, stored: 0, errors: Vec::new(), set_aside: Vec::new(), deadline }
    }

    pub fn done(&self) -> bool {
        self.stored == self.log.set.entries.len()
    }

    /// What the open sink counted.
    pub fn counters(&self) -> SinkCounters {
        self.sink.as_ref().map(|sink| sink.counters()).unwrap_or_default()
    }

    /// Drops the sink, so that the next step connects anew.
    pub fn reopen(&mut self) {
        self.sink = None;
    }

    /// Opens if need be and writes one group of at most so many entries; gives whether that went well.
    pub fn step(&mut self, entries: usize) -> bool {
        assert!(Instant::now() < self.deadline, "not done in time; last errors: {:?}", self.errors.last());
        match self.try_step(entries) {
            Ok(()) => true,
            Err(error) => {
                assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
                self.errors.push(error.to_string());
                self.sink = None;
                false
            }
        }
    }

    fn try_step(&mut self, entries: usize) -> Result<(), SinkError> {
        let mut sink = match self.sink.take() {
            Some(sink) => sink,
            None => {
                let mut sink = self.config.open(&self.log.context)?;
                self.stored = sink.cursor()?.unwrap_or(0) as usize;
                sink
            }
        };
        let rest = &self.log.set.entries[self.stored..];
        let mut group = Slice { entries: &rest[..rest.len().min(entries)], taken: 0, set_aside: Vec::new() };
        sink.write(&mut group)?;
        self.stored += group.taken;
        self.set_aside.append(&mut group.set_aside);
        self.sink = Some(sink);
        Ok(())
    }

    /// Writes all that is left.
    pub fn finish(&mut self) {
        while !self.done() {
            self.step(16);
        }
    }
}

struct Slice<'a> {
    entries: &'a [Entry],
    taken: usize,
    set_aside: Vec<(u64, usize, String)>,
}

impl Group for Slice<'_> {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        let entry = self.entries.get(self.taken).cloned();
        self.taken += usize::from(entry.is_some());
        Ok(entry)
    }

    fn set_aside(&mut self, entry: &Entry, row: usize, reason: &str) {
        self.set_aside.push((entry.position, row, reason.to_owned()));
    }
}
