//! A log of six days, and what must be stored once it was delivered.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use sink_api::conformance::{DataSet, Deliverer, Options, context};
use sink_api::rollup::Measures;
use sink_api::{Record, RollupDef, SinkConfig, SinkContext};

use crate::server::Server;

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
                Record::Alerts(_) => {}
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
        let alerts = DataSet::alerts(&self.set.entries).count() as u64;
        assert_eq!(server.numbers("SELECT count(value) FROM netflow_long.alerts"), [alerts], "alerts");
    }
}
