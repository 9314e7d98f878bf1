use super::*;
use crate::flow::Record;

/// A log as the aggregator sees it: records from position 1, its own emissions among them.
#[derive(Default)]
struct TestLog(Vec<Record>);

impl TestLog {
    /// A new aggregator that has read again what it must.
    fn recover(&self, defs: &[RollupDef], now: i64) -> Aggregator {
        let (mut fresh, _) = aggregator(defs.to_vec(), Config::default());
        let last = self.0.iter().rev().find_map(|record| match record {
            Record::Sums(sums) => Some(sums.clone()),
            Record::Flows(_) | Record::Alerts(_) => None,
        });
        if let Some(sums) = last {
            fresh.restore(&sums);
        }
        self.feed(&mut fresh, now);
        fresh
    }

    /// Gives it what it has not seen yet.
    fn feed(&self, aggregator: &mut Aggregator, now: i64) {
        while let Some(record) = self.0.get(aggregator.position() as usize) {
            let position = aggregator.position() + 1;
            match record {
                Record::Flows(batch) => aggregator.add(position, batch, now),
                Record::Sums(_) | Record::Alerts(_) => aggregator.pass(position),
            }
        }
    }

    fn append_due(&mut self, aggregator: &mut Aggregator, now: i64) {
        while let Some(sums) = aggregator.emit(now) {
            self.0.push(Record::Sums(Arc::new(sums)));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<Flow>),
    /// Emits after so many ms.
    Emit(i64),
    Flush,
    /// The process dies; so many records at the log's end were not on disk.
    Crash(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(any_flow(), 0..15).prop_map(Step::Add),
        4 => prop_oneof![0i64..90_000, Just(60_000i64), Just(300_000)].prop_map(Step::Emit),
        1 => Just(Step::Flush),
        2 => prop_oneof![2 => Just(0usize), 1 => 0usize..4].prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn crashes_at_any_moment_lose_nothing_and_count_nothing_twice(steps in prop::collection::vec(any_step(), 1..40)) {
        let defs = with_ports();
        let (mut log, mut now) = (TestLog::default(), T0);
        let mut aggregator = log.recover(&defs, now);
        for step in steps {
            match step {
                Step::Add(flows) => log.0.push(Record::Flows(Arc::new(batch(&flows)))),
                Step::Emit(pause) => {
                    now += pause;
                    log.feed(&mut aggregator, now);
                    log.append_due(&mut aggregator, now);
                }
                Step::Flush => {
                    log.feed(&mut aggregator, now);
                    aggregator.flush();
                    log.append_due(&mut aggregator, now);
                }
                Step::Crash(lost) => {
                    log.0.truncate(log.0.len().saturating_sub(lost));
                    aggregator = log.recover(&defs, now);
                }
            }
        }
        log.feed(&mut aggregator, now);
        aggregator.flush();
        log.append_due(&mut aggregator, now);
        let (mut want, mut got) = (Sums::new(), Sums::new());
        for record in &log.0 {
            match record {
                Record::Flows(batch) => expected(&defs, batch, &mut want),
                Record::Sums(sums) => collect(sums, &mut got),
                Record::Alerts(_) => {}
            }
        }
        prop_assert_eq!(got, want);
    }
}

#[test]
fn nothing_is_emitted_before_everything_is_read_again() {
    let defs = with_ports();
    let mut log = TestLog::default();
    for n in 0..3 {
        log.0.push(Record::Flows(Arc::new(batch(&[Flow::plain(T0 + n, 0, 1)]))));
    }
    let mut aggregator = log.recover(&defs, T0);
    assert_eq!(aggregator.replay_from(), 1);
    assert!(aggregator.emit(T0).is_none());
    // The minute is over and emitted, wider buckets are open: those need position 1 again.
    log.append_due(&mut aggregator, T0 + 90_000);
    let Some(Record::Sums(sums)) = log.0.last() else { panic!("no emission") };
    assert_eq!((sums.upto, sums.replay_from), (3, 1));
    assert!(sums.open.iter().all(|open| &*open.rollup != "traffic" && open.drained_upto == 0));
    let (mut fresh, _) = super::aggregator(defs, Config::default());
    fresh.restore(sums);
    fresh.flush();
    assert!(fresh.emit(T0 + 900_000).is_none());
}
