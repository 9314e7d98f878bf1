use serde_json::json;

use super::process::{Mood, NOW_MS, TestProcess, flows};
use super::*;
use crate::control::state::ExporterState;
use crate::flow::rollup::KeyColumn;
use crate::flow::store::FlowStore;
use crate::flow::{Direction, Entry, Field, Key, LogId, Measures, Record, RollupDef, RollupRows, RollupSums};

const API: &str = "/api/v1/netflow";

fn ok(server: &TestServer, path: &str) -> Value {
    let got = server.get(&format!("{API}{path}"));
    assert_eq!((got.status, got.header("content-type")), (200, "application/json"), "{path}: {}", got.body);
    got.json()
}

/// The fields of each item that a test looks at.
fn items(answer: &Value, fields: &[&str]) -> Vec<Vec<Value>> {
    let item = |item: &Value| fields.iter().map(|f| item.get(*f).unwrap_or(&json!("missing")).clone()).collect();
    answer["items"].as_array().unwrap().iter().map(item).collect()
}

#[test]
fn top_talkers_have_their_shape_and_order() {
    let server = TestServer::start();
    let answer = ok(&server, "/top-talkers?period=24h&limit=2");
    let rows = items(&answer, &["src_ip", "bytes_sent", "packets", "avg_latency_ms"]);
    assert_eq!(
        rows,
        [
            [json!("203.0.113.1"), json!(5000), json!(20), json!(30.0)],
            [json!("10.0.0.1"), json!(1700), json!(17), Value::Null]
        ]
    );
    assert_eq!(answer["total"], 4);
    let by_host = ok(&server, "/top-talkers?by=host&limit=1");
    assert_eq!(items(&by_host, &["host", "bytes"]), [[json!("10.0.0.1"), json!(6700)]]);
    let by_dst = ok(&server, "/top-talkers?by=dst_ip&nas_id=gw2&limit=5");
    assert_eq!(items(&by_dst, &["dst_ip", "bytes_received"]), [[json!("198.51.100.7"), json!(300)]]);
}

#[test]
fn every_answer_with_totals_says_what_it_rests_on() {
    let server = TestServer::start();
    server.process.ledger.account([192, 0, 2, 1].into()).sequence_gap.add(5);
    let usage = format!("/subscriber/{SUBSCRIBER_1}/usage");
    for path in ["/top-talkers", "/bandwidth-trend", "/protocol-breakdown?period=24h", &usage, "/query"] {
        let answer = ok(&server, path);
        assert_eq!(
            answer["range"],
            json!({"from": "2026-01-30T12:00:00.000Z", "to": "2026-01-31T12:00:00.000Z"}),
            "{path}"
        );
        for (field, value) in [
            ("tier", json!("flows")),
            ("basis", json!("flow_end")),
            ("exact", json!(true)),
            ("error_bytes_max", json!(0)),
            ("store", json!("local")),
            ("completeness", json!(0.5)),
            ("completeness_since", json!("2026-01-31T12:00:00.000Z")),
        ] {
            assert_eq!(answer[field], value, "{path} {field}");
        }
    }
}

#[test]
fn bandwidth_trend_has_a_step_for_each_interval_and_keeps_directions_apart() {
    let server = TestServer::start();
    let answer = ok(&server, "/bandwidth-trend?from=2026-01-31T10:00:00Z&to=2026-01-31T12:00:00Z&interval=1h");
    let fields = ["timestamp", "bytes_in", "bytes_out", "bytes_internal", "bytes_transit", "pkts"];
    assert_eq!(
        items(&answer, &fields),
        [
            [json!("2026-01-31T10:00:00.000Z"), json!(0), json!(0), json!(0), json!(0), json!(0)],
            [json!("2026-01-31T11:00:00.000Z"), json!(5000), json!(1300), json!(700), json!(50), json!(41)],
        ]
    );
    assert_eq!((&answer["total"], &answer["interval_seconds"]), (&json!(2), &json!(3600)));
    let minutes = ok(&server, "/bandwidth-trend?period=5m&interval=1m&filter=proto%20tcp");
    let bytes = |f: &str| items(&minutes, &[f]).iter().map(|row| row[0].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(bytes("bytes_out"), [1000, 0, 0, 0, 0]);
    assert_eq!(bytes("bytes_internal"), [0, 0, 0, 700, 0]);
}

#[test]
fn protocol_breakdown_gives_shares_of_everything_that_matched() {
    let server = TestServer::start();
    let answer = ok(&server, "/protocol-breakdown?nas_id=&period=7d&limit=2");
    let rows = items(&answer, &["protocol", "dst_port", "bytes%", "packets%"]);
    let percent = |part: f64, whole: f64| json!(part * 100.0 / whole);
    assert_eq!(
        rows,
        [
            [json!(6), json!(443), percent(6000.0, 7050.0), percent(30.0, 41.0)],
            [json!(6), json!(80), percent(700.0, 7050.0), percent(7.0, 41.0)],
        ]
    );
    assert_eq!((&answer["total"], &answer["matched"]["bytes"]), (&json!(4), &json!(7050)));
    let icmp = ok(&server, "/protocol-breakdown?filter=proto%20icmp");
    assert_eq!(
        items(&icmp, &["protocol", "protocol_name", "dst_port", "bytes%"]),
        [[json!(1), json!("icmp"), Value::Null, json!(100.0)]]
    );
    let nothing = ok(&server, "/protocol-breakdown?nas_id=none");
    assert_eq!((&nothing["items"], &nothing["total"]), (&json!([]), &json!(0)));
}

#[test]
fn usage_sums_a_subscriber_and_lists_its_ports() {
    let server = TestServer::start();
    let answer = ok(&server, &format!("/subscriber/{SUBSCRIBER_1}/usage?period=24h"));
    for (field, value) in [
        ("bytes_total", 6700),
        ("pkts_total", 37),
        ("flows_total", 3),
        ("bytes_in", 5000),
        ("bytes_out", 1000),
        ("bytes_internal", 700),
    ] {
        assert_eq!(answer[field], value, "{field}");
    }
    assert_eq!(answer["bytes_internal_in"], Value::Null, "detail has one row of such a flow");
    assert_eq!(answer["subscriber_id"], SUBSCRIBER_1.to_string());
    assert_eq!(answer["top_ports"][0]["port"], 443);
    assert_eq!(answer["top_ports"][0]["protocol"], 6);
    assert_eq!(answer["top_ports"][0]["bytes"], 6000);
    assert_eq!(answer["top_ports"].as_array().unwrap().len(), 2);
    let unknown = ok(&server, &format!("/subscriber/{RESELLER_B}/usage"));
    assert_eq!((&unknown["bytes_total"], &unknown["top_ports"]), (&json!(0), &json!([])));
}

#[test]
fn usage_leaves_the_second_row_of_internal_flows_out_of_its_totals() {
    let def = RollupDef::defaults().into_iter().find(|def| &*def.name == "usage").unwrap();
    let process = TestProcess::with_rollups(vec![def.clone()]);
    let mut rows = RollupRows::new(&def).unwrap();
    for (direction, bytes) in [(Direction::In, 100), (Direction::InternalIn, 40), (Direction::Internal, 7)] {
        rows.push_measures(NOW_MS - 3_600_000, &Measures { bytes, packets: 1, flows: 1, ..Measures::default() });
        for (key, column) in &mut rows.keys {
            match (*key, column) {
                (Key::Field(Field::SubscriberId), KeyColumn::Uuid(c)) => c.push(Some(&SUBSCRIBER_1)),
                (Key::Field(Field::Direction), KeyColumn::U8(c)) => c.push(Some(direction as u8)),
                (_, KeyColumn::Text(c)) => c.push_nulls(1),
                (_, KeyColumn::Uuid(c)) => c.push_nulls(1),
                other => panic!("{other:?}"),
            }
        }
    }
    let sums = RollupSums { rows: vec![rows], ..RollupSums::default() };
    process.store.memory.insert(LogId([0; 16]), Entry { position: 2, record: Record::Sums(Arc::new(sums)) });
    let server = TestServer::with(Config::default(), process);
    let answer = ok(&server, &format!("/subscriber/{SUBSCRIBER_1}/usage?period=24h"));
    assert_eq!((&answer["tier"], &answer["basis"]), (&json!("usage"), &json!("pro_rated")));
    assert_eq!(answer["top_ports_basis"]["tier"], "flows");
    let figures = ["bytes_total", "bytes_in", "bytes_internal", "bytes_internal_in", "pkts_total"];
    assert_eq!(figures.map(|f| answer[f].as_u64().unwrap()), [107, 100, 7, 40, 2]);
}

#[test]
fn query_groups_by_any_keys_with_the_measures_asked_for() {
    let server = TestServer::start();
    let answer = ok(&server, "/query?by=direction,nas_id&measures=flows,avg_latency_ms&order=flows&limit=1");
    assert_eq!(answer["items"], json!([{"direction": "in", "nas_id": "gw1", "flows": 1, "avg_latency_ms": 30.0}]));
    assert_eq!(answer["total"], 5);
    assert_eq!(answer["matched"], json!({"bytes": 7050, "packets": 41, "flows": 5}));
    let stepped = ok(&server, "/query?interval=1h&measures=bytes&tier=flows&store=local");
    assert_eq!(stepped["items"], json!([{"timestamp": "2026-01-31T11:00:00.000Z", "bytes": 7050}]));
    let roles = ok(&server, "/query?by=host,role&measures=bytes&filter=src%20host%2010.0.0.1");
    assert_eq!(roles["items"][0], json!({"host": "10.0.0.1", "role": "src", "bytes": 1700}));
}

#[test]
fn flows_csv_holds_every_matching_row_with_text_quoted() {
    let server = TestServer::start();
    let got = server.get(&format!("{API}/flows.csv?columns=time,src_ip,bytes,site,rtt_ms&filter=proto%20tcp"));
    assert_eq!((got.status, got.header("content-type")), (200, "text/csv; charset=utf-8; header=present"));
    let lines: Vec<_> = got.body.lines().collect();
    assert_eq!(
        lines,
        [
            "time,src_ip,bytes,site,rtt_ms",
            "2026-01-31T11:55:00.000Z,10.0.0.1,1000,\"north, \"\"1\"\"\",",
            "2026-01-31T11:56:00.000Z,203.0.113.1,5000,\"north, \"\"1\"\"\",30",
            "2026-01-31T11:58:00.000Z,10.0.0.1,700,\"north, \"\"1\"\"\",",
        ]
    );
    let all = server.get(&format!("{API}/flows.csv?limit=3"));
    let header: Vec<_> = all.body.lines().next().unwrap().split(',').collect();
    assert_eq!(header, Field::ALL.iter().map(|f| f.name()).collect::<Vec<_>>());
    assert_eq!(all.body.lines().count(), 1 + 3);
    assert_eq!(server.get(&format!("{API}/flows.csv?nas_id=none&columns=time")).body, "time\n");
}

#[test]
fn answers_about_expired_detail_say_so() {
    let server = TestServer::start();
    assert_eq!(ok(&server, "/query?period=90d").get("note"), None);
    *server.process.store.held_from.lock().unwrap() = Some(NOW_MS - 30 * 86_400_000);
    assert_eq!(ok(&server, "/query?period=7d").get("note"), None);
    let note = "detail expired on 2026-01-01: flows before 2026-01-01T12:00:00.000Z are not in this answer";
    assert_eq!(ok(&server, "/query?period=90d")["note"], note);
    let header = |path: &str| server.get(&format!("{API}{path}")).header("x-netflow-note").to_owned();
    assert_eq!(header("/flows.csv?period=90d"), note);
    assert_eq!(header("/flows.csv?period=7d"), "");
}

#[test]
fn a_long_export_is_streamed_whole() {
    let server = TestServer::start();
    server.process.set(Mood::Long);
    let got = server.get(&format!("{API}/flows.csv?columns=time,src_ip"));
    assert_eq!(got.body.lines().count(), 1 + 5 + 25_000);
    assert_eq!(got.header("transfer-encoding"), "chunked");
    let limited = server.get(&format!("{API}/flows.csv?columns=time,src_ip&limit=12345"));
    assert_eq!(limited.body.lines().count(), 1 + 12_345);
}

#[test]
fn exporters_sinks_and_ledger_show_the_accounts_and_their_sums_close() {
    let server = TestServer::start();
    let exporters = ok(&server, "/exporters");
    let fields = ["exporter_ip", "version", "silent_seconds", "sampling_rate", "completeness"];
    assert_eq!(items(&exporters, &fields), [[json!("192.0.2.1"), json!(5), json!(1.5), json!(1), json!(1.0)]]);
    assert_eq!(exporters["items"][0]["counters"]["absurd_flows"], 1);
    let sinks = ok(&server, "/sinks");
    assert_eq!(
        items(&sinks, &["name", "state", "delivered_flows", "unaccounted_flows"]),
        [[json!("local"), json!("running"), json!(5), json!(0)]]
    );
    let ledger = ok(&server, "/ledger");
    assert_eq!(ledger["datagrams"]["received"], 2);
    assert_eq!((&ledger["datagrams"]["kernel_drops"], &ledger["sockets"][0]["kernel_drops"]), (&json!(9), &json!(9)));
    assert_eq!(ledger["datagrams"]["decoded"], 1);
    assert_eq!(ledger["flows"]["announced"], 6);
    assert_eq!(ledger["flows"]["left_out"]["absurd"], 1);
    assert_eq!(ledger["flows"]["in_flight"], 0);
    assert_eq!(ledger["sinks"][0]["unaccounted_flows"], 0);
    assert_eq!(ledger["completeness"], 1.0);
    server.process.sink.lock().unwrap().received_flows += 3;
    assert_eq!(ok(&server, "/ledger")["sinks"][0]["unaccounted_flows"], 3);
}

#[test]
fn exporters_of_earlier_runs_are_remembered() {
    let server = TestServer::start();
    let history = |last_seen_ms, flows| ExporterState {
        first_seen_ms: NOW_MS - 86_400_000,
        last_seen_ms,
        version: 9,
        totals: [("flows".to_owned(), flows)].into(),
    };
    let histories = [
        ("192.0.2.1".parse().unwrap(), history(NOW_MS - 9000, 100)),
        ("192.0.2.2".parse().unwrap(), history(NOW_MS - 9000, 50)),
    ];
    server.process.histories.lock().unwrap().extend(histories);
    let answer = ok(&server, "/exporters");
    let yesterday = json!("2026-01-30T12:00:00.000Z");
    assert_eq!(
        items(&answer, &["exporter_ip", "version", "first_seen", "silent_seconds"]),
        [
            [json!("192.0.2.1"), json!(5), yesterday.clone(), json!(1.5)],
            [json!("192.0.2.2"), json!(9), yesterday, json!(9.0)],
        ]
    );
    let flows =
        |i: usize| (answer["items"][i]["counters"]["flows"].clone(), answer["items"][i]["totals"]["flows"].clone());
    assert_eq!((flows(0), flows(1)), ((json!(6), json!(100)), (json!(0), json!(50))));
}

#[test]
fn ingest_hands_the_body_over_and_tells_what_became_of_it() {
    let server = TestServer::start();
    let path = format!("{API}/v5-ingest");
    let body = [0, 5, 0, 2].repeat(30);
    let got = server.request(Method::Post, &format!("{path}?exporter=192.0.2.77"), &[], &body);
    assert_eq!(got.status, 200);
    let expected = json!({
        "accepted_datagrams": 1, "accepted_flows": 2, "rejected": [{"offset": 72, "reason": "too short"}],
    });
    assert_eq!(got.json(), expected);
    // Without an exporter the sender is one.
    assert_eq!(server.request(Method::Post, &path, &[], &body).status, 200);
    let seen = server.process.ingested.lock().unwrap().clone();
    assert_eq!(seen, [([192, 0, 2, 77].into(), body.clone()), ([127, 0, 0, 1].into(), body.clone())]);
    server.process.busy.store(true, std::sync::atomic::Ordering::SeqCst);
    let busy = server.request(Method::Post, &path, &[], &body);
    assert_eq!((busy.status, busy.header("retry-after")), (503, "7"));
    assert_eq!(server.request(Method::Post, &format!("{path}?exporter=here"), &[], &body).status, 400);
}

#[test]
fn operators_see_the_configuration_and_reload_it() {
    let server = TestServer::start();
    assert_eq!(server.get(&format!("{API}/config")).json()["sink[0].name"]["origin"], "pipeline.toml");
    let reloaded = server.request(Method::Post, &format!("{API}/reload"), &[], b"");
    assert_eq!((reloaded.status, &reloaded.json()["applied"]), (200, &json!(["log.bytes_max"])));
    assert_eq!(server.get("/readyz").status, 200);
    server.process.busy.store(true, std::sync::atomic::Ordering::SeqCst);
    let refused = server.request(Method::Post, &format!("{API}/reload"), &[], b"");
    assert_eq!((refused.status, refused.json()["problems"].as_array().unwrap().len()), (422, 2));
    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(server.get("/healthz").body, "ok\n");
}

#[test]
fn open_sums_are_emitted_before_questions_about_today_and_at_most_once_a_second() {
    let server = TestServer::start();
    ok(&server, "/query?from=2026-01-01&to=2026-01-02");
    assert_eq!(server.process.emissions.lock().unwrap().len(), 0);
    ok(&server, "/query?period=1h");
    ok(&server, "/query?period=1h");
    assert_eq!(server.process.emissions.lock().unwrap().len(), 1);
    server.process.now_ms.fetch_add(1000, std::sync::atomic::Ordering::SeqCst);
    ok(&server, "/query?period=1h");
    assert_eq!(server.process.emissions.lock().unwrap().len(), 2);
}

#[test]
fn the_sample_store_holds_what_its_table_says() {
    let batch = flows();
    assert_eq!(batch.ragged_column(), None);
    let process = TestProcess::default();
    assert_eq!((batch.len(), process.store.name()), (5, "local"));
}
