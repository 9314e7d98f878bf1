//! A log that reached `bytes_max`.

use super::*;

fn small(dir: &Path, when_full: WhenFull) -> Config {
    Config { bytes_max: 40_000, when_full, memory_bytes_max: 20_000, ..config(dir) }
}

#[test]
fn drop_oldest_costs_only_the_consumer_that_is_behind() {
    let dir = folder();
    let config = small(dir.path(), WhenFull::DropOldest);
    let log = open(&config);
    let (mut quick, mut slow) = (oldest(&log, "quick"), oldest(&log, "slow"));
    let mut seen = Vec::new();
    for seed in 1..=200 {
        log.append(flows_of(seed, 5)).unwrap();
        seen.extend(drain(&mut quick));
        quick.commit(seed);
    }
    assert!(log.snapshot().stored_bytes <= 40_000 + 2_000);
    assert_eq!(seen.len(), 200);
    assert_eq!(lost_flows(&log, "quick"), []);
    drop(log);
    let log = open(&config);
    slow = log.consumer("slow", ConsumerOptions { start: Cursor::Oldest, durable_only: slow.available_upto() > 200 });
    let got = drain(&mut slow);
    assert!(!got.is_empty() && got.len() < 100);
    assert_eq!(got.last(), Some(&(200, 200)));
    assert_eq!(lost_flows(&log, "slow"), [("full", 5 * (200 - got.len() as u64))]);
}

#[test]
fn drop_newest_refuses_flows_counts_them_and_takes_sums() {
    let dir = folder();
    let log = open(&small(dir.path(), WhenFull::DropNewest));
    let mut a = oldest(&log, "a");
    let accepted = (1..=200).filter(|seed| log.append(flows_of(*seed, 5)).is_ok()).count() as u64;
    assert!(accepted < 100);
    assert_eq!(log.counters().refused_flows.get(), 5 * (200 - accepted));
    log.append(Record::Sums(Arc::new(sums_of(accepted)))).unwrap();
    assert_eq!(drain(&mut a).len() as u64, accepted + 1);
    a.commit(accepted + 1);
    log.sync();
    assert!(log.append(flows_of(1, 5)).is_ok(), "room again");
    assert_eq!(lost_flows(&log, "a"), []);
}

#[test]
fn block_waits_until_a_consumer_has_made_room() {
    let dir = folder();
    let log = open(&small(dir.path(), WhenFull::Block));
    let mut a = oldest(&log, "a");
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| (1..=200).map(|seed| log.append(flows_of(seed, 5)).unwrap()).last());
        for position in 1..=200 {
            let entry = a.next(SOON).unwrap().unwrap();
            assert_eq!(entry.position, position);
            a.commit(position);
        }
        assert_eq!(appending.join().unwrap(), Some(200));
    });
    assert_eq!(log.counters().refused_records.get(), 0);
    assert_eq!(lost_flows(&log, "a"), []);
}

#[test]
fn closing_releases_who_waits_for_room() {
    let dir = folder();
    let log = open(&Config { durability: Durability::Memory, ..small(dir.path(), WhenFull::Block) });
    let _pins = oldest(&log, "a");
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| (1..=200).map(|seed| log.append(flows_of(seed, 5))).find_map(Result::err));
        while log.snapshot().memory_bytes < 15_000 {
            std::thread::yield_now();
        }
        log.close();
        assert_eq!(appending.join().unwrap(), Some(AppendError::Closed));
    });
}

#[test]
fn memory_durability_refuses_the_newest_only_while_a_consumer_needs_the_room() {
    let dir = folder();
    let log = open(&Config { durability: Durability::Memory, ..small(dir.path(), WhenFull::DropNewest) });
    let mut a = oldest(&log, "a");
    let accepted = (1..=50).filter(|seed| log.append(flows_of(*seed, 5)).is_ok()).count() as u64;
    assert!((1..50).contains(&accepted));
    assert_eq!(drain(&mut a).len() as u64, accepted);
    assert_eq!(log.append(flows_of(1, 5)), Err(AppendError::Full));
    a.commit(accepted);
    assert_eq!(log.append(flows_of(1, 5)), Ok(accepted + 1));
}
