//! What the aggregator counts.

use std::sync::Mutex;

use crate::flow::Addr;
use crate::telemetry::{Counter, Exposition, Gauge};

/// Counts of the stage, shared with whoever shows them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Flows added.
    pub flows: Counter,
    /// Flows booked whole at their end because their span is longer than `flow_span_max_ms`.
    pub long_spans: Counter,
    /// Shares booked under the `other` row because there was no room for their key.
    pub refused_keys: Counter,
    /// Names (sites, subscribers, applications) counted as null because too many are pending.
    pub refused_names: Counter,
    /// Batches that could not be read: columns of different lengths.
    pub refused_batches: Counter,
    /// Times that a file of the log could not be read.
    pub read_errors: Counter,
    /// Emissions that the log did not accept.
    pub append_errors: Counter,
    /// Rows emitted.
    pub rows: Counter,
    /// Emissions.
    pub emissions: Counter,
    /// Emissions that came early because memory was short.
    pub early_emissions: Counter,
    /// Keys held now, over all rollups.
    pub keys_held: Gauge,
    /// Bytes held now by keys and sums.
    pub held_bytes: Gauge,
    /// Last log position taken into account.
    pub position: Gauge,
    /// The heaviest sources of the last complete bucket of `talkers`.
    pub top: Top,
}

/// The heaviest sources of one bucket.
#[derive(Debug, Default)]
pub struct Top(Mutex<TopBucket>);

#[derive(Debug, Default)]
struct TopBucket {
    /// Start, ms since the Unix epoch.
    bucket: i64,
    hosts: Vec<(Addr, u64)>,
}

impl Top {
    /// Replaces the list, unless the one held is of a later bucket.
    pub(super) fn set(&self, bucket: i64, hosts: Vec<(Addr, u64)>) {
        if let Ok(mut top) = self.0.lock()
            && (bucket >= top.bucket || top.hosts.is_empty())
        {
            *top = TopBucket { bucket, hosts };
        }
    }

    /// Sources with their bytes, heaviest first.
    pub fn hosts(&self) -> Vec<(Addr, u64)> {
        self.0.lock().map(|top| top.hosts.clone()).unwrap_or_default()
    }
}

impl Counters {
    /// Adds everything to an exposition.
    pub fn expose(&self, out: &mut Exposition) {
        out.counter("netflow_aggregate_flows_total", "Flows added to rollups.", &[], self.flows.get());
        out.counter(
            "netflow_aggregate_long_spans_total",
            "Flows booked whole at their end, their span being longer than flow_span_max.",
            &[],
            self.long_spans.get(),
        );
        let refused =
            "Shares, names and batches that rollups had no room for (booked under `other` or null, or unreadable).";
        for (what, counter) in
            [("key", &self.refused_keys), ("name", &self.refused_names), ("batch", &self.refused_batches)]
        {
            out.counter("netflow_aggregate_refused_total", refused, &[("what", what)], counter.get());
        }
        let errors = "Reads and appends of the log that failed.";
        for (what, counter) in [("read", &self.read_errors), ("append", &self.append_errors)] {
            out.counter("netflow_aggregate_log_errors_total", errors, &[("what", what)], counter.get());
        }
        out.counter("netflow_aggregate_rows_total", "Rollup rows emitted.", &[], self.rows.get());
        let emissions = "Emissions of partial sums.";
        out.counter("netflow_aggregate_emissions_total", emissions, &[], self.emissions.get());
        let early = "Emissions before their time because memory was short.";
        out.counter("netflow_aggregate_early_emissions_total", early, &[], self.early_emissions.get());
        out.gauge("netflow_aggregate_keys", "Keys held over all rollups.", &[], self.keys_held.get() as f64);
        out.gauge("netflow_aggregate_bytes", "Memory of keys and sums.", &[], self.held_bytes.get() as f64);
        out.gauge("netflow_aggregate_position", "Last log position summed up.", &[], self.position.get() as f64);
        for (host, bytes) in self.top.hosts() {
            let help = "Bytes sent by the heaviest sources in the last complete 5 minutes.";
            out.gauge("netflow_top_talker_bytes", help, &[("src_ip", &host.to_string())], bytes as f64);
        }
    }
}
