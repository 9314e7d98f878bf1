//! The hot path on one screen: a worker takes a slab of framed datagrams and runs it to completion.
//!
//! Nothing here waits but for the next slab, and for the log when its policy says so. Batches come from a pool and return to
//! it when the last consumer of the log is done with them, so nothing is allocated per flow.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use hdrhistogram::Histogram;

use crate::decode::{Decoder, Quarantine, Rules};
use crate::enrich::pairing::{Pairer, Pairing};
use crate::enrich::{Enricher, Enrichment};
use crate::flow::time::now_ms;
use crate::flow::{FlowBatch, Record};
use crate::log::Log;
use crate::receive::{Receipt, SlabQueue, Taken, Untold};
use crate::telemetry::Exposition;

/// How often an idle worker looks whether anything else is to be done.
const IDLE: Duration = Duration::from_secs(1);
/// Batches kept for reuse: as many as can be under way in a few workers and sinks that keep up.
const POOL_BATCHES: usize = 64;

/// What a worker needs; one each.
struct Worker {
    queue: SlabQueue,
    pool: Arc<BatchPool>,
    decoder: Decoder,
    enricher: Enricher,
    pairer: Pairer,
    log: Arc<Log>,
    latencies: Arc<Latencies>,
    untold: Untold,
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.queue.take(IDLE) {
                Taken::Slab(slab) => self.process(slab),
                Taken::Nothing => {}
                Taken::Closed => return,
            }
        }
    }

    fn process(&mut self, mut slab: crate::receive::Slab) {
        let mut clock = self.latencies.start();
        let mut batch = self.pool.take();
        self.decoder.decode(&slab, &mut batch);
        clock.lap(Stage::Decode);
        self.enricher.enrich(&mut batch);
        clock.lap(Stage::Enrich);
        self.pairer.pair(&mut batch);
        clock.lap(Stage::Pair);
        batch.streams.extend(self.untold.progress().cloned());
        match self.log.append(Record::Flows(Arc::new(batch))) {
            Ok(position) => {
                self.decoder.book_logged(&slab);
                self.untold.book_logged();
                slab.acknowledge(Receipt::Logged(position));
            }
            Err(error) => {
                tracing::debug!(%error, "a batch is refused");
                self.decoder.book_refused(&slab);
                self.untold.keep(&slab);
                slab.acknowledge(Receipt::Refused);
            }
        }
        clock.lap(Stage::Log);
        clock.total(now_ms().saturating_sub(slab.first_received_ms()));
        self.queue.recycle(slab);
    }
}

/// The worker threads.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

/// What all workers share.
pub struct Shared {
    /// Decoding rules by exporter, replaced as a whole on reload.
    pub rules: Arc<ArcSwap<Rules>>,
    /// Records set aside because they cannot be true.
    pub quarantine: Arc<Quarantine>,
    /// Who and where.
    pub enrichment: Arc<Enrichment>,
    /// The table of conversations.
    pub pairing: Arc<Pairing>,
    /// Where batches go.
    pub log: Arc<Log>,
    /// Where batches come from.
    pub pool: Arc<BatchPool>,
    /// How long everything takes.
    pub latencies: Arc<Latencies>,
}

impl Workers {
    /// Starts `count` workers on the queue.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start(count: usize, queue: &SlabQueue, shared: &Shared) -> io::Result<Self> {
        let mut threads = Vec::with_capacity(count);
        for i in 0..count {
            let worker = Worker {
                queue: queue.clone(),
                pool: shared.pool.clone(),
                decoder: Decoder::new(shared.rules.clone(), shared.quarantine.clone()),
                enricher: Enricher::new(shared.enrichment.clone()),
                pairer: Pairer::new(shared.pairing.clone()),
                log: shared.log.clone(),
                latencies: shared.latencies.clone(),
                untold: Untold::default(),
            };
            threads.push(std::thread::Builder::new().name(format!("worker-{i}")).spawn(move || worker.run())?);
        }
        Ok(Self { threads })
    }

    /// Whether a worker ended although the queue is open, which only a panic does.
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Waits until the queue is closed and empty, up to the deadline. Gives whether all workers ended, none by a panic.
    pub fn join(self, deadline: Instant) -> bool {
        crate::threads::join(self.threads, deadline)
    }
}

/// Batches for reuse.
#[derive(Debug)]
pub struct BatchPool(ArrayQueue<FlowBatch>);

impl Default for BatchPool {
    fn default() -> Self {
        Self(ArrayQueue::new(POOL_BATCHES))
    }
}

impl BatchPool {
    /// A batch without rows, with the memory of an earlier one when there is one.
    pub fn take(&self) -> FlowBatch {
        self.0.pop().unwrap_or_default()
    }

    /// Takes a batch that nobody needs any more; over the bound it is freed.
    pub fn give(&self, mut batch: FlowBatch) {
        batch.clear();
        // A full pool gives the batch back: then it is freed here.
        drop(self.0.push(batch));
    }
}

/// What is timed.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Decode,
    Enrich,
    Pair,
    Log,
}

impl Stage {
    const NAMES: [&'static str; 4] = ["decode", "enrich", "pair", "log"];
}

/// How long slabs take, by stage in µs, and from the first datagram to the log in ms.
#[derive(Debug)]
pub struct Latencies {
    stages: [Mutex<Histogram<u64>>; 4],
    wire_to_log_ms: Mutex<Histogram<u64>>,
}

impl Default for Latencies {
    fn default() -> Self {
        // Two digits: 1 % is enough for latencies. Histograms of two digits are always valid and grow as needed.
        let histogram = || Mutex::new(Histogram::new(2).expect("two digits are valid"));
        Self { stages: std::array::from_fn(|_| histogram()), wire_to_log_ms: histogram() }
    }
}

impl Latencies {
    fn start(&self) -> Laps<'_> {
        Laps { latencies: self, last: Instant::now() }
    }

    /// Adds all latencies to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        for (stage, histogram) in Stage::NAMES.iter().zip(&self.stages) {
            let help = "Time that a slab of datagrams takes in a stage.";
            expose(out, "netflow_stage_seconds", help, &[("stage", stage)], histogram, 1e-6);
        }
        let help = "Time from a slab's first datagram until it stands in the log.";
        expose(out, "netflow_wire_to_log_seconds", help, &[], &self.wire_to_log_ms, 1e-3);
    }
}

fn expose(
    out: &mut Exposition,
    name: &'static str,
    help: &'static str,
    labels: &[(&str, &str)],
    histogram: &Mutex<Histogram<u64>>,
    unit_s: f64,
) {
    let histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 * unit_s;
    let quantiles = [("0.5", at(0.5)), ("0.99", at(0.99)), ("0.999", at(0.999))];
    let sum = histogram.mean() * histogram.len() as f64 * unit_s;
    out.summary(name, help, labels, &quantiles, sum, histogram.len());
}

/// Times the stages of one slab.
struct Laps<'a> {
    latencies: &'a Latencies,
    last: Instant,
}

impl Laps<'_> {
    fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        let took_us = now.duration_since(self.last).as_micros() as u64;
        record(&self.latencies.stages[stage as usize], took_us);
        self.last = now;
    }

    fn total(&self, took_ms: i64) {
        record(&self.latencies.wire_to_log_ms, took_ms.max(0) as u64);
    }
}

fn record(histogram: &Mutex<Histogram<u64>>, value: u64) {
    histogram.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(value.max(1));
}
