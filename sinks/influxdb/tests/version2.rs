//! The requests that an InfluxDB 2 gets, and what its answers mean, by its documentation: no such server can be had from the
//! package sources that the tests use. `conformance.rs` runs against one that the environment names.

mod delivery;
mod recorder;
mod server;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use delivery::Log;
use recorder::{Recorder, Reply, Request};
use serde_json::json;
use sink_api::{SinkConfig, SinkError};
use sink_influxdb::{Api, Config, Secret};

fn config(recorder: &Recorder) -> Config {
    let token = Some(Secret("t0ken".to_owned()));
    let mut config = Config { api: Api::V2, org: "an org".to_owned(), token, ..server::config(&recorder.url) };
    config.retention.detail_days = 30;
    config.retention.aggregate_months = 12;
    config
}

fn ok(body: serde_json::Value) -> Reply {
    (200, "", body.to_string())
}

/// An empty server: nothing is there, everything that is asked for can be made, and no query finds anything.
fn empty(request: &Request) -> Reply {
    match (&*request.method, request.path.split('?').next().unwrap()) {
        ("GET", "/api/v2/orgs") => ok(json!({ "orgs": [{ "id": "0a" }] })),
        ("GET", "/api/v2/buckets") => ok(json!({ "buckets": [] })),
        ("GET", "/api/v2/dbrps") => ok(json!({ "content": [] })),
        ("POST", "/api/v2/buckets") => {
            let asked = request.json();
            let made = json!({ "id": format!("id-{}", asked["name"].as_str().unwrap()), "retentionRules": asked["retentionRules"] });
            (201, "", made.to_string())
        }
        ("POST", "/api/v2/dbrps") => (201, "", "{}".to_owned()),
        ("PATCH", _) => ok(json!({})),
        ("POST", "/query") => ok(json!({ "results": [{ "statement_id": 0 }] })),
        ("POST", "/api/v2/write") => (204, "", String::new()),
        _ => (404, "", json!({ "code": "not found", "message": "path not found" }).to_string()),
    }
}

#[test]
fn opening_makes_two_buckets_and_the_names_under_which_influxql_finds_them() {
    let recorder = Recorder::start(empty);
    let log = Log::new(10);
    config(&recorder).open(&log.context).map(drop).unwrap();
    let requests = recorder.take();
    assert!(requests.iter().all(|request| request.header("authorization") == Some("Token t0ken")));
    let lines: Vec<String> = requests.iter().map(Request::line).collect();
    assert_eq!(lines[0], "GET /api/v2/orgs?org=an org");
    let made = |path: &str| -> Vec<_> {
        requests.iter().filter(|r| r.method == "POST" && r.path == path).map(Request::json).collect()
    };
    let rules = |days: i64| json!([{ "type": "expire", "everySeconds": days * 86_400 }]);
    assert_eq!(
        made("/api/v2/buckets"),
        [
            json!({ "orgID": "0a", "name": "netflow", "retentionRules": rules(30) }),
            json!({ "orgID": "0a", "name": "netflow_long", "retentionRules": rules(366) }),
        ]
    );
    let mapping = |database: &str, policy: &str, bucket: &str, default: bool| json!({ "orgID": "0a", "bucketID": bucket, "database": database, "retention_policy": policy, "default": default });
    assert_eq!(
        made("/api/v2/dbrps"),
        [
            mapping("netflow", "netflow", "id-netflow", true),
            mapping("netflow_long", "netflow_long", "id-netflow_long", true),
            mapping("netflow", "netflow_long", "id-netflow_long", false),
        ]
    );
    let queries: Vec<&Request> = requests.iter().filter(|r| r.path.starts_with("/query")).collect();
    for query in &queries {
        for part in ["db=netflow&", "rp=netflow_long&", "epoch=ns", "chunked=true", "org=an org"] {
            assert!(query.path.contains(part), "{part} in {}", query.path);
        }
    }
    let statements: Vec<String> = queries.iter().map(|query| query.statement()).collect();
    assert!(statements[0].contains("FROM \"netflow_cursor\" WHERE \"collector\" = '"), "{statements:?}");
    assert_eq!(
        statements[1],
        "SHOW TAG VALUES ON \"netflow_long\" FROM \"netflow_long\".\"usage\" WITH KEY = \"subscriber_id\""
    );
}

#[test]
fn a_retention_that_differs_is_changed_with_its_shards_and_another_is_left_alone() {
    let recorder = Recorder::start(|request| {
        let days = if request.path.contains("name=netflow_long") { 366 } else { 7 };
        match (&*request.method, request.path.split('?').next().unwrap()) {
            ("GET", "/api/v2/buckets") => {
                let rule =
                    json!({ "type": "expire", "everySeconds": days * 86_400, "shardGroupDurationSeconds": 86_400 });
                ok(json!({ "buckets": [{ "id": "b1", "retentionRules": [rule] }] }))
            }
            ("GET", "/api/v2/dbrps") => {
                let policy = request.path.rsplit("rp=").next().unwrap();
                ok(json!({ "content": [{ "retention_policy": policy, "bucketID": "b1", "virtual": false }] }))
            }
            _ => empty(request),
        }
    });
    config(&recorder).open(&Log::new(10).context).map(drop).unwrap();
    let requests = recorder.take();
    let changes: Vec<&Request> = requests.iter().filter(|request| request.method == "PATCH").collect();
    assert_eq!(changes.len(), 1, "{requests:?}");
    assert_eq!(changes[0].path, "/api/v2/buckets/b1");
    let rule = json!({ "type": "expire", "everySeconds": 30 * 86_400, "shardGroupDurationSeconds": 86_400 });
    assert_eq!(changes[0].json(), json!({ "retentionRules": [rule] }));
    assert!(!requests.iter().any(|r| r.method == "POST" && r.path.starts_with("/api/v2/")), "{requests:?}");
}

#[test]
fn shards_are_as_wide_as_configured_and_no_wider_than_points_are_kept() {
    let recorder = Recorder::start(empty);
    let config = Config { shard_days: Some(60), ..config(&recorder) };
    config.open(&Log::new(10).context).map(drop).unwrap();
    let made = recorder.take().into_iter().filter(|r| r.method == "POST" && r.path == "/api/v2/buckets");
    let shards: Vec<_> =
        made.map(|r| r.json()["retentionRules"][0]["shardGroupDurationSeconds"].as_i64().unwrap()).collect();
    assert_eq!(shards, [30 * 86_400, 60 * 86_400]);
}

#[test]
fn what_another_collector_makes_at_the_same_time_is_taken() {
    let made = Mutex::new(HashSet::new());
    let recorder = Recorder::start(move |request| {
        let path = request.path.split('?').next().unwrap().to_owned();
        let key = |request: &Request| match &*request.method {
            "POST" => {
                let asked = request.json();
                let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
                text("name") + &text("database") + &text("retention_policy")
            }
            _ => request.path.split('&').skip(1).map(|part| part.split('=').nth(1).unwrap()).collect(),
        };
        match (&*request.method, &*path) {
            // The other one was faster: it is there from now on.
            ("POST", "/api/v2/buckets" | "/api/v2/dbrps") => {
                made.lock().unwrap().insert(key(request));
                (422, "", json!({ "code": "conflict", "message": "bucket with name x already exists" }).to_string())
            }
            ("GET", "/api/v2/buckets") if made.lock().unwrap().contains(&key(request)) => {
                let bucket = if request.path.ends_with("_long") { "long" } else { "short" };
                ok(json!({ "buckets": [{ "id": bucket, "retentionRules": [] }] }))
            }
            ("GET", "/api/v2/dbrps") if made.lock().unwrap().contains(&key(request)) => {
                let policy = request.path.rsplit("rp=").next().unwrap();
                let bucket = if policy == "netflow_long" { "long" } else { "short" };
                ok(json!({ "content": [{ "retention_policy": policy, "bucketID": bucket, "virtual": false }] }))
            }
            _ => empty(request),
        }
    });
    config(&recorder).open(&Log::new(10).context).map(drop).unwrap();
}

#[test]
fn a_mapping_of_somebody_else_is_left_alone_and_named() {
    let recorder = Recorder::start(|request| match request.path.split('?').next().unwrap() {
        "/api/v2/dbrps" => {
            let theirs = json!({ "retention_policy": "netflow", "bucketID": "theirs", "virtual": false });
            ok(json!({ "content": [theirs] }))
        }
        _ => empty(request),
    });
    let error = config(&recorder).open(&Log::new(10).context).err().unwrap();
    assert!(matches!(&error, SinkError::Fatal(text) if text.contains("mapped to another bucket")), "{error:?}");
    assert!(!recorder.take().iter().any(|r| r.method == "POST" && r.path == "/api/v2/dbrps"));
}

#[test]
fn points_go_to_both_buckets_and_the_cursor_follows_them() {
    for gzip in [true, false] {
        let recorder = Recorder::start(empty);
        let log = Log::new(500);
        let config = Config { gzip, ..config(&recorder) };
        let mut config = config;
        config.retention.detail_days = 36_500;
        let mut deliverer = log.deliverer(&config);
        deliverer.finish();
        assert!(deliverer.errors.is_empty(), "{:?}", deliverer.errors);
        let mut writes = recorder.take();
        writes.retain(|request| request.path.starts_with("/api/v2/write"));
        for write in &writes {
            assert_eq!(write.header("authorization"), Some("Token t0ken"));
            assert_eq!(write.header("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(write.header("content-encoding"), gzip.then_some("gzip"));
            // Each request has one kind of points; texts in them may have line ends.
            let long = ["usage", "geo", "alerts", "netflow_cursor"].iter().any(|name| write.body.starts_with(name));
            let bucket = if long { "netflow_long" } else { "netflow" };
            assert_eq!(write.path, format!("/api/v2/write?org=an org&bucket={bucket}&precision=ns"));
        }
        let lines = |measurement: &str| {
            let of = |write: &Request| write.body.lines().filter(|line| line.starts_with(measurement)).count();
            writes.iter().map(of).sum::<usize>()
        };
        assert_eq!(lines("flows,") as u64, log.totals()["flows"][2]);
        assert!(writes.last().unwrap().body.starts_with("netflow_cursor,collector="), "{:?}", writes.last());
    }
}

/// The error of one group when writes are answered so.
fn error_when_written(status: u16, headers: &'static str, body: &'static str) -> SinkError {
    let recorder = Recorder::start(move |request| match request.path.split('?').next().unwrap() {
        "/api/v2/write" => (status, headers, body.to_owned()),
        _ => empty(request),
    });
    let config = config(&recorder);
    let log = Log::new(50);
    log.deliverer(&config).try_step(1).err().unwrap()
}

#[test]
fn the_server_says_when_it_wants_to_be_asked_again() {
    for status in [429, 503] {
        let error = error_when_written(status, "retry-after: 17\r\n", r#"{"code":"x","message":"slow down"}"#);
        let SinkError::Retry { reason, after } = &error else { panic!("{error:?}") };
        assert_eq!(*after, Some(Duration::from_secs(17)));
        assert!(reason.contains("slow down"), "{reason}");
    }
    let error = error_when_written(404, "", r#"{"code":"not found","message":"bucket \"netflow\" not found"}"#);
    assert!(matches!(error, SinkError::Retry { after: None, .. }), "it is made when the sink opens again: {error:?}");
    let error = error_when_written(401, "", r#"{"code":"unauthorized","message":"unauthorized access"}"#);
    assert!(matches!(&error, SinkError::Fatal(text) if text.contains("unauthorized access")), "{error:?}");
}

#[test]
fn a_request_that_is_too_large_is_halved_until_it_is_taken() {
    let recorder = Recorder::start(|request| match request.path.split('?').next().unwrap() {
        "/api/v2/write" if request.body.lines().count() > 20 => {
            (413, "", json!({ "code": "request too large", "message": "too many points" }).to_string())
        }
        _ => empty(request),
    });
    let mut config = config(&recorder);
    config.retention.detail_days = 36_500;
    let log = Log::new(200);
    let mut deliverer = log.deliverer(&config);
    deliverer.finish();
    assert!(deliverer.errors.is_empty() && deliverer.set_aside.is_empty(), "{deliverer:?}");
    let taken =
        recorder.take().into_iter().filter(|r| r.path.starts_with("/api/v2/write") && r.body.lines().count() <= 20);
    let flows: HashSet<String> = taken
        .flat_map(|r| r.body.lines().filter(|l| l.starts_with("flows,")).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(flows.len() as u64, log.totals()["flows"][2], "each line once in a request that was taken");
}

#[test]
fn an_error_instead_of_an_answer_is_never_an_empty_answer() {
    for (status, body) in [
        (503, r#"{"code":"unavailable","message":"queue is full"}"#),
        (500, r#"{"code":"internal error","message":"An internal error has occurred"}"#),
        (200, r#"{"code":"internal error","message":"An internal error has occurred"}"#),
        (200, r#"{"results":[{"statement_id":0,"error":"database not found"}]}"#),
        (502, "<html>a proxy</html>"),
    ] {
        let recorder = Recorder::start(move |request| match request.path.split('?').next().unwrap() {
            "/query" => (status, "", body.to_owned()),
            _ => empty(request),
        });
        // Taken for "no cursor" it would send everything again under other numbers.
        let error = config(&recorder).open(&Log::new(10).context).err();
        assert!(matches!(error, Some(SinkError::Retry { .. })), "{status} {body}: {error:?}");
    }
}
