//! The hot path allocates nothing per flow once warm: framing, decoding, enrichment and pairing of a slab of 10,500 flows.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rgz_netflow::decode::{self, Decoder, Rules};
use rgz_netflow::enrich::pairing::{Pairer, Pairing};
use rgz_netflow::enrich::{self, Enricher, Enrichment};
use rgz_netflow::flow::{Addr, FlowBatch};
use rgz_netflow::receive::{Admission, Framer, Pool, Protocol, Restored};
use rgz_netflow::telemetry::ledger::Ledger;
use rgz_netflow::wire::{self, FlowRecord, Header};

const NOW_MS: i64 = 1_700_000_000_000;
const DATAGRAMS: u32 = 350;
const RECORDS: u32 = 30;
/// Allocations that a slab may cost, whatever its flows: a few per stream, none per flow.
const PER_SLAB_MAX: u64 = 32;

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more; its allocations do not matter.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call goes on to the system's allocator unchanged; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps this function's contract, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn datagrams() -> Vec<Vec<u8>> {
    let record = |i: u32| FlowRecord {
        src_addr: 0x0a00_0000 + i % 500,
        dst_addr: 0xc000_0000 | i.wrapping_mul(0x85eb_ca6b) >> 4,
        packets: 1 + i % 50,
        // One record in 1,000 is absurd and is set aside.
        bytes: if i % 1000 == 7 { 1 } else { 60 * (1 + i % 50) },
        first_ms: 900_000 + i % 50_000,
        last_ms: 950_000 + i % 50_000,
        src_port: i as u16,
        dst_port: 443,
        protocol: 6,
        ..FlowRecord::default()
    };
    let datagram = |n: u32| {
        let (unix_secs, sequence) = ((NOW_MS / 1000) as u32, n * RECORDS);
        let header = Header { version: 5, sys_uptime_ms: 1_000_000, unix_secs, sequence, ..Header::default() };
        wire::datagram(&header, &(sequence..sequence + RECORDS).map(record).collect::<Vec<_>>())
    };
    (0..DATAGRAMS).map(datagram).collect()
}

#[test]
fn a_warm_hot_path_allocates_nothing_per_flow() {
    let datagrams = datagrams();
    let admission = Arc::new(ArcSwap::from_pointee(Admission::new(&[], &Protocol::ALL)));
    let mut framer = Framer::new(Arc::new(Ledger::default()), admission, Arc::new(Restored::default()));
    let rules = Arc::new(ArcSwap::from_pointee(Rules::new(&decode::Config::default())));
    let mut decoder = Decoder::new(rules, Arc::default());
    let folder = tempfile::tempdir().unwrap();
    let config = enrich::Config { geoip: folder.path().into(), ..enrich::Config::default() };
    let mut enricher = Enricher::new(Arc::new(Enrichment::open(config).unwrap().0));
    let mut pairer = Pairer::new(Arc::new(Pairing::new(1 << 16)));
    let pool = Pool::new(1, 512 << 10);
    let mut batch = FlowBatch::default();
    let mut took = Vec::new();
    for _ in 0..6 {
        let before = ALLOCATIONS.get();
        let mut slab = pool.take().unwrap();
        for datagram in &datagrams {
            framer.push(&mut slab, Addr::v4(1), 9, NOW_MS, datagram).unwrap();
        }
        framer.slab_sent();
        decoder.decode(&slab, &mut batch);
        enricher.enrich(&mut batch);
        pairer.pair(&mut batch);
        pool.give(slab);
        took.push(ALLOCATIONS.get() - before);
        assert!(batch.len() > 10_000);
    }
    assert!(took[0] > PER_SLAB_MAX, "the counter counts: {took:?}");
    assert!(took[5] <= PER_SLAB_MAX, "allocations of each slab: {took:?}");
}
