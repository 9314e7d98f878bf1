//! A disk that is full or fails.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::log::disk::Disk;

/// A disk whose operations fail on demand.
#[derive(Default)]
struct Failing {
    writes: AtomicBool,
    syncs: AtomicU64,
}

impl Disk for Failing {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.writes.load(Relaxed) {
            // As a full disk does: a part goes through.
            file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.syncs.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        file.sync_data()
    }
}

fn open_failing(config: &Config) -> (Log, Arc<Failing>) {
    let disk = Arc::new(Failing::default());
    let options = Options { disk: disk.clone(), ..Options::default() };
    (Log::open(config.clone(), options).unwrap(), disk)
}

fn all(n: u64) -> Vec<(u64, u64)> {
    (1..=n).map(|n| (n, n)).collect()
}

#[test]
fn records_of_a_failed_fsync_are_written_again_to_another_file() {
    let dir = folder();
    let config = Config { segment_bytes: 4000, ..config(dir.path()) };
    let (log, disk) = open_failing(&config);
    let mut sink = log.consumer("sink", ConsumerOptions { start: Cursor::Oldest, durable_only: true });
    for seed in 1..=10 {
        log.append(flows_of(seed, 4)).unwrap();
        if seed == 4 {
            log.sync();
        }
    }
    disk.syncs.store(1, Relaxed);
    log.sync();
    assert_eq!(log.counters().fsync_failures.get(), 1);
    assert_eq!(log.counters().rewritten_records.get(), 6);
    assert_eq!(log.durable_upto(), 10);
    assert!(!log.snapshot().degraded);
    assert_eq!(log.append(flows_of(11, 4)).unwrap(), 11);
    log.sync();
    assert_eq!(drain(&mut sink), all(11));
    drop(log);
    let log = open(&config);
    assert_eq!(drain(&mut oldest(&log, "b")), all(11), "each once");
    assert!(verify(&config.dir).unwrap().is_sound());
    assert_eq!(lost_flows(&log, "b"), []);
}

#[test]
fn fsyncs_that_go_on_failing_leave_the_records_in_memory_until_the_disk_is_back() {
    let dir = folder();
    let config = config(dir.path());
    let (log, disk) = open_failing(&config);
    let mut sink = log.consumer("sink", ConsumerOptions { start: Cursor::Oldest, durable_only: true });
    disk.syncs.store(u64::MAX, Relaxed);
    for seed in 1..=5 {
        log.append(flows_of(seed, 4)).unwrap();
    }
    log.sync();
    assert!(log.snapshot().degraded);
    assert_eq!(drain(&mut sink), all(5), "sinks go on");
    disk.syncs.store(0, Relaxed);
    log.append(flows_of(6, 4)).unwrap();
    log.sync();
    assert!(!log.snapshot().degraded);
    drop(log);
    assert_eq!(drain(&mut oldest(&open(&config), "b")), all(6));
}

#[test]
fn a_full_disk_stops_nobody_who_keeps_up_and_is_used_again_when_there_is_room() {
    let dir = folder();
    let config = config(dir.path());
    let (log, disk) = open_failing(&config);
    let mut a = oldest(&log, "a");
    log.append(flows_of(1, 4)).unwrap();
    disk.writes.store(true, Relaxed);
    log.append(flows_of(2, 4)).unwrap();
    log.append(flows_of(3, 4)).unwrap();
    assert!(log.snapshot().degraded);
    assert_eq!(drain(&mut a), all(3));
    log.sync();
    assert!(log.snapshot().degraded);
    disk.writes.store(false, Relaxed);
    log.sync();
    assert!(!log.snapshot().degraded);
    log.append(flows_of(4, 4)).unwrap();
    drop(log);
    let log = open(&config);
    assert_eq!(drain(&mut oldest(&log, "b")), all(4), "nothing torn, nothing missing");
    assert_eq!(log.counters().torn_bytes.get() + log.counters().corrupt_bytes.get(), 0);
}

#[test]
fn what_neither_disk_nor_memory_holds_is_counted_for_who_missed_it() {
    let dir = folder();
    let config = Config { memory_bytes_max: 30_000, ..config(dir.path()) };
    let (log, disk) = open_failing(&config);
    let mut a = oldest(&log, "a");
    disk.writes.store(true, Relaxed);
    for seed in 1..=60 {
        log.append(flows_of(seed, 4)).unwrap();
    }
    let got = drain(&mut a);
    assert!(!got.is_empty() && got.len() < 60);
    assert_eq!(lost_flows(&log, "a"), [("unstored", 4 * (60 - got.len() as u64))]);
}

#[test]
fn a_real_full_filesystem_degrades_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(dir.path())
        .stderr(std::process::Stdio::null())
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        println!("skipped: mounting a small tmpfs needs root");
        return;
    }
    let config = Config { segment_bytes: 20_000, ..config(dir.path()) };
    let log = open(&config);
    let mut a = oldest(&log, "a");
    let mut appended = 0;
    while !log.snapshot().degraded {
        appended += 1;
        log.append(flows_of(appended, 100)).unwrap();
        assert!(appended < 1000, "256 KiB never fill");
    }
    appended += 1;
    log.append(flows_of(appended, 100)).unwrap();
    assert_eq!(drain(&mut a), all(appended), "nothing is lost while memory holds it");
    // Committing deletes segments, and that makes room.
    a.commit(appended - 1);
    log.sync();
    log.sync();
    let recovered = !log.snapshot().degraded;
    appended += 1;
    log.append(flows_of(appended, 100)).unwrap();
    let rest = drain(&mut a);
    drop(log);
    let reopened = open(&config);
    let kept = drain(&mut oldest(&reopened, "a"));
    drop(reopened);
    drop(a);
    let unmount = std::process::Command::new("umount").arg(dir.path()).status();
    assert!(recovered, "still degraded with room on the disk");
    assert_eq!(rest, [(appended, appended)]);
    assert_eq!(kept.last(), Some(&(appended, appended)));
    assert!(unmount.unwrap().success());
}
