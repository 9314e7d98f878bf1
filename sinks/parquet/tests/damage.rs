//! Damaged files: whatever their bytes are, a question gets an answer or an error, and no code of ours panics.
//!
//! `DAMAGE_RUNS=100000 cargo test --test damage` tries more than the default.

mod support;

use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sink_api::batch::Field;
use sink_api::rollup::Record;
use sink_api::store::{FlowsQuestion, OrderBy, Question, TierChoice, TimeRange};
use sink_api::time::{DAY_MS, HOUR_MS};
use sink_api::{Addr, Filter, FlowBatch, Key, SinkConfig, SinkContext};
use support::{DAY_START_MS, Entries, Isp, MemoryLog, Random, TestClock, config, context, sums};

/// Damages tried by default: a few seconds.
const RUNS: u64 = 120;

/// Panics outside the crates we use, as they happened.
static OWN_PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps panics of our own code, and keeps all of them quiet: those of the Parquet crate's reader are caught and are errors.
fn record_own_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        if !place.contains("/registry/") {
            OWN_PANICS.lock().unwrap().push(format!("{info}"));
        }
    }));
}

/// Flows with what the generator does not make: IPv6 addresses, and nulls in columns that are usually full.
fn odd(isp: &mut Isp, rows: usize) -> FlowBatch {
    let mut batch = isp.batch(rows);
    let mut addresses = sink_api::column::IpColumn::default();
    for row in 0..rows {
        let v6 = (row % 7 == 0).then_some(Addr(0x2001_0db8 << 96 | row as u128));
        addresses.push(v6.or(batch.src_ip.get(row)).filter(|_| row % 11 != 0));
        batch.packets.set(row, Some(row as u64 * 977).filter(|_| row % 5 != 0));
    }
    batch.src_ip = addresses;
    batch
}

/// A store with a file of flows (two row groups) and one of every rollup.
fn store(folder: &Path) -> SinkContext {
    let clock = TestClock::new(DAY_START_MS + 2 * HOUR_MS);
    let log = Arc::new(MemoryLog::default());
    let mut isp = Isp::new(5);
    log.push(Record::Flows(Arc::new(odd(&mut isp, 5_000))));
    log.push(Record::Flows(Arc::new(isp.batch(400))));
    log.push(Record::Sums(Arc::new(sums(&mut Random(6), 200, DAY_START_MS))));
    let context = context(log.clone(), &clock);
    let mut sink = config(folder).open(&context).unwrap();
    sink.write(&mut Entries::new(log.after(0))).unwrap();
    log.forget_upto(3);
    context
}

fn questions() -> Vec<Question> {
    let field = |f| Key::Field(f);
    let question = |by: &[Key], filter, tier| Question {
        range: TimeRange { from: DAY_START_MS, to: DAY_START_MS + DAY_MS },
        filter,
        by: by.to_vec(),
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: Some(10),
        tier,
        deadline: Instant::now() + Duration::from_secs(3_600),
    };
    let subscriber = Filter::uuid(Field::SubscriberId, Isp::subscriber_id(0));
    vec![
        question(&[field(Field::SrcIp)], Filter::Any, TierChoice::Detail),
        question(&[field(Field::DstIp)], Filter::Any, TierChoice::Detail),
        question(&[field(Field::ServicePort), field(Field::App)], subscriber, TierChoice::Detail),
        question(&[field(Field::Site)], "src net 10.0.0.0/9".parse().unwrap(), TierChoice::Detail),
        question(&[Key::Host, Key::Role], Filter::Any, TierChoice::Rollup("talkers".into())),
    ]
}

/// Asks everything; what the answers are does not matter.
fn ask_all(folder: &Path, context: &SinkContext, questions: &[Question]) -> usize {
    let store = config(folder).store(context).unwrap().unwrap();
    let mut answers = questions.iter().filter(|question| store.ask(question).is_ok()).count();
    let range = TimeRange { from: DAY_START_MS, to: DAY_START_MS + DAY_MS };
    let listing = FlowsQuestion { range, filter: Filter::Any, deadline: questions[0].deadline };
    answers += usize::from(store.flows(&listing, &mut |_, _| true).is_ok());
    answers
}

/// Changes up to 8 places: bits, bytes, or a stretch; now and then the file's end is cut off.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    // Headers and the footer are a small part of a file; half of the damage goes to its last quarter.
    let near = |random: &mut Random, length: usize| {
        let back = if random.below(2) == 0 { length } else { length.div_ceil(4) };
        length - 1 - random.below(back as u64) as usize
    };
    for _ in 0..=random.below(8) {
        let at = near(random, bytes.len());
        match random.below(8) {
            0 => bytes[at] = random.next() as u8,
            1 => {
                let end = bytes.len().min(at + random.below(64) as usize);
                bytes[at..end].fill(random.next() as u8);
            }
            2 if random.below(10) == 0 => bytes.truncate(at.max(1)),
            _ => bytes[at] ^= 1 << random.below(8),
        }
    }
}

fn data_files(folder: &Path) -> Vec<PathBuf> {
    let listed =
        |path: &Path| -> Vec<PathBuf> { std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let tables = ["flows", "talkers"].map(|table| folder.join(table));
    tables.iter().flat_map(|table| listed(table)).flat_map(|partition| listed(&partition)).collect()
}

#[test]
fn damaged_files_give_answers_or_errors_and_never_a_panic_of_ours() {
    let runs = std::env::var("DAMAGE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let folder = tempfile::tempdir().unwrap();
    let context = store(folder.path());
    let files: Vec<(PathBuf, Vec<u8>)> =
        data_files(folder.path()).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    assert!(files.len() >= 2, "{files:?}", files = files.iter().map(|f| &f.0).collect::<Vec<_>>());
    let questions = questions();
    assert_eq!(ask_all(folder.path(), &context, &questions), questions.len() + 1);
    record_own_panics();
    let mut refused = 0;
    for run in 0..runs {
        let mut random = Random(run);
        let (path, whole) = &files[random.below(files.len() as u64) as usize];
        let mut bytes = whole.clone();
        damage(&mut bytes, &mut random);
        std::fs::write(path, bytes).unwrap();
        refused += u64::from(ask_all(folder.path(), &context, &questions) <= questions.len());
        std::fs::write(path, whole).unwrap();
        let found = std::mem::take(&mut *OWN_PANICS.lock().unwrap());
        if !found.is_empty() {
            let _ = panic::take_hook();
            panic!("run {run}, {}: {found:?}", path.display());
        }
    }
    let _ = panic::take_hook();
    assert!(refused * 4 > runs, "only {refused} of {runs} damages were seen");
    assert_eq!(ask_all(folder.path(), &context, &questions), questions.len() + 1);
}
