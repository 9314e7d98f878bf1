//! The collector with InfluxDB as its only sink and its store: every route gives the generator's totals.

#[path = "../sinks/influxdb/tests/server/mod.rs"]
mod server;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use server::Server;
use support::{Collector, PROGRAM, wait_until};

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {value}"))
}

fn items(answer: &Value) -> &Vec<Value> {
    answer["items"].as_array().unwrap_or_else(|| panic!("no items in {answer}"))
}

/// A collector over a server that knows the generator's subscribers, and what was sent to it.
fn fed_collector(folder: &std::path::Path, server: &Server) -> (Collector, Value) {
    let csv = folder.join("subscribers.csv");
    let status = std::process::Command::new(PROGRAM)
        .args(["generate", "--count", "0", "--write-subscribers"])
        .arg(&csv)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let config = format!(
        "[enrich]\nsubscribers = \"subscribers.csv\"\n[[sink]]\nname = \"points\"\nkind = \"influxdb\"\napi = \"v1\"\n\
         url = \"{}\"\ndetail = true\ntags_max = 100\nflush_interval = \"1s\"\n",
        server.url()
    );
    let collector = Collector::with_config(folder, &config).start();
    let checked = collector.cli(&["check"]);
    assert!(checked.contains("InfluxDB") && checked.contains("answers"), "{checked}");
    let sent = collector.generate(&["--rate", "500", "--duration", "4s"]);
    wait_until("all flows are in the log", Duration::from_secs(60), || {
        collector.ledger("flows/logged") == number(&sent, "flows")
    });
    (collector, sent)
}

#[test]
fn every_route_gives_the_generators_totals() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut collector, sent) = fed_collector(folder.path(), &server);
    check_answers(&collector, &sent);
    // The answers survive a restart, and nothing is stored twice.
    collector.stop();
    collector.restart();
    check_answers(&collector, &sent);
    let sinks = collector.get("sinks");
    let sink = &items(&sinks)[0];
    assert_eq!((number(sink, "set_aside_flows"), number(sink, "waiting_flows")), (0, 0), "{sinks}");
    collector.stop();
}

fn check_answers(collector: &Collector, sent: &Value) {
    let (flows, bytes, packets) = (number(sent, "flows"), number(sent, "bytes"), number(sent, "packets"));
    // Sums of open buckets are emitted when they are asked for, and stored a moment later.
    for tier in ["flows", "traffic", "usage", "geo", "usage_apps"] {
        wait_until(&format!("{tier} holds everything"), Duration::from_secs(60), || {
            let answer = collector.get(&format!("query?period=7d&tier={tier}"));
            let matched = &answer["matched"];
            assert!(number(matched, "bytes") <= bytes, "{tier}: {answer}");
            (number(matched, "flows"), number(matched, "bytes")) == (flows, bytes)
        });
    }
    let top_wanted: BTreeMap<&str, u64> = sent["top_sources"]
        .as_array()
        .unwrap()
        .iter()
        .take(10)
        .map(|i| (i["src_ip"].as_str().unwrap(), number(i, "bytes")))
        .collect();
    wait_until("the top list is the generator's", Duration::from_secs(60), || {
        let talkers = collector.get("top-talkers?period=24h&limit=10");
        let top: BTreeMap<&str, u64> =
            items(&talkers).iter().map(|i| (i["src_ip"].as_str().unwrap(), number(i, "bytes_sent"))).collect();
        top == top_wanted
    });

    let trend = collector.get("bandwidth-trend?interval=1m");
    let sum = |name: &str| items(&trend).iter().map(|i| number(i, name)).sum::<u64>();
    let by_direction = |name: &str| sent["by_direction"][name]["bytes"].as_u64().unwrap_or(0);
    assert_eq!(sum("bytes_in"), by_direction("in"), "{trend}");
    assert_eq!((sum("bytes_out"), sum("pkts")), (by_direction("out"), packets));

    let breakdown = collector.get("protocol-breakdown?period=7d");
    let percent: f64 = items(&breakdown).iter().map(|i| i["bytes%"].as_f64().unwrap()).sum();
    assert!((percent - 100.0).abs() < 0.5, "{percent}: {breakdown}");

    let subscriber = &sent["top_subscribers"][0];
    let id = subscriber["subscriber_id"].as_str().unwrap();
    let usage = collector.get(&format!("subscriber/{id}/usage?period=24h"));
    let of_subscriber = |measure: &str| -> u64 {
        subscriber["by_direction"].as_object().unwrap().values().map(|sums| number(sums, measure)).sum()
    };
    assert_eq!(number(&usage, "bytes_total"), of_subscriber("bytes"), "{usage}");
    assert_eq!(number(&usage, "pkts_total"), of_subscriber("packets"));
    assert!(!usage["top_ports"].as_array().unwrap().is_empty());

    let csv = collector.get_text("/api/v1/netflow/flows.csv?period=24h");
    assert_eq!(csv.lines().count() as u64, flows + 1);
}
