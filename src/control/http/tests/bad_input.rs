use super::super::table::ROUTES;
use super::*;

#[test]
fn every_bad_parameter_is_named_with_what_is_allowed() {
    let server = TestServer::start();
    let usage = format!("subscriber/{SUBSCRIBER_1}/usage");
    let bad = [
        ("top-talkers", "period=24", "period"),
        ("top-talkers", "limit=0", "limit"),
        ("top-talkers", "limit=100001", "limit"),
        ("top-talkers", "by=port", "by"),
        ("top-talkers", "tier=weekly", "tier"),
        ("top-talkers", "store=other", "store"),
        ("top-talkers", "from=yesterday", "from"),
        ("top-talkers", "from=2&to=1", "from"),
        ("top-talkers", "from=1&to=2&period=1h", "period"),
        ("top-talkers", "reseller_id=7", "reseller_id"),
        ("top-talkers", "filter=src%20prot%2080", "filter"),
        ("top-talkers", "limit=1&limit=2", "limit"),
        ("bandwidth-trend", "interval=1mo", "interval"),
        ("bandwidth-trend", "interval=1s&period=7d", "interval"),
        ("protocol-breakdown", "period=0d", "period"),
        (&*usage, "limit=x", "limit"),
        ("subscriber/7/usage", "", "subscriber_id"),
        ("query", "by=bytes", "by"),
        ("query", "by=time", "by"),
        ("query", "by=src_ip,src_ip", "by"),
        ("query", "measures=bits", "measures"),
        ("query", "order=random", "order"),
        ("query", "interval=1s&period=30d", "interval"),
        ("flows.csv", "columns=source", "columns"),
        ("flows.csv", "to=1e9", "to"),
    ];
    for (path, query, parameter) in bad {
        let got = server.get(&format!("/api/v1/netflow/{path}?{query}"));
        assert_eq!(got.status, 400, "{path}?{query}: {}", got.body);
        let body = got.json();
        assert_eq!(body["parameter"], parameter, "{path}?{query}");
        assert!(body["error"].is_string() && body["allowed"].as_str().is_some_and(|a| !a.is_empty()), "{body}");
    }
}

#[test]
fn a_filter_that_cannot_be_read_tells_the_position() {
    let server = TestServer::start();
    let got = server.get("/api/v1/netflow/query?filter=proto%20tcp%20and%20dst%20prot%20443");
    let body = got.json();
    assert_eq!((got.status, body["position"].as_u64()), (400, Some(18)), "{body}");
}

#[test]
fn every_route_refuses_a_parameter_it_does_not_take() {
    let server = TestServer::start();
    for route in ROUTES {
        let got = server.ask(route, "", "?limti=3");
        assert_eq!((got.status, got.json()["parameter"].as_str()), (400, Some("limti")), "{}", route.path);
        let near = route.params.iter().copied().flatten().any(|p| p.name == "limit");
        assert_eq!(got.body.contains("did you mean limit?"), near, "{}: {}", route.path, got.body);
    }
}

#[test]
fn unknown_paths_and_methods_are_answered_in_json() {
    let server = TestServer::start();
    let got = server.get("/api/v1/netflow/top-talker");
    assert_eq!(got.status, 404);
    assert!(got.json()["error"].as_str().unwrap().contains("did you mean /api/v1/netflow/top-talkers?"));
    let got = server.request(Method::Post, "/api/v1/netflow/top-talkers", &[], b"");
    assert_eq!(got.status, 405);
    assert!(got.header("allow").contains("GET") && got.json()["error"].is_string());
    assert_eq!(server.get("/api/v1/netflow/v5-ingest").status, 405);
    assert_eq!(server.get("/api/v1/netflow/subscriber/%ff/usage").status, 400);
}

#[test]
fn a_body_that_is_empty_or_too_long_is_refused() {
    let server = TestServer::with(Config { body_bytes_max: 1000, ..Config::default() }, TestProcess::default());
    let post = |body: &[u8]| server.request(Method::Post, "/api/v1/netflow/v5-ingest", &[], body);
    assert_eq!(post(b"").status, 400);
    let got = post(&[0; 1001]);
    assert_eq!((got.status, got.json()["error"].is_string()), (413, true));
    assert_eq!(post(&[0; 1000]).status, 200);
}
