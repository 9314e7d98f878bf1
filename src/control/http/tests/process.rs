//! A process to put the endpoint over: a store in memory, a ledger, a sink, and knobs for what goes wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};

use serde_json::json;

use super::super::collector::{
    Collector, IngestError, Ingested, Readiness, Rejected, Reloaded, SinkState, SinkStatus, Site, SocketStatus,
};
use super::super::held::{HeldDropped, HeldError, HeldItem, HeldPage, HeldRecord, HeldReplayed, HeldWanted};
use super::*;
use crate::control::alerts::Board;
use crate::control::leases::LeaseBook;
use crate::control::state::{ExporterState, State};
use crate::enrich::{self, Enrichment};
use crate::flow::store::memory::MemoryStore;
use crate::flow::store::{Answer, FlowsQuestion, FlowsSummary, Question, StoreError};
use crate::flow::{Addr, Direction, Entry, FlowBatch, FlowStore, LogId, Record, RollupDef, Text, country};
use crate::telemetry::Exposition;
use crate::telemetry::ledger::Ledger;

/// 2026-01-31T12:00:00Z.
pub const NOW_MS: i64 = 1_769_860_800_000;

/// What a test wants the store to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    Unsupported,
    Deadline,
    Down,
    /// Rows first, then down.
    DownAfterRows,
    Panics,
    /// Waits until it is well again.
    Waits,
    /// Many rows.
    Long,
}

pub struct TestProcess {
    pub store: Arc<TestStore>,
    pub ledger: Ledger,
    pub sink: Mutex<SinkStatus>,
    pub busy: AtomicBool,
    pub now_ms: AtomicI64,
    pub ingested: Seen<Body>,
    pub emissions: Seen<i64>,
    pub board: Arc<Board>,
    pub histories: Mutex<BTreeMap<Addr, ExporterState>>,
    pub rollups: Arc<Vec<RollupDef>>,
    pub sites: Mutex<Vec<Site>>,
    pub leases: LeaseBook,
    /// What a sink named `local` refused.
    pub held: Seen<HeldItem>,
    pub folder: tempfile::TempDir,
}

impl Default for TestProcess {
    fn default() -> Self {
        Self::with_rollups(Vec::new())
    }
}

impl TestProcess {
    /// The same process after a restart that nothing prepared.
    pub fn leases_after_a_kill(&self) -> LeaseBook {
        let copy = self.folder.path().join("copy.redb");
        std::fs::copy(self.folder.path().join("state.redb"), &copy).unwrap();
        let enrichment = Enrichment::builtin(enrich::Config::default()).unwrap();
        LeaseBook::open(Arc::new(enrichment), Arc::new(State::open(&copy).unwrap())).unwrap()
    }

    /// Questions are answered from detail where no rollup is kept.
    pub fn with_rollups(rollups: Vec<RollupDef>) -> Self {
        let rollups = Arc::new(rollups);
        let memory = MemoryStore::new("local", rollups.clone());
        memory.insert(LogId([0; 16]), Entry { position: 1, record: Record::Flows(Arc::new(flows())) });
        let sink = SinkStatus {
            name: "local".into(),
            kind: "memory".into(),
            state: SinkState::Running,
            answers_questions: true,
            received_flows: 5,
            delivered_flows: 5,
            ..SinkStatus::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let enrichment = Enrichment::builtin(enrich::Config::default()).unwrap();
        let state = State::open(&folder.path().join("state.redb")).unwrap();
        let ledger = Ledger::default();
        let account = ledger.account([192, 0, 2, 1].into());
        account.datagrams.add(2);
        account.flows.add(6);
        account.logged_flows.add(5);
        account.absurd_flows.add(1);
        account.malformed.add(1);
        account.version.set(5);
        account.last_seen_ms.set(NOW_MS - 1500);
        Self {
            store: Arc::new(TestStore { memory, mood: Mutex::new(Mood::Well), held_from: Mutex::default() }),
            ledger,
            sink: Mutex::new(sink),
            busy: AtomicBool::new(false),
            now_ms: AtomicI64::new(NOW_MS),
            ingested: Mutex::default(),
            emissions: Mutex::default(),
            histories: Mutex::default(),
            rollups,
            sites: Mutex::default(),
            board: Arc::new(Board::open(state.alerts()).unwrap()),
            leases: LeaseBook::open(Arc::new(enrichment), Arc::new(state)).unwrap(),
            held: Mutex::new((1..=3).map(held_item).collect()),
            folder,
        }
    }

    pub fn set(&self, mood: Mood) {
        *self.store.mood.lock().unwrap() = mood;
    }
}

/// Five flows, one a minute in the last five minutes:
///
/// | from -> to | service | direction | bytes / packets | whose |
/// | --- | --- | --- | --- | --- |
/// | 10.0.0.1 -> 203.0.113.1 | tcp 443 | out | 1000 / 10 | A, subscriber 1 |
/// | 203.0.113.1 -> 10.0.0.1 | tcp 443 | in | 5000 / 20, rtt 30 | A, subscriber 1 |
/// | 10.0.1.1 -> 198.51.100.7 | udp 53 | out | 300 / 3 | B, subscriber 2 |
/// | 10.0.0.1 -> 10.0.1.1 | tcp 80 | internal | 700 / 7 | A, subscriber 1 |
/// | 192.0.2.8 -> 192.0.2.9 | icmp | transit | 50 / 1 | nobody |
///
/// 203.0.113.1 is in DE and AS 64500, 198.51.100.7 in US and AS 64501; 443 is HTTPS (web), 53 DNS (dns), 80 HTTP (web).
pub fn flows() -> FlowBatch {
    let mut batch = FlowBatch::default();
    let a = Some((RESELLER_A, 1, "gw1"));
    let b = Some((RESELLER_B, 2, "gw2"));
    let out = Direction::Out;
    let rows = [
        ("10.0.0.1", "203.0.113.1", 6, Some(443), out, 1000, 10, None, a),
        ("203.0.113.1", "10.0.0.1", 6, Some(443), Direction::In, 5000, 20, Some(30), a),
        ("10.0.1.1", "198.51.100.7", 17, Some(53), out, 300, 3, None, b),
        ("10.0.0.1", "10.0.1.1", 6, Some(80), Direction::Internal, 700, 7, None, a),
        ("192.0.2.8", "192.0.2.9", 1, None, Direction::Transit, 50, 1, None, None),
    ];
    for (index, (src, dst, protocol, port, direction, bytes, packets, rtt_ms, whose)) in rows.into_iter().enumerate() {
        let time = NOW_MS - 60_000 * (5 - index as i64);
        batch.time.push(Some(time));
        batch.flow_start.push(Some(time - 1000));
        batch.received_at.push(Some(time));
        batch.exporter_ip.push(Some(&"192.0.2.1".parse().unwrap()));
        batch.src_ip.push(Some(src.parse().unwrap()));
        batch.dst_ip.push(Some(dst.parse().unwrap()));
        batch.protocol.push(Some(protocol));
        batch.service_port.push(port);
        batch.direction.push(Some(direction as u8));
        batch.bytes.push(Some(bytes));
        batch.packets.push(Some(packets));
        batch.rtt_ms.push(rtt_ms);
        batch.reseller_id.push(whose.map(|w| w.0).as_ref());
        batch.subscriber_id.push(whose.map(|w| Uuid::from_u128(w.1)).as_ref());
        let place = |ip: &str| match ip {
            "203.0.113.1" => (country::code("DE"), Some(64_500)),
            "198.51.100.7" => (country::code("US"), Some(64_501)),
            _ => (None, None),
        };
        let app: Option<(Text, Text)> = match port {
            Some(443) => Some(("HTTPS".into(), "web".into())),
            Some(80) => Some(("HTTP".into(), "web".into())),
            Some(53) => Some(("DNS".into(), "dns".into())),
            _ => None,
        };
        batch.src_country.push(place(src).0);
        batch.src_as.push(place(src).1);
        batch.dst_country.push(place(dst).0);
        batch.dst_as.push(place(dst).1);
        batch.app.push(app.as_ref().map(|app| &app.0));
        batch.app_category.push(app.as_ref().map(|app| &app.1));
        batch.nas_id.push(whose.map(|w| w.2.into()).as_ref());
        batch.site.push(whose.map(|_| "north, \"1\"".into()).as_ref());
    }
    batch.fill_missing();
    batch
}

fn held_item(number: u64) -> HeldItem {
    HeldItem { id: format!("sink/local/{number}"), flows: number, sink: Some("local".into()), ..HeldItem::default() }
}

impl Collector for TestProcess {
    fn store(&self, name: Option<&str>) -> Option<Arc<dyn FlowStore>> {
        matches!(name, None | Some("local")).then(|| self.store.clone() as Arc<dyn FlowStore>)
    }

    fn alerts(&self) -> Option<Arc<Board>> {
        Some(self.board.clone())
    }

    fn store_names(&self) -> Vec<String> {
        vec!["local".into()]
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn expose(&self, out: &mut Exposition) {
        self.ledger.expose(out);
    }

    fn sites(&self) -> Vec<Site> {
        self.sites.lock().unwrap().clone()
    }

    fn leases(&self) -> Option<&LeaseBook> {
        Some(&self.leases)
    }

    fn sinks(&self) -> Vec<SinkStatus> {
        vec![self.sink.lock().unwrap().clone()]
    }

    fn ingest(&self, exporter: IpAddr, body: &[u8]) -> Result<Ingested, IngestError> {
        if self.busy.load(SeqCst) {
            return Err(IngestError::Busy { retry_after_s: 7 });
        }
        self.ingested.lock().unwrap().push((exporter, body.to_vec()));
        let rejected = vec![Rejected { offset: 72, reason: "too short".into() }];
        Ok(Ingested { accepted_datagrams: 1, accepted_flows: u64::from(body[3]), rejected })
    }

    fn exporters_of_all_runs(&self) -> BTreeMap<Addr, ExporterState> {
        self.histories.lock().unwrap().clone()
    }

    fn sockets(&self) -> Vec<SocketStatus> {
        vec![SocketStatus {
            address: "127.0.0.1:2055".into(),
            datagrams: 2,
            kernel_drops: 9,
            ..SocketStatus::default()
        }]
    }

    fn readiness(&self) -> Readiness {
        let ready = !self.busy.load(SeqCst);
        let text = if ready { "ok" } else { "busy" };
        Readiness { ready, checks: [("log".to_owned(), text.to_owned())].into() }
    }

    fn rollups(&self) -> Arc<Vec<RollupDef>> {
        self.rollups.clone()
    }

    fn config(&self) -> Value {
        json!({ "sink[0].name": { "value": "\"db\"", "origin": "pipeline.toml" } })
    }

    fn reload(&self) -> Result<Reloaded, Vec<String>> {
        if self.busy.load(SeqCst) {
            return Err(vec!["pipeline.toml:3: unknown key".into(), "pipeline.toml:9: bad port".into()]);
        }
        Ok(Reloaded { applied: vec!["log.bytes_max".into()], ..Reloaded::default() })
    }

    fn held(&self, wanted: &HeldWanted<'_>) -> Result<HeldPage, HeldError> {
        if wanted.sink.is_some_and(|sink| sink != "local") {
            return Err(HeldError::Unknown("there is no such sink".into()));
        }
        let after = wanted.after.map_or(0, |id| id.rsplit('/').next().unwrap().parse().unwrap());
        let items: Vec<_> = self.held.lock().unwrap().iter().skip(after).take(wanted.records_max).cloned().collect();
        let next = items.last().map(|item| item.id.clone());
        Ok(HeldPage { items, total: self.held.lock().unwrap().len() as u64, next, ..HeldPage::default() })
    }

    fn held_record(&self, id: &str, _: usize) -> Result<HeldRecord, HeldError> {
        let found = self.held.lock().unwrap().iter().find(|item| item.id == id).cloned();
        let record = found.ok_or_else(|| HeldError::Unknown("there is no such record".into()))?;
        Ok(HeldRecord { record, ..HeldRecord::default() })
    }

    fn replay_held(&self, sink: &str, id: Option<&str>, _: Option<&str>) -> Result<HeldReplayed, HeldError> {
        if self.busy.load(SeqCst) {
            return Err(HeldError::Busy("sink local: connection refused".into()));
        }
        let mut held = self.held.lock().unwrap();
        let before = held.len();
        held.retain(|item| id.is_some_and(|id| id != item.id));
        Ok(HeldReplayed { sink: sink.into(), records: (before - held.len()) as u64, ..HeldReplayed::default() })
    }

    fn drop_held(&self, sink: &str, id: Option<&str>) -> Result<HeldDropped, HeldError> {
        let replayed = self.replay_held(sink, id, None)?;
        Ok(HeldDropped { sink: replayed.sink, records: replayed.records, flows: 0 })
    }

    fn emit_open_sums(&self) {
        self.emissions.lock().unwrap().push(self.now_ms());
    }

    fn now_ms(&self) -> i64 {
        self.now_ms.load(SeqCst)
    }
}

/// The store in memory, in a mood.
pub struct TestStore {
    pub memory: MemoryStore,
    mood: Mutex<Mood>,
    /// Where detail begins, when some has expired.
    pub held_from: Mutex<Option<i64>>,
}

impl TestStore {
    fn mood(&self) -> Result<Mood, StoreError> {
        let store = || "local".to_owned();
        let mut mood = *self.mood.lock().unwrap();
        while mood == Mood::Waits {
            std::thread::sleep(std::time::Duration::from_millis(5));
            mood = *self.mood.lock().unwrap();
        }
        match mood {
            Mood::Unsupported => Err(StoreError::Unsupported {
                store: store(),
                reason: "no detail".into(),
                remedy: "add parquet".into(),
            }),
            Mood::Deadline => Err(StoreError::Deadline { store: store() }),
            Mood::Down => Err(StoreError::Down { store: store(), reason: "connection refused".into() }),
            Mood::Panics => panic!("a store panics"),
            mood => Ok(mood),
        }
    }
}

impl FlowStore for TestStore {
    fn name(&self) -> &str {
        "local"
    }

    fn ask(&self, question: &Question) -> Result<Answer, StoreError> {
        self.mood()?;
        let answer = self.memory.ask(question)?;
        Ok(Answer { expired_before: *self.held_from.lock().unwrap(), ..answer })
    }

    fn flows(
        &self,
        question: &FlowsQuestion,
        visit: &mut dyn FnMut(&FlowBatch, &[u32]) -> bool,
    ) -> Result<FlowsSummary, StoreError> {
        let mood = self.mood()?;
        let mut summary = self.memory.flows(question, visit)?;
        if mood == Mood::Long || mood == Mood::DownAfterRows {
            let batch = flows();
            // Far more than the pieces that wait for a client.
            for _ in 0..5_000 {
                summary.rows += 5;
                if !visit(&batch, &[0, 1, 2, 3, 4]) {
                    return Ok(summary);
                }
            }
        }
        match mood {
            Mood::DownAfterRows => Err(StoreError::Down { store: "local".into(), reason: "gone".into() }),
            _ => Ok(summary),
        }
    }
}
