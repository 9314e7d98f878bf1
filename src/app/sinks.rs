//! The sinks of the configuration, each with its deliverer and the store that answers for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StartError;
use crate::control::config::{Settings, SinkSettings, Start};
use crate::control::http::{SinkState, SinkStatus};
use crate::deliver::{self, Deliverer, LogSource, State, Status};
use crate::flow::{FlowStore, RollupDef, SinkContext, time};
use crate::log::{ConsumerOptions, Cursor, Log};
use crate::telemetry::Exposition;

/// Prefix of the sinks' cursors in the log, so that a sink's name never meets that of another consumer.
const CURSOR_PREFIX: &str = "sink:";

/// All sinks, in the order of the configuration.
pub(super) struct Sinks {
    all: Vec<RunningSink>,
    /// Index of the one whose store answers by default.
    default_store: Option<usize>,
}

struct RunningSink {
    deliverer: Deliverer,
    store: Option<Arc<dyn FlowStore>>,
    /// Flows that waited in the log for it when it started.
    waited_at_start: u64,
}

impl Sinks {
    /// Starts a deliverer for each sink. None waits for a server.
    pub fn start(
        settings: &Settings,
        data: &Path,
        log: &Arc<Log>,
        rollups: &Arc<Vec<RollupDef>>,
    ) -> Result<Self, StartError> {
        forget_removed(settings, log);
        let mut all = Vec::with_capacity(settings.sinks.len());
        for sink in &settings.sinks {
            all.push(RunningSink::start(sink, data, log, rollups)?);
        }
        let wanted = &settings.stages.admin.store;
        let default_store = if wanted.is_empty() {
            all.iter().position(|sink| sink.store.is_some())
        } else {
            let found = all.iter().position(|sink| sink.status().name == *wanted && sink.store.is_some());
            if found.is_none() {
                return Err(StartError(format!("[admin] store: no sink named {wanted:?} can answer questions")));
            }
            found
        };
        Ok(Self { all, default_store })
    }

    /// The store of a sink, or the one that answers by default.
    pub fn store(&self, name: Option<&str>) -> Option<Arc<dyn FlowStore>> {
        let index = match name {
            None => self.default_store?,
            Some(name) => self.all.iter().position(|sink| sink.status().name == name)?,
        };
        self.all[index].store.clone()
    }

    /// Names of the sinks whose stores answer, the default one first.
    pub fn store_names(&self) -> Vec<String> {
        let first = self.default_store;
        let rest = (0..self.all.len()).filter(|i| Some(*i) != first && self.all[*i].store.is_some());
        first.into_iter().chain(rest).map(|i| self.all[i].status().name.clone()).collect()
    }

    /// What each is doing, and its part of the ledger.
    pub fn status(&self, log: &Log) -> Vec<SinkStatus> {
        let appended = log.counters().appended_flows.get();
        let snapshot = log.snapshot();
        let of_sink = |sink: &RunningSink| {
            let status = sink.status();
            let cursor = format!("{CURSOR_PREFIX}{}", status.name);
            let consumer = snapshot.consumers.iter().find(|consumer| consumer.name == cursor);
            let counters = status.sink_counters();
            let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
            let lost = consumer.map_or(&[][..], |consumer| &consumer.lost_flows);
            dropped.extend(lost.iter().map(|(reason, flows)| ((*reason).to_owned(), *flows)));
            dropped.insert("expired".to_owned(), counters.expired_flows);
            let lag = consumer.map(|consumer| consumer.lag).unwrap_or_default();
            SinkStatus {
                name: status.name.clone(),
                kind: status.kind.clone(),
                state: state(status.state()),
                answers_questions: sink.store.is_some(),
                lag_records: lag.records,
                waiting_flows: lag.flows,
                lag_seconds: lag.age_ms as f64 / 1000.0,
                received_flows: sink.waited_at_start + appended,
                delivered_flows: status.delivered_flows.get().saturating_sub(counters.expired_flows),
                set_aside_flows: status.set_aside_flows.get(),
                dropped_flows: dropped,
                retries: status.retries.get(),
                stored_bytes: counters.stored_bytes,
                last_error: status.last_error().map(|e| format!("{} {}", time::rfc3339(e.at_ms), e.reason)),
            }
        };
        self.all.iter().map(of_sink).collect()
    }

    /// Sinks that wait for a person, with the reason.
    pub fn failed(&self) -> Vec<(String, String)> {
        let failed = self.all.iter().map(RunningSink::status).filter(|status| status.state() == State::Failed);
        failed.map(|s| (s.name.clone(), s.last_error().map_or_else(String::new, |e| e.reason))).collect()
    }

    /// Adds all sinks to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        self.all.iter().for_each(|sink| sink.status().expose(out));
    }

    /// Has every sink take what the log holds, then ends it. Gives whether all ended in time.
    pub fn stop(&mut self, deadline: Instant) -> bool {
        self.all.iter().for_each(|sink| sink.deliverer.stop());
        let ended: Vec<bool> = self.all.iter_mut().map(|sink| sink.deliverer.join(deadline)).collect();
        ended.into_iter().all(|ended| ended)
    }
}

impl RunningSink {
    fn start(
        sink: &SinkSettings,
        data: &Path,
        log: &Arc<Log>,
        rollups: &Arc<Vec<RollupDef>>,
    ) -> Result<Self, StartError> {
        let common = &sink.common;
        let context = SinkContext {
            name: common.name.clone(),
            log_id: log.id(),
            tail: log.clone(),
            rollups: rollups.clone(),
            clock: Arc::new(time::now_ms),
        };
        let start = match common.start {
            Start::Now => Cursor::Now,
            Start::Oldest => Cursor::Oldest,
        };
        let options = ConsumerOptions { start, durable_only: true };
        let consumer = log.consumer(&format!("{CURSOR_PREFIX}{}", common.name), options);
        let waited_at_start = consumer.lag().flows;
        let store = sink.config.store(&context).map_err(|e| StartError(format!("sink {}: {e}", common.name)))?;
        let config = deliver::Config {
            name: common.name.clone(),
            batch_rows: common.batch_rows,
            flush_interval: Duration::from_millis(common.flush_interval_ms),
            quarantine: data.join("quarantine").join(&common.name),
            quarantine_bytes_max: common.quarantine_bytes_max,
        };
        let source = Box::new(LogSource::new(log.clone(), consumer));
        let deliverer = Deliverer::start(config, &common.kind, sink.config.clone(), context, source)
            .map_err(|e| StartError(format!("sink {}: {e}", common.name)))?;
        Ok(Self { deliverer, store, waited_at_start })
    }

    fn status(&self) -> &Status {
        self.deliverer.status()
    }
}

/// A sink that is no longer in the configuration pins nothing in the log.
fn forget_removed(settings: &Settings, log: &Log) {
    for name in log.consumer_names() {
        let Some(sink) = name.strip_prefix(CURSOR_PREFIX) else { continue };
        if !settings.sinks.iter().any(|s| s.common.name == sink) {
            tracing::info!(sink, "no longer configured; its cursor is dropped");
            log.forget(&name);
        }
    }
}

fn state(state: State) -> SinkState {
    match state {
        State::Opening => SinkState::Opening,
        State::Running => SinkState::Running,
        State::Waiting => SinkState::Retrying,
        State::Failed => SinkState::Failed,
        State::Stopped => SinkState::Stopped,
    }
}
