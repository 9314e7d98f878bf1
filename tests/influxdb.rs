//! The collector with InfluxDB as its only sink and its store: every route gives the generator's totals.

#[path = "../sinks/influxdb/tests/server/mod.rs"]
mod server;
mod support;

use std::time::Duration;

use serde_json::Value;
use server::Server;
use support::totals::{check_routes, items, number, top_sources, top_talkers, write_subscribers};
use support::{Collector, wait_until};

/// A collector over a server that knows the generator's subscribers, and what was sent to it.
fn fed_collector(folder: &std::path::Path, server: &Server) -> (Collector, Value) {
    write_subscribers(folder);
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
    let (flows, bytes) = (number(sent, "flows"), number(sent, "bytes"));
    // Sums of open buckets are emitted when they are asked for, and stored a moment later.
    for tier in ["flows", "traffic", "usage", "geo", "usage_apps", "usage_ports"] {
        wait_until(&format!("{tier} holds everything"), Duration::from_secs(60), || {
            let answer = collector.get(&format!("query?period=7d&tier={tier}"));
            let matched = &answer["matched"];
            assert!(number(matched, "bytes") <= bytes, "{tier}: {answer}");
            (number(matched, "flows"), number(matched, "bytes")) == (flows, bytes)
        });
    }
    wait_until("the top list is the generator's", Duration::from_secs(60), || {
        let talkers = collector.get("top-talkers?period=24h&limit=10");
        top_talkers(&talkers) == top_sources(sent)
    });

    check_routes(collector, sent);
    let id = sent["top_subscribers"][0]["subscriber_id"].as_str().unwrap();
    let usage = collector.get(&format!("subscriber/{id}/usage?period=24h"));
    assert_eq!(usage["top_ports_basis"]["tier"], "usage_ports", "{usage}");
}
