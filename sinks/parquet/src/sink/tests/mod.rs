mod folds;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sink_api::rollup::Record;
use sink_api::store::{OrderBy, Question, TierChoice, TimeRange};
use sink_api::time::{DAY_MS, HOUR_MS};
use sink_api::{Filter, Sink, SinkConfig};

use super::commit::Steps;
use super::*;
use crate::support::{DAY_START_MS, Entries, Isp, LOG, MemoryLog, Random, TestClock, config, context, sums};

/// Fails the step of this number, counted over a commit.
fn failing(number: usize) -> Steps {
    let mut at = 0;
    Steps::new(Box::new(move |_| {
        at += 1;
        if at == number + 1 { Err(io::Error::other("crash")) } else { Ok(()) }
    }))
}

struct Place {
    folder: tempfile::TempDir,
    log: Arc<MemoryLog>,
    clock: TestClock,
    context: SinkContext,
    config: Config,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(MemoryLog::default());
        let clock = TestClock::new(DAY_START_MS + 2 * HOUR_MS);
        let (config, context) = (config(folder.path()), context(log.clone(), &clock));
        Self { folder, log, clock, context, config }
    }

    fn open(&self) -> ParquetSink {
        ParquetSink::open(&self.config, &self.context).unwrap()
    }

    fn fill(&self, batches: usize) {
        let (mut isp, mut random) = (Isp::new(1), Random(2));
        for _ in 0..batches {
            self.log.push(Record::Flows(Arc::new(isp.batch(100))));
            self.log.push(Record::Sums(Arc::new(sums(&mut random, 5, DAY_START_MS))));
        }
    }

    /// The group after the cursor.
    fn group(&self, sink: &mut ParquetSink) -> Entries {
        Entries::new(self.log.after(sink.cursor().unwrap().unwrap_or(0)))
    }

    /// Stores what the log has after the cursor.
    fn store(&self, sink: &mut ParquetSink) {
        let mut group = self.group(sink);
        sink.write(&mut group).unwrap();
    }

    /// Flows by what the files alone say: the log has forgotten everything.
    fn stored_flows(&self, tier: TierChoice) -> u64 {
        let context = SinkContext { tail: Arc::new(MemoryLog::default()), ..self.context.clone() };
        let store = self.config.store(&context).unwrap().unwrap();
        store.ask(&question(tier)).unwrap().matched.flows
    }

    fn data_files(&self) -> Vec<String> {
        layout::files_on_disk(self.folder.path()).unwrap()
    }
}

fn question(tier: TierChoice) -> Question {
    Question {
        range: TimeRange { from: 0, to: DAY_START_MS + 400 * DAY_MS },
        filter: Filter::Any,
        by: Vec::new(),
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: None,
        tier,
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

#[test]
fn a_crash_between_any_two_steps_stores_each_record_once() {
    let mut crashes = 0;
    loop {
        let place = Place::new();
        place.fill(3);
        let mut sink = place.open();
        let mut first = Entries::new(place.log.after(0).into_iter().take(2));
        sink.write(&mut first).unwrap();
        sink.set_steps(failing(crashes));
        let mut group = place.group(&mut sink);
        let crashed = sink.write(&mut group).is_err();
        drop(sink);

        let mut sink = place.open();
        let cursor = sink.cursor().unwrap();
        assert!(matches!(cursor, Some(2 | 6)), "after crash {crashes}: {cursor:?}");
        let listed: Vec<_> = sink.manifest.state().files.keys().cloned().collect();
        assert_eq!(place.data_files(), listed, "after crash {crashes}");
        place.store(&mut sink);
        assert_eq!(sink.cursor().unwrap(), Some(6));
        assert_eq!(place.stored_flows(TierChoice::Detail), 300, "after crash {crashes}");
        let whole = Place::new();
        whole.fill(3);
        let mut other = whole.open();
        whole.store(&mut other);
        let usage = || TierChoice::Rollup("usage".into());
        assert_eq!(place.stored_flows(usage()), whole.stored_flows(usage()), "after crash {crashes}");
        if !crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 10, "only {crashes} steps");
}

#[test]
fn a_lost_answer_is_seen_in_the_cursor() {
    let place = Place::new();
    place.fill(1);
    let mut sink = place.open();
    sink.set_steps(Steps::new(Box::new(|step| match step {
        commit::Step::AfterManifest => Err(io::Error::other("lost")),
        _ => Ok(()),
    })));
    let mut group = place.group(&mut sink);
    assert!(sink.write(&mut group).is_err());
    drop(sink);
    assert_eq!(place.open().cursor().unwrap(), Some(2));
    assert_eq!(place.stored_flows(TierChoice::Detail), 100);
}

#[test]
fn what_an_interrupted_commit_left_is_removed_on_open() {
    let place = Place::new();
    place.fill(1);
    let mut sink = place.open();
    place.store(&mut sink);
    drop(sink);
    let before = place.data_files();
    let partition = place.folder.path().join(&before[0]).parent().unwrap().to_path_buf();
    for name in ["0000000009.tmp", "0000000009-x.parquet"] {
        fs::write(partition.join(name), b"half").unwrap();
    }
    drop(place.open());
    assert_eq!(place.data_files(), before);
}

#[test]
fn another_log_keeps_what_the_first_one_stored_and_its_own_cursor() {
    let mut place = Place::new();
    place.fill(2);
    let mut sink = place.open();
    place.store(&mut sink);
    drop(sink);
    place.context.log_id = LogId([8; 16]);
    let mut sink = place.open();
    assert_eq!(sink.cursor().unwrap(), None);
    place.store(&mut sink);
    assert_eq!(place.stored_flows(TierChoice::Detail), 400);
    assert_eq!(sink.manifest.state().cursors.get(&LOG), Some(&4));
}

#[test]
fn a_second_writer_is_told_to_wait() {
    let place = Place::new();
    let _first = place.open();
    let second = ParquetSink::open(&place.config, &place.context);
    assert!(matches!(second, Err(SinkError::Retry { .. })));
}

#[test]
fn partitions_leave_by_the_clock_and_late_flows_are_counted() {
    let place = Place::new();
    place.fill(2);
    let mut sink = place.open();
    place.store(&mut sink);
    place.clock.set(DAY_START_MS + 30 * DAY_MS);
    sink.maintain().unwrap();
    assert_eq!(place.stored_flows(TierChoice::Detail), 200, "the day still counts");
    place.clock.set(DAY_START_MS + 31 * DAY_MS);
    (0..4).for_each(|_| sink.maintain().unwrap());
    assert_eq!(place.stored_flows(TierChoice::Detail), 0);
    assert!(place.stored_flows(TierChoice::Rollup("usage".into())) > 0);
    assert!(!place.data_files().iter().any(|f| f.starts_with("flows/")));
    assert!(removed(place.folder.path()) > 0, "queries may still read them");
    place.clock.set(DAY_START_MS + 31 * DAY_MS + HOUR_MS);
    sink.maintain().unwrap();
    assert_eq!(removed(place.folder.path()), 0);

    place.log.push(Record::Flows(Arc::new(Isp::new(3).batch(50))));
    place.store(&mut sink);
    assert_eq!(sink.counters().expired_flows, 50);
    assert_eq!(place.stored_flows(TierChoice::Detail), 0);
    assert_eq!(sink.cursor().unwrap(), Some(5));

    place.clock.set(DAY_START_MS + 500 * DAY_MS);
    (0..2).for_each(|_| sink.maintain().unwrap());
    assert!(place.data_files().is_empty());
}

fn removed(folder: &Path) -> usize {
    fs::read_dir(folder.join(layout::REMOVED)).unwrap().count()
}

#[test]
fn many_small_commits_become_few_files() {
    let place = Place::new();
    let mut isp = Isp::new(5);
    let mut sink = place.open();
    for _ in 0..40 {
        place.log.push(Record::Flows(Arc::new(isp.batch(20))));
        place.store(&mut sink);
        sink.maintain().unwrap();
    }
    assert_eq!(place.stored_flows(TierChoice::Detail), 800);
    assert!(place.data_files().len() < 16, "{:?}", place.data_files());
    place.clock.set(DAY_START_MS + 30 * HOUR_MS);
    (0..4).for_each(|_| sink.maintain().unwrap());
    assert_eq!(place.data_files().len(), 1);
    assert_eq!(place.stored_flows(TierChoice::Detail), 800);
}

#[test]
fn a_file_that_does_not_decode_keeps_no_others_from_being_merged() {
    let place = Place::new();
    let mut isp = Isp::new(5);
    let mut sink = place.open();
    let commit = |sink: &mut ParquetSink, isp: &mut Isp| {
        place.log.push(Record::Flows(Arc::new(isp.batch(20))));
        place.store(sink);
    };
    (0..8).for_each(|_| commit(&mut sink, &mut isp));
    let damaged = place.folder.path().join(&place.data_files()[3]);
    let good = fs::read(&damaged).unwrap();
    fs::write(&damaged, &good[..good.len() / 2]).unwrap();
    assert!(sink.maintain().is_err());
    (0..8).for_each(|_| commit(&mut sink, &mut isp));
    sink.maintain().unwrap();
    assert_eq!(place.data_files().iter().filter(|path| path.contains("merged")).count(), 1);
    fs::write(&damaged, good).unwrap();
    assert_eq!(place.stored_flows(TierChoice::Detail), 320);
}

#[test]
fn what_an_open_bucket_was_emitted_by_becomes_one_row_for_each_key() {
    const EMISSIONS: u64 = 30;
    let place = Place::new();
    let mut sink = place.open();
    let emit = |place: &Place, sink: &mut ParquetSink| {
        // The same keys each time.
        place.log.push(Record::Sums(Arc::new(sums(&mut Random(2), 50, DAY_START_MS))));
        place.store(sink);
    };
    let usage = || place.stored_flows(TierChoice::Rollup("usage".into()));
    let rows = |sink: &ParquetSink| sink.manifest.state().files.values().map(|file| file.rows).sum::<u64>();
    emit(&place, &mut sink);
    let (rows_once, flows_once) = (rows(&sink), usage());
    for _ in 1..EMISSIONS {
        emit(&place, &mut sink);
        sink.maintain().unwrap();
    }
    assert!(rows(&sink) < rows_once * EMISSIONS / 2, "while it is open: {} rows", rows(&sink));
    place.clock.set(DAY_START_MS + 40 * DAY_MS);
    sink.config.retention.detail_days = 400;
    (0..20).for_each(|_| sink.maintain().unwrap());
    assert!(rows(&sink) <= rows_once, "{} rows, {rows_once} of one emission", rows(&sink));
    assert_eq!(usage(), flows_once * EMISSIONS);
}
