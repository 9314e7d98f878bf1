//! A day of flows on disk, and how long its questions take.
//!
//! `cargo bench -p sink-parquet --bench day` stores `DAY_FLOWS` flows (default 2 million; the figures in the README are of
//! 50 million, which take 1.4 GB) of isp-like traffic spread over 24 hours, merges as the collector would, and prints the
//! median of three for each question, from detail, the files in the page cache. `DAY_DIR` names the folder of the store:
//! it is kept and used again by the next run. Without it a temporary folder is used and removed. Arguments choose questions
//! by a part of their name.

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "support/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use process::{cpu_time, resident};
use sink_api::batch::Field;
use sink_api::rollup::Record;
use sink_api::store::{OrderBy, Question, TierChoice, TimeRange};
use sink_api::time::{DAY_MS, HOUR_MS};
use sink_api::{Entry, Filter, FlowStore, Key, Sink, SinkConfig};
use sink_parquet::Config;
use support::{DAY_START_MS, Entries, Isp, MemoryLog, TestClock, context};

const BATCH_ROWS: usize = 8_000;

/// Flows of a commit: what the collector gathers at the most.
const COMMIT_ROWS: usize = 1_000_000;

/// Runs of each question; the median is printed.
const RUNS: usize = 3;

fn main() {
    // Cargo runs benches of a test build with this flag: then only whether it works matters.
    let test = std::env::args().any(|arg| arg == "--test");
    let flows = match std::env::var("DAY_FLOWS").ok().and_then(|v| v.parse().ok()) {
        Some(flows) => flows,
        None if test => 20_000,
        None => 2_000_000,
    };
    let temporary = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("DAY_DIR").map_or_else(|| temporary.path().join("data"), PathBuf::from);
    let config = Config { path: folder.clone(), ..Config::default() };
    let clock = TestClock::new(DAY_START_MS + DAY_MS + 2 * HOUR_MS);
    let context = context(Arc::new(MemoryLog::default()), &clock);
    let mut sink = config.open(&context).unwrap();
    if sink.cursor().unwrap().is_none() {
        fill(&mut *sink, flows);
    }
    drop(sink);
    let store = config.store(&context).unwrap().unwrap();
    let (bytes, files) = size(&folder.join("flows"));
    println!("{files} files, {:.2} GB, {:.2} bytes a flow", bytes as f64 / 1e9, bytes as f64 / flows as f64);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, question) in questions() {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        ask(&*store, name, &question);
    }
    println!("peak resident: {}", resident());
}

/// Stores the day and merges until nothing is left to merge.
fn fill(sink: &mut dyn Sink, flows: usize) {
    let mut isp = Isp::new(7);
    isp.now_us = (DAY_START_MS + 20_000) * 1_000;
    isp.us_per_flow = (DAY_MS - 20_000) * 1_000 / flows as i64;
    let (mut cpu, mut position) = (Duration::ZERO, 0);
    for start in (0..flows).step_by(COMMIT_ROWS) {
        let rows = COMMIT_ROWS.min(flows - start);
        let batches = (0..rows.div_ceil(BATCH_ROWS)).map(|n| BATCH_ROWS.min(rows - n * BATCH_ROWS));
        let entries: Vec<Entry> = batches
            .map(|rows| {
                position += 1;
                Entry { position, record: Record::Flows(Arc::new(isp.batch(rows))) }
            })
            .collect();
        let before = cpu_time();
        sink.write(&mut Entries::new(entries)).unwrap();
        cpu += cpu_time() - before;
    }
    println!("encode and write: {:.3} CPU s per M flows", cpu.as_secs_f64() * 1e6 / flows as f64);
    let before = cpu_time();
    for _ in 0..flows.div_ceil(100_000) {
        sink.maintain().unwrap();
    }
    println!("merges: {:.3} CPU s per M flows", (cpu_time() - before).as_secs_f64() * 1e6 / flows as f64);
}

fn questions() -> Vec<(&'static str, Question)> {
    let field = |f| Key::Field(f);
    let all = |by: &[Key], filter| Question {
        range: TimeRange { from: DAY_START_MS, to: DAY_START_MS + DAY_MS },
        filter,
        by: by.to_vec(),
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: Some(10),
        tier: TierChoice::Detail,
        deadline: Instant::now() + Duration::from_secs(3_600),
    };
    let trend = Question {
        interval_ms: Some(HOUR_MS),
        order: OrderBy::Time,
        limit: None,
        ..all(&[field(Field::Direction)], Filter::Any)
    };
    let subscriber = |rank| Filter::uuid(Field::SubscriberId, Isp::subscriber_id(rank));
    let ports = [field(Field::ServicePort), field(Field::Protocol)];
    let https = "src net 10.16.0.0/12 and proto tcp and dst port 443".parse().unwrap();
    let hour = TimeRange { from: DAY_START_MS + 12 * HOUR_MS, to: DAY_START_MS + 13 * HOUR_MS };
    vec![
        ("top 10 sources", all(&[field(Field::SrcIp)], Filter::Any)),
        ("top 10 sources of one hour", Question { range: hour, ..all(&[field(Field::SrcIp)], Filter::Any) }),
        ("one subscriber's ports, a usual one", all(&ports, subscriber(20_000))),
        ("one subscriber's ports, the busiest", all(&ports, subscriber(0))),
        ("bytes by hour and direction", trend),
        ("ports and protocols", all(&ports, Filter::Any)),
        ("top 10 destinations, filtered", all(&[field(Field::DstIp)], https)),
    ]
}

fn ask(store: &dyn FlowStore, name: &str, question: &Question) {
    let mut times = Vec::new();
    let mut matched = 0;
    let before = cpu_time();
    // The first run fills caches and does not count.
    for run in 0..=RUNS {
        let start = Instant::now();
        matched = store.ask(question).unwrap().matched.flows;
        if run > 0 {
            times.push(start.elapsed());
        }
    }
    times.sort();
    let cpu = (cpu_time() - before).as_secs_f64() / (RUNS + 1) as f64;
    println!("{name:36} {:8.3} s  {cpu:7.2} CPU s  {matched:>9} flows", times[RUNS / 2].as_secs_f64());
}

/// Bytes and number of the files under a folder.
fn size(folder: &Path) -> (u64, usize) {
    let days = std::fs::read_dir(folder).unwrap();
    let files = days.flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap());
    files.fold((0, 0), |(bytes, files), file| (bytes + file.unwrap().metadata().unwrap().len(), files + 1))
}
