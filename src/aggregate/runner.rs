//! The aggregator's thread: reads the log, appends what is due, and knows where to go on after a crash.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Aggregator, Config, Counters};
use crate::flow::time::now_ms;
use crate::flow::{Entry, Record, RollupDef, RollupSums};
use crate::log::{Consumer, ConsumerOptions, Cursor, Log, ReadError};

/// Name of its cursor in the log.
const CURSOR: &str = "aggregate";
/// How long it waits for a record before it looks after requests and the clock.
const WAIT: Duration = Duration::from_millis(20);
/// Pause after a file of the log could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// The running aggregator.
pub struct Runner {
    handle: Handle,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Asks the aggregator for sums that are not due yet, or for other rollups.
#[derive(Clone, Debug)]
pub struct Handle(Sender<Request>);

#[derive(Debug)]
enum Request {
    /// To be answered once everything up to the log's end at the time of asking has been emitted.
    EmitOpen(Sender<()>),
    /// To be answered once these are the rollups.
    Redefine(Arc<Vec<RollupDef>>, Sender<Result<(), String>>),
}

impl Handle {
    /// Has the sums of open buckets emitted, up to the log's present end, and waits for it, for a moment at the most.
    /// Gives whether it was done in time.
    pub fn emit_open(&self, wait: Duration) -> bool {
        let (done, answer) = bounded(1);
        // A full channel means that somebody has just asked for the same, or that the thread has ended.
        self.0.try_send(Request::EmitOpen(done)).is_ok() && answer.recv_timeout(wait).is_ok()
    }

    /// Replaces the rollups, and waits for it. What was summed for the old ones is emitted.
    ///
    /// # Errors
    /// A rollup that cannot be kept: then the old ones stay. The aggregator did not answer in time.
    pub fn redefine(&self, rollups: Arc<Vec<RollupDef>>, wait: Duration) -> Result<(), String> {
        let (done, answer) = bounded(1);
        let late = |_| "the aggregator does not answer".to_owned();
        self.0.send_timeout(Request::Redefine(rollups, done), wait).map_err(|_| late(()))?;
        answer.recv_timeout(wait).map_err(|_| late(()))?
    }
}

impl Runner {
    /// Starts the thread. It first reads again what the last run had not emitted.
    ///
    /// # Errors
    /// A rollup that cannot be kept, or the thread could not be started.
    pub fn start(log: Arc<Log>, rollups: Arc<Vec<RollupDef>>, config: Config) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let aggregator = Aggregator::new(rollups, config, counters.clone()).map_err(io::Error::other)?;
        let consumer = log.consumer(CURSOR, ConsumerOptions { start: Cursor::Oldest, durable_only: false });
        let (sender, requests) = bounded(16);
        let stop = Arc::new(AtomicBool::new(false));
        let mut run = Run {
            log,
            consumer,
            aggregator,
            requests,
            waiting: Vec::new(),
            release: VecDeque::new(),
            stop: stop.clone(),
            counters: counters.clone(),
        };
        let thread = std::thread::Builder::new().name("aggregate".into()).spawn(move || run.run())?;
        Ok(Self { handle: Handle(sender), counters, stop, thread: Some(thread) })
    }

    /// For asking it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Has it take what the log holds, emit everything and end. Gives whether it did in time.
    pub fn stop(mut self, deadline: Instant) -> bool {
        self.stop.store(true, Relaxed);
        crate::threads::join(self.thread.take(), deadline)
    }
}

struct Run {
    log: Arc<Log>,
    consumer: Consumer,
    aggregator: Aggregator,
    requests: Receiver<Request>,
    /// Requests with the log's end when they were seen.
    waiting: Vec<(u64, Sender<()>)>,
    /// The cursor may go to the second position once the record at the first is durable; in order.
    release: VecDeque<(u64, u64)>,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

impl Run {
    fn run(&mut self) {
        while let Err(error) = self.restore() {
            tracing::error!(%error, "aggregate: the log cannot be read");
            if self.stop.load(Relaxed) {
                return;
            }
            std::thread::sleep(READ_PAUSE);
        }
        loop {
            let stopping = self.stop.load(Relaxed);
            match self.consumer.next(if stopping { Duration::ZERO } else { WAIT }) {
                Ok(Some(entry)) => self.take(entry),
                Ok(None) if stopping => break,
                Ok(None) => {}
                Err(error) => {
                    self.counters.read_errors.add(1);
                    tracing::error!(%error, "aggregate: the log cannot be read");
                    if stopping {
                        return;
                    }
                    std::thread::sleep(READ_PAUSE);
                }
            }
            self.emit();
            self.answer();
            self.release();
        }
        self.aggregator.flush();
        self.emit();
        self.log.sync();
        self.release();
    }

    /// Finds the last emission after the cursor, and goes to where it says.
    fn restore(&mut self) -> Result<(), ReadError> {
        let (start, end) = (self.consumer.position(), self.log.end());
        let mut last: Option<Arc<RollupSums>> = None;
        while self.consumer.position() < end {
            let Some(entry) = self.consumer.next(Duration::ZERO)? else { break };
            if let Record::Sums(sums) = entry.record {
                last = Some(sums);
            }
        }
        match last {
            Some(sums) => {
                self.aggregator.restore(&sums);
                self.consumer.seek(sums.replay_from.saturating_sub(1));
            }
            None => {
                self.aggregator.pass(start);
                self.consumer.seek(start);
            }
        }
        Ok(())
    }

    fn take(&mut self, entry: Entry) {
        match &entry.record {
            Record::Flows(batch) => self.aggregator.add(entry.position, batch, now_ms()),
            Record::Sums(_) | Record::Alerts(_) => self.aggregator.pass(entry.position),
        }
        self.log.recycle(entry.record);
    }

    fn emit(&mut self) {
        while let Some(sums) = self.aggregator.emit(now_ms()) {
            match self.log.append(Record::Sums(Arc::new(sums))) {
                Ok(position) => self.release.push_back((position, self.aggregator.replay_from().saturating_sub(1))),
                // The log takes sums whatever its policy: it is closed. What is lost here is summed again at the next start.
                Err(error) => {
                    self.counters.append_errors.add(1);
                    return tracing::warn!(%error, "aggregate: sums are not logged");
                }
            }
        }
    }

    /// Answers requests once the aggregator has reached the log's end as it was when they came.
    fn answer(&mut self) {
        let end = self.log.end();
        for request in self.requests.try_iter() {
            match request {
                Request::EmitOpen(done) => self.waiting.push((end, done)),
                Request::Redefine(rollups, done) => {
                    // Whoever asked may have given up.
                    let _ = done.try_send(self.aggregator.redefine(rollups));
                }
            }
        }
        if self.waiting.is_empty() || self.waiting.iter().any(|(upto, _)| self.aggregator.position() < *upto) {
            return;
        }
        self.aggregator.flush();
        self.emit();
        for (_, request) in self.waiting.drain(..) {
            // Whoever asked may have given up.
            let _ = request.try_send(());
        }
    }

    fn release(&mut self) {
        if self.release.is_empty() {
            return;
        }
        let durable = self.log.durable_upto();
        let mut cursor = None;
        while let Some((_, upto)) = self.release.pop_front_if(|(position, _)| *position <= durable) {
            cursor = Some(upto);
        }
        if let Some(cursor) = cursor {
            self.consumer.commit(cursor);
        }
    }
}

#[cfg(test)]
mod tests;
