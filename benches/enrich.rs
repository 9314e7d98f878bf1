//! Enrichment on the `isp` profile: the whole stage, the look-ups alone beside those of the `maxminddb` crate, leases, pairing,
//! building a large table, waits while sources are reloaded.
//!
//! `cargo bench --bench enrich`. Databases come from the folder that RGZ_GEOIP names, else `geoip/` (see `geoip/update.sh`);
//! without any, countries are left out and that is said.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use rgz_netflow::cli::generate::profile::Profile;
use rgz_netflow::cli::generate::random::Rng;
use rgz_netflow::enrich::app::Apps;
use rgz_netflow::enrich::leases::Lease;
use rgz_netflow::enrich::names::Names;
use rgz_netflow::enrich::pairing::{Pairer, Pairing};
use rgz_netflow::enrich::sites::Sites;
use rgz_netflow::enrich::table::{Builder, Holder, Prefix};
use rgz_netflow::enrich::{Config, Enricher, Enrichment};
use rgz_netflow::flow::{Addr, FlowBatch};

/// Rows of a batch: about a slab of 512 KiB.
const ROWS: usize = 8192;
const BATCHES: usize = 64;
const SUBSCRIBERS: u32 = 50_000;
/// Turns of [`leases`], each over all batches with leases and without.
const LEASE_TURNS: usize = 40;

fn databases() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("geoip");
    std::env::var_os("RGZ_GEOIP").map_or_else(own, PathBuf::from)
}

fn mmdb_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(databases()).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "mmdb")).collect()
}

/// The profile's subscribers as the operator's CSV, and the databases.
fn enrichment(profile: &Profile, folder: &Path) -> Arc<Enrichment> {
    let mut text = String::from("prefix,subscriber_id,reseller_id,site\n");
    for subscriber in (0..SUBSCRIBERS).map(|i| profile.subscriber(i)) {
        let address = std::net::Ipv4Addr::from_bits(subscriber.address);
        text += &format!("{address},{},{},{}\n", subscriber.subscriber_id, subscriber.reseller_id, subscriber.site);
    }
    let subscribers = folder.join("subscribers.csv");
    std::fs::write(&subscribers, text).expect("the subscribers' file");
    let config = Config { geoip: databases(), subscribers: Some(subscribers), ..Config::default() };
    let (enrichment, report) = Enrichment::open(config).expect("good sources");
    println!(
        "table: {} prefixes, {} KiB, built in {} ms{}",
        report.prefixes,
        report.table_bytes / 1024,
        report.took_ms,
        if mmdb_files().is_empty() { "; no country database found" } else { "" }
    );
    Arc::new(enrichment)
}

fn push(batch: &mut FlowBatch, src: u32, dst: u32, ports: (u16, u16), protocol: u8) {
    let row = batch.time.len() as i64;
    batch.time.push(Some(1_800_000_000_000 + row));
    batch.flow_start.push(Some(1_800_000_000_000 - row));
    batch.received_at.push(Some(1_800_000_001_000));
    batch.src_ip.push(Some(Addr::v4(src)));
    batch.dst_ip.push(Some(Addr::v4(dst)));
    batch.src_port.push(Some(ports.0));
    batch.dst_port.push(Some(ports.1));
    batch.protocol.push(Some(protocol));
    batch.tcp_flags.push(Some(2));
    batch.input_if.push(Some(1));
    batch.output_if.push(Some(2));
    batch.exporter_ip.push(Some(&Addr::v4(0xc000_0201)));
    batch.netflow_version.push(Some(5));
}

fn isp_batches(profile: &Profile) -> Vec<FlowBatch> {
    let mut rng = Rng::new(7, 7);
    let batch = |_| {
        let mut batch = FlowBatch::default();
        while batch.time.len() < ROWS {
            let (first, second) = profile.draw(&mut rng, |_| true);
            for record in [Some(first), second].into_iter().flatten().map(|drawn| drawn.record) {
                let ports = (record.src_port, record.dst_port);
                push(&mut batch, record.src_addr, record.dst_addr, ports, record.protocol);
            }
        }
        batch.fill_missing();
        batch
    };
    (0..BATCHES).map(batch).collect()
}

fn random_batches() -> Vec<FlowBatch> {
    let mut rng = Rng::new(8, 8);
    let batch = |_| {
        let mut batch = FlowBatch::default();
        for _ in 0..ROWS {
            let (addrs, ports) = (rng.next_u64(), rng.next_u64());
            push(&mut batch, addrs as u32, (addrs >> 32) as u32, (ports as u16, (ports >> 16) as u16), 6);
        }
        batch.fill_missing();
        batch
    };
    (0..BATCHES).map(batch).collect()
}

fn stage(c: &mut Criterion, name: &str, batches: &mut [FlowBatch], mut work: impl FnMut(&mut FlowBatch)) {
    let mut group = c.benchmark_group("enrich");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut next = 0;
    group.bench_function(name, |b| {
        b.iter(|| {
            next = (next + 1) % batches.len();
            work(black_box(&mut batches[next]));
        });
    });
    group.finish();
}

fn whole_stage(c: &mut Criterion) {
    let profile = Profile::isp(1, SUBSCRIBERS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let enrichment = enrichment(&profile, folder.path());
    let (mut isp, mut random) = (isp_batches(&profile), random_batches());
    let mut enricher = Enricher::new(enrichment.clone());
    stage(c, "stage/isp", &mut isp, |batch| enricher.enrich(batch));
    stage(c, "stage/random", &mut random, |batch| enricher.enrich(batch));
    lookups(c, &enrichment, "isp", &isp);
    lookups(c, &enrichment, "random", &random);
    put_leases(&enrichment, &profile);
    stage(c, "stage/isp, 100,000 leases", &mut isp, |batch| enricher.enrich(batch));
    let mut pairer = Pairer::new(Arc::new(Pairing::new(1 << 20)));
    stage(c, "pairing/isp", &mut isp, |batch| pairer.pair(batch));
    stage(c, "pairing/random", &mut random, |batch| pairer.pair(batch));
}

/// 100,000 leases: the subscribers' addresses are theirs as the file has it, the others nobody's who sends flows.
fn put_leases(enrichment: &Enrichment, profile: &Profile) {
    let (table, leases) = (enrichment.table(), enrichment.leases());
    for i in 0..100_000u32 {
        let subscriber = profile.subscriber(i % SUBSCRIBERS);
        let address = if i < SUBSCRIBERS { subscriber.address } else { 0x0a80_0000 + i };
        let number = |uuid| table.names().uuids.find(uuid).expect("a subscriber of the file");
        let (subscriber, reseller) = (number(&subscriber.subscriber_id), number(&subscriber.reseller_id));
        let holder = Holder { from_ms: 0, to_ms: i64::MAX, subscriber, reseller, nas: 0, site: 0 };
        leases.put(Addr::v4(address), Lease { holder, mac: 0 }).expect("room");
    }
}

/// What leases cost the whole stage, by turns: the machine's speed drifts by more than that from one minute to the next.
fn leases(_: &mut Criterion) {
    let profile = Profile::isp(1, SUBSCRIBERS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let enrichments = [enrichment(&profile, folder.path()), enrichment(&profile, folder.path())];
    put_leases(&enrichments[1], &profile);
    let mut enrichers = enrichments.map(Enricher::new);
    let mut batches = isp_batches(&profile);
    let flows = (batches.len() * ROWS) as f64;
    let mut took: [Vec<f64>; 2] = Default::default();
    for turn in 0..2 * LEASE_TURNS {
        let begun = Instant::now();
        batches.iter_mut().for_each(|batch| enrichers[turn % 2].enrich(black_box(batch)));
        took[turn % 2].push(begun.elapsed().as_nanos() as f64 / flows);
    }
    let mut more: Vec<f64> = took[0].iter().zip(&took[1]).map(|(without, with)| with - without).collect();
    let quartile = |list: &mut Vec<f64>, quarters: usize| {
        list.sort_by(f64::total_cmp);
        list[(list.len() - 1) * quarters / 4]
    };
    println!(
        "{LEASE_TURNS} turns, ns a flow: {:.1} without leases, {:.1} with 100,000; {:.1} more (quartiles {:.1} and {:.1})",
        quartile(&mut took[0], 2),
        quartile(&mut took[1], 2),
        quartile(&mut more, 2),
        quartile(&mut more, 1),
        quartile(&mut more, 3),
    );
}

/// Both addresses of every row: our record number; the database's record, undecoded.
fn lookups(c: &mut Criterion, enrichment: &Enrichment, name: &str, batches: &[FlowBatch]) {
    let addresses = |batch: &FlowBatch| {
        let column = |column: &rgz_netflow::flow::column::IpColumn| column.as_v4().expect("IPv4").values().to_vec();
        (column(&batch.src_ip), column(&batch.dst_ip))
    };
    let batches: Vec<_> = batches.iter().map(addresses).collect();
    let mut group = c.benchmark_group("enrich");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut next = 0;
    let table = enrichment.table();
    group.bench_function(format!("look-up/{name}/table"), |b| {
        b.iter(|| {
            next = (next + 1) % batches.len();
            let found = [&batches[next].0, &batches[next].1].map(|addrs| {
                let mut numbers = Vec::with_capacity(addrs.len());
                table.find_all_v4(addrs, &mut numbers);
                numbers
            });
            found[0].iter().zip(&found[1]).fold(0, |sum: u32, (src, dst)| {
                let (src, dst) = (table.record(*src), table.record(*dst));
                sum.wrapping_add(u32::from(src.country) + src.asn + src.party + u32::from(dst.country) + dst.asn)
            })
        });
    });
    let readers: Vec<_> = mmdb_files().iter().filter_map(|file| maxminddb::Reader::open_readfile(file).ok()).collect();
    if readers.is_empty() {
        println!("skipped: look-up/{name}/maxminddb: no database in {}", databases().display());
        return;
    }
    group.bench_function(format!("look-up/{name}/maxminddb, {} files", readers.len()), |b| {
        b.iter(|| {
            next = (next + 1) % batches.len();
            let (src, dst) = &batches[next];
            src.iter().chain(dst).fold(0, |sum: usize, addr| {
                let ip = std::net::IpAddr::V4(std::net::Ipv4Addr::from_bits(*addr));
                let offset = |reader: &maxminddb::Reader<Vec<u8>>| reader.lookup(ip).ok().and_then(|r| r.offset());
                readers.iter().fold(sum, |sum, reader| sum.wrapping_add(offset(reader).unwrap_or(0)))
            })
        });
    });
    group.finish();
}

/// 0.5 M prefixes as a routing table has them: half /24, the rest /16 to /23, each with a country and an AS.
fn build(c: &mut Criterion) {
    let mut rng = Rng::new(9, 9);
    let prefixes: Vec<(Prefix, u32)> = (0..500_000)
        .filter_map(|i| {
            let len = if i % 2 == 0 { 24 } else { 16 + (rng.next_u64() % 8) as u8 };
            let ip = std::net::Ipv4Addr::from_bits(rng.next_u64() as u32);
            Some((Prefix::new(ip.into(), len)?, 1 + (rng.next_u64() % 70_000) as u32))
        })
        .collect();
    let make = || {
        let mut builder = Builder::default();
        for (prefix, asn) in &prefixes {
            builder.country(*prefix, (asn % 200) as u16 + 1);
            builder.asn(*prefix, *asn);
        }
        let names = Arc::new(Names::default());
        let apps = Apps::builtin(&names).expect("room");
        (builder, names, apps)
    };
    let (builder, names, apps) = make();
    let table = builder.build(1, names, apps, Sites::default()).expect("room");
    println!("{} prefixes: {} KiB", prefixes.len(), table.bytes() / 1024);
    let mut group = c.benchmark_group("enrich");
    group.sample_size(10);
    group.bench_function("build/0.5 M prefixes", |b| {
        b.iter_batched(
            make,
            |(builder, names, apps)| builder.build(1, names, apps, Sites::default()),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Flows a second while sources are read again and again, and for how long.
const RELOAD_FLOWS_PER_S: f64 = 500_000.0;
const RELOAD_TIME: Duration = Duration::from_secs(10);
/// Rows of a batch under that load: 50 datagrams of 30, what comes in 3 ms.
const RELOAD_ROWS: u32 = 1500;

/// How long flows wait for enrichment, from when the first of a batch came, while every source is read again without a pause.
/// No figure of criterion's: the slowest of a thousand batches counts. Decoding is left out.
fn reload(_: &mut Criterion) {
    let profile = Profile::isp(1, SUBSCRIBERS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let enrichment = enrichment(&profile, folder.path());
    let rows: Vec<u32> = (0..RELOAD_ROWS).collect();
    let mut batches: Vec<FlowBatch> = isp_batches(&profile)
        .iter()
        .map(|from| {
            let mut batch = FlowBatch::default();
            batch.append_rows(from, &rows);
            batch
        })
        .collect();
    let stopped = AtomicBool::new(false);
    let every = Duration::from_secs_f64(f64::from(RELOAD_ROWS) / RELOAD_FLOWS_PER_S);
    let mut waits =
        Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("a minute in µs with three digits is valid");
    let reloads = std::thread::scope(|scope| {
        let reloading = scope.spawn(|| {
            let mut reloads = 0;
            while !stopped.load(Relaxed) {
                enrichment.reload().expect("good sources");
                reloads += 1;
            }
            reloads
        });
        let mut enricher = Enricher::new(enrichment.clone());
        let begun = Instant::now();
        for (i, at) in (1u32..).map(|i| (i as usize, every * i)).take_while(|(_, at)| *at < RELOAD_TIME) {
            std::thread::sleep((begun + at).saturating_duration_since(Instant::now()));
            let count = batches.len();
            enricher.enrich(black_box(&mut batches[i % count]));
            // The first row of the batch came one batch's time before its last.
            waits.saturating_record((begun.elapsed() - at + every).as_micros() as u64);
        }
        stopped.store(true, Relaxed);
        reloading.join().expect("it does not panic")
    });
    let ms = |quantile: f64| waits.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{RELOAD_FLOWS_PER_S} flows/s, {reloads} reloads meanwhile: p50 {} ms, p99 {} ms, p99.9 {} ms, most {} ms",
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0)
    );
}

criterion_group!(benches, whole_stage, leases, build, reload);
criterion_main!(benches);
