use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::group::{Bounds, Given, LiveGroup, Source, Wait};
use super::quarantine::{Quarantine, Refused};
use super::{Config, State, Status};
use crate::flow::{Record, Sink, SinkConfig, SinkContext, SinkError};

/// How long a sink waits for a first entry before it gets time for its housekeeping.
const IDLE: Duration = Duration::from_secs(1);
/// Pause after an error that a person must mend: mended, it goes on by itself.
const FATAL_PAUSE: Duration = Duration::from_secs(60);
/// Entries in one group: a bound where records are tiny.
const ENTRIES_MAX: u64 = 100_000;

/// A running delivery to one sink.
#[derive(Debug)]
pub struct Deliverer {
    status: Arc<Status>,
    ending: Arc<Ending>,
    thread: Option<JoinHandle<()>>,
}

/// Whether and how the thread is asked to end.
#[derive(Debug, Default)]
struct Ending(AtomicU8);

impl Ending {
    /// After what the log holds already.
    const STOP: u8 = 1;
    /// After what was given to the sink already.
    const LEAVE: u8 = 2;

    fn ask(&self, how: u8) {
        self.0.fetch_max(how, Relaxed);
    }

    fn is_asked(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    fn is_leaving(&self) -> bool {
        self.0.load(Relaxed) == Self::LEAVE
    }
}

impl Deliverer {
    /// Starts the sink's thread. The sink is opened there, so a server that is down delays nobody.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        config: Config,
        kind: &str,
        sink: Arc<dyn SinkConfig>,
        context: SinkContext,
        source: Box<dyn Source>,
    ) -> io::Result<Self> {
        let status = Arc::new(Status::new(&config.name, kind));
        let ending = Arc::new(Ending::default());
        let quarantine = Quarantine::new(&config.quarantine, config.quarantine_bytes_max);
        let name = format!("sink-{}", config.name);
        let mut run = Run {
            config,
            sink,
            context,
            source,
            quarantine,
            status: status.clone(),
            ending: ending.clone(),
            backoff: Backoff::default(),
            entries_max: ENTRIES_MAX,
            set_aside: BTreeSet::new(),
        };
        let thread = std::thread::Builder::new().name(name).spawn(move || run.run())?;
        Ok(Self { status, ending, thread: Some(thread) })
    }

    /// What is known of the sink.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Asks the thread to take what the log holds already, commit it and end.
    pub fn stop(&self) {
        self.ending.ask(Ending::STOP);
    }

    /// Asks the thread to commit what it has given to the sink and end; what else the log holds is for whoever follows.
    pub fn leave(&self) {
        self.ending.ask(Ending::LEAVE);
    }

    /// Whether the thread has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the thread to end, up to the deadline. Gives whether it ended; a sink that hangs is left behind: what it
    /// had not committed is in the log.
    pub fn join(&mut self, deadline: Instant) -> bool {
        self.stop();
        while let Some(thread) = &self.thread {
            if thread.is_finished() {
                // A panic of the thread is already counted by the panic hook.
                let _ = self.thread.take().map(JoinHandle::join);
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

struct Run {
    config: Config,
    sink: Arc<dyn SinkConfig>,
    context: SinkContext,
    source: Box<dyn Source>,
    quarantine: Quarantine,
    status: Arc<Status>,
    ending: Arc<Ending>,
    backoff: Backoff,
    /// Entries of the next group; halved while the store refuses, doubled again afterwards.
    entries_max: u64,
    /// Positions that were set aside whole and lie after the sink's cursor: not given to it again.
    set_aside: BTreeSet<u64>,
}

/// How one opening of the sink ended.
enum Ended {
    /// Asked to stop, everything there was is committed.
    Stopped,
    /// Drop the sink and open it again after a pause.
    Failed(SinkError),
}

impl Run {
    fn run(&mut self) {
        while let Ended::Failed(error) = self.open_and_write() {
            let pause = self.note_failure(&error);
            if self.sleep(pause) {
                break;
            }
        }
        self.status.set_state(State::Stopped);
    }

    fn open_and_write(&mut self) -> Ended {
        self.status.set_state(State::Opening);
        let mut sink = match self.sink.open(&self.context) {
            Ok(sink) => sink,
            Err(error) => return Ended::Failed(error),
        };
        match self.place(&mut *sink).and_then(|()| self.write_groups(&mut *sink)) {
            Ok(()) => {
                if let Err(error) = sink.close(Duration::from_secs(5)) {
                    tracing::warn!(sink = %self.config.name, %error, "closing the sink failed");
                }
                Ended::Stopped
            }
            Err(error) => Ended::Failed(error),
        }
    }

    /// Goes to the entry after the last one that is durable in the sink. A sink without a cursor for this log goes on
    /// where the log last knew it.
    fn place(&mut self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        if let Some(position) = sink.cursor()? {
            self.source.seek(position + 1);
            self.source.commit(position);
            self.status.position.set(position as i64);
        } else {
            let position = self.source.committed();
            self.source.seek(position + 1);
        }
        Ok(())
    }

    fn write_groups(&mut self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        loop {
            self.status.set_state(State::Running);
            let stopping = self.ending.is_asked();
            let given = self.write_group(sink)?;
            self.status.set_sink_counters(sink.counters());
            self.note_lag();
            if self.ending.is_leaving() || given.entries == 0 && stopping {
                return Ok(());
            }
            if !stopping && let Err(error) = sink.maintain() {
                tracing::warn!(sink = %self.config.name, %error, "housekeeping of the sink failed");
                self.status.set_error(State::Running, error.to_string());
            }
        }
    }

    fn write_group(&mut self, sink: &mut dyn Sink) -> Result<Given, SinkError> {
        let ending = self.ending.clone();
        let wait = move || match (ending.is_leaving(), ending.is_asked()) {
            (true, _) => Wait::End,
            (_, true) => Wait::TakeWhatIsThere,
            _ => Wait::AsBounded,
        };
        let bounds = Bounds {
            rows_max: self.config.batch_rows,
            entries_max: self.entries_max,
            time: self.config.flush_interval,
            idle: IDLE,
        };
        let mut group = LiveGroup::new(&mut *self.source, bounds, &self.set_aside, &wait);
        let result = sink.write(&mut group);
        let (given, refused) = (group.given, std::mem::take(&mut group.refused));
        match result {
            Ok(()) => {
                self.committed(given, &refused)?;
                Ok(given)
            }
            Err(SinkError::Reject(reason)) => Err(self.refused(given, reason)),
            Err(error) => Err(error),
        }
    }

    fn committed(&mut self, given: Given, refused: &[Refused]) -> Result<(), SinkError> {
        for refused in refused {
            self.keep(refused)?;
        }
        if given.entries > 0 {
            self.source.commit(given.last);
            self.set_aside = self.set_aside.split_off(&given.last);
            self.status.position.set(given.last as i64);
            self.status.delivered_records.add(given.entries);
            let refused: u64 = refused.iter().map(Refused::flows).sum();
            self.status.delivered_flows.add(given.flows.saturating_sub(refused));
            self.backoff.reset();
            self.entries_max = self.entries_max.saturating_mul(2).min(ENTRIES_MAX);
        }
        Ok(())
    }

    /// The store refuses something in this group: the next one is half as long; an entry refused alone is set aside.
    fn refused(&mut self, given: Given, reason: String) -> SinkError {
        if given.entries > 1 {
            self.entries_max = (given.entries / 2).max(1);
            self.backoff.reset();
            return SinkError::retry(format!("refused, will be tried in halves: {reason}"));
        }
        self.source.seek(given.first);
        let entry = match self.source.next(Duration::ZERO) {
            Ok(Some(entry)) if entry.position == given.first => entry,
            Ok(_) => return SinkError::retry("the refused record is no longer in the log"),
            Err(error) => return SinkError::retry(format!("log: {error}")),
        };
        if let Err(error) = self.keep(&Refused { entry, row: None, reason: reason.clone() }) {
            return error;
        }
        self.set_aside.insert(given.first);
        self.backoff.reset();
        SinkError::retry(format!("refused, set aside: {reason}"))
    }

    fn keep(&self, refused: &Refused) -> Result<(), SinkError> {
        let what = match refused.entry.record {
            Record::Flows(_) => "flows",
            Record::Sums(_) => "sums",
        };
        tracing::error!(sink = %self.config.name, position = refused.entry.position, what, reason = %refused.reason,
            "the store refuses a record; set aside");
        self.quarantine.keep(refused, &self.status).map_err(|e| SinkError::retry(format!("quarantine: {e}")))
    }

    fn note_lag(&self) {
        let lag = self.source.lag();
        self.status.waiting_flows.set(lag.flows as i64);
        self.status.waiting_age_ms.set(lag.age_ms as i64);
    }

    fn note_failure(&mut self, error: &SinkError) -> Duration {
        self.note_lag();
        self.status.retries.add(1);
        let (state, pause) = match error {
            SinkError::Fatal(_) => (State::Failed, FATAL_PAUSE),
            SinkError::Retry { after, .. } => (State::Waiting, self.backoff.next(*after)),
            SinkError::Reject(_) => (State::Waiting, self.backoff.next(None)),
        };
        tracing::warn!(sink = %self.config.name, %error, pause_ms = pause.as_millis() as u64, "the sink failed");
        self.status.set_error(state, error.to_string());
        pause
    }

    /// Sleeps; gives true when asked to stop meanwhile.
    fn sleep(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.ending.is_asked() {
                return true;
            }
            self.note_lag();
            std::thread::sleep(Duration::from_millis(20).min(pause));
        }
        self.ending.is_asked()
    }
}

#[cfg(test)]
mod tests;
