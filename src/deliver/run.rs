//! A sink's thread: opens the sink, brings it group after group, and decides what follows an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::group::{Bounds, Given, LiveGroup, Source, Wait};
use super::quarantine::{Refused, in_quarantine};
use super::replay::{self, Parts, Replayed};
use super::thread::Shared;
use super::{Config, State};
use crate::flow::{Record, Sink, SinkConfig, SinkContext, SinkError};

/// How long a sink waits for a first entry before it gets time for its housekeeping.
const IDLE: Duration = Duration::from_secs(1);
/// Pause after an error that a person must mend: mended, it goes on by itself.
const FATAL_PAUSE: Duration = Duration::from_secs(60);
/// Entries in one group: a bound where records are tiny.
const ENTRIES_MAX: u64 = 100_000;

pub(super) struct Run {
    config: Config,
    sink: Arc<dyn SinkConfig>,
    context: SinkContext,
    source: Box<dyn Source>,
    shared: Shared,
    backoff: Backoff,
    /// Entries of the next group; halved while the store refuses, doubled again afterwards.
    entries_max: u64,
    /// Positions that were set aside whole and lie after the sink's cursor, with their flows: not given to it again.
    set_aside: BTreeMap<u64, u64>,
    /// Whether a replay may have been cut off by the end of the process before.
    unfinished: bool,
}

/// How one opening of the sink ended.
enum Ended {
    /// Asked to stop, everything there was is committed.
    Stopped,
    /// Asked to replay the quarantine, for which the sink is opened under another log.
    Paused,
    /// Drop the sink and open it again after a pause.
    Failed(SinkError),
}

impl Run {
    pub fn new(
        config: Config,
        sink: Arc<dyn SinkConfig>,
        context: SinkContext,
        source: Box<dyn Source>,
        shared: Shared,
    ) -> Self {
        Self {
            config,
            sink,
            context,
            source,
            shared,
            backoff: Backoff::default(),
            entries_max: ENTRIES_MAX,
            set_aside: BTreeMap::new(),
            unfinished: true,
        }
    }

    pub fn run(&mut self) {
        self.shared.quarantine.note(&self.shared.status);
        loop {
            match self.open_and_write() {
                Ended::Stopped => break,
                Ended::Paused => self.replay_quarantine(),
                Ended::Failed(error) => {
                    let pause = self.note_failure(&error);
                    if self.sleep(pause) {
                        break;
                    }
                }
            }
        }
        self.shared.status.set_state(State::Stopped);
        // Whoever waits learns that nothing will come.
        self.shared.replays.take();
    }

    fn open_and_write(&mut self) -> Ended {
        self.shared.status.set_state(State::Opening);
        self.shared.status.reopened();
        let mut sink = match self.open() {
            Ok(sink) => sink,
            Err(error) => {
                self.refuse_replay(&error);
                return Ended::Failed(error);
            }
        };
        match self.write_groups(&mut *sink) {
            Ok(ended) => {
                if let Err(error) = sink.close(Duration::from_secs(5)) {
                    tracing::warn!(sink = %self.config.name, %error, "closing the sink failed");
                }
                ended
            }
            Err(error) => Ended::Failed(error),
        }
    }

    fn open(&mut self) -> Result<Box<dyn Sink>, SinkError> {
        if self.unfinished {
            replay::finish(&self.parts())?;
            self.unfinished = false;
        }
        let mut sink = self.sink.open(&self.context)?;
        self.place(&mut *sink)?;
        Ok(sink)
    }

    fn parts(&self) -> Parts<'_> {
        let Shared { status, quarantine, .. } = &self.shared;
        Parts { quarantine, sink: &*self.sink, context: &self.context, status }
    }

    /// Brings what was set aside to the sink again, for whoever asked.
    fn replay_quarantine(&mut self) {
        let Some(asked) = self.shared.replays.take() else { return };
        let committed = self.source.committed();
        let Self { config, sink, context, source, shared, set_aside, unfinished, .. } = self;
        let Shared { status, quarantine, .. } = &*shared;
        let parts = Parts { quarantine, sink: &**sink, context, status };
        // What the sink has not gone past the log brings it again, if it still can: under both numbers it would be stored twice.
        let mut give_back = |position: u64| {
            if position <= committed {
                return false;
            }
            let is_there = is_in_log(&mut **source, position);
            if is_there {
                set_aside.remove(&position);
            }
            is_there
        };
        let replayed = replay::run(&parts, &asked.wish, &mut give_back);
        *unfinished = replayed.problem.is_some();
        let Replayed { records, flows, refused_records, problem, .. } = &replayed;
        tracing::info!(sink = %config.name, records, flows, refused_records, problem, "the quarantine is replayed");
        // Whoever asked may have given up.
        let _ = asked.answer.try_send(replayed);
    }

    /// Goes to the entry after the last one that is durable in the sink. A sink without a cursor for this log goes on
    /// where the log last knew it.
    fn place(&mut self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        let (cursor, noted) = (sink.cursor()?, self.source.committed());
        let position = cursor.unwrap_or(noted);
        self.source.seek(position + 1);
        let Shared { status, quarantine, .. } = &self.shared;
        let settled = quarantine.settle(position, status).map_err(in_quarantine)?;
        if cursor.is_some() {
            // What the log did not know to be there: the answer to its commit was lost, or the process ended before it was noted.
            let adopted = quarantine.adopt(noted, position, status).map_err(in_quarantine)?;
            let waited = self.source.commit(position);
            let later = self.set_aside.split_off(&(position + 1));
            let passed = std::mem::replace(&mut self.set_aside, later);
            let elsewhere = passed.values().sum::<u64>() + settled + adopted;
            status.delivered_flows.add(waited.saturating_sub(elsewhere));
            status.position.set(position as i64);
        }
        self.take_back_after(position)?;
        self.source.seek(position + 1);
        self.shared.quarantine.tidy(&self.shared.status);
        Ok(())
    }

    /// What was set aside before the sink went past it, by an earlier run or a write that failed, comes to the sink again in its
    /// turn: it leaves the quarantine, or a replay would store it once more.
    fn take_back_after(&mut self, position: u64) -> Result<(), SinkError> {
        let Shared { status, quarantine, .. } = &self.shared;
        let mut ahead = quarantine.after_position(position).map_err(in_quarantine)?;
        // Rows of one record follow each other.
        let mut last = (position, false);
        ahead.retain(|(_, ahead)| {
            if *ahead != last.0 {
                last = (*ahead, !self.set_aside.contains_key(ahead) && is_in_log(&mut *self.source, *ahead));
            }
            last.1
        });
        let names: Vec<String> = ahead.into_iter().map(|(name, _)| name).collect();
        quarantine.take_back(&names, status).map_err(in_quarantine)
    }

    fn write_groups(&mut self, sink: &mut dyn Sink) -> Result<Ended, SinkError> {
        loop {
            self.shared.status.set_state(State::Running);
            let stopping = self.shared.ending.is_asked();
            let given = self.write_group(sink)?;
            self.shared.status.set_sink_counters(sink.counters());
            self.note_lag();
            if self.shared.ending.is_leaving() || given.entries == 0 && stopping {
                return Ok(Ended::Stopped);
            }
            if !stopping && self.shared.replays.is_asked() {
                return Ok(Ended::Paused);
            }
            if !stopping && let Err(error) = sink.maintain() {
                tracing::warn!(sink = %self.config.name, %error, "housekeeping of the sink failed");
                self.shared.status.set_error(State::Running, error.to_string());
            }
        }
    }

    fn write_group(&mut self, sink: &mut dyn Sink) -> Result<Given, SinkError> {
        let (ending, replays) = (self.shared.ending.clone(), self.shared.replays.clone());
        let wait = move || match (ending.is_leaving() || replays.is_asked(), ending.is_asked()) {
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
        let (name, quarantine) = (&self.config.name, &self.shared.quarantine);
        let keep = |refused: &[Refused]| {
            report(name, refused);
            quarantine.keep_tentatively(refused).map_err(in_quarantine)
        };
        let mut group = LiveGroup::new(&mut *self.source, bounds, &self.set_aside, &wait, &keep);
        let result = sink.write(&mut group);
        let given = group.given;
        match result {
            Ok(()) => {
                self.committed(given)?;
                Ok(given)
            }
            Err(SinkError::Reject(reason)) => Err(self.refused(given, reason)),
            // The commit may have been done and its answer lost: then the cursor tells.
            Err(error) => Err(error),
        }
    }

    fn committed(&mut self, given: Given) -> Result<(), SinkError> {
        if given.entries > 0 {
            let Shared { status, quarantine, .. } = &self.shared;
            let refused = quarantine.settle(given.last, status).map_err(in_quarantine)?;
            quarantine.tidy(status);
            self.source.commit(given.last);
            self.set_aside = self.set_aside.split_off(&given.last);
            self.shared.status.position.set(given.last as i64);
            self.shared.status.delivered_records.add(given.entries);
            self.shared.status.delivered_flows.add(given.flows.saturating_sub(refused));
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
        let flows = entry.record.flow_count();
        let whole = [Refused { entry, row: None, reason: reason.clone() }];
        report(&self.config.name, &whole);
        let Shared { status, quarantine, .. } = &self.shared;
        // Rows of it that were set aside go with it.
        if let Err(error) = quarantine.withdraw().and_then(|()| quarantine.keep(&whole, status)) {
            return in_quarantine(error);
        }
        self.set_aside.insert(given.first, flows);
        self.backoff.reset();
        SinkError::retry(format!("refused, set aside: {reason}"))
    }

    fn note_lag(&self) {
        let lag = self.source.lag();
        self.shared.status.waiting_flows.set(lag.flows as i64);
        self.shared.status.waiting_age_ms.set(lag.age_ms as i64);
    }

    fn note_failure(&mut self, error: &SinkError) -> Duration {
        self.note_lag();
        self.shared.status.retries.add(1);
        let (state, pause) = match error {
            SinkError::Fatal(_) => (State::Failed, FATAL_PAUSE),
            SinkError::Retry { after, .. } => (State::Waiting, self.backoff.next(*after)),
            SinkError::Reject(_) => (State::Waiting, self.backoff.next(None)),
        };
        tracing::warn!(sink = %self.config.name, %error, pause_ms = pause.as_millis() as u64, "the sink failed");
        self.shared.status.set_error(state, error.to_string());
        pause
    }

    /// Whoever waits for a replay learns that the sink takes no data now.
    fn refuse_replay(&self, error: &SinkError) {
        if let Some(asked) = self.shared.replays.take() {
            let problem = Some(format!("the sink takes no data now: {error}"));
            let _ = asked.answer.try_send(Replayed { problem, ..Replayed::default() });
        }
    }

    /// Sleeps; gives true when asked to stop meanwhile. A replay that is asked for ends the pause.
    fn sleep(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.shared.replays.is_asked() {
            if self.shared.ending.is_asked() {
                return true;
            }
            self.note_lag();
            std::thread::sleep(Duration::from_millis(20).min(pause));
        }
        self.shared.ending.is_asked()
    }
}

fn report(sink: &str, refused: &[Refused]) {
    let Some(first) = refused.first() else { return };
    let what = match first.entry.record {
        Record::Flows(_) => "flows",
        Record::Sums(_) => "sums",
        Record::Alerts(_) => "alerts",
    };
    tracing::error!(sink, position = first.entry.position, what, refused = refused.len(), reason = %first.reason,
        "the store refuses records or rows; set aside");
}

/// Whether the log still gives the record at a position. The source is to be placed anew afterwards.
fn is_in_log(source: &mut dyn Source, position: u64) -> bool {
    source.seek(position);
    matches!(source.next(Duration::ZERO), Ok(Some(entry)) if entry.position == position)
}
