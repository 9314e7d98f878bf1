use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

#[test]
fn both_formats_are_what_promtool_accepts() {
    let server = TestServer::start();
    // So that every counter of the endpoint has a sample.
    assert_eq!(server.get("/api/v1/netflow/query").status, 200);
    let plain = server.get("/metrics");
    assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for name in ["netflow_up 1", "netflow_flows_total{", "netflow_build_info{", "process_resident_memory_bytes "] {
        assert!(plain.body.contains(&format!("\n{name}")), "{name}");
    }
    assert!(plain.body.contains("netflow_http_requests_total{route=\"/api/v1/netflow/query\",status=\"200\"} 1"));
    let accept = [("accept", "application/openmetrics-text; version=1.0.0")];
    let open = server.request(Method::Get, "/metrics", &accept, b"");
    assert!(open.header("content-type").starts_with("application/openmetrics-text"));
    assert!(open.body.ends_with("# EOF\n"));
    match promtool(&plain.body) {
        None => println!("skipped: promtool is not installed"),
        Some(problems) => assert_eq!(problems, ""),
    }
}

/// What `promtool check metrics` says; `None` when it is not installed.
fn promtool(text: &str) -> Option<String> {
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = command.ok()?;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Some(if output.status.success() || !text.is_empty() { text } else { format!("promtool: {}", output.status) })
}

#[test]
fn a_port_of_its_own_serves_metrics_and_health_without_a_token_and_nothing_else() {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let token = TokenConfig { sha256: sha256("t"), ..TokenConfig::default() };
    let config = Config { metrics_port: free, token: vec![token], ..Config::default() };
    let server = TestServer::with(config, TestProcess::default());
    let own = server.metrics_addr.unwrap();
    let status = |addr, path: &str| request(addr, Method::Get, path, &[], b"").status;
    assert_eq!([status(own, "/metrics"), status(own, "/healthz")], [200, 200]);
    for path in ["/", "/readyz", "/openapi.json", "/api/v1/netflow/query"] {
        assert_eq!(status(own, path), 404, "{path}");
    }
    assert_eq!(status(server.addr, "/metrics"), 401);
    assert_eq!(status(server.addr, "/healthz"), 200);
}

#[test]
fn metrics_can_be_switched_off() {
    let server = TestServer::with(Config { metrics: false, ..Config::default() }, TestProcess::default());
    assert_eq!(server.get("/metrics").status, 404);
}
