//! The alerts: their part of the state store, what they have to know of everything else, their thread.

use std::path::Path;
use std::sync::Arc;

use super::StartError;
use super::collector::Running;
use crate::control::alerts::{
    self, Alerts, Board, DatabaseFact, Deliveries, Engine, ExporterFact, Facts, Runner, SinkFact,
};
use crate::control::config::Settings;
use crate::control::http::{Collector as _, Completeness};
use crate::control::state::State;
use crate::flow::{Clock, time::now_ms};
use crate::log::{Durability, Log};

/// Kinds of sources that are databases, built by others and out of date one day.
const DATABASES: [&str; 1] = ["geoip"];

/// The alerts, ready to run.
pub(super) struct Prepared {
    pub alerts: Arc<Alerts>,
    engine: Engine,
    clock: Clock,
}

/// Opens the alerts and starts their receivers; nothing when they are switched off.
pub(super) fn prepare(settings: &Settings, state: &State, log: &Log) -> Result<Option<Prepared>, StartError> {
    let config = &settings.stages.alerts;
    if !config.enabled {
        log.forget(alerts::CURSOR);
        return Ok(None);
    }
    let failed = |e: &dyn std::fmt::Display| StartError(format!("[alerts] {e}"));
    let (keep, clock): (_, Clock) = (state.alerts(), Arc::new(now_ms));
    let board = Arc::new(Board::open(keep.clone()).map_err(|e| failed(&e))?);
    let base: &Path = &settings.base;
    let deliveries = Deliveries::start(&config.receiver, base, &board, &keep, &clock).map_err(|e| failed(&e))?;
    let alerts = Arc::new(Alerts::new(board, deliveries, config.clone()));
    let span_max_ms = i64::try_from(settings.stages.aggregate.flow_span_max_ms).unwrap_or(i64::MAX);
    let engine = Engine::open(alerts.clone(), keep, log.id(), span_max_ms).map_err(|e| failed(&e))?;
    Ok(Some(Prepared { alerts, engine, clock }))
}

impl Prepared {
    /// Starts watching.
    pub fn start(self, running: &Arc<Running>) -> Result<Runner, StartError> {
        let watched = running.clone();
        let gather = Box::new(move || facts(&watched));
        Runner::start(running.log.clone(), self.alerts, self.engine, gather, self.clock).map_err(StartError::new)
    }
}

fn facts(running: &Running) -> Facts {
    let accounts = running.ledger.accounts();
    let exporters = running.state.exporters(&running.ledger).into_iter().map(|(address, state)| {
        let account = accounts.iter().find(|(known, _)| *known == address).map(|(_, account)| account);
        let flows = account.map(|account| Completeness::of_account(account)).unwrap_or_default();
        ExporterFact {
            address: address.to_string(),
            last_seen_ms: state.last_seen_ms,
            heard: account.is_some_and(|account| account.last_seen_ms.get() != 0),
            held_flows: flows.held as u64,
            lost_flows: flows.lost as u64,
        }
    });
    let sinks = running.sinks();
    let (sources, _) = running.enrichment.sources();
    let databases = sources.into_iter().filter(|source| DATABASES.contains(&source.kind)).map(|source| DatabaseFact {
        name: source.file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        built_ms: source.changed_ms,
    });
    let settings = running.settings.load();
    let log = &settings.stages.log;
    let has_files = log.durability == Durability::Always;
    Facts {
        exporters: exporters.collect(),
        sinks: sinks
            .into_iter()
            .map(|sink| SinkFact { lag_ms: (sink.lag_seconds * 1000.0) as u64, name: sink.name })
            .collect(),
        databases: databases.collect(),
        log_bytes: running.log.snapshot().stored_bytes,
        log_bytes_max: if has_files { log.bytes_max } else { 0 },
        sites: running.enrichment.sites(),
    }
}
