//! What a day of `usage_apps` becomes once it is over: 24 emissions of `FOLD_ROWS` rows (default 500,000), each with half of
//! the keys of 50,000 subscribers.
//!
//! `cargo bench -p sink-parquet --bench fold`

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "support/process.rs"]
mod process;

use std::sync::Arc;
use std::time::{Duration, Instant};

use process::{cpu_time, resident};
use sink_api::column::{Text, Uuid};
use sink_api::rollup::{KeyColumn, Measures, Record, RollupRows, RollupSums};
use sink_api::store::{FlowStore, OrderBy, Question, TierChoice, TimeRange};
use sink_api::time::{DAY_MS, HOUR_MS};
use sink_api::{Direction, Field, Filter, Key, RollupDef, Sink, SinkConfig};
use support::{DAY_START_MS, Entries, MemoryLog, Random, TestClock, context};

const EMISSIONS: u64 = 24;
const SUBSCRIBERS: u64 = 50_000;
const TABLE: &str = "usage_apps";

/// Port and name of a service.
const SERVICES: [(u16, &str); 10] = [
    (443, "HTTPS"),
    (80, "HTTP"),
    (53, "DNS"),
    (123, "NTP"),
    (993, "IMAPS"),
    (5060, "SIP"),
    (22, "SSH"),
    (1194, "OpenVPN"),
    (3478, "STUN"),
    (8080, "HTTP-Proxy"),
];

/// An emission with about so many rows.
fn emission(random: &mut Random, rows: u64) -> RollupRows {
    let def = RollupDef::defaults().into_iter().find(|def| &*def.name == TABLE).unwrap();
    let mut out = RollupRows::new(&def).unwrap();
    let keys = 2 * rows;
    let per_subscriber = keys.div_ceil(SUBSCRIBERS);
    for (_, column) in &mut out.keys {
        match column {
            KeyColumn::Uuid(c) => (0..SUBSCRIBERS).for_each(|n| _ = c.add_value(subscriber_id(n))),
            KeyColumn::Text(c) => SERVICES.iter().for_each(|(_, name)| _ = c.add_value(Text::from(*name))),
            _ => {}
        }
    }
    for key in 0..keys {
        if random.below(2) == 0 {
            continue;
        }
        let (subscriber, kind) = (key / per_subscriber, key % per_subscriber);
        let service = (kind / 2) as usize % SERVICES.len();
        for (name, column) in &mut out.keys {
            match (column, *name) {
                (KeyColumn::Uuid(c), Key::Field(Field::SubscriberId)) => c.push_code(subscriber as u32 + 1),
                (KeyColumn::Uuid(c), _) => c.push_code((subscriber % 500) as u32 + 1),
                (KeyColumn::Text(c), Key::Field(Field::App)) => c.push_code(service as u32 + 1),
                (KeyColumn::Text(c), _) => c.push_code((subscriber % 4) as u32 + 1),
                (KeyColumn::U16(c), _) => c.push(Some(SERVICES[service].0)),
                (KeyColumn::U8(c), Key::Field(Field::Protocol)) => c.push(Some(6)),
                (KeyColumn::U8(c), _) => c.push(Some([Direction::In, Direction::Out][kind as usize % 2] as u8)),
                (other, _) => panic!("{TABLE} has a key that is not made here: {other:?}"),
            }
        }
        let packets = 1 + random.below(10_000);
        let bytes = packets * (64 + random.below(1_200));
        out.push_measures(DAY_START_MS, &Measures { bytes, packets, flows: 1 + packets / 20, ..Measures::default() });
    }
    out
}

/// Seconds that a question takes, median of three: the busiest subscribers of the day, or the services of one.
fn ask(store: &dyn FlowStore, subscriber: Option<u64>) -> f64 {
    let mut times: Vec<Duration> = (0..3)
        .map(|_| {
            let start = Instant::now();
            let (filter, by) = match subscriber {
                Some(n) => (Filter::uuid(Field::SubscriberId, subscriber_id(n)), Field::App),
                None => (Filter::Any, Field::SubscriberId),
            };
            let question = Question {
                range: TimeRange { from: DAY_START_MS, to: DAY_START_MS + DAY_MS },
                filter,
                by: vec![Key::Field(by)],
                interval_ms: None,
                order: OrderBy::Bytes,
                limit: Some(10),
                tier: TierChoice::Rollup(TABLE.into()),
                deadline: start + Duration::from_secs(600),
            };
            assert!(!store.ask(&question).unwrap().rows.is_empty());
            start.elapsed()
        })
        .collect();
    times.sort();
    times[1].as_secs_f64()
}

/// In no order, as real ones are.
fn subscriber_id(n: u64) -> Uuid {
    Uuid::from_u64_pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n)
}

fn main() {
    let rows = match std::env::var("FOLD_ROWS").ok().and_then(|rows| rows.parse().ok()) {
        Some(rows) => rows,
        // Cargo runs benches of a test build with this flag: then only whether it works matters.
        None if std::env::args().any(|arg| arg == "--test") => 50_000,
        None => 500_000,
    };
    let folder = tempfile::tempdir().unwrap();
    let (config, clock) = (support::config(folder.path()), TestClock::new(DAY_START_MS + HOUR_MS));
    let log = Arc::new(MemoryLog::default());
    let context = context(Arc::clone(&log), &clock);
    let mut sink = config.open(&context).unwrap();
    let mut random = Random(1);
    let (mut emitted, mut stored) = (0, 0);
    for _ in 0..EMISSIONS {
        let rows = emission(&mut random, rows);
        emitted += rows.len();
        stored = log.push(Record::Sums(Arc::new(RollupSums { rows: vec![rows], ..RollupSums::default() })));
        sink.write(&mut Entries::new(log.after(stored - 1))).unwrap();
        log.forget_upto(stored);
    }
    let store = config.store(&context).unwrap().unwrap();
    let bytes = |sink: &dyn Sink| sink.counters().stored_bytes.unwrap() as f64 / 1e6;
    let (bytes_before, all_before, one_before) = (bytes(&*sink), ask(&*store, None), ask(&*store, Some(7)));
    clock.set(DAY_START_MS + 2 * DAY_MS);
    let cpu = cpu_time();
    let mut longest = Duration::ZERO;
    // The last step puts one file in the place of all.
    while bytes(&*sink) == bytes_before {
        let start = Instant::now();
        sink.maintain().unwrap();
        longest = longest.max(start.elapsed());
    }
    let cpu = cpu_time() - cpu;
    println!("{emitted} rows of {stored} emissions, {bytes_before:.1} MB, become {:.1} MB", bytes(&*sink));
    println!("{:.1} CPU s, the longest step {:.0} ms", cpu.as_secs_f64(), longest.as_secs_f64() * 1e3);
    println!("the busiest subscribers of the day: {all_before:.2} s before, {:.2} s after", ask(&*store, None));
    println!(
        "one subscriber's services: {:.0} ms before, {:.1} ms after",
        one_before * 1e3,
        ask(&*store, Some(7)) * 1e3
    );
    println!("peak resident: {}", resident());
}
