//! A deliverer in small: sends the entries of a log to a sink until all are there, whatever breaks.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sink_api::conformance::{DataSet, LOG, Options};
use sink_api::rollup::Measures;
use sink_api::sink::{Group, LogTail, SinkCounters};
use sink_api::{Entry, Record, RollupDef, Sink, SinkConfig, SinkContext, SinkError};

use crate::server::Server;

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

    /// What each measurement must hold: bytes, packets and flows in sum.
    pub fn totals(&self) -> BTreeMap<String, [u64; 3]> {
        let mut totals: BTreeMap<String, [u64; 3]> = BTreeMap::new();
        let mut add = |name: &str, m: Measures| {
            let total = totals.entry(name.to_owned()).or_default();
            total.iter_mut().zip([m.bytes, m.packets, m.flows]).for_each(|(total, sum)| *total += sum);
        };
        for entry in &self.set.entries {
            match &entry.record {
                Record::Flows(batch) => (0..batch.len()).for_each(|row| {
                    let (bytes, packets) = (batch.bytes.value_or_default(row), batch.packets.value_or_default(row));
                    add("flows", Measures { bytes, packets, flows: 1, ..Measures::default() });
                }),
                Record::Sums(sums) => sums.rows.iter().for_each(|rows| {
                    (0..rows.len()).for_each(|row| add(&rows.rollup, rows.measures(row)));
                }),
            }
        }
        totals
    }

    /// Checks that every row of every measurement is there exactly once, by its sums.
    pub fn assert_stored(&self, server: &Server) {
        for (name, want) in self.totals() {
            let (flows, policy) = match &*name {
                "flows" => ("count(bytes)", "netflow"),
                "traffic" | "talkers" => ("sum(flows)", "netflow"),
                _ => ("sum(flows)", "netflow_long"),
            };
            let sums = format!("SELECT sum(bytes), sum(packets), {flows} FROM {policy}.{name}");
            assert_eq!(server.numbers(&sums), want, "{name}");
        }
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

    /// Drops the sink, so that the next step opens it anew.
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

    pub fn try_step(&mut self, entries: usize) -> Result<(), SinkError> {
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
