//! Encoding and scanning, on isp-like traffic.
//!
//! `cargo bench -p sink-parquet` prints, before Criterion's figures, CPU seconds per million flows and bytes a flow by
//! column: what the layouts of `src/table` were chosen by. `PARQUET_BENCH_FLOWS=50000000` sets the stored flows for the
//! scans (default 2 million).

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "support/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use process::cpu_time;
use sink_api::batch::Field;
use sink_api::rollup::Record;
use sink_api::store::{OrderBy, Question, TierChoice, TimeRange};
use sink_api::{Entry, Filter, FlowBatch, Key, SinkConfig};
use sink_parquet::Config;
use sink_parquet::decode::DataReader;
use support::{DAY_START_MS, Entries, Isp, MemoryLog, TestClock, context};

const BATCH_ROWS: usize = 8_000;
const GROUP_BATCHES: usize = 125;

fn entries(isp: &mut Isp) -> Vec<Arc<FlowBatch>> {
    (0..GROUP_BATCHES).map(|_| Arc::new(isp.batch(BATCH_ROWS))).collect()
}

fn config(path: &Path) -> Config {
    Config { path: path.to_path_buf(), ..Config::default() }
}

fn store_group(config: &Config, from: u64, batches: &[Arc<FlowBatch>]) -> Duration {
    let clock = TestClock::new(DAY_START_MS + 4_000_000);
    let mut sink = config.open(&context(Arc::new(MemoryLog::default()), &clock)).unwrap();
    let entry =
        |(i, b): (usize, &Arc<FlowBatch>)| Entry { position: from + i as u64, record: Record::Flows(b.clone()) };
    let mut group = Entries::new(batches.iter().enumerate().map(entry));
    let cpu = cpu_time();
    sink.write(&mut group).unwrap();
    cpu_time() - cpu
}

/// Bytes a row of every leaf over all data files.
fn print_columns(folder: &Path) {
    let (mut rows, mut bytes) = (0u64, BTreeMap::<String, i64>::new());
    let mut length = 0;
    for day in std::fs::read_dir(folder.join("flows")).unwrap() {
        for file in std::fs::read_dir(day.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            length += path.metadata().unwrap().len();
            for group in DataReader::open(&path).unwrap().row_groups() {
                rows += group.num_rows() as u64;
                for column in group.columns() {
                    *bytes.entry(column.column_descr().name().to_owned()).or_default() += column.compressed_size();
                }
            }
        }
    }
    let mut sorted: Vec<_> = bytes.into_iter().collect();
    sorted.sort_by_key(|(_, b)| -b);
    println!("bytes a flow: {:.2} in all", length as f64 / rows as f64);
    for (name, bytes) in sorted.iter().take(22) {
        println!("  {name:16} {:.3}", *bytes as f64 / rows as f64);
    }
}

fn encoding(c: &mut Criterion) {
    let batches = entries(&mut Isp::new(1));
    let flows = BATCH_ROWS * GROUP_BATCHES;
    let folder = tempfile::tempdir().unwrap();
    let mut times: Vec<Duration> = Vec::new();
    for n in 0..5 {
        let folder = folder.path().join(n.to_string());
        times.push(store_group(&config(&folder), 1, &batches));
    }
    times.sort();
    println!(
        "CPU s per M flows, all columns, with commit: {:.3} (median of 5)",
        times[2].as_secs_f64() * 1e6 / flows as f64
    );
    print_columns(&folder.path().join("0"));
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(flows as u64)).sample_size(10);
    group.bench_function("one group", |b| {
        let mut n = 100;
        b.iter(|| {
            n += 1;
            store_group(&config(&folder.path().join(n.to_string())), 1, &batches)
        });
    });
    group.finish();
}

fn question(by: &[Key], filter: Filter) -> Question {
    Question {
        range: TimeRange { from: DAY_START_MS, to: DAY_START_MS + 86_400_000 },
        filter,
        by: by.to_vec(),
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: Some(10),
        tier: TierChoice::Detail,
        deadline: Instant::now() + Duration::from_secs(600),
    }
}

fn scanning(c: &mut Criterion) {
    let flows: usize = std::env::var("PARQUET_BENCH_FLOWS").ok().and_then(|v| v.parse().ok()).unwrap_or(2_000_000);
    let kept = std::env::var_os("PARQUET_BENCH_DIR").map(std::path::PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let config = config(kept.as_deref().unwrap_or(folder.path()));
    let clock = TestClock::new(DAY_START_MS + 4_000_000);
    let context = context(Arc::new(MemoryLog::default()), &clock);
    let stored = config.open(&context).unwrap().cursor().unwrap();
    if stored.is_none() {
        let mut isp = Isp::new(7);
        let mut position = 1;
        for _ in 0..flows.div_ceil(BATCH_ROWS * GROUP_BATCHES) {
            store_group(&config, position, &entries(&mut isp));
            position += GROUP_BATCHES as u64;
        }
    }
    let store = config.store(&context).unwrap().unwrap();
    let field = |f| Key::Field(f);
    let subscriber = Filter::uuid(Field::SubscriberId, Isp::subscriber_id(200));
    let questions = [
        ("top 10 sources", question(&[field(Field::SrcIp)], Filter::Any)),
        ("one subscriber by port", question(&[field(Field::ServicePort), field(Field::Protocol)], subscriber)),
        ("protocols", question(&[field(Field::Protocol), field(Field::ServicePort)], Filter::Any)),
    ];
    let matched = store.ask(&questions[0].1).unwrap().matched.flows;
    let mut group = c.benchmark_group(format!("scan {matched} flows"));
    group.throughput(Throughput::Elements(matched)).sample_size(10);
    for (name, question) in &questions {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            black_box(store.ask(question).unwrap());
            times.push(start.elapsed());
        }
        times.sort();
        println!("{name}: {:.3} s (median of 3, {matched} flows)", times[1].as_secs_f64());
        if matched <= 4_000_000 {
            group.bench_function(*name, |b| b.iter(|| black_box(store.ask(question).unwrap())));
        }
    }
    group.finish();
}

criterion_group!(benches, encoding, scanning);
criterion_main!(benches);
