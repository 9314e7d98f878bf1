//! A real Prometheus scrapes both formats of `/metrics`, and `promtool` finds nothing to complain about what a whole collector
//! says after it has received, stored, refused and answered.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{Collector, Process, free_tcp_port, installed, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);
/// What versions of Prometheus accept: old ones the text format, those since 2.5 rather OpenMetrics. With the beginning of the
/// content type that they get.
const FORMATS: [(&str, &str, &str); 2] = [
    ("text", "text/plain;version=0.0.4", "text/plain; version=0.0.4"),
    (
        "openmetrics",
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
         text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "application/openmetrics-text",
    ),
];

/// Stands between Prometheus and the collector, and asks for one format whatever version Prometheus is; gives its port.
fn relay(to: String, accept: &'static str, content_type: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let asked = BufReader::new(&client).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let path = asked.collect::<Vec<_>>().first().map(|line| line.split(' ').nth(1).unwrap_or("/").to_owned());
            let Some(path) = path else { continue };
            // A collector that has ended is none of the relay's affair.
            let Ok(mut answer) = ureq::get(&format!("{to}{path}")).header("accept", accept).call() else { continue };
            let found = answer.headers()["content-type"].to_str().unwrap().to_owned();
            assert!(found.starts_with(content_type), "{found}");
            let body = answer.body_mut().read_to_string().unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {found}\r\n");
            // Prometheus may have given up.
            let _ = (&client).write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    port
}

/// A collector that has seen something of everything; gives the flows sent as well.
fn fed_collector(folder: &std::path::Path) -> (Collector, u64) {
    let collector = Collector::new(folder, "").start();
    let sent = collector.generate(&["--count", "3000", "--rate", "0"]);
    collector.wait_delivered();
    // A version that is not known, and questions good and bad.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[0, 99, 0, 1, 0, 0, 0, 0], ("127.0.0.1", collector.port)).unwrap();
    collector.get("top-talkers?period=1h");
    assert!(ureq::get(&collector.url("/api/v1/netflow/query?nonsense=1")).call().is_err());
    wait_until("the unknown version is counted", PATIENCE, || {
        collector.ledger("datagrams/dropped/unknown_version") == 1
    });
    (collector, sent["flows"].as_u64().unwrap())
}

#[test]
fn a_real_prometheus_scrapes_both_formats() {
    if !installed("prometheus") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut collector, flows) = fed_collector(folder.path());
    let port = free_tcp_port();
    let mut config = "global: {scrape_interval: 1s}\nscrape_configs:\n".to_owned();
    for (job, accept, content_type) in FORMATS {
        let relay = relay(collector.url(""), accept, content_type);
        config += &format!("- job_name: {job}\n  static_configs: [{{targets: ['127.0.0.1:{relay}']}}]\n");
    }
    // And as this version asks by itself.
    let own = format!("'127.0.0.1:{}'", collector.admin);
    config += &format!("- job_name: itself\n  static_configs: [{{targets: [{own}]}}]\n");
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let log = folder.path().join("prometheus.log");
    let _prometheus = Process::start(&mut command, &log);
    let ask = |expression: &str| -> Option<f64> {
        let url = format!("http://127.0.0.1:{port}/api/v1/query");
        let answer: Value = ureq::get(&url).query("query", expression).call().ok()?.body_mut().read_json().ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    };
    for job in FORMATS.map(|format| format.0).into_iter().chain(["itself"]) {
        let sum = |name: &str| ask(&format!("sum({name}{{job=\"{job}\"}})"));
        wait_until(&format!("{job} is scraped"), PATIENCE, || sum("netflow_flows_total") == Some(flows as f64));
        assert_eq!(sum("up"), Some(1.0), "{job}");
        assert_eq!(sum("netflow_dropped_datagrams_total"), Some(1.0), "{job}");
        assert_eq!(sum("netflow_sink_delivered_flows_total"), Some(flows as f64), "{job}");
        assert!(sum("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{job}");
    }
    // Both are the same series under the same names, types included.
    let series = |job: &str| {
        let names = format!("count(count by (__name__) ({{job=\"{job}\",__name__=~\"(netflow|process)_.*\"}}))");
        ask(&names)
    };
    assert!(series("text").is_some_and(|count| count > 50.0));
    wait_until("both formats have the same names", PATIENCE, || series("text") == series("openmetrics"));
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(!log.contains("level=ERROR") && !log.contains("level=error"), "{log}");
    collector.stop();
}

#[test]
fn promtool_finds_nothing_to_mend_in_what_a_collector_says() {
    if !installed("promtool") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut collector, _) = fed_collector(folder.path());
    let text = collector.get_text("/metrics");
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
    collector.stop();
}
