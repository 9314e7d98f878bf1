//! What all requests share: the process behind them, the tokens, and the bounds on work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::flow::sink::KeyError;
use crate::flow::store::TimeRange;
use crate::flow::time::{DAY_MS, MINUTE_MS, SECOND_MS};
use crate::telemetry::Exposition;

use super::auth::Tokens;
use super::collector::Collector;
use super::config::Config;
use super::error::{ApiError, RETRY_AFTER_S};
use super::rate::{Caller, Rate};
use super::route::Work;

/// How long a question waits for its turn before it is answered 503.
const TURN_WAIT_MAX: Duration = Duration::from_secs(2);
/// A range that ends this close to now can lack sums that are not emitted yet: late shares are emitted every 5 minutes.
const UNEMITTED_MS: i64 = 10 * MINUTE_MS;
/// The aggregator is asked to emit at most once in this time.
const EMIT_PAUSE_MS: i64 = SECOND_MS;

/// What memory for bodies is counted in, bytes.
const BODY_UNIT_BYTES: u64 = 4096;

/// Units of memory for a body.
fn body_units(bytes: u64) -> u32 {
    // As many as a semaphore can hold on any machine: 1 TiB.
    bytes.div_ceil(BODY_UNIT_BYTES).clamp(1, (Semaphore::MAX_PERMITS as u64).min(1 << 28)) as u32
}

/// What is counted of a route's requests.
#[derive(Clone, Debug, Default)]
struct Requests {
    by_status: BTreeMap<u16, u64>,
    took: Duration,
}

/// What all requests share.
pub struct Endpoint {
    /// The process.
    pub collector: Arc<dyn Collector>,
    /// The configuration.
    pub config: Config,
    /// Who may ask. Replaced as a whole on reload.
    pub tokens: ArcSwap<Tokens>,
    /// When the endpoint was made, ms since the Unix epoch: since when the ledger counts.
    pub started_ms: i64,
    questions: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    /// Memory for bodies, in units of [`BODY_UNIT_BYTES`].
    bodies: Arc<Semaphore>,
    emitted_ms: AtomicI64,
    requests: Mutex<BTreeMap<&'static str, Requests>>,
    turned_away: AtomicU64,
    rate: Rate,
}

impl Endpoint {
    /// An endpoint over a process. `base` is the folder from which the paths of token files are taken.
    ///
    /// # Errors
    /// Every problem of the configuration and of the token files.
    pub fn new(collector: Arc<dyn Collector>, config: Config, base: &Path) -> Result<Self, Vec<KeyError>> {
        let mut problems = config.problems();
        let tokens = Tokens::load(&config, base).unwrap_or_else(|more| {
            problems.extend(more.into_iter().filter(|m| !config.problems().iter().any(|p| p.key == m.key)));
            Tokens::default()
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            started_ms: collector.now_ms(),
            questions: Arc::new(Semaphore::new(config.queries_max.min(Semaphore::MAX_PERMITS))),
            exports: Arc::new(Semaphore::new(config.exports_max.min(Semaphore::MAX_PERMITS))),
            bodies: Arc::new(Semaphore::new(body_units(config.bodies_bytes_max()) as usize)),
            emitted_ms: AtomicI64::new(i64::MIN),
            requests: Mutex::default(),
            turned_away: AtomicU64::new(0),
            rate: Rate::new(config.requests_per_second),
            collector,
            config,
            tokens: ArcSwap::from_pointee(tokens),
        })
    }

    /// Lets a request of a caller pass, or not.
    ///
    /// # Errors
    /// 429 when the caller asks too much.
    pub fn admit(&self, caller: Caller, cost: f64) -> Result<(), ApiError> {
        self.rate.take(caller, cost, Instant::now()).map_err(ApiError::too_many)
    }

    /// A turn to work on a question or an export, given back when dropped. Other work needs none.
    ///
    /// # Errors
    /// 503 when none becomes free soon.
    pub async fn turn(&self, work: Work) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let (turns, max, what) = match work {
            Work::Inline | Work::Thread => return Ok(None),
            Work::Question => (&self.questions, self.config.queries_max, "questions"),
            Work::Export => (&self.exports, self.config.exports_max, "exports"),
        };
        match tokio::time::timeout(TURN_WAIT_MAX, turns.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => {
                self.turned_away.fetch_add(1, Relaxed);
                Err(ApiError::busy(format!("{max} {what} are being answered already"), RETRY_AFTER_S))
            }
        }
    }

    /// Room for a body, given back when dropped: as much as it announces, else as much as one may have.
    ///
    /// # Errors
    /// 503 when none becomes free soon.
    pub async fn room(&self, announced_bytes: Option<u64>) -> Result<OwnedSemaphorePermit, ApiError> {
        let bytes = announced_bytes.unwrap_or(u64::MAX).min(self.config.body_bytes_max);
        let room = self.bodies.clone().acquire_many_owned(body_units(bytes));
        match tokio::time::timeout(TURN_WAIT_MAX, room).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                self.turned_away.fetch_add(1, Relaxed);
                Err(ApiError::busy("as many bodies as there is memory for are being read already", RETRY_AFTER_S))
            }
        }
    }

    /// How long the work on a request may take.
    pub fn patience(&self, work: Work) -> Duration {
        let ms = if work == Work::Export { self.config.export_time_max_ms } else { self.config.query_time_max_ms };
        Duration::from_millis(ms)
    }

    /// Has sums emitted that a question about this range could miss.
    pub fn freshen(&self, range: TimeRange) {
        let now = self.collector.now_ms();
        // A whole day: the widest bucket, which stays open as long.
        if range.aligned(DAY_MS).to < now - UNEMITTED_MS {
            return;
        }
        let last = self.emitted_ms.load(Relaxed);
        let due = now.saturating_sub(last) >= EMIT_PAUSE_MS || now < last;
        if due && self.emitted_ms.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            self.collector.emit_open_sums();
        }
    }

    /// Counts an answer and the time it took.
    pub fn count(&self, route: &'static str, status: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = requests.entry(route).or_default();
        *requests.by_status.entry(status).or_default() += 1;
        requests.took += took;
    }

    /// Adds what the endpoint itself counts to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (route, requests) in requests {
            for (status, count) in &requests.by_status {
                let labels = [("route", route), ("status", &*status.to_string())];
                out.counter("netflow_http_requests_total", "Requests answered.", &labels, *count);
            }
            let (seconds, count) = (requests.took.as_secs_f64(), requests.by_status.values().sum());
            let help = "Time until an answer began.";
            out.summary("netflow_http_request_seconds", help, &[("route", route)], &[], seconds, count);
        }
        for (kind, turns, max) in
            [("question", &self.questions, self.config.queries_max), ("export", &self.exports, self.config.exports_max)]
        {
            let running = max.saturating_sub(turns.available_permits());
            let help = "Questions and exports being answered.";
            out.gauge("netflow_http_questions_running", help, &[("kind", kind)], running as f64);
        }
        let away = self.turned_away.load(Relaxed);
        out.counter("netflow_http_turned_away_total", "Requests turned away for load.", &[], away);
        let help = "Requests of callers that ask too much.";
        out.counter("netflow_http_rate_limited_total", help, &[], self.rate.refused());
        let up_s = (self.collector.now_ms() - self.started_ms) as f64 / SECOND_MS as f64;
        out.gauge("netflow_uptime_seconds", "Time since the start.", &[], up_s);
        out.gauge("netflow_up", "1 while the collector runs.", &[], 1.0);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.gauge("netflow_build_info", "Version of the collector.", &version, 1.0);
    }
}
