//! Two database servers are away for a minute while flows arrive: afterwards both have every flow once, the sink beside them was
//! never held up, and memory did not grow with what waits.

#[path = "../sinks/influxdb/tests/server/mod.rs"]
mod influxd;
#[path = "../sinks/postgres/tests/server/mod.rs"]
mod postgresd;
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::totals::number;
use support::{Collector, PROGRAM, Process, wait_until};

/// How long the servers are away: pauses between tries grow to 30 s within it.
const OUTAGE: Duration = Duration::from_secs(60);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// How old the oldest flow that waits for the healthy sink may become.
const DELAY_SECONDS_MAX: f64 = 30.0;
/// Resident memory that may come on top during the outage. What waits is in the log's files.
const GROWTH_BYTES_MAX: u64 = 160 << 20;
/// A time range that holds everything.
const ALWAYS: &str = "from=1970-01-02T00:00:00Z&to=2100-01-01T00:00:00Z";

/// What the API says of one sink.
fn sink(collector: &Collector, name: &str) -> Value {
    let sinks = collector.get("sinks");
    let found = sinks["items"].as_array().unwrap().iter().find(|sink| sink["name"] == name);
    found.unwrap_or_else(|| panic!("no sink {name} in {sinks}")).clone()
}

fn resident_bytes(collector: &Collector) -> u64 {
    let pid = collector.process.as_ref().unwrap().0.id();
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn servers_away_for_a_minute_get_everything_once_and_hold_nothing_up() {
    let Some(mut postgres) = postgresd::Server::start() else { return };
    let Some(mut influx) = influxd::Server::start() else { return };
    postgres.database("flows");
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[[sink]]\nname = \"local\"\nkind = \"parquet\"\npath = \"data\"\nflush_interval = \"1s\"\n\
         [[sink]]\nname = \"tables\"\nkind = \"postgres\"\nurl = \"{}\"\nsslmode = \"disable\"\nflush_interval = \"1s\"\n\
         [[sink]]\nname = \"points\"\nkind = \"influxdb\"\napi = \"v1\"\nurl = \"{}\"\ndetail = true\nflush_interval = \"1s\"\n",
        postgres.url("flows"),
        influx.url()
    );
    let mut collector = Collector::with_config(folder.path(), &config).start();
    let output = folder.path().join("generate.json");
    let mut command = Command::new(PROGRAM);
    command.args(["generate", "--json", "--rate", "2000", "--to", &format!("127.0.0.1:{}", collector.port)]);
    let mut generator = Process::start(&mut command, &output);
    for name in ["local", "tables", "points"] {
        let running = || number(&sink(&collector, name), "delivered_flows") > 0;
        wait_until(&format!("{name} has flows"), PATIENCE, running);
    }

    let before = resident_bytes(&collector);
    postgres.stop("INT");
    influx.stop("TERM");
    let away = Instant::now();
    while away.elapsed() < OUTAGE {
        let local = sink(&collector, "local");
        assert!(local["lag_seconds"].as_f64().unwrap() < DELAY_SECONDS_MAX, "the healthy sink waits: {local}");
        let now = resident_bytes(&collector);
        assert!(now < before + GROWTH_BYTES_MAX, "{before} bytes have become {now}");
        std::thread::sleep(Duration::from_millis(500));
    }
    for name in ["tables", "points"] {
        let status = sink(&collector, name);
        assert!(number(&status, "waiting_flows") > 50_000, "{status}");
        assert!(number(&status, "retries") >= 5 && status["last_error"].is_string(), "{status}");
    }
    assert_eq!(sink(&collector, "local")["last_error"], Value::Null);

    postgres.run();
    influx.run();
    generator.signal("INT");
    generator.wait(PATIENCE);
    let sent: Value = serde_json::from_str(&std::fs::read_to_string(&output).unwrap()).unwrap();
    let (flows, bytes) = (number(&sent, "flows"), number(&sent, "bytes"));
    wait_until("everything is received", PATIENCE, || collector.ledger("flows/logged") == flows);
    for name in ["local", "tables", "points"] {
        wait_until(&format!("{name} has everything"), PATIENCE, || {
            number(&sink(&collector, name), "waiting_flows") == 0
        });
    }
    // The question has the open sums emitted.
    let answer = collector.get(&format!("query?{ALWAYS}&tier=flows&measures=bytes,flows"));
    assert_eq!((number(&answer["matched"], "flows"), number(&answer["matched"], "bytes")), (flows, bytes));
    let mut client = postgres.client("flows");
    let mut ask = |sql: &str| {
        let row = client.query_one(sql, &[]).unwrap();
        (row.get::<_, i64>(0) as u64, row.get::<_, i64>(1) as u64)
    };
    assert_eq!(ask("SELECT count(*), sum(bytes)::bigint FROM flows"), (flows, bytes), "tables");
    let points = influx.numbers("SELECT count(bytes), sum(bytes) FROM netflow.flows");
    assert_eq!(points, [flows, bytes], "points");
    wait_until("the sums are everywhere", PATIENCE, || {
        collector.get(&format!("query?{ALWAYS}&tier=traffic"));
        let tables = ask("SELECT sum(flows)::bigint, sum(bytes)::bigint FROM flows_traffic");
        let points = influx.numbers("SELECT sum(flows), sum(bytes) FROM netflow.traffic");
        assert!(tables.1 <= bytes && points[1] <= bytes, "{tables:?} {points:?} of {bytes}");
        tables == (flows, bytes) && points == [flows, bytes]
    });
    assert_eq!(collector.dropped_flows(), 0);
    collector.stop();
}
