use std::sync::{Mutex, PoisonError};

use crate::flow::sink::SinkCounters;
use crate::flow::time::now_ms;
use crate::telemetry::{Counter, Exposition, Gauge};

/// What is known of one sink from outside its thread.
#[derive(Debug, Default)]
pub struct Status {
    /// The sink's name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Flows delivered and durable.
    pub delivered_flows: Counter,
    /// Log records delivered and durable.
    pub delivered_records: Counter,
    /// Writes and openings that failed and were tried again.
    pub retries: Counter,
    /// Flows set aside because the store refuses them.
    pub set_aside_flows: Counter,
    /// Flows that were set aside, since the start or before it, and that the store has taken since.
    pub replayed_flows: Counter,
    /// Flows of set-aside records that were dropped by hand or fell out of the full quarantine.
    pub quarantine_dropped_flows: Counter,
    /// Records in quarantine, those of earlier runs included.
    pub quarantine_records: Gauge,
    /// Flows in them.
    pub quarantine_flows: Gauge,
    /// Bytes that they take on disk.
    pub quarantine_bytes: Gauge,
    /// Of `set_aside_flows`, those that a replay brought to the store.
    pub(super) own_replayed_flows: Counter,
    /// Of `set_aside_flows`, those that the log brings to the sink in their turn.
    pub(super) own_returned_flows: Counter,
    /// Of `set_aside_flows`, those that were dropped from the quarantine.
    pub(super) own_dropped_flows: Counter,
    /// Last position that is durable in the sink.
    pub position: Gauge,
    /// Flows that wait for this sink in the log.
    pub waiting_flows: Gauge,
    /// Age of the oldest record that waits, ms; 0 when none does.
    pub waiting_age_ms: Gauge,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    last_error: Option<Problem>,
    counters: SinkCounters,
    /// Expired flows that earlier openings of the sink counted.
    expired_before: u64,
}

/// What the sink's thread is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Opening, for the first time or again.
    #[default]
    Opening,
    /// Writing, or waiting for flows.
    Running,
    /// Pausing after an error.
    Waiting,
    /// A person must act; tried again every minute.
    Failed,
    /// Ended.
    Stopped,
}

/// The latest error.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Problem {
    /// ms since the Unix epoch.
    pub at_ms: i64,
    /// What happened.
    pub reason: String,
}

impl Status {
    /// A status for a sink that is about to open.
    pub fn new(name: &str, kind: &str) -> Self {
        Self { name: name.into(), kind: kind.into(), ..Self::default() }
    }

    /// What the thread is doing.
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// The latest error; stays visible after recovery.
    pub fn last_error(&self) -> Option<Problem> {
        self.lock().last_error.clone()
    }

    /// What only the sink counts, over all its openings.
    pub fn sink_counters(&self) -> SinkCounters {
        let inner = self.lock();
        let expired_flows = inner.counters.expired_flows + inner.expired_before;
        SinkCounters { expired_flows, ..inner.counters }
    }

    /// Flows received since the start that the sink took, at once or by a replay; what it did not keep because it has expired
    /// is among them.
    pub fn taken_flows(&self) -> u64 {
        self.delivered_flows.get() + self.own_replayed_flows.get()
    }

    /// Flows received since the start that are in quarantine.
    pub fn set_aside_now(&self) -> u64 {
        let gone = [&self.own_replayed_flows, &self.own_returned_flows, &self.own_dropped_flows];
        self.set_aside_flows.get().saturating_sub(gone.iter().map(|counter| counter.get()).sum())
    }

    /// Flows received since the start that were dropped from the quarantine.
    pub fn dropped_from_quarantine(&self) -> u64 {
        self.own_dropped_flows.get()
    }

    pub(super) fn set_state(&self, state: State) {
        self.lock().state = state;
    }

    pub(super) fn set_error(&self, state: State, reason: String) {
        let mut inner = self.lock();
        inner.state = state;
        inner.last_error = Some(Problem { at_ms: now_ms(), reason });
    }

    pub(super) fn set_sink_counters(&self, counters: SinkCounters) {
        self.lock().counters = counters;
    }

    /// The sink is opened anew and counts from 0 again.
    pub(super) fn reopened(&self) {
        let mut inner = self.lock();
        inner.expired_before += std::mem::take(&mut inner.counters.expired_flows);
    }

    pub(super) fn add_expired(&self, flows: u64) {
        self.lock().expired_before += flows;
    }

    /// Adds the sink to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        let labels = [("sink", &*self.name), ("kind", &*self.kind)];
        let up = f64::from(u8::from(self.state() == State::Running));
        out.gauge("netflow_sink_up", "Whether the sink takes data.", &labels, up);
        let counters = self.sink_counters();
        for (name, help, count) in [
            ("netflow_sink_delivered_flows_total", "Flows durable in the sink.", self.delivered_flows.get()),
            ("netflow_sink_delivered_records_total", "Log records durable in the sink.", self.delivered_records.get()),
            ("netflow_sink_retries_total", "Tries that failed and were repeated.", self.retries.get()),
            ("netflow_sink_set_aside_flows_total", "Flows that the store refused.", self.set_aside_flows.get()),
            (
                "netflow_sink_replayed_flows_total",
                "Refused flows that the store took later.",
                self.replayed_flows.get(),
            ),
            (
                "netflow_sink_quarantine_dropped_flows_total",
                "Refused flows that left the quarantine for good.",
                self.quarantine_dropped_flows.get(),
            ),
            ("netflow_sink_expired_flows_total", "Flows older than the retention.", counters.expired_flows),
        ] {
            out.counter(name, help, &labels, count);
        }
        for (name, help, gauge) in [
            ("netflow_sink_quarantine_records", "Records in quarantine.", &self.quarantine_records),
            ("netflow_sink_quarantine_flows", "Flows in quarantine.", &self.quarantine_flows),
            ("netflow_sink_quarantine_bytes", "Bytes of the quarantine on disk.", &self.quarantine_bytes),
        ] {
            out.gauge(name, help, &labels, gauge.get() as f64);
        }
        let waiting = self.waiting_flows.get() as f64;
        out.gauge("netflow_sink_waiting_flows", "Flows in the log that the sink lacks.", &labels, waiting);
        let age = self.waiting_age_ms.get() as f64 / 1000.0;
        out.gauge("netflow_sink_lag_seconds", "Age of the oldest flow that waits.", &labels, age);
        if let Some(bytes) = counters.stored_bytes {
            out.gauge("netflow_sink_stored_bytes", "Bytes the sink holds.", &labels, bytes as f64);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
