//! What the generator says it sent, held against a collector's answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Collector, PROGRAM};

/// A whole number of an answer by its name.
pub fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {value}"))
}

/// The items of an answer.
pub fn items(answer: &Value) -> &Vec<Value> {
    answer["items"].as_array().unwrap_or_else(|| panic!("no items in {answer}"))
}

/// Writes the generator's subscribers to `subscribers.csv` in a folder.
pub fn write_subscribers(folder: &Path) {
    let status = Command::new(PROGRAM)
        .args(["generate", "--count", "0", "--write-subscribers"])
        .arg(folder.join("subscribers.csv"))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

/// The ten sources that sent most, with their bytes.
pub fn top_sources(sent: &Value) -> BTreeMap<&str, u64> {
    let sources = sent["top_sources"].as_array().unwrap().iter().take(10);
    sources.map(|i| (i["src_ip"].as_str().unwrap(), number(i, "bytes"))).collect()
}

/// The sources of an answer of `top-talkers`, with their bytes.
pub fn top_talkers(answer: &Value) -> BTreeMap<&str, u64> {
    items(answer).iter().map(|i| (i["src_ip"].as_str().unwrap(), number(i, "bytes_sent"))).collect()
}

/// Checks the trend, the breakdown, a subscriber's usage and the exported flows.
pub fn check_routes(collector: &Collector, sent: &Value) {
    let trend = collector.get("bandwidth-trend?interval=1m");
    let sum = |name: &str| items(&trend).iter().map(|i| number(i, name)).sum::<u64>();
    let by_direction = |name: &str| sent["by_direction"][name]["bytes"].as_u64().unwrap_or(0);
    assert_eq!(sum("bytes_in"), by_direction("in"), "{trend}");
    assert_eq!(sum("bytes_out"), by_direction("out"));
    assert_eq!(sum("pkts"), number(sent, "packets"));

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
    assert_eq!(csv.lines().count() as u64, number(sent, "flows") + 1);
}
