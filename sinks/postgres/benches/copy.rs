//! What the sink costs against bare binary COPY of the same rows by the same client on the same server.
//!
//! `cargo bench -p sink-postgres --bench copy`. Pairs are interleaved: first bytes made beforehand into a partitioned table
//! like the sink's, then the sink with its encoding, cursor and commit. CPU seconds are those of this process and of the
//! server's processes. A server of its own with `fsync = off` is started, so disks do not count.

#[path = "support/cpu.rs"]
mod cpu;
#[path = "../tests/server/mod.rs"]
mod server;

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use cpu::{cpu_s, server_cpu_s};
use sink_api::conformance::{DataSet, Options};
use sink_api::sink::{Group, RefusedRow};
use sink_api::{Entry, FlowBatch, Record, SinkConfig, SinkContext, SinkError};

/// Rows of one round, and of one transaction in it.
const ROWS: usize = 500_000;
const GROUP_ROWS: usize = 50_000;
/// Rounds of each.
const PAIRS: usize = 5;
fn main() {
    let Some(server) = server::Server::start() else { return };
    // Its time would fall on whichever round it likes.
    server.client("postgres").batch_execute("ALTER SYSTEM SET autovacuum = off").unwrap();
    server.client("postgres").batch_execute("SELECT pg_reload_conf()").unwrap();
    server.database("flows");
    let batches = batches();
    let config = server::config(&server.url("flows"));
    let context = context();
    println!(
        "{ROWS} rows, groups of {GROUP_ROWS}\n{:<6} {:>9} {:>14} {:>14}",
        "what", "rows/s", "client CPU s/M", "server CPU s/M"
    );
    let mut ratios = Vec::new();
    let mut position = 0;
    let bytes = encoded(&server, &config, &context, &batches);
    for _ in 0..PAIRS {
        let bare = measured(&server, "bare", |server| bare(server, &bytes));
        let sink = measured(&server, "sink", |_| through_sink(&config, &context, &batches, &mut position));
        ratios.push(bare / sink);
    }
    ratios.sort_by(f64::total_cmp);
    println!("the sink reaches {:.0} % of bare COPY (median of {PAIRS} pairs)", ratios[PAIRS / 2] * 100.0);
}

/// Flows as the platform has them: IPv4, half of the columns filled, all within one day.
fn batches() -> Vec<Arc<FlowBatch>> {
    let set = DataSet::new(&Options { flows: 20_000, days: 1, detail: true }, &[]);
    let originals: Vec<_> = set
        .entries
        .iter()
        .filter_map(|entry| match &entry.record {
            Record::Flows(batch) if batch.src_ip.as_v4().is_some() => Some(batch),
            _ => None,
        })
        .collect();
    let mut rows = 0;
    let mut batches = Vec::new();
    for batch in originals.iter().cycle() {
        if rows >= ROWS {
            break;
        }
        rows += batch.len();
        batches.push(Arc::clone(batch));
    }
    batches
}

fn context() -> SinkContext {
    let now = DataSet::new(&Options { flows: 0, days: 1, detail: true }, &[]).now_ms;
    sink_api::conformance::context(Arc::default(), now)
}

/// The rows as COPY gives them back, a piece for each group.
fn encoded(
    server: &server::Server,
    config: &sink_postgres::Config,
    context: &SinkContext,
    batches: &[Arc<FlowBatch>],
) -> Vec<Vec<u8>> {
    let mut position = 0;
    through_sink(config, context, batches, &mut position);
    let mut client = server.client("flows");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(
        &mut client.copy_out("COPY (SELECT * FROM flows) TO STDOUT (FORMAT binary)").unwrap(),
        &mut bytes,
    )
    .unwrap();
    let bare = "CREATE TABLE bare (LIKE flows) PARTITION BY RANGE (time); CREATE INDEX ON bare USING brin (time) WITH \
                (pages_per_range = 32); CREATE TABLE bare_all PARTITION OF bare DEFAULT; TRUNCATE flows; \
                DELETE FROM netflow.cursors";
    client.batch_execute(bare).unwrap();
    vec![bytes]
}

fn bare(server: &server::Server, pieces: &[Vec<u8>]) {
    let mut client = server.client("flows");
    client.batch_execute("TRUNCATE bare").unwrap();
    for bytes in pieces {
        let mut tx = client.transaction().unwrap();
        let mut writer = tx.copy_in("COPY bare FROM STDIN (FORMAT binary)").unwrap();
        bytes.chunks(256 * 1024).for_each(|chunk| writer.write_all(chunk).unwrap());
        writer.finish().unwrap();
        tx.commit().unwrap();
    }
}

fn through_sink(config: &sink_postgres::Config, context: &SinkContext, batches: &[Arc<FlowBatch>], position: &mut u64) {
    let mut sink = config.open(context).unwrap();
    let mut rest = batches;
    while !rest.is_empty() {
        let mut group = Batches { rest: &mut rest, rows: 0, position };
        sink.write(&mut group).unwrap();
    }
}

/// Runs it, prints its figures, gives its seconds.
fn measured(server: &server::Server, what: &str, run: impl FnOnce(&server::Server)) -> f64 {
    server.client("flows").batch_execute("TRUNCATE flows; CHECKPOINT").unwrap();
    let (client, backend, start) = (cpu_s(std::process::id()), server_cpu_s(server.pid()), Instant::now());
    run(server);
    let seconds = start.elapsed().as_secs_f64();
    let millions = ROWS as f64 / 1e6;
    let (client, backend) = (cpu_s(std::process::id()) - client, server_cpu_s(server.pid()) - backend);
    println!("{what:<6} {:>9.0} {:>14.2} {:>14.2}", ROWS as f64 / seconds, client / millions, backend / millions);
    seconds
}

struct Batches<'a, 'b> {
    rest: &'a mut &'b [Arc<FlowBatch>],
    rows: usize,
    position: &'a mut u64,
}

impl Group for Batches<'_, '_> {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        let Some((batch, rest)) = self.rest.split_first().filter(|_| self.rows < GROUP_ROWS) else { return Ok(None) };
        *self.rest = rest;
        self.rows += batch.len();
        *self.position += 1;
        Ok(Some(Entry { position: *self.position, record: Record::Flows(Arc::clone(batch)) }))
    }

    fn set_aside(&mut self, rows: &[RefusedRow<'_>]) -> Result<(), SinkError> {
        assert!(rows.is_empty(), "{rows:?}");
        Ok(())
    }
}
