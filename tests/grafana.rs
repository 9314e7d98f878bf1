//! The dashboards: whole as files, and those about the collector itself on a real Prometheus. Those about traffic are tested with
//! their sinks.

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::grafana::{self, Macros};
use support::{Collector, Process, free_tcp_port, installed, wait_until};

/// How long a panel may take to have rows: several scrapes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Filled when the first bucket of 5 minutes is over.
const LATER: &str = "netflow_top_talker_bytes";

#[test]
fn every_dashboard_is_whole_and_one_is_the_entry() {
    let folder = grafana::folder("");
    let sources = std::fs::read_to_string(folder.join("provisioning/datasources/netflow.yml")).unwrap();
    let mut uids = BTreeSet::new();
    for (name, dashboard) in grafana::dashboards(&folder) {
        let uid = dashboard["uid"].as_str().unwrap().to_owned();
        assert_eq!(uid, name, "a dashboard's file is named as its uid");
        uids.insert(uid);
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: two panels have one id");
            for target in panel["targets"].as_array().into_iter().flatten() {
                let source = target["datasource"]["uid"].as_str().unwrap();
                assert!(
                    sources.contains(&format!("uid: {source}\n")),
                    "{name} asks {source}, which is not provisioned"
                );
            }
        }
    }
    assert!(uids.contains("netflow"), "{uids:?}");
    let provider = std::fs::read_to_string(folder.join("provisioning/dashboards/netflow.yml")).unwrap();
    assert!(provider.contains("path: /etc/grafana/dashboards\n"));
}

#[test]
fn every_query_uses_the_allowed_macros_only() {
    let macros = Macros { interval: "1m", from: "'a'".into(), to: "'b'".into(), time_filter: "time >= 0".into() };
    for source in ["netflow-postgres", "netflow-influxdb", "netflow-prometheus"] {
        for query in grafana::queries(&grafana::folder(""), source) {
            assert!(!macros.expand(&query).is_empty());
        }
    }
    let other = |text: &str| grafana::Query { name: "x".into(), source: "y".into(), text: text.into() };
    for text in ["SELECT $__timeGroup(time, 1h)", "SELECT $variable", "SELECT [[variable]]"] {
        assert!(std::panic::catch_unwind(|| macros.expand(&other(text))).is_err(), "{text}");
    }
}

#[test]
fn every_panel_about_the_collector_gives_rows_on_a_real_prometheus() {
    if !installed("prometheus") || !installed("promtool") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    let port = free_tcp_port();
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docker/prometheus/prometheus.yml"));
    let config = shipped.unwrap().replace("127.0.0.1:9101", &format!("127.0.0.1:{}", collector.admin));
    let config = config.replace("15s", "1s").replace("127.0.0.1:9093", "127.0.0.1:1");
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/prometheus/rules.yml");
    std::fs::copy(rules, folder.path().join("rules.yml")).unwrap();
    let checked = Command::new("promtool").args(["check", "config"]).arg(&file).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", file.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()));
    prometheus.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let log = folder.path().join("prometheus.log");
    let _prometheus = Process::start(&mut prometheus, &log);
    let ask = |expression: &str| -> Option<Value> {
        let url = format!("http://127.0.0.1:{port}/api/v1/query");
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        agent.get(url).query("query", expression).call().ok()?.body_mut().read_json().ok()
    };
    wait_until("Prometheus answers", PATIENCE, || ask("1").is_some());
    let macros = Macros { interval: "10s", from: String::new(), to: String::new(), time_filter: String::new() };
    for query in grafana::queries(&grafana::folder(""), "netflow-prometheus") {
        let expression = macros.expand(&query);
        let until = Instant::now() + PATIENCE;
        loop {
            // Flows keep coming, so that rates are rates.
            collector.generate(&["--count", "100", "--rate", "0"]);
            let answer = ask(&expression).unwrap_or_default();
            assert_ne!(answer["status"], "error", "{}: {expression}: {answer}", query.name);
            let rows = answer["data"]["result"].as_array().map_or(0, Vec::len);
            if rows > 0 || expression.contains(LATER) {
                break;
            }
            assert!(Instant::now() < until, "{} gives no rows: {expression}\n{}", query.name, collector.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    collector.stop();
}
