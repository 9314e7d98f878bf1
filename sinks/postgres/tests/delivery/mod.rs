//! A log of six days, and what must be stored once it was delivered.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;

use sink_api::conformance::{DataSet, Deliverer, Options, context};
use sink_api::{Entry, FlowBatch, Record, RollupDef, SinkConfig, SinkContext};

pub struct Log {
    pub set: DataSet,
    pub context: SinkContext,
}

impl Log {
    pub fn new(flows: usize) -> Self {
        let rollups = Arc::new(RollupDef::defaults());
        let set = DataSet::new(&Options { flows, days: 6, detail: true }, &rollups);
        let context = context(rollups, set.now_ms);
        Self { set, context }
    }

    /// Delivers its entries to a sink.
    pub fn deliverer<'a>(&'a self, config: &'a dyn SinkConfig) -> Deliverer<'a> {
        Deliverer::new(config, &self.context, &self.set.entries)
    }

    /// Moves the flows so that they end at a time, and leaves the rollups out.
    pub fn shift_to(&mut self, end_ms: i64) {
        let delta = end_ms - self.set.now_ms;
        let flows = std::mem::take(&mut self.set.entries).into_iter().filter_map(|entry| match entry.record {
            Record::Flows(batch) => Some(batch),
            Record::Sums(_) | Record::Alerts(_) => None,
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
            Record::Sums(_) | Record::Alerts(_) => 0,
        };
        self.set.entries.iter().map(count).sum()
    }

    /// Flows and their bytes.
    pub fn totals(&self) -> (i64, i64) {
        let batches = self.set.entries.iter().filter_map(|entry| match &entry.record {
            Record::Flows(batch) => Some(batch),
            Record::Sums(_) | Record::Alerts(_) => None,
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
