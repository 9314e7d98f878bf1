//! Alerts as they are listed and acknowledged.

use serde_json::json;

use super::process::{NOW_MS, TestProcess};
use super::*;
use crate::control::alerts::{Finding, Findings, Kind, Measured, Severity, Subject, Terms};
use crate::flow::time::DAY_MS;

const ALERTS: &str = "/api/v1/netflow/alerts";

fn finding(kind: Kind, subject: Subject, value: u64) -> Finding {
    let terms = Terms { enabled: true, threshold: 1000, severity: kind.severity(), pending_ms: 0, hold_down_ms: 0 };
    let measured = Measured { bytes: Some(value), ..Measured::default() };
    Finding { kind, subject, value, measured, terms, summary: "a sentence".into() }
}

/// A subscriber of each reseller is over its quota, and a sink was behind three days ago.
fn process() -> TestProcess {
    let process = TestProcess::default();
    let of = |subscriber, reseller_id| Subject {
        subscriber_id: Some(Uuid::from_u128(subscriber)),
        reseller_id: Some(reseller_id),
        ..Subject::default()
    };
    let sink = Subject { name: Some("local".into()), ..Subject::default() };
    let apply =
        |all: Vec<Finding>, at_ms| process.board.apply(&Findings { all, ..Findings::default() }, 90 * DAY_MS, at_ms);
    apply(vec![finding(Kind::SinkLag, sink, 5000)], NOW_MS - 4 * DAY_MS);
    apply(vec![], NOW_MS - 3 * DAY_MS);
    let over = |subscriber, reseller, bytes| finding(Kind::Subscriber24h, of(subscriber, reseller), bytes);
    apply(vec![over(1, RESELLER_A, 2000), over(2, RESELLER_B, 3000)], NOW_MS - 1000);
    process
}

#[test]
fn alerts_are_found_by_severity_days_state_type_and_whose() {
    let server = TestServer::with(Config::default(), process());
    let ids = |query: &str| -> Vec<u64> {
        let got = server.get(&format!("{ALERTS}{query}"));
        assert_eq!(got.status, 200, "{}", got.body);
        let answer = got.json();
        assert!(answer["total"].as_u64().unwrap() >= answer["items"].as_array().unwrap().len() as u64);
        answer["items"].as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(""), [2, 1, 0]);
    assert_eq!(ids("?severity=high&days=7"), [2, 1]);
    assert_eq!(ids("?severity=medium"), [0]);
    assert_eq!(ids("?days=2"), [2, 1]);
    assert_eq!(ids("?days=0"), [2, 1]);
    assert_eq!(ids("?state=firing&limit=1"), [2]);
    assert_eq!(ids("?type=sink_lag"), [0]);
    assert_eq!(ids(&format!("?reseller_id={RESELLER_B}")), [2]);
    assert_eq!(ids(&format!("?subscriber_id={SUBSCRIBER_1}")), [1]);
    for (bad, parameter) in [("?severity=urgent", "severity"), ("?days=-1", "days"), ("?type=x", "type")] {
        let got = server.get(&format!("{ALERTS}{bad}"));
        assert_eq!((got.status, &got.json()["parameter"]), (400, &json!(parameter)));
    }
    let item = &server.get(&format!("{ALERTS}?severity=high&days=7")).json()["items"][1];
    assert_eq!(item["timestamp"], "2026-01-31T11:59:59.000Z");
    assert_eq!((&item["alert_type"], &item["severity"]), (&json!("subscriber_24h"), &json!(Severity::High)));
    assert_eq!(item["subscriber_id"], SUBSCRIBER_1.to_string());
    assert_eq!((&item["bytes"], &item["threshold"]), (&json!(2000), &json!(1000)));
}

#[test]
fn a_token_of_one_reseller_sees_its_alerts_and_nothing_of_the_collector() {
    let server = TestServer::with_tokens_over(process());
    let get = |token: &str, query: &str| {
        let headers = [("authorization", &*format!("Bearer {token}"))];
        server.request(Method::Get, &format!("{ALERTS}{query}"), &headers, b"")
    };
    assert_eq!(get("reader", "").json()["total"], 3);
    let own = get("reader-a", "").json();
    assert_eq!((&own["total"], &own["items"][0]["id"]), (&json!(1), &json!(1)));
    assert_eq!(get("reader-a", &format!("?reseller_id={RESELLER_A}")).json()["total"], 1);
    assert_eq!(get("reader-a", &format!("?reseller_id={RESELLER_B}")).status, 403);
}

#[test]
fn acknowledging_needs_the_role_and_an_alert_that_is_there() {
    let server = TestServer::with_tokens_over(process());
    let acknowledge = |token: &str, query: &str| {
        let headers = [("authorization", &*format!("Bearer {token}"))];
        server.request(Method::Post, &format!("{ALERTS}/acknowledge{query}"), &headers, b"")
    };
    assert_eq!(acknowledge("reader", "?id=1").status, 403);
    assert_eq!(acknowledge("administrator", "").status, 400);
    assert_eq!(acknowledge("administrator", "?id=9").status, 404);
    let seen = acknowledge("administrator", "?id=1").json();
    assert_eq!((&seen["acknowledged_by"], &seen["state"]), (&json!("administrator"), &json!("firing")));
    let headers = [("authorization", "Bearer reader")];
    let listed = server.request(Method::Get, ALERTS, &headers, b"").json();
    assert_eq!(listed["items"][1]["acknowledged_at"], "2026-01-31T12:00:00.000Z");
    assert_eq!(listed["items"][2]["acknowledged_at"], json!(null));
}
