//! The thread that reads the log for the alerts, judges and saves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::{Alerts, Engine};
use super::facts::Facts;
use crate::flow::{Clock, Entry, Record};
use crate::log::{Consumer, ConsumerOptions, Cursor, Log};

/// Name of the cursor in the log.
pub const CURSOR: &str = "alerts";
/// How often everything is saved, ms: a crash means reading at most this much of the log again.
const SAVE_INTERVAL_MS: i64 = 10_000;
/// Longest wait for a record, so that evaluations and stops are noticed.
const WAIT: Duration = Duration::from_millis(250);
/// Pause after the log could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// Age of the oldest flow that has not been counted, ms, from which on counters say nothing about now.
const BEHIND_MS: u64 = 120_000;

/// Gathers what has to be known of the process.
pub type Gather = Box<dyn Fn() -> Facts + Send>;

/// The alerts, running.
#[derive(Debug)]
pub struct Runner {
    alerts: Arc<Alerts>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    /// Starts the thread, which first counts what it has not counted of the log.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(log: Arc<Log>, alerts: Arc<Alerts>, engine: Engine, gather: Gather, clock: Clock) -> io::Result<Self> {
        let read_first = log.end();
        // Should a disk have lost the log's tail: what comes next must not look as if it had been counted.
        log.ensure_position_above(engine.position());
        let start = if engine.position() == 0 { Cursor::Oldest } else { Cursor::At(engine.position()) };
        let consumer = log.consumer(CURSOR, ConsumerOptions { start, durable_only: true });
        let stop = Arc::new(AtomicBool::new(false));
        let now_ms = clock();
        let mut run = Run {
            log,
            consumer,
            alerts: alerts.clone(),
            engine,
            gather,
            clock,
            stop: stop.clone(),
            evaluated_ms: now_ms,
            saved_ms: now_ms,
            read_first,
        };
        let thread = std::thread::Builder::new().name("alerts".into()).spawn(move || run.run())?;
        Ok(Self { alerts, stop, thread: Some(thread) })
    }

    /// What others see.
    pub fn alerts(&self) -> &Arc<Alerts> {
        &self.alerts
    }

    /// Has it count what the log holds, save and end, the receivers with it. Gives whether all did in time.
    pub fn stop(mut self, deadline: Instant) -> bool {
        self.stop.store(true, Relaxed);
        let ended = crate::threads::join(self.thread.take(), deadline);
        self.alerts.deliveries.stop(deadline) && ended
    }
}

struct Run {
    log: Arc<Log>,
    consumer: Consumer,
    alerts: Arc<Alerts>,
    engine: Engine,
    gather: Gather,
    clock: Clock,
    stop: Arc<AtomicBool>,
    evaluated_ms: i64,
    saved_ms: i64,
    /// Position up to which the log may hold alerts that an earlier run put there.
    read_first: u64,
}

impl Run {
    fn run(&mut self) {
        self.engine.watch(&(self.gather)());
        loop {
            let stopping = self.stop.load(Relaxed);
            match self.consumer.next(if stopping { Duration::ZERO } else { WAIT }) {
                Ok(Some(entry)) => self.take(entry),
                Ok(None) if stopping => break,
                // Nothing is left of what was there at the start, whatever its last position was.
                Ok(None) => self.read_first = 0,
                Err(error) => {
                    tracing::error!(%error, "alerts: the log cannot be read");
                    if stopping {
                        break;
                    }
                    std::thread::sleep(READ_PAUSE);
                }
            }
            self.tend();
        }
        self.save();
    }

    fn take(&mut self, entry: Entry) {
        match &entry.record {
            Record::Flows(batch) => self.engine.add(entry.position, batch, (self.clock)()),
            Record::Sums(_) => self.engine.pass(entry.position),
            Record::Alerts(rows) => self.engine.confirm(entry.position, rows),
        }
        self.log.recycle(entry.record);
    }

    /// Evaluates and saves when it is time to. A clock that was set back is no reason to wait for it.
    fn tend(&mut self) {
        let now_ms = (self.clock)();
        let is_due = |last_ms: i64, interval_ms: i64| now_ms - last_ms >= interval_ms || now_ms < last_ms;
        let interval_ms = i64::try_from(self.alerts.config().interval_ms).unwrap_or(i64::MAX);
        if is_due(self.evaluated_ms, interval_ms) {
            self.evaluated_ms = now_ms;
            let behind = self.consumer.lag().age_ms > BEHIND_MS;
            if let Err(error) = self.engine.evaluate(&(self.gather)(), now_ms, behind) {
                tracing::error!(%error, "alerts: told without being saved");
            }
        }
        if is_due(self.saved_ms, SAVE_INTERVAL_MS) {
            self.saved_ms = now_ms;
            self.save();
        }
        self.log_alerts();
    }

    /// Puts what began and ended into the log.
    fn log_alerts(&mut self) {
        if self.engine.position() < self.read_first {
            return;
        }
        let rows = self.engine.due();
        if rows.is_empty() {
            return;
        }
        match self.log.append(Record::Alerts(Arc::new(rows))) {
            Ok(_) => self.engine.logged(),
            // It is closed: they get there after the next start.
            Err(error) => tracing::debug!(%error, "alerts: not logged"),
        }
    }

    fn save(&mut self) {
        match self.engine.save() {
            Ok(()) => {
                self.consumer.commit(self.engine.position());
            }
            Err(error) => tracing::error!(%error, "alerts: the state is not saved"),
        }
    }
}
