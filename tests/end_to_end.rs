//! A new user's first minutes: start, generate, ask. Every route gives the generator's totals exactly.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::totals::{check_routes, items, number, top_sources, top_talkers, write_subscribers};
use support::{Collector, wait_until};

const SECONDS: &str = "5s";

/// A collector that knows the generator's subscribers, and what was sent to it.
fn fed_collector(folder: &std::path::Path) -> (Collector, Value) {
    write_subscribers(folder);
    let collector = Collector::new(folder, "[enrich]\nsubscribers = \"subscribers.csv\"\n").start();
    let sent = collector.generate(&["--rate", "1000", "--duration", SECONDS]);
    wait_until("all flows are in the log", Duration::from_secs(20), || {
        collector.ledger("flows/logged") == number(&sent, "flows")
    });
    (collector, sent)
}

#[test]
fn every_route_gives_the_generators_totals() {
    let folder = tempfile::tempdir().unwrap();
    let (mut collector, sent) = fed_collector(folder.path());
    // At once, from the log's tail, and again when everything is in files.
    check_answers(&collector, &sent);
    collector.wait_delivered();
    check_answers(&collector, &sent);
    check_accounts(&collector, &sent);
    check_command_line(&collector, &sent);
    // The answers survive a restart.
    collector.stop();
    collector.restart();
    check_answers(&collector, &sent);
    collector.stop();
}

fn check_answers(collector: &Collector, sent: &Value) {
    let (flows, bytes) = (number(sent, "flows"), number(sent, "bytes"));

    let talkers = collector.get("top-talkers?period=24h&limit=10");
    assert_eq!(top_talkers(&talkers), top_sources(sent), "{talkers}");

    check_routes(collector, sent);
    for tier in ["flows", "traffic", "usage", "geo"] {
        let answer = collector.get(&format!("query?period=7d&tier={tier}"));
        let matched = &answer["matched"];
        assert_eq!((number(matched, "flows"), number(matched, "bytes")), (flows, bytes), "{tier}: {answer}");
    }
}

fn check_accounts(collector: &Collector, sent: &Value) {
    let flows = number(sent, "flows");
    let exporters = collector.get("exporters");
    assert_eq!(items(&exporters).len(), 4, "{exporters}");
    assert_eq!(items(&exporters).iter().map(|e| number(&e["counters"], "flows")).sum::<u64>(), flows);
    let sinks = collector.get("sinks");
    assert_eq!(number(&items(&sinks)[0], "delivered_flows"), flows, "{sinks}");

    let metrics = collector.get_text("/metrics");
    let total = |name: &str| -> f64 {
        let samples = metrics.lines().filter(|l| l.starts_with(&format!("{name}{{")));
        samples.map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    assert_eq!(total("netflow_flows_total") as u64, flows);
    assert_eq!(total("netflow_bytes_total") as u64, number(sent, "bytes"));
    assert!(collector.get_text("/healthz").contains("ok"));
    assert!(collector.get_text("/openapi.json").contains("top-talkers"));
}

fn check_command_line(collector: &Collector, sent: &Value) {
    let url = collector.url("");
    let top = collector.cli(&["top", "--url", &url]);
    let first = sent["top_sources"][0]["src_ip"].as_str().unwrap();
    assert!(top.contains(first), "{first} is not in\n{top}");
    let file = collector.folder.join("flows.csv");
    collector.cli(&["export", "csv", "--url", &url, "--out", file.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count() as u64, number(sent, "flows") + 1);
}

#[test]
fn datagrams_sent_over_http_are_flows_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    let datagram = |sequence: u32, flows: u16| {
        let mut bytes = Vec::new();
        bytes.extend(5u16.to_be_bytes());
        bytes.extend(flows.to_be_bytes());
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as u32;
        for word in [3_600_000, now_s, 0, sequence, 0] {
            bytes.extend(u32::to_be_bytes(word));
        }
        for flow in 0..u32::from(flows) {
            let words = [0x0a00_0001 + flow, 0xc633_6401, 0, 0, 10, 1000 + flow, 3_590_000, 3_599_000];
            words.iter().for_each(|word| bytes.extend(word.to_be_bytes()));
            bytes.extend([0x9c, 0x40, 1, 187, 0, 0x1b, 6, 0]);
            bytes.extend([0; 8]);
        }
        bytes
    };
    let body = [datagram(0, 3), datagram(3, 2)].concat();
    let url = collector.url("/api/v1/netflow/v5-ingest?exporter=192.0.2.7");
    let answer: Value = ureq::post(&url).send(&body[..]).unwrap().body_mut().read_json().unwrap();
    assert_eq!((number(&answer, "accepted_datagrams"), number(&answer, "accepted_flows")), (2, 5), "{answer}");
    let exporters = collector.get("exporters");
    assert!(items(&exporters).iter().any(|e| e["exporter_ip"] == "192.0.2.7"), "{exporters}");
    let query = collector.get("query?period=1h&tier=flows");
    assert_eq!(number(&query["matched"], "bytes"), (0..3u64).chain(0..2).map(|i| 1000 + i).sum::<u64>());

    // A torn second datagram: the first is taken, the second is named by its offset.
    let torn = [datagram(5, 1), datagram(6, 2)[..40].to_vec()].concat();
    let answer: Value = ureq::post(&url).send(&torn[..]).unwrap().body_mut().read_json().unwrap();
    assert_eq!(number(&answer, "accepted_datagrams"), 1, "{answer}");
    assert_eq!(number(&answer["rejected"][0], "offset"), 72, "{answer}");
    collector.stop();
}

#[test]
fn what_is_wrong_with_a_question_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    for (question, names) in [
        ("top-talkers?limit=many", "limit"),
        ("top-talkers?period=yesterday", "period"),
        ("bandwidth-trend?interval=0s", "interval"),
        ("top-talkers?limti=3", "limit"),
        ("flows.csv?filter=src%20nett%2010.0.0.0/8", "filter"),
    ] {
        let url = collector.url(&format!("/api/v1/netflow/{question}"));
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(&url).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert_eq!(answer.status(), 400, "{question}: {text}");
        assert!(text.contains(names), "{question}: {text}");
    }
    collector.stop();
}
