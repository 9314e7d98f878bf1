//! What points cost: the encoder alone, and the sink against a server of its own.
//!
//! `cargo bench -p sink-influxdb --bench points`. Flows and rollups as the platform has them: a thousand subscribers behind a
//! few access servers, so that series are few beside the points. CPU seconds are those of this process and of the server;
//! bytes are those of the server's files after it was stopped, which writes its cache out.

#[path = "../tests/server/mod.rs"]
mod server;

use std::sync::Arc;
use std::time::Instant;

use sink_api::conformance::{DataSet, LOG, Options, pro_rated};
use sink_api::sink::{Group, RefusedRow};
use sink_api::{Entry, FlowBatch, Record, RollupDef, SinkConfig, SinkError, Text, Uuid};
use sink_influxdb::Config;

/// Flows of one round, and of one group in it.
const FLOWS: usize = 200_000;
const GROUP_FLOWS: usize = 50_000;
/// Clock ticks in a second (`USER_HZ`), fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() {
    let batches = batches();
    let rollups: Arc<Vec<RollupDef>> = Arc::new(RollupDef::defaults());
    let flows: Vec<Record> = batches.iter().cloned().map(Record::Flows).collect();
    let sums: Vec<Record> =
        batches.iter().zip(1..).map(|(batch, at)| Record::Sums(Arc::new(pro_rated(&rollups, batch, at)))).collect();
    encode("flows", &flows);
    encode("rollups", &sums);
    for (what, records, gzip) in [
        ("flows", &flows, true),
        ("flows, no gzip", &flows, false),
        ("rollups", &sums, true),
        ("rollups, no gzip", &sums, false),
    ] {
        let Some(mut server) = server::Server::start() else { return };
        let config = Config { gzip, ..server.config() };
        through_sink(what, &mut server, &config, &rollups, records);
    }
}

/// Flows with the cardinalities of a platform: 1,000 subscribers of 20 resellers, 8 access servers, 12 applications.
fn batches() -> Vec<Arc<FlowBatch>> {
    let set = DataSet::new(&Options { flows: FLOWS / 2, days: 1, detail: true }, &[]);
    let mut batches = Vec::new();
    let originals = set.entries.iter().filter_map(|entry| match &entry.record {
        Record::Flows(batch) if batch.src_ip.as_v4().is_some() => Some(batch),
        _ => None,
    });
    let originals: Vec<_> = originals.collect();
    let mut random = 1u64;
    let mut next = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    for batch in originals.iter().cycle().take(FLOWS / 1000) {
        let mut batch = FlowBatch::clone(batch);
        let len = batch.len();
        batch.subscriber_id = Default::default();
        batch.reseller_id = Default::default();
        batch.nas_id = Default::default();
        batch.site = Default::default();
        batch.app = Default::default();
        for _ in 0..len {
            let subscriber = next(1000);
            let nas = subscriber % 8;
            batch.subscriber_id.push(Some(&Uuid::from_u128(u128::from(subscriber) << 64 | 1)));
            batch.reseller_id.push(Some(&Uuid::from_u128(u128::from(subscriber % 20) << 32 | 2)));
            batch.nas_id.push(Some(&Text::from(format!("edge-{nas}"))));
            batch.site.push(Some(&Text::from(format!("site-{nas}"))));
            let app = next(16);
            batch.app.push((app < 12).then(|| Text::from(format!("app-{app}"))).as_ref());
        }
        batches.push(Arc::new(batch));
    }
    batches
}

fn points(records: &[Record]) -> usize {
    let of = |record: &Record| match record {
        Record::Flows(batch) => batch.len(),
        Record::Sums(sums) => sums.rows.iter().map(|rows| rows.len()).sum(),
        Record::Alerts(rows) => rows.len(),
    };
    records.iter().map(of).sum()
}

/// The encoder without a server.
fn encode(what: &str, records: &[Record]) {
    let (cpu, start, points) = (cpu_s(std::process::id()), Instant::now(), points(records));
    let bytes = sink_influxdb::encoded_bytes(records, LOG);
    let millions = points as f64 / 1e6;
    println!(
        "encode {what:<18} {:>9.0} points/s, CPU {:.2} s/M, {:.0} bytes a line",
        points as f64 / start.elapsed().as_secs_f64(),
        (cpu_s(std::process::id()) - cpu) / millions,
        bytes as f64 / points as f64,
    );
}

fn through_sink(
    what: &str,
    server: &mut server::Server,
    config: &Config,
    rollups: &Arc<Vec<RollupDef>>,
    records: &[Record],
) {
    let now = sink_api::conformance::START_MS + sink_api::time::DAY_MS;
    let context = sink_api::conformance::context(Arc::clone(rollups), now);
    let mut sink = config.open(&context).unwrap();
    let pid = server.pid();
    let (client, backend, start) = (cpu_s(std::process::id()), cpu_s(pid), Instant::now());
    let mut group = Records { records, next: 0, end: 0 };
    while group.next < records.len() {
        group.end = (group.next + GROUP_FLOWS / 1000).min(records.len());
        sink.write(&mut group).unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    let (client, backend) = (cpu_s(std::process::id()) - client, cpu_s(pid) - backend);
    let resident = resident_bytes(pid);
    server.stop("TERM");
    let points = points(records);
    let millions = points as f64 / 1e6;
    println!(
        "sink   {what:<18} {:>9.0} points/s, CPU s/M: collector {:.2}, server {:.2}; {:.0} bytes a point on disk, {} MB resident",
        points as f64 / seconds,
        client / millions,
        backend / millions,
        server.stored_bytes() as f64 / points as f64,
        resident >> 20,
    );
}

/// CPU seconds of a process.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

fn resident_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

struct Records<'a> {
    records: &'a [Record],
    next: usize,
    end: usize,
}

impl Group for Records<'_> {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        if self.next == self.end {
            return Ok(None);
        }
        self.next += 1;
        Ok(Some(Entry { position: self.next as u64, record: self.records[self.next - 1].clone() }))
    }

    fn set_aside(&mut self, rows: &[RefusedRow<'_>]) -> Result<(), SinkError> {
        assert!(rows.is_empty(), "{rows:?}");
        Ok(())
    }
}
