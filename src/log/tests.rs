use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::fixture::{batch_of, flows_of, seed_of, sums_of};
use super::open::Options;
use super::*;
use crate::flow::sink::LogTail;
use crate::flow::{Entry, Record};

mod damage;
mod failing_disk;
mod full;
mod model;

const SOON: Duration = Duration::from_secs(10);

/// A folder of its own, in memory where the system has such a place: these tests fsync thousands of times.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A log whose flusher never comes by itself: tests call `sync`.
fn config(dir: &Path) -> Config {
    Config { dir: dir.join("log"), fsync_interval_ms: 3_600_000, ..Config::default() }
}

/// A log whose positions go on by one across restarts.
fn open(config: &Config) -> Log {
    open_at(config, 0)
}

fn open_at(config: &Config, now_ms: i64) -> Log {
    Log::open(config.clone(), Options { clock: Arc::new(move || now_ms), ..Options::default() }).unwrap()
}

fn oldest(log: &Log, name: &str) -> Consumer {
    log.consumer(name, ConsumerOptions { start: Cursor::Oldest, durable_only: false })
}

/// Everything that a consumer is given without waiting: position and seed.
fn drain(consumer: &mut Consumer) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| consumer.next(Duration::ZERO).unwrap())
        .map(|entry| (entry.position, seed_of(&entry.record).unwrap_or(0)))
        .collect()
}

fn lost_flows(log: &Log, name: &str) -> Vec<(&'static str, u64)> {
    let snapshot = log.snapshot();
    let consumer = snapshot.consumers.iter().find(|c| c.name == name).unwrap();
    consumer.lost_flows.iter().copied().filter(|(_, n)| *n > 0).collect()
}

#[test]
fn records_come_in_order_to_each_consumer_and_again_from_files_after_a_restart() {
    let dir = folder();
    let config = config(dir.path());
    let log = open(&config);
    let mut a = oldest(&log, "a");
    for seed in 1..=20 {
        assert_eq!(log.append(flows_of(seed, 3)).unwrap(), seed);
    }
    log.append(Record::Sums(Arc::new(sums_of(20)))).unwrap();
    let want: Vec<_> = (1..=20).map(|n| (n, n)).chain([(21, 0)]).collect();
    assert_eq!(drain(&mut a), want);
    a.commit(5);
    let id = log.id();
    drop(log);
    let log = open(&config);
    assert_eq!(log.id(), id);
    assert_eq!(log.end(), 21);
    assert_eq!(drain(&mut oldest(&log, "a")), want[5..], "from the committed cursor");
    assert_eq!(drain(&mut oldest(&log, "b")), want, "everything");
    let now = ConsumerOptions { start: Cursor::Now, durable_only: false };
    let mut c = log.consumer("c", now);
    assert_eq!(drain(&mut c), []);
    assert_eq!(log.append(flows_of(99, 1)).unwrap(), 22);
    assert_eq!(drain(&mut c), [(22, 99)]);
    assert_eq!(lost_flows(&log, "a"), []);
}

#[test]
fn sinks_see_only_what_is_durable() {
    let dir = folder();
    let log = open(&config(dir.path()));
    let mut sink = log.consumer("sink", ConsumerOptions { start: Cursor::Oldest, durable_only: true });
    log.append(flows_of(1, 2)).unwrap();
    assert_eq!(drain(&mut sink), []);
    assert_eq!(log.durable_upto(), 0);
    log.sync();
    assert_eq!(log.durable_upto(), 1);
    assert_eq!(drain(&mut sink), [(1, 1)]);
}

#[test]
fn the_flusher_makes_records_durable_by_itself_and_wakes_who_waits() {
    let dir = folder();
    let log = open(&Config { fsync_interval_ms: 5, ..config(dir.path()) });
    let mut sink = log.consumer("sink", ConsumerOptions { start: Cursor::Oldest, durable_only: true });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || sink.next(SOON).unwrap().map(|e| e.position));
        log.append(flows_of(1, 2)).unwrap();
        assert_eq!(waiting.join().unwrap(), Some(1));
    });
}

#[test]
fn closing_ends_a_wait() {
    let dir = folder();
    let log = open(&config(dir.path()));
    let mut consumer = oldest(&log, "a");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || consumer.next(Duration::from_secs(600)).unwrap().is_none());
        log.close();
        assert!(waiting.join().unwrap());
    });
    assert_eq!(log.append(flows_of(1, 1)), Err(AppendError::Closed));
}

#[test]
fn workers_append_side_by_side_and_no_record_is_lost_or_doubled() {
    let dir = folder();
    let config = Config { segment_bytes: 8000, memory_bytes_max: 30_000, ..config(dir.path()) };
    let log = open(&config);
    let mut reader = oldest(&log, "a");
    let mut seeds = std::thread::scope(|scope| {
        for worker in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..50 {
                    log.append(flows_of(1 + worker * 50 + n, 5)).unwrap();
                }
            });
        }
        let seeds = (1..=200).map(|position| {
            let entry = reader.next(SOON).unwrap().unwrap();
            assert_eq!(entry.position, position);
            seed_of(&entry.record).unwrap()
        });
        seeds.collect::<Vec<_>>()
    });
    seeds.sort_unstable();
    assert_eq!(seeds, (1..=200).collect::<Vec<_>>());
    assert!(log.snapshot().segments > 2);
    drop(log);
    assert_eq!(drain(&mut oldest(&open(&config), "b")).len(), 200);
}

#[test]
fn batches_go_back_to_the_pool_once_all_consumers_are_done() {
    let dir = folder();
    let back = Arc::new(AtomicU64::new(0));
    let counted = back.clone();
    let recycle: Recycle = Arc::new(move |batch| {
        counted.fetch_add(batch.len() as u64, Relaxed);
    });
    let log = Log::open(config(dir.path()), Options { recycle, ..Options::default() }).unwrap();
    let mut a = oldest(&log, "a");
    for seed in 1..=3 {
        log.append(flows_of(seed, 10)).unwrap();
    }
    drain(&mut a);
    a.commit(3);
    assert_eq!(back.load(Relaxed), 0, "not durable yet");
    log.sync();
    assert_eq!(back.load(Relaxed), 20, "all but the newest");
}

#[test]
fn consumers_that_fall_behind_the_memory_read_files() {
    let dir = folder();
    let log = open(&Config { memory_bytes_max: 20_000, ..config(dir.path()) });
    let mut slow = oldest(&log, "slow");
    for seed in 1..=50 {
        log.append(flows_of(seed, 4)).unwrap();
    }
    assert!(log.snapshot().memory_records < 10);
    assert_eq!(slow.lag().records, 50);
    assert_eq!(slow.lag().flows, 200);
    assert!(slow.lag().bytes > 1000);
    assert_eq!(drain(&mut slow), (1..=50).map(|n| (n, n)).collect::<Vec<_>>());
    slow.seek(48);
    assert_eq!(drain(&mut slow), [(49, 49), (50, 50)]);
    slow.commit(50);
    assert_eq!(slow.lag(), Lag::default());
}

#[test]
fn segments_are_pinned_by_every_cursor_even_of_consumers_that_are_away() {
    let dir = folder();
    let config = Config { segment_bytes: 2000, ..config(dir.path()) };
    let log = open(&config);
    let (mut a, b) = (oldest(&log, "a"), oldest(&log, "b"));
    for seed in 1..=30 {
        log.append(flows_of(seed, 4)).unwrap();
    }
    let all = log.snapshot().segments;
    assert!(all > 5);
    drain(&mut a);
    a.commit(30);
    drop((a, b));
    drop(log);
    let log = open(&config);
    log.sync();
    assert_eq!(log.snapshot().segments, all, "b has not come yet");
    log.forget("b");
    log.sync();
    assert_eq!(log.snapshot().segments, 1, "the newest stays");
    drop(log);
    let log = open(&config);
    assert_eq!(log.consumer_names(), ["a"]);
    assert_eq!(log.append(flows_of(31, 1)).unwrap(), 31);
    assert_eq!(drain(&mut oldest(&log, "a")), [(31, 31)]);
}

#[test]
fn a_wiped_folder_gives_a_new_log_and_a_folder_in_use_is_refused() {
    let dir = folder();
    let config = config(dir.path());
    let log = open(&config);
    log.append(flows_of(1, 1)).unwrap();
    let id = log.id();
    assert!(matches!(Log::open(config.clone(), Options::default()), Err(OpenError::InUse(_))));
    drop(log);
    std::fs::remove_dir_all(&config.dir).unwrap();
    let log = open(&config);
    assert_ne!(log.id(), id);
    assert_eq!(log.append(flows_of(1, 1)).unwrap(), 1);
}

#[test]
fn positions_stay_above_every_cursor_even_when_all_files_are_gone() {
    let dir = folder();
    let config = config(dir.path());
    let log = open(&config);
    let mut a = oldest(&log, "a");
    for seed in 1..=9 {
        log.append(flows_of(seed, 1)).unwrap();
    }
    drain(&mut a);
    a.commit(9);
    drop(log);
    for file in std::fs::read_dir(&config.dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "seg") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let log = open(&config);
    let mut a = oldest(&log, "a");
    assert_eq!(log.append(flows_of(77, 1)).unwrap(), 10);
    assert_eq!(drain(&mut a), [(10, 77)]);
    log.ensure_position_above(500);
    log.ensure_position_above(3);
    assert_eq!(log.append(flows_of(78, 2)).unwrap(), 501);
    assert_eq!(drain(&mut a), [(501, 78)]);
    assert_eq!(lost_flows(&log, "a"), [], "positions never given are not lost");
    drop(log);
    let log = open(&config);
    assert_eq!(drain(&mut oldest(&log, "a")), [(10, 77), (501, 78)]);
    assert_eq!(lost_flows(&log, "a"), []);
    assert_eq!(log.append(flows_of(79, 1)).unwrap(), 502);
}

#[test]
fn an_older_folder_that_is_brought_back_gives_no_position_again() {
    let dir = folder();
    let config = config(dir.path());
    let start = 1_790_000_000_000;
    let log = open_at(&config, start);
    assert_eq!(log.append(flows_of(1, 1)).unwrap(), 1, "a new log is known nowhere");
    drop(log);
    let older = Config { dir: dir.path().join("older"), ..config.clone() };
    std::fs::create_dir(&older.dir).unwrap();
    for file in std::fs::read_dir(&config.dir).unwrap().map(|file| file.unwrap()) {
        std::fs::copy(file.path(), older.dir.join(file.file_name())).unwrap();
    }
    let log = open_at(&config, start + 1000);
    let given = (2..=30).map(|seed| log.append(flows_of(seed, 1)).unwrap()).max().unwrap();
    assert!(given < 1 << 53, "a number in JSON");
    drop(log);
    let log = open_at(&older, start + 2000);
    let mut all = oldest(&log, "a");
    let position = log.append(flows_of(77, 1)).unwrap();
    assert!(position > given);
    assert_eq!(drain(&mut all), [(1, 1), (position, 77)]);
    assert_eq!(lost_flows(&log, "a"), []);
    // Nothing but the id is left.
    drop((all, log));
    for file in std::fs::read_dir(&older.dir).unwrap().map(|file| file.unwrap()) {
        if file.file_name() != "log-id" {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    assert!(open_at(&older, start + 3000).append(flows_of(78, 1)).unwrap() > position);
}

#[test]
fn a_sink_cursor_beyond_the_end_skips_nothing_new() {
    let dir = folder();
    let log = open(&config(dir.path()));
    log.append(flows_of(1, 1)).unwrap();
    log.ensure_position_above(40);
    let mut sink = log.consumer("sink", ConsumerOptions { start: Cursor::At(40), durable_only: true });
    log.append(flows_of(2, 1)).unwrap();
    log.sync();
    assert_eq!(drain(&mut sink), [(41, 2)]);
}

#[test]
fn stores_read_the_tail_from_memory_and_files_alike() {
    let dir = folder();
    let config = Config { memory_bytes_max: 20_000, segment_bytes: 3000, ..config(dir.path()) };
    let log = open(&config);
    for seed in 1..=30 {
        log.append(flows_of(seed, 4)).unwrap();
    }
    let positions = |tail: &dyn LogTail, after, stop_at| {
        let mut seen = Vec::new();
        tail.read_after(after, &mut |entry: &Entry| {
            seen.push(entry.position);
            entry.position != stop_at
        })
        .unwrap();
        seen
    };
    assert_eq!(positions(&log, 0, 0), (1..=30).collect::<Vec<_>>());
    assert_eq!(positions(&log, 17, 20), [18, 19, 20]);
    assert_eq!(positions(&log, 30, 0), [0u64; 0]);
    let mut sequences = Vec::new();
    log.streams_after(27, &mut |position, stream| sequences.push((position, stream.first_sequence))).unwrap();
    assert_eq!(sequences, [(28, 28), (29, 29), (30, 30)]);
    let offline = OfflineLog::open(&config.dir).unwrap();
    assert_eq!(offline.id(), log.id());
    assert_eq!(positions(&offline, 17, 20), [18, 19, 20]);
    let report = verify(&config.dir).unwrap();
    assert!(report.is_sound());
    assert_eq!((report.records, report.flows, report.first, report.last), (30, 120, 1, 30));
}

#[test]
fn cursors_that_cannot_be_read_cost_no_record() {
    let dir = folder();
    let config = config(dir.path());
    let log = open(&config);
    log.consumer("a", ConsumerOptions { start: Cursor::Now, durable_only: false });
    log.append(flows_of(1, 1)).unwrap();
    drop(log);
    std::fs::write(config.dir.join(cursors::FILE), b"{ not json").unwrap();
    let log = open(&config);
    let mut a = log.consumer("a", ConsumerOptions { start: Cursor::Now, durable_only: false });
    assert_eq!(drain(&mut a), [(1, 1)]);
}

#[test]
fn memory_durability_keeps_no_files() {
    let dir = folder();
    let config = Config { durability: Durability::Memory, memory_bytes_max: 30_000, ..config(dir.path()) };
    let log = open(&config);
    let mut sink = log.consumer("sink", ConsumerOptions { start: Cursor::Oldest, durable_only: true });
    log.append(flows_of(1, 1)).unwrap();
    assert_eq!(drain(&mut sink), [(1, 1)]);
    for seed in 2..=50 {
        log.append(flows_of(seed, 2)).unwrap();
    }
    let got = drain(&mut sink);
    assert!(got.len() < 49);
    assert_eq!(got.last(), Some(&(50, 50)));
    assert_eq!(lost_flows(&log, "sink"), [("full", 2 * (49 - got.len() as u64))]);
    assert!(!config.dir.exists());
}

#[test]
fn metrics_name_every_consumer() {
    let dir = folder();
    let log = open(&config(dir.path()));
    let _a = oldest(&log, "a");
    log.append(Record::Flows(Arc::new(batch_of(1, 7)))).unwrap();
    let mut out = crate::telemetry::Exposition::default();
    log.expose(&mut out);
    let text = out.render(crate::telemetry::Format::Prometheus);
    assert!(text.contains("netflow_log_appended_flows_total 7"), "{text}");
    assert!(text.contains("netflow_log_consumer_lag_flows{consumer=\"a\"} 7"), "{text}");
}
