//! The log: encoding a batch, appending it with group fsync, reading it back from files.
//!
//! `cargo bench --bench log`; throughput is in flows. Prints the bytes a flow takes in the log.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rgz_netflow::flow::{Addr, FlowBatch, Record};
use rgz_netflow::log::{Config, ConsumerOptions, Cursor, Log, Options, codec};

/// Flows in a batch: what a slab of 512 KiB holds.
const ROWS: usize = 10_000;
/// Batches that are read back.
const BATCHES: u64 = 20;

/// A batch as NetFlow v5 from one exporter makes it, enriched with direction and service port.
fn v5_batch() -> FlowBatch {
    let mut batch = FlowBatch::default();
    let mut state = 88_172_645_463_325_252u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let start = 1_790_000_000_000;
    for row in 0..ROWS {
        let end = start + (next() % 60_000) as i64;
        let (client, port) = (Addr::v4(0x0a00_0000 + (next() % 50_000) as u32), next() as u16);
        batch.time.push(Some(end));
        batch.flow_start.push(Some(end - (next() % 900_000) as i64));
        batch.received_at.push(Some(start + 60_000 + row as i64 / 300));
        batch.exporter_ip.push(Some(&Addr::v4(0x0a00_0001)));
        batch.src_ip.push(Some(client));
        batch.dst_ip.push(Some(Addr::v4(next() as u32)));
        batch.src_port.push(Some(port));
        batch.dst_port.push(Some(443));
        batch.protocol.push(Some(if next() % 4 == 0 { 17 } else { 6 }));
        batch.bytes.push(Some(next() % (1 << 30)));
        batch.packets.push(Some(next() % 60_000));
        batch.tcp_flags.push(Some((next() % 32) as u16));
        batch.tos.push(Some(0));
        batch.input_if.push(Some((next() % 8) as u32));
        batch.output_if.push(Some((next() % 8) as u32));
        batch.next_hop.push(Some(Addr::v4(0x0a00_00fe)));
        batch.src_as.push(Some((next() % 65_000) as u32));
        batch.dst_as.push(Some((next() % 65_000) as u32));
        batch.src_mask.push(Some((next() % 33) as u8));
        batch.dst_mask.push(Some((next() % 33) as u8));
        batch.sampling_rate.push(Some(1));
        batch.netflow_version.push(Some(5));
        batch.direction.push(Some(2));
        batch.service_port.push(Some(443));
    }
    batch.fill_missing();
    batch
}

fn log_benches(c: &mut Criterion) {
    let record = Record::Flows(Arc::new(v5_batch()));
    let mut bytes = Vec::new();
    codec::encode(&record, &mut bytes).expect("a valid batch");
    println!("log: {:.1} bytes a flow", bytes.len() as f64 / ROWS as f64);

    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("encode", |b| {
        b.iter(|| {
            bytes.clear();
            codec::encode(black_box(&record), &mut bytes).expect("a valid batch");
            black_box(crc32c::crc32c(&bytes))
        });
    });
    let mut batch = FlowBatch::default();
    group.bench_function("decode", |b| {
        b.iter(|| codec::decode_flows(black_box(&bytes), &mut batch).expect("what was encoded"));
    });

    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = Config { dir: dir.path().join("log"), bytes_max: 1 << 30, ..Config::default() };
    let log = Log::open(config, Options::default()).expect("a log");
    group.bench_function("append, fsync each second", |b| {
        b.iter(|| log.append(record.clone()).expect("room for it"));
    });

    let small_memory = Config { dir: dir.path().join("read"), memory_bytes_max: 1 << 20, ..Config::default() };
    let log = Log::open(small_memory, Options::default()).expect("a log");
    for _ in 0..=BATCHES {
        log.append(record.clone()).expect("room for it");
    }
    group.throughput(Throughput::Elements(ROWS as u64 * BATCHES));
    group.bench_function("read back from files", |b| {
        let options = ConsumerOptions { start: Cursor::Oldest, durable_only: false };
        b.iter_batched(
            || log.consumer("bench", options),
            |mut consumer| {
                for _ in 0..BATCHES {
                    black_box(consumer.next(Duration::from_secs(1)).expect("readable"));
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, log_benches);
criterion_main!(benches);
