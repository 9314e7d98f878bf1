//! What is set aside is seen, brought to its sink again exactly once, or dropped; with PostgreSQL as the store that refuses.

#[path = "../sinks/postgres/tests/server/mod.rs"]
mod server;
mod support;

use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use server::Server;
use support::totals::number;
use support::{Collector, PROGRAM, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

/// A collector that stores in a new database of the server.
fn collector(folder: &std::path::Path, server: &Server) -> Collector {
    server.database("rgz");
    let sink = format!(
        "[[sink]]\nname = \"db\"\nkind = \"postgres\"\nurl = \"{}\"\nsslmode = \"disable\"\nflush_interval = \"1s\"\n",
        server.url("rgz")
    );
    Collector::with_config(folder, &sink).start()
}

/// The only sink's part of the ledger; its sums close.
fn sink(collector: &Collector) -> Value {
    let sink = collector.get("sinks")["items"][0].clone();
    assert_eq!(sink["unaccounted_flows"], 0, "{sink}");
    sink
}

/// Runs `quarantine` against the collector; gives its exit code and what it printed.
fn quarantine(collector: &Collector, args: &[&str]) -> (i32, String) {
    let url = collector.url("");
    let command = [&["quarantine"], args, &["--url", &url]].concat();
    let Output { status, stdout, stderr } = Command::new(PROGRAM).args(command).output().unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (status.code().unwrap(), text)
}

fn listed(collector: &Collector, query: &str) -> Value {
    collector.get(&format!("quarantine?{query}"))
}

/// Rows and bytes of detail.
fn stored(client: &mut postgres::Client) -> (i64, i64) {
    let row = client.query_one("SELECT count(*), sum(bytes)::bigint FROM flows", &[]).unwrap();
    (row.get(0), row.get(1))
}

#[test]
fn rows_that_the_store_refused_are_stored_exactly_once_when_it_takes_them() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut collector = collector(folder.path(), &server);
    let first = collector.generate(&["--rate", "2000", "--count", "300", "--seed", "7"]);
    collector.wait_delivered();
    let mut client = server.client("rgz");
    client.batch_execute("ALTER TABLE flows ADD CONSTRAINT picky CHECK (bytes % 40 <> 7) NOT VALID").unwrap();
    let second = collector.generate(&["--rate", "2000", "--count", "900", "--seed", "8"]);
    collector.wait_delivered();
    let totals =
        (number(&first, "flows") + number(&second, "flows"), number(&first, "bytes") + number(&second, "bytes"));

    let held = listed(&collector, "by=sink");
    let refused = number(&held, "flows");
    assert!(refused > 0 && number(&held, "total") == refused, "row by row: {held}");
    let item = &held["items"][0];
    assert!(item["reason"].as_str().unwrap().contains("picky"), "{item}");
    assert_eq!((&item["sink"], &item["holds"], &item["flows"]), (&"db".into(), &"flows".into(), &1.into()), "{item}");
    assert!(number(item, "position") > 0 && number(item, "bytes") > 0 && item["row"].is_u64(), "{item}");
    let shown = sink(&collector);
    assert_eq!(number(&shown, "set_aside_flows"), refused);
    assert_eq!(number(&shown, "received_flows"), totals.0);
    assert_eq!(stored(&mut client).0 as u64, totals.0 - refused);

    // Page by page it is the same list.
    let (mut pages, mut after) = (0, String::new());
    loop {
        let page = listed(&collector, &format!("by=sink&limit=7&after={after}"));
        pages += page["items"].as_array().unwrap().len() as u64;
        assert_eq!(number(&page, "total"), refused);
        let Some(next) = page["next"].as_str() else { break };
        after = next.to_owned();
    }
    assert_eq!(pages, refused);
    let (code, text) = quarantine(&collector, &["show", item["id"].as_str().unwrap()]);
    assert!(code == 0 && text.lines().count() == 2 && text.contains("src_ip="), "{text}");

    // While the store refuses nothing moves.
    let (code, text) = quarantine(&collector, &["replay", "--sink", "db"]);
    assert!(code == 1 && text.contains(&format!("{refused} records are refused again and stay")), "{code} {text}");
    assert!(text.contains("picky"), "{text}");
    assert_eq!(number(&sink(&collector), "set_aside_flows"), refused);

    client.batch_execute("ALTER TABLE flows DROP CONSTRAINT picky").unwrap();
    let (code, text) = quarantine(&collector, &["replay", item["id"].as_str().unwrap()]);
    assert!(code == 0 && text.contains("stored: 1 records with 1 flows"), "{text}");
    let (code, text) = quarantine(&collector, &["replay", "--sink", "db"]);
    assert!(code == 0 && text.contains(&format!("stored: {} records", refused - 1)), "{code} {text}");
    let (code, text) = quarantine(&collector, &["replay", "--sink", "db"]);
    assert!(code == 0 && text.contains("stored: 0 records"), "{code} {text}");
    assert_eq!(stored(&mut client), (totals.0 as i64, totals.1 as i64));
    let shown = sink(&collector);
    assert_eq!((number(&shown, "set_aside_flows"), number(&shown, "delivered_flows")), (0, totals.0), "{shown}");
    let metrics = collector.get_text("/metrics");
    for (name, value) in
        [("set_aside_flows_total", refused), ("replayed_flows_total", refused), ("quarantine_records", 0)]
    {
        let line = format!("netflow_sink_{name}{{sink=\"db\",kind=\"postgres\"}} {value}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    // Of the collector's own log nothing comes again.
    collector.stop();
    collector.restart();
    collector.wait_delivered();
    assert_eq!(stored(&mut client), (totals.0 as i64, totals.1 as i64));
    collector.stop();
}

#[test]
fn sums_that_the_store_refused_survive_a_restart_and_are_stored_once() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut collector = collector(folder.path(), &server);
    let question = "query?period=24h&tier=traffic&measures=bytes,flows";
    collector.generate(&["--rate", "2000", "--count", "60", "--seed", "7"]);
    collector.wait_delivered();
    let mut client = server.client("rgz");
    client.batch_execute("ALTER TABLE flows_traffic ADD CONSTRAINT picky CHECK (flows < 0) NOT VALID").unwrap();
    let sent = collector.generate(&["--rate", "2000", "--count", "600", "--seed", "8"]);
    collector.wait_delivered();
    wait_until("sums are set aside", PATIENCE, || {
        // A question has open sums emitted.
        collector.get(question);
        number(&listed(&collector, "by=sink"), "total") > 0
    });
    let held = listed(&collector, "by=sink");
    assert_eq!((&held["items"][0]["holds"], &held["items"][0]["row"]), (&"sums".into(), &Value::Null), "{held}");
    let (code, text) = quarantine(&collector, &["show", held["items"][0]["id"].as_str().unwrap()]);
    assert!(code == 0 && text.contains("rollup=traffic"), "{text}");
    collector.stop();
    client.batch_execute("ALTER TABLE flows_traffic DROP CONSTRAINT picky").unwrap();
    collector.restart();
    let (code, text) = quarantine(&collector, &["replay", "--sink", "db"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(number(&listed(&collector, "by=sink"), "total"), 0);
    wait_until("sums and detail agree", PATIENCE, || {
        collector.get(question);
        let sums = client.query_one("SELECT sum(bytes)::bigint, sum(flows)::bigint FROM flows_traffic", &[]).unwrap();
        let detail = client.query_one("SELECT sum(bytes)::bigint, count(*) FROM flows", &[]).unwrap();
        let pair = |row: &postgres::Row| (row.get::<_, Option<i64>>(0), row.get::<_, Option<i64>>(1));
        pair(&sums) == pair(&detail) && detail.get::<_, i64>(1) as u64 == 60 + number(&sent, "flows")
    });
    collector.stop();
}

#[test]
fn records_that_cannot_be_true_are_shown_with_their_bytes_and_dropped_ones_are_counted() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut collector = collector(folder.path(), &server);
    collector.generate(&["--rate", "2000", "--count", "60"]);
    collector.wait_delivered();
    let mut client = server.client("rgz");
    client.batch_execute("ALTER TABLE flows ADD CONSTRAINT picky CHECK (bytes % 40 <> 7) NOT VALID").unwrap();
    // One record of 900 bytes in no packets.
    let mut datagram = vec![0u8; 24 + 48];
    (datagram[1], datagram[3]) = (5, 1);
    let record: Vec<u8> = (0..48u8).map(|i| if i == 23 { 200 } else { u8::from(i < 4) * 10 }).collect();
    datagram[24..].copy_from_slice(&record);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&datagram, ("127.0.0.1", collector.port)).unwrap();
    wait_until("the record is set aside", PATIENCE, || number(&listed(&collector, "by=decode"), "total") == 1);
    let item = listed(&collector, "by=decode")["items"][0].clone();
    let raw: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&item["raw"], &item["exporter"]), (&raw.into(), &"127.0.0.1".into()), "{item}");
    assert_eq!(number(&item, "source_port"), u64::from(socket.local_addr().unwrap().port()));
    assert_eq!(item["reason"], "bytes without packets");
    assert_eq!(collector.ledger("flows/left_out/absurd"), 1);

    collector.generate(&["--rate", "2000", "--count", "600", "--seed", "9"]);
    collector.wait_delivered();
    let refused = number(&sink(&collector), "set_aside_flows");
    assert!(refused > 0);
    let (code, text) = quarantine(&collector, &["drop", "--sink", "db"]);
    assert!(code == 0 && text.contains(&format!("dropped: {refused} records with {refused} flows")), "{text}");
    let shown = sink(&collector);
    assert_eq!((number(&shown, "set_aside_flows"), number(&shown["dropped_flows"], "quarantine")), (0, refused));
    assert_eq!(number(&listed(&collector, ""), "total"), 1, "what decoding set aside is still there");
    for (arguments, says) in [
        (&["replay", "--sink", "none"][..], "there is no sink named \"none\""),
        (&["show", "decode/99"], "there is no record decode/99 in quarantine"),
        (&["drop", "sink/db/none"], "there is no record sink/db/none in quarantine"),
        (&["replay", "decode/1"], "no sink has a record decode/1 in quarantine"),
    ] {
        let (code, text) = quarantine(&collector, arguments);
        assert!(code == 2 && text.contains(says), "{arguments:?}: {code} {text}");
    }
    collector.stop();
}
