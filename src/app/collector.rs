//! The process as the admin endpoint sees it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::feeds::Feeds;
use super::quarantine;
use super::reload::{self, Reloads};
use super::sinks::Sinks;
use crate::aggregate;
use crate::control::alerts::{Alerts, Board};
use crate::control::config::{self, Settings, Sources};
use crate::control::http::{
    Collector, Endpoint, HeldDropped, HeldError, HeldPage, HeldRecord, HeldReplayed, HeldWanted, IngestError, Ingested,
    Readiness, Rejected, Reloaded, SinkStatus, Site, SocketStatus,
};
use crate::control::leases::LeaseBook;
use crate::control::state::{ExporterState, State};
use crate::decode::{self, Rules};
use crate::enrich::{Enrichment, ReloadError, ReloadReport};
use crate::flow::{Addr, FlowStore, RollupDef, time};
use crate::log::Log;
use crate::receive::{Admission, Injector, Receipt, SocketCounters};
use crate::telemetry::ledger::Ledger;
use crate::telemetry::{Exposition, panics};

/// How long an ingest request waits for the log.
const INGEST_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a question waits for sums to be emitted.
const EMIT_TIME_MAX: Duration = Duration::from_secs(2);
/// What a sender over HTTP is told to wait when the queue is full.
const BUSY_RETRY_AFTER_S: u64 = 1;

/// Adds a stage's counters to a scrape.
pub(super) type Exposer = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// Everything that answers while the collector runs.
pub(super) struct Running {
    /// What is in force; replaced by a reload.
    pub settings: ArcSwap<Settings>,
    pub sources: Sources,
    pub ledger: Arc<Ledger>,
    pub log: Arc<Log>,
    pub state: Arc<State>,
    pub leases: Arc<LeaseBook>,
    pub enrichment: Arc<Enrichment>,
    /// What feeds it with threads of its own.
    pub feeds: Mutex<Feeds>,
    pub rollups: ArcSwap<Vec<RollupDef>>,
    /// Decoding rules by exporter, as the workers have them.
    pub rules: Arc<ArcSwap<Rules>>,
    /// Records that cannot be true.
    pub set_aside: Arc<decode::Quarantine>,
    /// Who may send, as the receivers have it.
    pub admission: Arc<ArcSwap<Admission>>,
    pub sinks: RwLock<Sinks>,
    /// `None` once the collector stops: the queue closes when nobody can put anything in.
    pub injector: Mutex<Option<Injector>>,
    pub aggregator: aggregate::Handle,
    pub sockets: Vec<Arc<SocketCounters>>,
    pub exposers: Vec<Exposer>,
    pub stopping: AtomicBool,
    /// `None` when they are switched off.
    pub alerts: Option<Arc<Alerts>>,
    pub reloads: Reloads,
    pub reloading: Mutex<()>,
    /// The admin endpoint, once there is one; it holds this.
    pub endpoint: OnceLock<Weak<Endpoint>>,
}

impl Running {
    pub(super) fn sinks_read(&self) -> std::sync::RwLockReadGuard<'_, Sinks> {
        self.sinks.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sinks_write(&self) -> std::sync::RwLockWriteGuard<'_, Sinks> {
        self.sinks.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn endpoint(&self) -> Option<Arc<Endpoint>> {
        self.endpoint.get().and_then(Weak::upgrade)
    }
}

impl Collector for Running {
    fn store(&self, name: Option<&str>) -> Option<Arc<dyn FlowStore>> {
        self.sinks_read().store(name)
    }

    fn store_names(&self) -> Vec<String> {
        self.sinks_read().store_names()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn expose(&self, out: &mut Exposition) {
        self.ledger.expose(out);
        panics::expose(out);
        self.log.expose(out);
        self.enrichment.expose(out);
        self.sinks_read().expose(out);
        self.sockets.iter().for_each(|socket| socket.expose(out));
        self.reloads.expose(out);
        self.exposers.iter().for_each(|expose| expose(out));
        self.alerts.iter().for_each(|alerts| alerts.expose(out));
    }

    fn sites(&self) -> Vec<Site> {
        let sites = self.enrichment.sites().into_iter();
        sites.map(|s| Site { nas_id: s.nas_id, site: s.site, cir_bps: s.cir_bps }).collect()
    }

    fn sinks(&self) -> Vec<SinkStatus> {
        self.sinks_read().status(&self.log)
    }

    fn alerts(&self) -> Option<Arc<Board>> {
        self.alerts.as_ref().map(|alerts| alerts.board.clone())
    }

    fn ingest(&self, exporter: IpAddr, body: &[u8]) -> Result<Ingested, IngestError> {
        let ingested = {
            let mut injector = self.injector.lock().unwrap_or_else(PoisonError::into_inner);
            let injector = injector.as_mut().ok_or_else(|| IngestError::Failed("the collector is stopping".into()))?;
            injector
                .ingest(Addr::from(exporter), 0, time::now_ms(), body)
                .map_err(|_| IngestError::Busy { retry_after_s: BUSY_RETRY_AFTER_S })?
        };
        let deadline = Instant::now() + INGEST_TIME_MAX;
        for receipt in ingested.receipts {
            match receipt.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Receipt::Logged(_)) => {}
                Ok(Receipt::Refused) => return Err(IngestError::Failed("the log refused the flows".into())),
                Err(_) => return Err(IngestError::Late),
            }
        }
        let rejected = ingested.rejected.iter();
        let rejected = rejected.map(|r| Rejected { offset: r.offset as u64, reason: r.reason.to_string() });
        Ok(Ingested {
            accepted_datagrams: ingested.accepted_datagrams,
            accepted_flows: ingested.accepted_flows,
            rejected: rejected.collect(),
        })
    }

    fn sockets(&self) -> Vec<SocketStatus> {
        let status = |socket: &Arc<SocketCounters>| SocketStatus {
            address: socket.address.to_string(),
            index: socket.index as u64,
            datagrams: socket.datagrams.get(),
            kernel_drops: socket.kernel_drops(),
            receive_buffer_bytes: socket.receive_buffer_bytes,
        };
        self.sockets.iter().map(status).collect()
    }

    fn leases(&self) -> Option<&LeaseBook> {
        Some(&self.leases)
    }

    fn exporters_of_all_runs(&self) -> BTreeMap<Addr, ExporterState> {
        self.state.exporters(&self.ledger)
    }

    fn readiness(&self) -> Readiness {
        let mut readiness = Readiness { ready: true, ..Readiness::default() };
        let mut check = |name: &str, problem: Option<String>| {
            readiness.ready &= problem.is_none();
            readiness.checks.insert(name.to_owned(), problem.unwrap_or_else(|| "ok".to_owned()));
        };
        let stopping = self.stopping.load(Relaxed);
        check("receive", stopping.then(|| "the collector is stopping".to_owned()));
        let degraded = self.log.snapshot().degraded;
        check("log", degraded.then(|| "the disk refuses; flows are kept in memory only".to_owned()));
        let unsaved = !self.state.is_saving();
        check(
            "state",
            unsaved.then(|| "the disk refuses; leases, alerts and exporters' totals are not saved".to_owned()),
        );
        let failed = self.sinks_read().failed();
        let problem = failed.first().map(|(sink, reason)| format!("sink {sink}: {reason}"));
        check("sinks", problem);
        readiness
    }

    fn rollups(&self) -> Arc<Vec<RollupDef>> {
        self.rollups.load_full()
    }

    fn config(&self) -> serde_json::Value {
        let value = |shown: &config::Shown| {
            (shown.key.clone(), serde_json::json!({ "value": shown.value, "origin": shown.origin.to_string() }))
        };
        serde_json::Value::Object(self.settings.load().shown.iter().map(value).collect())
    }

    fn reload(&self) -> Result<Reloaded, Vec<String>> {
        reload::reload(self)
    }

    fn held(&self, wanted: &HeldWanted<'_>) -> Result<HeldPage, HeldError> {
        quarantine::list(self, wanted)
    }

    fn held_record(&self, id: &str, rows_max: usize) -> Result<HeldRecord, HeldError> {
        quarantine::record(self, id, rows_max)
    }

    fn replay_held(&self, sink: &str, id: Option<&str>, after: Option<&str>) -> Result<HeldReplayed, HeldError> {
        quarantine::replay(self, sink, id, after)
    }

    fn drop_held(&self, sink: &str, id: Option<&str>) -> Result<HeldDropped, HeldError> {
        quarantine::drop_records(self, sink, id)
    }

    fn emit_open_sums(&self) {
        self.aggregator.emit_open(EMIT_TIME_MAX);
    }

    fn now_ms(&self) -> i64 {
        time::now_ms()
    }
}

/// Writes what a reload of the enrichment's sources led to.
pub(super) fn tell_reload(result: Result<ReloadReport, ReloadError>) {
    match result {
        Ok(report) => {
            tracing::info!(generation = report.generation, prefixes = report.prefixes, "enrichment is reloaded")
        }
        Err(error) => tracing::error!(%error, "enrichment is not reloaded"),
    }
}
