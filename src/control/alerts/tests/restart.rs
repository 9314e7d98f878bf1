//! What a kill leaves: everything that was saved, nothing twice.

use super::*;
use crate::flow::{AlertEvent, Record};

fn config() -> Config {
    Config { subscriber_24h_bytes: 1000, ..Config::default() }
}

#[test]
fn after_a_kill_at_any_moment_no_flow_is_counted_twice_and_no_alert_repeated() {
    let folder = tempfile::tempdir().unwrap();
    // The log: a flow of 100 bytes at each position, a minute apart.
    let record = |position: u64| flow(T0 + position as i64 * MINUTE_MS, 100, Direction::Out);
    let (mut read_upto, mut fired) = (0, 0);
    for run in 0..6u64 {
        let mut bench = Bench::open(folder.path(), config());
        // It goes on where it had saved.
        assert!(bench.engine.position() <= read_upto, "run {run}");
        for position in bench.engine.position() + 1..=5 * (run + 1) {
            let now_ms = T0 + position as i64 * MINUTE_MS;
            bench.engine.add(position, &record(position), now_ms);
            if position % 3 == 0 {
                bench.evaluate(now_ms);
            }
            if position % 4 == 0 {
                bench.engine.save().unwrap();
            }
            read_upto = read_upto.max(position);
        }
        let now_ms = T0 + read_upto as i64 * MINUTE_MS;
        bench.evaluate(now_ms);
        fired += bench.fired();
        let bytes = read_upto * 100;
        let expected = if bytes > 1000 { vec![("subscriber_24h", bytes)] } else { vec![] };
        assert_eq!(bench.firing(), expected, "run {run}");
        // Dropped without being closed: what was not saved is lost, as with a kill.
    }
    assert_eq!(fired, 1);
}

#[test]
fn an_alert_that_was_resolved_or_acknowledged_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let id = {
        let mut bench = Bench::open(folder.path(), config());
        bench.engine.add(1, &flow(T0, 2000, Direction::In), T0);
        bench.evaluate(T0);
        let alert = bench.alerts.board.active().remove(0);
        assert_eq!(alert.subject.reseller_id, Some(RESELLER));
        // Not of this reseller.
        let other = Some(Uuid::from_u128(0xB));
        assert_eq!(bench.alerts.board.acknowledge(alert.id, other, "b", T0).unwrap(), None);
        bench.alerts.board.acknowledge(alert.id, Some(RESELLER), "a", T0).unwrap().unwrap();
        bench.alerts.board.acknowledge(alert.id, None, "second", T0 + 1).unwrap().unwrap();
        alert.id
    };
    let mut bench = Bench::open(folder.path(), config());
    bench.evaluate(T0 + MINUTE_MS);
    let seen = bench.alerts.board.active()[0].acknowledged.clone().unwrap();
    assert_eq!((seen.by.as_str(), seen.at_ms, bench.fired()), ("a", T0, 0));
    // A day and a bucket later the bytes have left the ring; the hold-down counts from the last time it held.
    bench.evaluate(T0 + 25 * HOUR_MS);
    assert_eq!(bench.firing(), []);
    drop(bench);
    let mut bench = Bench::open(folder.path(), config());
    bench.evaluate(T0 + 26 * HOUR_MS);
    let all = bench.alerts.board.list(&Wanted { since_ms: T0, ..Wanted::default() });
    assert_eq!(all.iter().map(|a| (a.id, a.resolved_ms)).collect::<Vec<_>>(), [(id, Some(T0 + 25 * HOUR_MS))]);
    // Numbers are never given twice, and what is old enough is forgotten.
    bench.engine.add(2, &flow(T0 + 200 * 24 * HOUR_MS, 2000, Direction::In), T0 + 200 * 24 * HOUR_MS);
    bench.evaluate(T0 + 200 * 24 * HOUR_MS);
    let all = bench.alerts.board.list(&Wanted::default());
    assert_eq!(all.iter().map(|a| a.id).collect::<Vec<_>>(), [id + 1]);
}

#[test]
fn another_log_is_read_from_its_beginning_and_counts_go_on() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut bench = Bench::open(folder.path(), config());
        bench.engine.add(41, &flow(T0, 700, Direction::In), T0);
        bench.engine.save().unwrap();
    }
    let state = State::open(&folder.path().join("state.redb")).unwrap();
    let keep = state.alerts();
    let (alerts, _) = open(keep.clone(), config());
    let mut engine = Engine::open(alerts.clone(), keep, LogId([8; 16]), HOUR_MS).unwrap();
    assert_eq!(engine.position(), 0);
    engine.add(1, &flow(T0, 400, Direction::In), T0);
    engine.evaluate(&Facts::default(), T0, false).unwrap();
    assert_eq!(alerts.board.active()[0].value, 1100);
}

/// One life of the alerts over a log in memory, as the thread does it: what was not read yet first, then an evaluation. Dies
/// after so many steps.
fn live(folder: &Path, log: &mut Vec<Record>, now_ms: i64, steps: usize) {
    let mut bench = Bench::open(folder, config());
    let begun = log.len() as u64;
    for step in 0..steps {
        match step {
            0 => {
                while let Some(record) = log.get(bench.engine.position() as usize) {
                    let position = bench.engine.position() + 1;
                    match record {
                        Record::Flows(batch) => bench.engine.add(position, batch, now_ms),
                        Record::Sums(_) => bench.engine.pass(position),
                        Record::Alerts(rows) => bench.engine.confirm(position, rows),
                    }
                }
            }
            1 | 4 => bench.evaluate(now_ms + step as i64),
            2 | 5 => {
                assert!(bench.engine.position() >= begun);
                let due = bench.engine.due();
                if !due.is_empty() {
                    log.push(Record::Alerts(Arc::new(due)));
                    // A kill here: it is in the log, and nobody knows.
                    if steps > 3 {
                        bench.engine.logged();
                    }
                }
            }
            _ => bench.engine.save().unwrap(),
        }
    }
}

#[test]
fn every_beginning_and_end_gets_into_the_log_once_whenever_it_is_killed() {
    for last in 1..=7 {
        let folder = tempfile::tempdir().unwrap();
        let mut log = vec![Record::Flows(Arc::new(flow(T0, 2000, Direction::In)))];
        live(folder.path(), &mut log, T0, last);
        live(folder.path(), &mut log, T0 + MINUTE_MS, last.max(3));
        live(folder.path(), &mut log, T0 + 26 * HOUR_MS, last);
        live(folder.path(), &mut log, T0 + 27 * HOUR_MS, 7);
        live(folder.path(), &mut log, T0 + 28 * HOUR_MS, 7);
        let rows = log.iter().flat_map(|record| match record {
            Record::Alerts(rows) => rows.as_slice(),
            _ => &[],
        });
        let told: Vec<_> =
            rows.map(|row| (row.alert_id, row.event, row.value, row.time_ms == row.fired_at_ms)).collect();
        assert_eq!(
            told,
            [(0, AlertEvent::Firing, 2000, true), (0, AlertEvent::Resolved, 2000, false)],
            "killed after {last} steps"
        );
    }
}
