use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::collector::{Exposer, Running, tell_reload};
use super::feeds::{self, Feeds};
use super::reload::Reloads;
use super::sinks::Sinks;
use super::{StartError, alerting, restore};
use crate::aggregate;
use crate::control::alerts;
use crate::control::config::{Settings, Sources};
use crate::control::leases::LeaseBook;
use crate::control::state::State;
use crate::decode::Rules;
use crate::enrich::pairing::Pairing;
use crate::enrich::{self, Enrichment, Watch};
use crate::flow::time::now_ms;
use crate::log::{self, Log};
use crate::pipeline::{self, BatchPool, Workers};
use crate::receive::Receivers;
use crate::telemetry::ledger::Ledger;

/// The stages, running.
pub(super) struct App {
    pub running: Arc<Running>,
    pub receivers: Receivers,
    pub workers: Workers,
    aggregator: aggregate::Runner,
    alerting: Option<alerts::Runner>,
    _watch: Watch,
}

impl App {
    /// Starts every stage, consumers before producers.
    pub fn start(settings: Settings, sources: Sources) -> Result<Self, StartError> {
        let stages = &settings.stages;
        let ledger = Arc::new(Ledger::default());
        let pool = Arc::new(BatchPool::default());
        let (log, data) = open_log(&settings, &pool)?;
        let restored = restore::streams(&log).map_err(|e| StartError(format!("the log: {e}")))?;
        let state = Arc::new(State::open(&data.join("state.redb")).map_err(StartError::new)?);

        let enrich_config = enrich_config(&settings);
        let (sql, dpi, answers) = (enrich_config.sql.clone(), enrich_config.dpi.clone(), feeds::answers_folder(&data));
        let (enrichment, report) = Enrichment::open_with_answers(enrich_config, &answers).map_err(StartError::new)?;
        let enrichment = Arc::new(enrichment);
        tracing::info!(prefixes = report.prefixes, sources = report.sources.len(), "enrichment is loaded");
        report.hints.iter().for_each(|hint| tracing::info!("{hint}"));
        let leases = Arc::new(LeaseBook::open(enrichment.clone(), state.clone()).map_err(StartError::new)?);
        let mut feeds = Feeds::new(enrichment.clone(), leases.clone(), &data);
        feeds.read_dpi(feeds.open_dpi(dpi.as_deref(), &settings.base)?);
        feeds.ask_sql(sql)?;
        let watch = Watch::spawn(enrichment.clone(), Box::new(tell_reload)).map_err(StartError::new)?;

        let mut rollups = settings.rollups().map_err(|problems| {
            StartError(
                problems.iter().map(|p| format!("[aggregate] {}: {}", p.key, p.problem)).collect::<Vec<_>>().join("\n"),
            )
        })?;
        state.date_rollups(&mut rollups, now_ms()).map_err(StartError::new)?;
        state.save_rollups(&rollups).map_err(StartError::new)?;
        let rollups = Arc::new(rollups);
        let aggregator = aggregate::Runner::start(log.clone(), rollups.clone(), stages.aggregate.clone())
            .map_err(StartError::new)?;
        let sinks = Sinks::start(&settings, &data, &log, &rollups, &ledger.malformed)?;
        let alerting = alerting::prepare(&settings, &state, &log)?;

        let receivers = Receivers::start(&stages.receive, ledger.clone(), restored).map_err(StartError::new)?;
        let shared = pipeline::Shared {
            rules: Arc::new(ArcSwap::from_pointee(Rules::new(&stages.decode))),
            quarantine: Arc::default(),
            enrichment: enrichment.clone(),
            pairing: Arc::new(Pairing::new(stages.enrich.pairing_entries)),
            log: log.clone(),
            pool,
            latencies: Arc::default(),
        };
        let workers = Workers::start(stages.decode.workers(), &receivers.queue(), &shared).map_err(StartError::new)?;
        let running = Running {
            sockets: receivers.sockets().to_vec(),
            exposers: exposers(&shared, &receivers, &aggregator),
            injector: Mutex::new(Some(receivers.injector())),
            aggregator: aggregator.handle(),
            sinks: RwLock::new(sinks),
            stopping: AtomicBool::new(false),
            alerts: alerting.as_ref().map(|alerting| alerting.alerts.clone()),
            settings: ArcSwap::from_pointee(settings),
            sources,
            ledger,
            log,
            state,
            leases,
            enrichment,
            feeds: Mutex::new(feeds),
            rollups: ArcSwap::new(rollups),
            rules: shared.rules.clone(),
            set_aside: shared.quarantine.clone(),
            admission: receivers.admission(),
            reloads: Reloads::since_start(),
            reloading: Mutex::default(),
            endpoint: OnceLock::new(),
        };
        let running = Arc::new(running);
        let alerting = alerting.map(|alerting| alerting.start(&running)).transpose()?;
        Ok(Self { running, receivers, workers, aggregator, alerting, _watch: watch })
    }

    /// Stops in the order of the flow: sockets, workers, sums, sinks, log. Gives whether everything was delivered in time and is saved.
    pub fn stop(self, deadline: Instant) -> bool {
        let Self { running, receivers, workers, aggregator, alerting, _watch } = self;
        running.stopping.store(true, Relaxed);
        running.injector.lock().unwrap_or_else(PoisonError::into_inner).take();
        receivers.stop();
        let mut complete = workers.join(deadline);
        complete &= aggregator.stop(deadline);
        running.log.sync();
        complete &= alerting.is_none_or(|alerting| alerting.stop(deadline));
        complete &= running.sinks_write().stop(deadline);
        running.feeds.lock().unwrap_or_else(PoisonError::into_inner).stop();
        let leases = running.leases.save();
        if let Err(error) = running.state.save(&running.ledger, now_ms(), true).and(leases) {
            tracing::error!(%error, "the state is not saved");
            complete = false;
        }
        running.log.close();
        complete
    }
}

/// The log, and the data folder that it stands in.
fn open_log(settings: &Settings, pool: &Arc<BatchPool>) -> Result<(Arc<Log>, PathBuf), StartError> {
    let mut config = settings.stages.log.clone();
    config.dir = settings.base.join(&config.dir);
    let data = config.dir.parent().map_or_else(|| settings.base.clone(), PathBuf::from);
    let pool = pool.clone();
    let mut options = log::Options::default();
    options.recycle = Arc::new(move |batch| pool.give(batch));
    let log = Log::open(config, options).map_err(StartError::new)?;
    Ok((Arc::new(log), data))
}

/// The enrichment's settings, its paths taken from the configuration's folder.
pub(crate) fn enrich_config(settings: &Settings) -> enrich::Config {
    let mut config = settings.stages.enrich.clone();
    let tables = [&mut config.subscribers, &mut config.sites, &mut config.networks];
    let lists = [&mut config.ports, &mut config.oui];
    let files = tables.into_iter().chain(lists).flatten();
    let of_sql = config.sql.iter_mut().flat_map(|sql| [&mut sql.password_file, &mut sql.sslrootcert]).flatten();
    for path in files.chain(of_sql).chain([&mut config.geoip]).filter(|path| !path.as_os_str().is_empty()) {
        *path = settings.base.join(&*path);
    }
    config
}

fn exposers(shared: &pipeline::Shared, receivers: &Receivers, aggregator: &aggregate::Runner) -> Vec<Exposer> {
    let (latencies, pairing) = (shared.latencies.clone(), shared.pairing.clone());
    let queue = receivers.queue();
    let counters = aggregator.counters();
    vec![
        Box::new(move |out| latencies.expose(out)),
        Box::new(move |out| pairing.expose(out)),
        Box::new(move |out| counters.expose(out)),
        Box::new(move |out| queue.expose(out)),
    ]
}
