//! Framing and decoding, ns a flow: `cargo bench --bench decode`.

use std::hint::black_box;
use std::sync::Arc;

use arc_swap::ArcSwap;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rgz_netflow::decode::{self, Decoder, Rules};
use rgz_netflow::flow::{Addr, FlowBatch};
use rgz_netflow::receive::{Admission, Framer, Pool, Protocol};
use rgz_netflow::telemetry::ledger::Ledger;
use rgz_netflow::wire::{self, FlowRecord, Header};

const NOW_MS: i64 = 1_700_000_000_000;
/// Records of a full datagram of each version, as exporters send them.
const RECORDS: [(u16, u32); 3] = [(1, 24), (5, 30), (7, 28)];
/// Datagrams that fill a slab.
const DATAGRAMS: u32 = 350;

fn datagrams(version: u16, records: u32) -> Vec<Vec<u8>> {
    let record = |i: u32| FlowRecord {
        src_addr: 0x0a00_0000 | i.wrapping_mul(0x9e37) & 0xffff,
        dst_addr: 0xc000_0000 | i.wrapping_mul(0x85eb_ca6b) >> 4,
        packets: 1 + i % 50,
        bytes: 60 * (1 + i % 50),
        first_ms: 900_000 + i % 50_000,
        last_ms: 950_000 + i % 50_000,
        src_port: i as u16,
        dst_port: 443,
        protocol: 6,
        ..FlowRecord::default()
    };
    let datagram = |n: u32| {
        let (unix_secs, sequence) = ((NOW_MS / 1000) as u32, n * records);
        let header = Header { version, sys_uptime_ms: 1_000_000, unix_secs, sequence, ..Header::default() };
        wire::datagram(&header, &(sequence..sequence + records).map(record).collect::<Vec<_>>())
    };
    (0..DATAGRAMS).map(datagram).collect()
}

fn framer() -> Framer {
    let admission = Arc::new(ArcSwap::from_pointee(Admission::new(&[], &Protocol::ALL)));
    Framer::new(Arc::new(Ledger::default()), admission, Arc::default())
}

fn benches(c: &mut Criterion) {
    let pool = Pool::new(1, 512 << 10);
    let exporters = [Addr::v4(1), Addr::v4(2), Addr::v4(3), Addr::v4(4)];
    for (version, records) in RECORDS {
        let datagrams = datagrams(version, records);
        let mut group = c.benchmark_group(format!("v{version}"));
        group.throughput(Throughput::Elements(u64::from(DATAGRAMS * records)));
        let mut framer = framer();
        let mut fill = || {
            let mut slab = pool.take()?;
            for (n, datagram) in datagrams.iter().enumerate() {
                let _ = framer.push(&mut slab, exporters[n % exporters.len()], 9, NOW_MS, datagram);
            }
            framer.slab_sent();
            Some(slab)
        };
        group.bench_function("frame", |b| b.iter(|| fill().map(|slab| pool.give(black_box(slab)))));
        let Some(slab) = fill() else { return };
        let rules = Arc::new(ArcSwap::from_pointee(Rules::new(&decode::Config::default())));
        let mut decoder = Decoder::new(rules, Arc::default());
        let mut batch = FlowBatch::default();
        group.bench_function("decode", |b| {
            b.iter(|| {
                decoder.decode(black_box(&slab), &mut batch);
                black_box(batch.len())
            });
        });
        group.finish();
        pool.give(slab);
    }
}

criterion_group!(decoding, benches);
criterion_main!(decoding);
