//! What tests and benches share: an isp-like traffic generator, a log in memory, groups.

#![allow(dead_code)]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sink_api::rollup::{KeyColumn, Measures, OpenBucket, Record, Role, RollupDef, RollupRows, RollupSums};
use sink_api::sink::{Group, LogTail, RefusedRow};
use sink_api::{Addr, Clock, Direction, Entry, FlowBatch, Key, LogId, SinkContext, SinkError, Text, country};
use uuid::Uuid;

/// 2026-11-22T00:00:00Z.
pub const DAY_START_MS: i64 = 1_795_305_600_000;

/// Figures of the profile `isp`.
pub const SUBSCRIBERS: usize = 50_000;
pub const REMOTES: usize = 200_000;

/// A small fast generator of random numbers (splitmix64): seeded, so that every run is the same.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn normal(&mut self) -> f64 {
        let (u, v) = (self.unit().max(1e-12), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// Ranks by Zipf's law.
pub struct Zipf(Vec<f64>);

impl Zipf {
    pub fn new(n: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=n).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        let mut cumulated: Vec<f64> = weights.collect();
        cumulated.iter_mut().for_each(|w| *w /= sum);
        Self(cumulated)
    }

    pub fn pick(&self, random: &mut Random) -> usize {
        let at = random.unit();
        self.0.partition_point(|w| *w < at).min(self.0.len() - 1)
    }
}

/// Makes batches of enriched flows: zipf subscribers in 10/8, zipf remotes, log-normal sizes, durations of 0 to 900 s,
/// ephemeral client ports, 4 exporters.
pub struct Isp {
    random: Random,
    subscribers: Zipf,
    remotes: Zipf,
    /// Receive time of the next batch, µs.
    pub now_us: i64,
    /// µs from flow to flow.
    pub us_per_flow: i64,
}

const SERVICES: [(u16, u8, &str); 8] = [
    (443, 6, "https"),
    (443, 17, "quic"),
    (53, 17, "dns"),
    (80, 6, "http"),
    (123, 17, "ntp"),
    (993, 6, "imaps"),
    (22, 6, "ssh"),
    (3478, 17, "stun"),
];

impl Isp {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            subscribers: Zipf::new(SUBSCRIBERS, 0.9),
            remotes: Zipf::new(REMOTES, 1.05),
            now_us: (DAY_START_MS + 3_600_000) * 1_000,
            us_per_flow: 1,
        }
    }

    pub fn subscriber_addr(rank: usize) -> Addr {
        // Spread over 10/8, as leases are.
        Addr::v4(0x0a00_0000 | (rank as u32).wrapping_mul(0x9e37_79b1) >> 8)
    }

    pub fn subscriber_id(rank: usize) -> Uuid {
        let mut random = Random(rank as u64 ^ 0x5eed);
        Uuid::from_u64_pair(random.next(), random.next())
    }

    pub fn batch(&mut self, rows: usize) -> FlowBatch {
        let mut b = FlowBatch::default();
        let exporters: Vec<u32> = (0..4).map(|n| b.exporter_ip.add_value(Addr::v4(0xc0a8_0001 + n))).collect();
        let nas: Vec<u32> = (0..4).map(|n| b.nas_id.add_value(format!("nas-{n}").into())).collect();
        let sites: Vec<u32> = (0..200).map(|n| b.site.add_value(format!("site-{n:03}").into())).collect();
        let resellers: Vec<u32> =
            (0..500u64).map(|n| b.reseller_id.add_value(Uuid::from_u64_pair(n, n * 77))).collect();
        let apps: Vec<u32> = SERVICES.iter().map(|s| b.app.add_value(Text::from(s.2))).collect();
        let category = b.app_category.add_value(Text::from("web"));
        let mut known = std::collections::HashMap::new();
        for row in 0..rows {
            let at = row / 30 % 4;
            self.row(&mut b, row, (exporters[at], nas[at]), (&sites, &resellers, &apps, category), &mut known);
        }
        self.now_us += rows as i64 * self.us_per_flow;
        b.fill_missing();
        b
    }

    fn row(
        &mut self,
        b: &mut FlowBatch,
        row: usize,
        (exporter, nas): (u32, u32),
        (sites, resellers, apps, category): (&[u32], &[u32], &[u32], u32),
        known: &mut std::collections::HashMap<usize, u32>,
    ) {
        let r = &mut self.random;
        let rank = self.subscribers.pick(r);
        let remote_rank = self.remotes.pick(r);
        let (client, remote) =
            (Self::subscriber_addr(rank), Addr::v4(0x5000_0000 + (remote_rank as u32).wrapping_mul(7919)));
        let service = (r.unit().powi(3) * SERVICES.len() as f64) as usize;
        let (port, protocol, _) = SERVICES[service];
        let client_port = 32_768 + r.below(28_232) as u16;
        let outward = r.below(2) == 0;
        let packets = ((1.2 + 1.4 * r.normal()).exp() as u64).clamp(1, 1 << 30);
        let bytes = packets * (40 + (r.unit().powi(2) * 1440.0) as u64);
        let duration = if r.below(4) == 0 { 0 } else { ((7.0 + 2.0 * r.normal()).exp() as i64).clamp(0, 900_000) };
        // Flows come 30 to a datagram.
        let received = (self.now_us + (row / 30 * 30) as i64 * self.us_per_flow) / 1_000;
        let end = received - 1 - r.below(15_000) as i64;
        b.time.push(Some(end));
        b.flow_start.push(Some(end - duration));
        b.received_at.push(Some(received));
        b.exporter_ip.push_code(exporter);
        b.nas_id.push_code(nas);
        let (src, dst, sport, dport) =
            if outward { (client, remote, client_port, port) } else { (remote, client, port, client_port) };
        b.src_ip.push(Some(src));
        b.dst_ip.push(Some(dst));
        b.src_port.push(Some(sport));
        b.dst_port.push(Some(dport));
        b.protocol.push(Some(protocol));
        b.bytes.push(Some(bytes));
        b.packets.push(Some(packets));
        b.tcp_flags.push(Some(if protocol == 6 { [0x1b, 0x1a, 0x02, 0x1f][r.below(4) as usize] } else { 0 }));
        b.tos.push(Some(if r.below(10) == 0 { 0xb8 } else { 0 }));
        b.input_if.push(Some(1 + u32::from(outward)));
        b.output_if.push(Some(2 - u32::from(outward)));
        b.next_hop.push(Some(Addr::v4(0xc0a8_00fe)));
        let remote_as = 64_000 + (remote_rank as u32 % 3000);
        b.src_as.push(Some(if outward { 65_000 } else { remote_as }));
        b.dst_as.push(Some(if outward { remote_as } else { 65_000 }));
        b.src_mask.push(Some(24));
        b.dst_mask.push(Some(24));
        b.sampling_rate.push(Some(1));
        b.netflow_version.push(Some(5));
        b.direction.push(Some(if outward { Direction::Out } else { Direction::In } as u8));
        let (home, abroad) = (country::code("MA"), country::code(["FR", "US", "DE", "ES"][remote_rank % 4]));
        b.src_country.push(if outward { home } else { abroad });
        b.dst_country.push(if outward { abroad } else { home });
        b.service_port.push(Some(port));
        b.app.push_code(apps[service]);
        b.app_category.push_code(category);
        let ids = &mut b.subscriber_id;
        let id = *known.entry(rank).or_insert_with(|| ids.add_value(Self::subscriber_id(rank)));
        ids.push_code(id);
        b.reseller_id.push_code(resellers[rank % resellers.len()]);
        b.site.push_code(sites[rank % sites.len()]);
        let paired = r.below(10) == 0 && protocol == 6;
        b.bidirectional.push(paired.then_some(1));
        b.rtt_ms.push(paired.then(|| (r.unit().powi(2) * 200.0) as u32));
    }
}

/// A log in memory. Entries before `kept_from` are forgotten, as those that every sink has stored.
#[derive(Default)]
pub struct MemoryLog {
    entries: Mutex<VecDeque<Entry>>,
    last: AtomicU64,
}

impl MemoryLog {
    pub fn push(&self, record: Record) -> u64 {
        let mut entries = self.entries.lock().unwrap();
        let position = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        entries.push_back(Entry { position, record });
        position
    }

    pub fn forget_upto(&self, position: u64) {
        self.entries.lock().unwrap().retain(|e| e.position > position);
    }

    pub fn after(&self, position: u64) -> Vec<Entry> {
        self.entries.lock().unwrap().iter().filter(|e| e.position > position).cloned().collect()
    }
}

impl LogTail for MemoryLog {
    fn read_after(&self, position: u64, visit: &mut dyn FnMut(&Entry) -> bool) -> std::io::Result<()> {
        for entry in self.after(position) {
            if !visit(&entry) {
                break;
            }
        }
        Ok(())
    }
}

/// A group of given entries.
pub struct Entries(pub VecDeque<Entry>);

impl Entries {
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Group for Entries {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        Ok(self.0.pop_front())
    }

    fn set_aside(&mut self, _: &[RefusedRow<'_>]) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A clock that tests set.
#[derive(Clone)]
pub struct TestClock(pub Arc<AtomicI64>);

impl TestClock {
    pub fn new(ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ms)))
    }

    pub fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let ms = self.0.clone();
        Arc::new(move || ms.load(Ordering::SeqCst))
    }
}

pub const LOG: LogId = LogId([7; 16]);

pub fn context(log: Arc<MemoryLog>, clock: &TestClock) -> SinkContext {
    SinkContext {
        name: "local".into(),
        log_id: LOG,
        tail: log,
        rollups: Arc::new(RollupDef::defaults()),
        malformed: Arc::default(),
        clock: clock.clock(),
    }
}

pub fn config(path: &Path) -> sink_parquet::Config {
    sink_parquet::Config { path: path.to_path_buf(), row_group_rows: 5_000, ..sink_parquet::Config::default() }
}

/// Some rollup rows of every default rollup, as an aggregator could have made them.
pub fn sums(random: &mut Random, rows: usize, base_ms: i64) -> RollupSums {
    let make = |def: RollupDef, random: &mut Random| {
        let mut out = RollupRows::new(&def).unwrap();
        for _ in 0..rows {
            let bucket = (base_ms + random.below(4) as i64 * def.bucket_ms).div_euclid(def.bucket_ms) * def.bucket_ms;
            let n = random.below(1000) + 1;
            let m = Measures { bytes: n * 100, packets: n, flows: 1 + n % 3, rtt_ms_sum: n % 7, rtt_count: n % 2 };
            out.push_measures(bucket, &m);
            let mut rest = false;
            for (key, column) in &mut out.keys {
                push_key(*key, column, random, &mut rest);
            }
            if def.has_cut_bytes() {
                out.cut_bytes.push(if rest { n } else { 0 });
            }
        }
        out
    };
    let rows = RollupDef::defaults().into_iter().map(|def| make(def, random)).collect();
    RollupSums { upto: 1, replay_from: 2, open: Vec::<OpenBucket>::new(), rows }
}

/// A row's bucket and keys.
pub fn key_text(part: &RollupRows, row: usize) -> String {
    let keys = part.keys.iter().map(|(key, column)| column.value(key.kind(), row).to_string());
    keys.fold(part.bucket[row].to_string(), |text, key| text + "|" + &key)
}

fn push_key(key: Key, column: &mut KeyColumn, random: &mut Random, rest: &mut bool) {
    let pick = random.below(5);
    match column {
        KeyColumn::U8(c) if key == Key::Role => c.push(Some(if pick < 3 { Role::Src } else { Role::Dst } as u8)),
        KeyColumn::U8(c) => c.push(Some(1 + pick as u8)),
        KeyColumn::U16(c) => c.push((pick > 0).then_some(100 + pick as u16)),
        KeyColumn::U32(c) => c.push((pick > 0).then_some(64_000 + pick as u32)),
        KeyColumn::U64(c) => c.push(Some(pick)),
        KeyColumn::Ip(c) => {
            *rest = pick == 0;
            c.push((pick > 0).then(|| Addr::v4(0x0a00_0000 + pick as u32)));
        }
        KeyColumn::Text(c) => c.push((pick > 0).then(|| Text::from(format!("t{pick}"))).as_ref()),
        KeyColumn::Uuid(c) => c.push((pick > 0).then(|| Uuid::from_u64_pair(1, pick)).as_ref()),
    }
}
