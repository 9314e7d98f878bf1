//! Wiring: the only place that sees everything. [`run`] starts the stages in the order in which they need each other, tells
//! them about signals, and stops them in the order of the flow.

mod alerting;
mod collector;
mod feeds;
mod file_watch;
mod folders;
mod notify;
pub mod once;
mod quarantine;
mod reload;
mod restore;
mod signals;
mod sink;
mod sinks;
mod start;
mod status_line;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::file_watch::FileWatch;
use self::notify::Notify;
use self::signals::{Asked, Signals};
use self::start::App;
pub(crate) use self::start::enrich_config;
use self::status_line::StatusLine;
use crate::control::config::{Settings, Sources};
use crate::control::http::{Collector as _, Endpoint, Server};
use crate::flow::time::now_ms;
use crate::telemetry::panics;

pub(crate) use folders::unwritable as unwritable_folders;

/// How long a stop may take until what hangs is left behind; what it had not done is in the log.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// How often the main thread looks after state, status line and threads.
const TICK: Duration = Duration::from_millis(500);
/// What the service manager shows while all is well.
const READY: &str = "receiving";

/// Why the collector could not start, or ended: one clear line each.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

impl StartError {
    fn new(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

/// Runs the collector until it is told to stop.
///
/// # Errors
/// It could not start, or a thread of it failed.
pub fn run(settings: Settings, sources: Sources) -> Result<(), StartError> {
    panics::watch();
    let unwritable = unwritable_folders(&settings, false);
    if !unwritable.is_empty() {
        return Err(StartError(unwritable.join("\n")));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(panics::ADMIN_THREADS)
        .enable_all()
        .build()
        .map_err(StartError::new)?;
    let signals = Signals::watch(&runtime).map_err(StartError::new)?;
    let app = App::start(settings, sources)?;
    let endpoint = endpoint(&app)?;
    let server = runtime
        .block_on(Server::bind(endpoint))
        .map_err(|e| StartError(format!("[admin] {}: {}", e.key, e.problem)))?;
    say_what_next(&app, server.api_addr());
    let (stop_server, server_stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = runtime.spawn(server.serve(async {
        // An error means that the sender is gone: the same.
        let _ = server_stopped.await;
    }));
    let mut notify = Notify::of_process();
    notify.ready(READY);
    let ended = tend(&app, &signals, &mut notify);
    signals.force_exit_on_the_next();
    notify.stopping();
    let complete = app.stop(Instant::now() + STOP_TIME_MAX);
    // Whoever asks meanwhile still gets an answer; the endpoint goes last.
    let _ = stop_server.send(());
    let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(2), serving).await });
    runtime.shutdown_timeout(Duration::from_secs(1));
    if complete {
        tracing::info!("stopped, everything is saved");
    } else {
        tracing::warn!("stopped before everything was delivered or saved; what was not delivered is in the log");
    }
    ended
}

fn endpoint(app: &App) -> Result<Arc<Endpoint>, StartError> {
    let settings = app.running.settings.load();
    let endpoint = Endpoint::new(app.running.clone(), settings.stages.admin.clone(), &settings.base);
    let line = |e: &crate::flow::sink::KeyError| format!("[admin] {}: {}", e.key, e.problem);
    let lines = |errors: Vec<_>| StartError(errors.iter().map(line).collect::<Vec<_>>().join("\n"));
    let endpoint = endpoint.map(Arc::new).map_err(lines)?;
    // Set once, here.
    let _ = app.running.endpoint.set(Arc::downgrade(&endpoint));
    Ok(endpoint)
}

/// What a new user wants to know now.
fn say_what_next(app: &App, admin: std::net::SocketAddr) {
    let addresses: Vec<_> = app.receivers.addresses().iter().map(ToString::to_string).collect();
    let port = app.receivers.addresses().first().map_or(2055, std::net::SocketAddr::port);
    eprintln!("rgz-netflow is ready: flows on udp {}, answers on http://{admin}", addresses.join(", "));
    eprintln!("  try it:  rgz-netflow generate --to 127.0.0.1:{port} --rate 1000 --duration 10s");
    eprintln!("  then:    rgz-netflow top --url http://{admin}");
    eprintln!("  or:      curl 'http://{admin}/api/v1/netflow/top-talkers?period=1h&limit=10'");
}

/// Looks after what has no thread of its own, until the collector is asked to stop or a worker fails.
fn tend(app: &App, signals: &Signals, notify: &mut Notify) -> Result<(), StartError> {
    let running = &app.running;
    let mut line = StatusLine::default();
    let mut files = FileWatch::new(&running.sources);
    loop {
        notify.alive();
        let asked = signals.wait(notify.pause(TICK));
        if asked == Some(Asked::Stop) {
            break Ok(());
        }
        if files.has_changed() || asked == Some(Asked::Reload) {
            notify.reloading();
            // What came of it is in the log and the metrics.
            let _ = running.reload();
            notify.ready(READY);
        }
        running.sinks_write().settle();
        line.tick(now_ms(), &running.ledger, app.receivers.queue().waiting());
        let leases = running.leases.tidy(now_ms());
        if let Err(error) = running.state.save(&running.ledger, now_ms(), false).and(leases) {
            tracing::error!(%error, "the state is not saved");
        }
        if let Some(panic) = failed_thread(app) {
            break Err(StartError(format!("{panic}; what was received is saved, start it again")));
        }
    }
}

/// Why it cannot go on: a thread of a stage is gone.
fn failed_thread(app: &App) -> Option<String> {
    let gone = |what: &str| format!("{what} ended unasked");
    panics::of_a_stage()
        .or_else(|| app.workers.any_ended().then(|| gone("a worker thread")))
        .or_else(|| app.running.sinks_read().ended_unasked().map(|sink| gone(&format!("the thread of sink {sink}"))))
}
