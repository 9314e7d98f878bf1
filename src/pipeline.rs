//! The hot path on one screen: a worker takes a slab of framed datagrams and runs it to completion.
//!
//! Nothing here waits but for the next slab, and for the log when its policy says so. Batches come from a pool and return to
//! it when the last consumer of the log is done with them, so nothing is allocated per flow.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
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
use crate::wire;

/// How often an idle worker looks whether anything else is to be done.
const IDLE: Duration = Duration::from_secs(1);
/// Batches kept for reuse: as many as can be under way in a few workers and sinks that keep up.
const POOL_BATCHES: usize = 64;
/// Memory of batches kept for reuse, bytes: a dozen full ones. More come back at once only when a consumer that was behind catches
/// up, and those are freed.
const POOL_BYTES_MAX: usize = 32 << 20;
/// Memory of a flow in a batch, bytes: every column set, addresses of 16 bytes, grown by doubling.
const ROW_BYTES_MAX: u64 = 512;

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

/// Batches for reuse, bounded in number and in memory.
#[derive(Debug)]
pub struct BatchPool {
    batches: ArrayQueue<(FlowBatch, usize)>,
    /// Memory that they reserve.
    bytes: AtomicUsize,
}

impl Default for BatchPool {
    fn default() -> Self {
        Self { batches: ArrayQueue::new(POOL_BATCHES), bytes: AtomicUsize::new(0) }
    }
}

impl BatchPool {
    /// A batch without rows, with the memory of an earlier one when there is one.
    pub fn take(&self) -> FlowBatch {
        let Some((batch, bytes)) = self.batches.pop() else { return FlowBatch::default() };
        self.bytes.fetch_sub(bytes, Relaxed);
        batch
    }

    /// Takes a batch that nobody needs any more; over the bounds it is freed.
    pub fn give(&self, mut batch: FlowBatch) {
        batch.clear();
        let bytes = batch.capacity_bytes();
        let pooled = self.bytes.fetch_add(bytes, Relaxed);
        if pooled + bytes > POOL_BYTES_MAX || self.batches.push((batch, bytes)).is_err() {
            self.bytes.fetch_sub(bytes, Relaxed);
        }
    }
}

/// Memory of the batches under way and for reuse, at most, with so many workers and slabs of so many bytes: a worker fills one
/// batch from one slab, whose records are the shortest that there are.
pub fn memory_bytes_max(workers: usize, slab_bytes: u64) -> u64 {
    let rows = slab_bytes / wire::V5_RECORD_BYTES as u64;
    POOL_BYTES_MAX as u64 + workers as u64 * rows * ROW_BYTES_MAX
}

/// Longest latency that is told apart, µs or ms: an hour in µs.
const LATENCY_MAX: u64 = 3_600_000_000;

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
        // Two digits: 1 % is enough for latencies. One that grows would not do so for values that it saturates.
        let histogram = || Mutex::new(Histogram::new_with_bounds(1, LATENCY_MAX, 2).expect("the bounds are valid"));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(rows: usize) -> FlowBatch {
        let mut batch = FlowBatch::default();
        (0..rows).for_each(|row| batch.time.push(Some(row as i64)));
        batch.src_port.extend_slots(rows);
        batch
    }

    #[test]
    fn the_pool_gives_memory_again_and_never_holds_more_than_its_bounds() {
        let pool = BatchPool::default();
        pool.give(batch(1000));
        let reused = pool.take();
        assert!(reused.is_empty() && reused.capacity_bytes() >= 1000 * 10);
        assert_eq!(pool.bytes.load(Relaxed), 0);
        (0..3 * POOL_BATCHES).for_each(|_| pool.give(batch(10)));
        assert_eq!(pool.batches.len(), POOL_BATCHES);
        while pool.batches.pop().is_some() {}
        pool.bytes.store(0, Relaxed);
        (0..20).for_each(|_| pool.give(batch(1 << 19)));
        let held: usize = std::iter::from_fn(|| pool.batches.pop()).map(|(batch, _)| batch.capacity_bytes()).sum();
        assert_eq!(held, pool.bytes.load(Relaxed));
        assert!(held > POOL_BYTES_MAX / 2 && held <= POOL_BYTES_MAX, "{held}");
    }

    #[test]
    fn a_row_takes_no_more_than_the_budget_says() {
        let mut wide = FlowBatch::default();
        let rows = 4097;
        for row in 0..rows {
            wide.time.push(Some(row));
            for addresses in
                [&mut wide.src_ip, &mut wide.dst_ip, &mut wide.next_hop, &mut wide.nat_src_ip, &mut wide.nat_dst_ip]
            {
                addresses.push(Some("2001:db8::1".parse().unwrap()));
            }
        }
        wide.fill_missing();
        for field in crate::flow::Field::ALL {
            use crate::flow::batch::ColumnMut;
            match wide.column_mut(*field) {
                ColumnMut::I64(c) => (0..rows as usize).for_each(|row| c.set(row, Some(1))),
                ColumnMut::U64(c) => (0..rows as usize).for_each(|row| c.set(row, Some(1))),
                ColumnMut::U32(c) => (0..rows as usize).for_each(|row| c.set(row, Some(1))),
                ColumnMut::U16(c) => (0..rows as usize).for_each(|row| c.set(row, Some(1))),
                ColumnMut::U8(c) => (0..rows as usize).for_each(|row| c.set(row, Some(1))),
                _ => {}
            }
        }
        assert!(
            wide.capacity_bytes() as u64 <= rows as u64 * ROW_BYTES_MAX,
            "{}",
            wide.capacity_bytes() / rows as usize
        );
    }

    #[test]
    fn latencies_far_apart_are_told_apart() {
        let latencies = Latencies::default();
        [3, 40, 30_000].into_iter().for_each(|ms| record(&latencies.wire_to_log_ms, ms));
        let mut out = Exposition::default();
        latencies.expose(&mut out);
        let text = out.render(crate::telemetry::Format::Prometheus);
        let value = |quantile: &str| {
            let name = format!("netflow_wire_to_log_seconds{{quantile=\"{quantile}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&*name)).unwrap().parse::<f64>().unwrap()
        };
        assert!((value("0.5") - 0.04).abs() < 0.001 && (value("0.999") - 30.0).abs() < 0.5, "{text}");
    }
}
