//! Alerts end to end: real traffic into the real program, a real Alertmanager, kills and restarts; and the shipped rules
//! under the real promtool.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::totals::number;
use support::{Collector, PROGRAM, Process, free_tcp_port, installed, wait_until};

/// Longest wait for anything; tests on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that the busiest of the generator's subscribers pass in a few seconds, and most do not.
const THRESHOLD: u64 = 2_000_000;

/// Prepares a collector that knows the generator's subscribers.
fn collector(folder: &Path, threshold: u64, alertmanager: Option<u16>) -> Collector {
    let status = Command::new(PROGRAM)
        .args(["generate", "--count", "0", "--write-subscribers"])
        .arg(folder.join("subscribers.csv"))
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let receiver = alertmanager.map_or_else(String::new, |port| {
        format!("[[alerts.receiver]]\nname = \"am\"\nkind = \"alertmanager\"\nurl = \"http://127.0.0.1:{port}\"\n")
    });
    let extra = format!(
        "[enrich]\nsubscribers = \"subscribers.csv\"\n[alerts]\ninterval = \"200ms\"\nhold_down = \"0s\"\n\
         subscriber_24h_bytes = {threshold}\n{receiver}"
    );
    Collector::new(folder, &extra)
}

/// Bytes by subscriber of the alerts that fire.
fn firing(collector: &Collector) -> BTreeMap<String, u64> {
    let answer = collector.get("alerts?severity=high&days=7&state=firing&type=subscriber_24h");
    let items = answer["items"].as_array().unwrap();
    items.iter().map(|i| (i["subscriber_id"].as_str().unwrap().to_owned(), number(i, "bytes"))).collect()
}

/// Numbers of all alerts ever, the fired ones included.
fn ids(collector: &Collector) -> Vec<u64> {
    collector.get("alerts")["items"].as_array().unwrap().iter().map(|item| number(item, "id")).collect()
}

fn metric(collector: &Collector, name: &str) -> f64 {
    let metrics = collector.get_text("/metrics");
    let samples = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// What `alerts check` says: bytes by subscriber.
fn over(collector: &Collector, source: &[&str]) -> BTreeMap<String, u64> {
    let threshold = THRESHOLD.to_string();
    let args = [&["alerts", "check", "--period", "24h", "--threshold", &threshold, "--json"], source].concat();
    let answer: Value = serde_json::from_str(&collector.cli(&args)).unwrap();
    let items = answer["items"].as_array().unwrap();
    items.iter().map(|i| (i["subscriber_id"].as_str().unwrap().to_owned(), number(i, "bytes"))).collect()
}

#[test]
fn traffic_over_the_quota_is_an_alert_that_a_kill_neither_repeats_nor_forgets() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = collector(folder.path(), THRESHOLD, None).start();
    let sent = collector.generate(&["--rate", "1000", "--duration", "5s"]);
    collector.wait_delivered();
    let subscriber = &sent["top_subscribers"][0];
    let top = subscriber["subscriber_id"].as_str().unwrap().to_owned();
    let bytes: u64 = subscriber["by_direction"].as_object().unwrap().values().map(|sums| number(sums, "bytes")).sum();
    assert!(bytes > THRESHOLD, "{subscriber}");
    wait_until("the busiest subscriber's alert has all its bytes", PATIENCE, || {
        firing(&collector).get(&top) == Some(&bytes)
    });
    let url = collector.url("");
    let stored = over(&collector, &["--url", &url]);
    wait_until("alerts and store agree to the byte", PATIENCE, || firing(&collector) == stored);
    let before = ids(&collector);
    let shown = metric(&collector, "netflow_subscriber_bytes_24h");
    assert!(shown >= bytes as f64, "{shown}");

    // Saved when it began, with the cursor: killed now, it goes on as if nothing had happened.
    collector.kill();
    collector.restart();
    wait_until("it judges again", PATIENCE, || metric(&collector, "netflow_alerts_evaluations_total") >= 3.0);
    wait_until("the alert has all its bytes again", PATIENCE, || firing(&collector).get(&top) == Some(&bytes));
    assert_eq!(metric(&collector, "netflow_alerts_fired_total"), 0.0, "{}", collector.get("alerts"));
    assert_eq!(ids(&collector), before);

    let id = before[0].to_string();
    collector.cli(&["alerts", "ack", &id, "--url", &url]);
    let list = collector.cli(&["alerts", "list", "--severity", "high", "--url", &url]);
    assert!(list.contains("subscriber_24h") && list.contains(&top), "{list}");
    let acknowledged = collector.get("alerts")["items"][0].clone();
    assert!(acknowledged["acknowledged_at"].is_string(), "{acknowledged}");
    collector.stop();
    assert_eq!(over(&collector, &["--data", "data"])[&top], bytes);
}

#[test]
fn a_real_alertmanager_receives_the_alert_and_its_end() {
    if !installed("prometheus-alertmanager") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_tcp_port();
    let config = folder.path().join("alertmanager.yml");
    std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").unwrap();
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", folder.path().join("alertmanager").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=");
    let _alertmanager = Process::start(&mut command, &folder.path().join("alertmanager.log"));
    let alerts = || -> Option<Vec<Value>> {
        let url = format!("http://127.0.0.1:{port}/api/v2/alerts");
        ureq::get(&url).call().ok()?.body_mut().read_json().ok()
    };
    wait_until("the Alertmanager answers", PATIENCE, || alerts().is_some());

    let mut collector = collector(folder.path(), THRESHOLD, Some(port)).start();
    let tried = collector.cli(&["alerts", "test", "am"]);
    assert!(tried.contains("took the test alert"), "{tried}");
    let sent = collector.generate(&["--rate", "1000", "--duration", "5s"]);
    let top = sent["top_subscribers"][0]["subscriber_id"].as_str().unwrap().to_owned();
    let is_there = |top: &str| {
        let all = alerts().unwrap_or_default();
        all.iter().any(|a| a["labels"]["subscriber_id"] == top && a["labels"]["alertname"] == "subscriber_24h")
    };
    wait_until("the Alertmanager has the alert", PATIENCE, || is_there(&top));
    assert!(metric(&collector, "netflow_alerts_delivered_total") > 0.0);

    // With another threshold it is over. An Alertmanager lists only what lasts.
    collector.stop();
    let toml = folder.path().join("pipeline.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    let text = text.replace(&format!("subscriber_24h_bytes = {THRESHOLD}"), "subscriber_24h_bytes = \"1TiB\"");
    std::fs::write(&toml, text).unwrap();
    collector.restart();
    wait_until("the Alertmanager has its end", PATIENCE, || !is_there(&top));
    let ended = collector.get("alerts?type=subscriber_24h");
    let items = ended["items"].as_array().unwrap();
    assert!(!items.is_empty() && items.iter().all(|item| item["state"] == "resolved"), "{ended}");
    collector.stop();
}

#[test]
fn a_receiver_that_is_not_there_or_does_not_answer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_tcp_port();
    let collector = collector(folder.path(), THRESHOLD, Some(port));
    for (name, said) in [("nobody", "there are: am"), ("am", "receiver am: ")] {
        let output =
            Command::new(PROGRAM).args(["alerts", "test", name]).current_dir(&collector.folder).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(said), "{stderr}");
    }
}

fn rules(file: &str) -> String {
    format!("{}/docker/prometheus/{file}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_shipped_prometheus_rules_are_sound_and_fire_when_they_should() {
    if !installed("promtool") {
        return;
    }
    for args in [["check", "rules", &rules("rules.yml")], ["test", "rules", &rules("rules_test.yml")]] {
        let output = Command::new("promtool").args(args).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn the_shipped_rules_ask_only_for_metrics_that_the_collector_has() {
    let mut code = String::new();
    read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut code);
    let text = std::fs::read_to_string(rules("rules.yml")).unwrap();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let names: Vec<&str> = text.split(|c| !is_name(c)).filter(|word| word.starts_with("netflow_")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(code.contains(&format!("\"{name}\"")), "{name}");
    }
}

fn read_all(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            read_all(&entry.path(), text);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            *text += &std::fs::read_to_string(entry.path()).unwrap();
        }
    }
}
