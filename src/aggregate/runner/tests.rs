use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::flow::sink::LogTail as _;
use crate::flow::{Addr, FlowBatch};
use crate::log;

fn open(dir: &Path) -> Arc<Log> {
    let config = log::Config { dir: dir.to_owned(), fsync_interval_ms: 10, ..log::Config::default() };
    let log = Log::open(config, log::Options::default()).unwrap();
    // Keeps the whole log for `summed`; what the aggregator has committed would be deleted otherwise.
    drop(log.consumer("everything", ConsumerOptions { start: Cursor::Oldest, durable_only: false }));
    Arc::new(log)
}

fn start(log: &Arc<Log>) -> Runner {
    Runner::start(log.clone(), Arc::new(RollupDef::defaults()), Config::default()).unwrap()
}

/// A batch of flows of 100 bytes that end now.
fn batch(flows: usize) -> Record {
    let mut batch = FlowBatch::default();
    let now = now_ms();
    for i in 0..flows {
        batch.time.push(Some(now));
        batch.flow_start.push(Some(now - 1000));
        batch.src_ip.push(Some(Addr::v4(i as u32)));
        batch.dst_ip.push(Some(Addr::v4(7)));
        batch.protocol.push(Some(6));
        batch.bytes.push(Some(100));
        batch.packets.push(Some(1));
        batch.direction.push(Some(crate::flow::Direction::Out as u8));
    }
    batch.fill_missing();
    Record::Flows(Arc::new(batch))
}

/// Flows and bytes of each rollup in all sums of the log.
fn summed(log: &Log) -> BTreeMap<String, (u64, u64)> {
    let mut all: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    log.read_after(0, &mut |entry| {
        if let Record::Sums(sums) = &entry.record {
            for rows in &sums.rows {
                let sum = all.entry(rows.rollup.to_string()).or_default();
                sum.0 += rows.flows.iter().sum::<u64>();
                sum.1 += rows.bytes.iter().sum::<u64>();
            }
        }
        true
    })
    .unwrap();
    all
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[test]
fn what_is_asked_for_is_emitted_and_nothing_is_emitted_twice() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let runner = start(&log);
    for round in 1..=3 {
        log.append(batch(10)).unwrap();
        assert!(runner.handle().emit_open(Duration::from_secs(5)));
        assert_eq!(summed(&log)["traffic"], (10 * round, 1000 * round));
    }
    assert!(runner.stop(deadline()));
    assert_eq!(summed(&log)["usage"], (30, 3000));
}

#[test]
fn after_a_stop_without_warning_the_sums_are_as_if_it_had_gone_on() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..4 {
        let log = open(dir.path());
        let runner = start(&log);
        log.append(batch(5)).unwrap();
        if run % 2 == 0 {
            assert!(runner.handle().emit_open(Duration::from_secs(5)));
        }
        log.append(batch(5)).unwrap();
        log.sync();
        // The log ends under the aggregator: what it has not emitted is only in the flows.
        log.close();
        runner.stop(deadline());
        drop(log);
    }
    let log = open(dir.path());
    let runner = start(&log);
    assert!(runner.handle().emit_open(Duration::from_secs(5)));
    assert!(runner.stop(deadline()));
    for (rollup, sums) in summed(&log) {
        let flows = if rollup == "talkers" { 80 } else { 40 };
        assert_eq!(sums, (flows, flows * 100), "{rollup}");
    }
}
