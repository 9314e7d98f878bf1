//! The store from outside: what was written is what is answered, whatever happens in between.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sink_api::batch::Field;
use sink_api::filter::{Filter, Side, Test};
use sink_api::rollup::{Record, RollupDef};
use sink_api::store::memory::MemoryStore;
use sink_api::store::{Answer, FlowsQuestion, OrderBy, Question, StoreError, TierChoice, TimeRange};
use sink_api::{Addr, Direction, Entry, FlowBatch, FlowStore, Key, Sink, SinkConfig, Value};
use support::{DAY_START_MS, Entries, Isp, LOG, MemoryLog, Random, TestClock, config, context, sums};

const HOUR_MS: i64 = 3_600_000;

/// A store, its reference, and the log that feeds both.
struct Rig {
    _folder: tempfile::TempDir,
    log: Arc<MemoryLog>,
    clock: TestClock,
    reference: MemoryStore,
    sink: Box<dyn Sink>,
    store: Arc<dyn FlowStore>,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(MemoryLog::default());
        let clock = TestClock::new(DAY_START_MS + 2 * HOUR_MS);
        let (config, context) = (config(folder.path()), context(log.clone(), &clock));
        let sink = config.open(&context).unwrap();
        let store = config.store(&context).unwrap().unwrap();
        let reference = MemoryStore::new("reference", Arc::new(RollupDef::defaults()));
        Self { _folder: folder, log, clock, reference, sink, store }
    }

    fn push(&self, record: Record) {
        let position = self.log.push(record.clone());
        self.reference.insert(LOG, Entry { position, record });
    }

    /// Stores what the log has, up to `entries` records, and lets the log forget it.
    fn store(&mut self, entries: usize) {
        let cursor = self.sink.cursor().unwrap().unwrap_or(0);
        let mut group = Entries::new(self.log.after(cursor).into_iter().take(entries));
        self.sink.write(&mut group).unwrap();
        self.log.forget_upto(self.sink.cursor().unwrap().unwrap_or(0));
    }

    fn check(&self, when: &str) {
        for question in questions() {
            let (got, want) = (self.store.ask(&question).unwrap(), self.reference.ask(&question).unwrap());
            assert_same(&got, &want, &format!("{when}: {question:?}"));
        }
        let (got, want) = (list(&*self.store, Filter::Any), list(&self.reference, Filter::Any));
        assert_eq!(got, want, "{when}: listing");
    }
}

fn assert_same(got: &Answer, want: &Answer, about: &str) {
    assert_eq!(got.matched, want.matched, "{about}");
    assert_eq!(got.rows, want.rows, "{about}");
    assert_eq!((got.total_rows, &got.tier, got.basis), (want.total_rows, &want.tier, want.basis), "{about}");
    assert_eq!((got.error_bytes_max, got.range), (want.error_bytes_max, want.range), "{about}");
}

fn question(by: &[Key], filter: Filter, range: TimeRange) -> Question {
    Question {
        range,
        filter,
        by: by.to_vec(),
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: Some(20),
        tier: TierChoice::Detail,
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

fn whole() -> TimeRange {
    TimeRange { from: DAY_START_MS - 24 * HOUR_MS, to: DAY_START_MS + 48 * HOUR_MS }
}

fn questions() -> Vec<Question> {
    let field = |f| Key::Field(f);
    let hour = TimeRange { from: DAY_START_MS + HOUR_MS - 5_000, to: DAY_START_MS + HOUR_MS + 3_000 };
    let subscriber = Filter::uuid(Field::SubscriberId, Isp::subscriber_id(3));
    let net = Test::Net { side: Side::Src, network: Isp::subscriber_addr(0), length: 32 };
    let mut all = vec![
        question(&[], Filter::Any, whole()),
        question(&[field(Field::SrcIp)], Filter::Any, whole()),
        question(&[field(Field::DstIp)], Filter::Any, hour),
        question(&[field(Field::ServicePort), field(Field::Protocol)], subscriber, whole()),
        question(&[Key::Host, Key::Role], Filter::Test(net), whole()),
        question(&[field(Field::App), field(Field::Site)], Filter::Test(Test::Direction(Direction::In)), whole()),
        question(&[field(Field::ExporterIp)], Filter::text(Field::NasId, "nas-2"), whole()),
        question(&[Key::Country, Key::Asn], Filter::Not(Box::new(Filter::text(Field::App, "dns"))), whole()),
        question(&[field(Field::RttMs)], Filter::Test(Test::IsNull(Field::Bidirectional)), whole()),
        question(&[field(Field::VlanId), field(Field::NatSrcIp)], Filter::Any, whole()),
    ];
    all.push(Question { interval_ms: Some(1000), order: OrderBy::Time, limit: None, ..all[0].clone() });
    for def in RollupDef::defaults() {
        let by: Vec<Key> = def.by.iter().copied().take(3).collect();
        let tier = TierChoice::Rollup(def.name.to_string());
        if def.name.as_ref() != "talkers" {
            all.push(Question { tier: tier.clone(), ..question(&by, Filter::Any, whole()) });
        }
        let by_host = [field(Field::SrcIp)];
        if def.has_cut_bytes() {
            all.push(Question { tier, ..question(&by_host, Filter::Any, whole()) });
        }
    }
    all
}

/// Every flow that a filter lets through as its values, sorted.
fn list(store: &dyn FlowStore, filter: Filter) -> Vec<Vec<Value>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let question = FlowsQuestion { range: whole(), filter, deadline };
    let mut rows = Vec::new();
    let summary = store
        .flows(&question, &mut |batch: &FlowBatch, selected: &[u32]| {
            let row = |row: &u32| Field::ALL.iter().map(|f| batch.value(*f, *row as usize)).collect();
            rows.extend(selected.iter().map(row));
            true
        })
        .unwrap();
    assert_eq!(summary.rows, rows.len() as u64);
    rows.sort();
    rows
}

fn flows(batch: FlowBatch) -> Record {
    Record::Flows(Arc::new(batch))
}

/// A batch with IPv6, nulls, and times on several days.
fn odd_batch(isp: &mut Isp) -> FlowBatch {
    let mut batch = isp.batch(300);
    for row in 0..100 {
        batch.time.set(row, Some(DAY_START_MS - 1 - row as i64));
        batch.src_port.set(row, None);
        batch.service_port.set(row * 2, None);
    }
    let mut wide = sink_api::column::IpColumn::default();
    for row in 0..300 {
        let v6 = Addr((0x2001_0db8 << 96) | (row as u128 % 9));
        wide.push(if row % 3 == 0 { Some(v6) } else { batch.src_ip.get(row) });
    }
    batch.src_ip = wide;
    batch
}

#[test]
fn answers_equal_the_reference_from_tail_and_files_alike() {
    let mut rig = Rig::new();
    let (mut isp, mut random) = (Isp::new(1), Random(2));
    rig.check("empty");
    for round in 0..3 {
        for _ in 0..3 {
            rig.push(flows(isp.batch(700)));
        }
        let odd = odd_batch(&mut isp);
        rig.push(flows(odd));
        rig.push(Record::Sums(Arc::new(sums(&mut random, 50, DAY_START_MS))));
        rig.check(&format!("round {round}, in the tail"));
        rig.store(4);
        rig.check(&format!("round {round}, partly stored"));
        rig.store(usize::MAX);
        rig.check(&format!("round {round}, stored"));
    }
    for n in 0..8 {
        rig.sink.maintain().unwrap();
        rig.check(&format!("after maintenance {n}"));
    }
    rig.clock.set(DAY_START_MS + 40 * HOUR_MS);
    for _ in 0..20 {
        rig.sink.maintain().unwrap();
    }
    rig.check("merged after the day was over");
}

/// Row groups of several pages, where the page index leads to some of them and the column asked about to single rows.
#[test]
fn one_subscriber_or_reseller_among_many_pages_has_the_answers_of_the_reference() {
    let mut rig = Rig::new();
    let mut isp = Isp::new(7);
    for _ in 0..15 {
        rig.push(flows(isp.batch(8_000)));
    }
    rig.store(usize::MAX);
    let resellers: Vec<_> = isp.batch(50).reseller_id.values().to_vec();
    let by = [Key::Field(Field::ServicePort), Key::Field(Field::Direction), Key::Field(Field::SubscriberId)];
    let nobody = uuid::Uuid::from_u128(1);
    let subscribers = [0, 5, 900, 20_000].map(Isp::subscriber_id).into_iter().chain([nobody]);
    let filters = subscribers.map(|id| Filter::uuid(Field::SubscriberId, id));
    let mut found = 0;
    for filter in filters.chain(resellers.iter().take(3).map(|id| Filter::uuid(Field::ResellerId, *id))) {
        let asked = question(&by, filter.clone(), whole());
        let (got, want) = (rig.store.ask(&asked).unwrap(), rig.reference.ask(&asked).unwrap());
        assert_same(&got, &want, &format!("{asked:?}"));
        found += u64::from(got.matched.flows > 0);
        let (got, want) = (list(&*rig.store, filter.clone()), list(&rig.reference, filter));
        assert_eq!(got, want);
    }
    assert!(found >= 5, "{found}");
}

/// Writes, merges and lets the log forget, while others ask: every answer holds what was received before it was asked for,
/// nothing twice, nothing missing.
#[test]
fn answers_are_whole_while_commits_and_merges_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(MemoryLog::default());
    let clock = TestClock::new(DAY_START_MS + 2 * HOUR_MS);
    let (config, context) = (config(folder.path()), context(log.clone(), &clock));
    let mut sink = config.open(&context).unwrap();
    let store = config.store(&context).unwrap().unwrap();
    let batch = Arc::new(Isp::new(9).batch(10));
    let (received, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let asked = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut asked = 0;
                    while !done.load(Ordering::SeqCst) {
                        let least = received.load(Ordering::SeqCst);
                        let got = store.ask(&question(&[], Filter::Any, whole())).unwrap().matched.flows;
                        // A push may have happened whose count was not raised yet.
                        let most = received.load(Ordering::SeqCst) + 10;
                        assert!(least <= got && got <= most, "{least} <= {got} <= {most}");
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for round in 0..60 {
            for _ in 0..3 {
                log.push(flows_of(&batch));
                received.fetch_add(10, Ordering::SeqCst);
            }
            let cursor = sink.cursor().unwrap().unwrap_or(0);
            sink.write(&mut Entries::new(log.after(cursor).into_iter().take(2 + round % 2))).unwrap();
            log.forget_upto(sink.cursor().unwrap().unwrap_or(0));
            sink.maintain().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        readers.into_iter().map(|r| r.join().unwrap()).sum::<u64>()
    });
    assert!(asked > 2, "{asked} answers");
    assert_eq!(list(&*store, Filter::Any).len(), 1800);
}

fn flows_of(batch: &Arc<FlowBatch>) -> Record {
    Record::Flows(batch.clone())
}

#[test]
fn a_passed_deadline_is_an_error_and_an_expired_range_is_said() {
    let mut rig = Rig::new();
    rig.push(flows(Isp::new(1).batch(50)));
    rig.store(usize::MAX);
    let late = Question { deadline: Instant::now(), ..question(&[], Filter::Any, whole()) };
    assert!(matches!(rig.store.ask(&late), Err(StoreError::Deadline { store }) if store == "local"));
    let old = TimeRange { from: 0, to: DAY_START_MS + HOUR_MS };
    let answer = rig.store.ask(&question(&[], Filter::Any, old)).unwrap();
    assert_eq!(answer.expired_before, Some(DAY_START_MS - 30 * 24 * HOUR_MS));
}
