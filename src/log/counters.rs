//! What the log counts.

use std::sync::Mutex;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Log;
use super::state::LossReason;
use crate::telemetry::{Counter, Exposition};

/// Counts since the start.
#[derive(Debug)]
pub struct Counters {
    /// Records accepted.
    pub appended_records: Counter,
    /// Flows accepted.
    pub appended_flows: Counter,
    /// Bytes written for them.
    pub appended_bytes: Counter,
    /// Records refused because the log was full.
    pub refused_records: Counter,
    /// Flows refused because the log was full.
    pub refused_flows: Counter,
    /// Bytes cut off the end at start.
    pub torn_bytes: Counter,
    /// Bytes passed over because they are no records.
    pub corrupt_bytes: Counter,
    /// Records that check but could not be decoded.
    pub undecodable_records: Counter,
    /// Files that are no segments of this log, moved aside.
    pub refused_files: Counter,
    /// Segments that vanished while the log was open.
    pub missing_segments: Counter,
    /// Writes that failed.
    pub write_failures: Counter,
    /// fsyncs that failed.
    pub fsync_failures: Counter,
    /// Records written again after a failure.
    pub rewritten_records: Counter,
    fsync_us: Mutex<Histogram<u64>>,
}

/// Longest fsync that is told apart, µs.
const FSYNC_US_MAX: u64 = 600_000_000;

impl Default for Counters {
    fn default() -> Self {
        // Two digits are enough for latencies, and these bounds are valid.
        let histogram = Histogram::new_with_bounds(1, FSYNC_US_MAX, 2).or_else(|_| Histogram::new(2));
        Self {
            appended_records: Counter::default(),
            appended_flows: Counter::default(),
            appended_bytes: Counter::default(),
            refused_records: Counter::default(),
            refused_flows: Counter::default(),
            torn_bytes: Counter::default(),
            corrupt_bytes: Counter::default(),
            undecodable_records: Counter::default(),
            refused_files: Counter::default(),
            missing_segments: Counter::default(),
            write_failures: Counter::default(),
            fsync_failures: Counter::default(),
            rewritten_records: Counter::default(),
            fsync_us: Mutex::new(histogram.expect("bounds are constant and valid")),
        }
    }
}

impl Counters {
    /// Notes how long an fsync took.
    pub fn record_fsync(&self, took: Duration) {
        super::lock(&self.fsync_us).saturating_record(took.as_micros() as u64);
    }

    fn expose(&self, out: &mut Exposition) {
        let mut count = |name, help, counter: &Counter| out.counter(name, help, &[], counter.get());
        count("netflow_log_appended_records_total", "Records accepted by the log.", &self.appended_records);
        count("netflow_log_appended_flows_total", "Flows accepted by the log.", &self.appended_flows);
        count("netflow_log_appended_bytes_total", "Bytes written to the log.", &self.appended_bytes);
        count("netflow_log_refused_records_total", "Records refused, log full.", &self.refused_records);
        count("netflow_log_refused_flows_total", "Flows refused, log full.", &self.refused_flows);
        count("netflow_log_torn_bytes_total", "Bytes cut off the log's end at start.", &self.torn_bytes);
        count("netflow_log_corrupt_bytes_total", "Bytes passed over as damaged.", &self.corrupt_bytes);
        count("netflow_log_undecodable_records_total", "Records not decoded.", &self.undecodable_records);
        count("netflow_log_refused_files_total", "Files moved aside at start.", &self.refused_files);
        count("netflow_log_missing_segments_total", "Segments that vanished.", &self.missing_segments);
        count("netflow_log_write_failures_total", "Writes that failed.", &self.write_failures);
        count("netflow_log_fsync_failures_total", "fsyncs that failed.", &self.fsync_failures);
        count("netflow_log_rewritten_records_total", "Records written again.", &self.rewritten_records);
        let fsync = super::lock(&self.fsync_us);
        let seconds = |us: u64| us as f64 / 1e6;
        let quantiles =
            [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99)].map(|(l, q)| (l, seconds(fsync.value_at_quantile(q))));
        let sum = fsync.mean() * fsync.len() as f64 / 1e6;
        out.summary("netflow_log_fsync_seconds", "Time of an fsync.", &[], &quantiles, sum, fsync.len());
    }
}

/// The log at one moment.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Snapshot {
    /// Position of the newest record.
    pub end: u64,
    /// Position up to which everything is durable.
    pub durable_upto: u64,
    /// Flows in all records ever.
    pub flows_total: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Records in memory.
    pub memory_records: u64,
    /// Their bytes, estimated.
    pub memory_bytes: u64,
    /// Age of the oldest segment kept, ms.
    pub oldest_age_ms: u64,
    /// Whether records stay in memory because a write or fsync failed.
    pub degraded: bool,
    /// Every consumer.
    pub consumers: Vec<ConsumerSnapshot>,
}

/// A consumer at one moment.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ConsumerSnapshot {
    /// Its name.
    pub name: String,
    /// Position up to which it is done.
    pub position: u64,
    /// What it has before it.
    pub lag: Lag,
    /// Records that it did not get, since the start, by reason.
    pub lost_records: Vec<(&'static str, u64)>,
    /// Flows that it did not get, since the start, by reason.
    pub lost_flows: Vec<(&'static str, u64)>,
}

/// What a consumer has before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Lag {
    /// Records.
    pub records: u64,
    /// Flows.
    pub flows: u64,
    /// Bytes on disk, within a segment estimated by records.
    pub bytes: u64,
    /// Age of the oldest record before it, ms; of its segment when it is no longer in memory.
    pub age_ms: u64,
}

impl Log {
    /// Adds everything to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        self.shared.counters.expose(out);
        let now = self.snapshot();
        let mut gauge = |name, help, value: f64| out.gauge(name, help, &[], value);
        gauge("netflow_log_end_position", "Position of the newest record.", now.end as f64);
        gauge("netflow_log_durable_position", "Position up to which all is durable.", now.durable_upto as f64);
        gauge("netflow_log_segments", "Segments on disk.", now.segments as f64);
        gauge("netflow_log_bytes", "Bytes on disk.", now.stored_bytes as f64);
        let room = self.shared.config.bytes_max as f64;
        gauge("netflow_log_bytes_max", "Bytes that the log may take on disk.", room);
        gauge("netflow_log_memory_bytes", "Bytes of records in memory.", now.memory_bytes as f64);
        gauge("netflow_log_oldest_age_seconds", "Age of the oldest segment.", now.oldest_age_ms as f64 / 1e3);
        gauge("netflow_log_degraded", "1 while records stay in memory only.", f64::from(u8::from(now.degraded)));
        for consumer in &now.consumers {
            expose_consumer(consumer, out);
        }
    }
}

fn expose_consumer(consumer: &ConsumerSnapshot, out: &mut Exposition) {
    let label = [("consumer", &*consumer.name)];
    let lag = consumer.lag;
    let mut gauge = |name, help, value: f64| out.gauge(name, help, &label, value);
    gauge("netflow_log_consumer_lag_records", "Records before the consumer.", lag.records as f64);
    gauge("netflow_log_consumer_lag_flows", "Flows before the consumer.", lag.flows as f64);
    gauge("netflow_log_consumer_lag_bytes", "Bytes before the consumer.", lag.bytes as f64);
    gauge("netflow_log_consumer_lag_seconds", "Age of the oldest record before it.", lag.age_ms as f64 / 1e3);
    for i in 0..LossReason::ALL.len() {
        let (reason, records) = consumer.lost_records[i];
        let labels = [label[0], ("reason", reason)];
        out.counter("netflow_log_lost_records_total", "Records a consumer did not get.", &labels, records);
        let flows = consumer.lost_flows[i].1;
        out.counter("netflow_log_lost_flows_total", "Flows a consumer did not get.", &labels, flows);
    }
}
