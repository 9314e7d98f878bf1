use serde_json::json;

use super::process::NOW_MS;
use super::*;
use crate::control::leases::LeaseQuery;

const LEASES: &str = "/api/v1/netflow/leases";

fn put(server: &TestServer, ip: &str, body: &Value) -> Got {
    server.request(Method::Put, &format!("{LEASES}/{ip}"), &[], body.to_string().as_bytes())
}

fn post(server: &TestServer, body: &str) -> Got {
    server.request(Method::Post, LEASES, &[], body.as_bytes())
}

#[test]
fn a_lease_that_was_put_is_listed_renewed_ended_and_survives_a_kill() {
    let server = TestServer::start();
    let body = json!({
        "subscriber_id": SUBSCRIBER_1, "reseller_id": RESELLER_A, "nas_id": "gw1", "site": "hotel",
        "mac": "AA-BB-CC-00-11-22", "from": "2026-01-31T11:00:00Z",
    });
    let got = put(&server, "10.0.0.9", &body);
    assert_eq!((got.status, got.json()), (200, json!({ "ip": "10.0.0.9", "changed": true })), "{}", got.body);
    // Renewed, from now on: one lease still.
    let renewed = json!({
        "subscriber_id": SUBSCRIBER_1, "reseller_id": RESELLER_A, "nas_id": "gw1", "site": "hotel",
        "mac": "aabb.cc00.1122", "to": NOW_MS / 1000 + 3600,
    });
    assert_eq!(put(&server, "10.0.0.9", &renewed).status, 200);
    let lease = json!({
        "ip": "10.0.0.9", "subscriber_id": SUBSCRIBER_1, "reseller_id": RESELLER_A, "nas_id": "gw1", "site": "hotel",
        "mac": "aa:bb:cc:00:11:22", "vendor": null, "from": "2026-01-31T11:00:00.000Z", "to": "2026-01-31T13:00:00.000Z",
    });
    let listed = |query: &str| server.get(&format!("{LEASES}{query}")).json();
    assert_eq!(listed(""), json!({ "items": [lease], "total": 1, "next": null }));
    let after = server.process.leases_after_a_kill();
    let all = after.page(&LeaseQuery { limit: 10, ..LeaseQuery::default() });
    assert_eq!((all.total, all.items[0].1.to_ms), (1, NOW_MS + 3_600_000));

    let delete = || server.request(Method::Delete, &format!("{LEASES}/10.0.0.9"), &[], b"").json()["changed"].clone();
    assert_eq!((delete(), delete()), (json!(true), json!(false)));
    assert_eq!(listed("")["total"], 0);
    assert_eq!(listed("?which=all")["items"][0]["to"], "2026-01-31T12:00:00.000Z");
    assert_eq!(listed("?which=all&ip=10.0.0.9")["total"], 1);
}

#[test]
fn many_leases_are_taken_at_once_and_bad_rows_are_told() {
    let server = TestServer::start();
    let row = |ip: &str| json!({ "ip": ip, "subscriber_id": SUBSCRIBER_1 });
    let array: Vec<Value> = (0..2000).map(|i| row(&format!("10.1.{}.{}", i / 250, i % 250))).collect();
    let got = post(&server, &json!(array).to_string());
    assert_eq!((got.status, got.json()["accepted"].as_u64()), (200, Some(2000)), "{}", got.body);
    let lines = [
        row("2001:db8::1").to_string(),
        String::new(),
        row("10.1.0.256").to_string(),
        json!({ "ip": "10.1.0.0", "op": "delete" }).to_string(),
        json!({ "ip": "10.1.0.1" }).to_string(),
        json!({ "ip": "10.1.0.1", "subscriber_id": SUBSCRIBER_1, "from": 20, "to": 10 }).to_string(),
        json!({ "ip": "10.1.0.1", "subscriber_id": SUBSCRIBER_1, "mac": "aa" }).to_string(),
        json!({ "ip": "10.1.0.1", "subscriber_id": SUBSCRIBER_1, "sit": "x" }).to_string(),
        "{".to_owned(),
    ];
    let got = post(&server, &lines.join("\r\n")).json();
    assert_eq!((got["accepted"].as_u64(), got["rejected_total"].as_u64()), (Some(2), Some(6)), "{got}");
    let told: Vec<_> = got["rejected"].as_array().unwrap().iter().map(|r| r["row"].as_u64().unwrap()).collect();
    assert_eq!(told, [2, 4, 5, 6, 7, 8]);
    assert!(got["rejected"][4]["reason"].as_str().unwrap().contains("sit"), "{got}");
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = server.get(&format!("{LEASES}?limit=700&after={after}")).json();
        assert_eq!(page["total"], 2000);
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["ip"].clone()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(seen.len(), 2000);
    // IPv6 comes first or last, IPv4 in its order; nothing twice.
    assert!(seen.contains(&json!("2001:db8::1")) && !seen.contains(&json!("10.1.0.0")));
    assert_eq!(
        server.process.leases_after_a_kill().page(&LeaseQuery { limit: 1, ..LeaseQuery::default() }).total,
        2000
    );
}

#[test]
fn what_cannot_be_a_lease_changes_nothing_and_is_named() {
    let server = TestServer::start();
    let cases = [
        ("10.0.0", json!({ "subscriber_id": SUBSCRIBER_1 }), 400, "ip"),
        ("10.0.0.1", json!({}), 422, "subscriber_id"),
        ("10.0.0.1", json!({ "subscriber_id": "me" }), 422, "UUID"),
        ("10.0.0.1", json!({ "subscriber_id": SUBSCRIBER_1, "ip": "10.0.0.2" }), 422, "another address"),
        ("10.0.0.1", json!({ "subscriber_id": SUBSCRIBER_1, "op": "delete" }), 422, "DELETE"),
        ("10.0.0.1", json!({ "subscriber_id": SUBSCRIBER_1, "to": "2026-01-31T11:00:00Z" }), 422, "after from"),
        ("10.0.0.1", json!({ "subscriber_id": SUBSCRIBER_1, "from": "noon" }), 422, "noon"),
        ("10.0.0.1", json!({ "subscriber_id": SUBSCRIBER_1, "site": "x".repeat(256) }), 422, "255"),
    ];
    for (ip, body, status, word) in cases {
        let got = put(&server, ip, &body);
        assert!(got.status == status && got.body.contains(word), "{body}: {} {}", got.status, got.body);
    }
    for body in ["", " \n", "[{", "[1,"] {
        assert_eq!(post(&server, body).status, 422, "{body:?}");
    }
    assert_eq!(post(&server, "[]").json()["accepted"], 0);
    assert_eq!(post(&server, "[1, null, []]").json()["rejected_total"], 3);
    assert_eq!(server.get(&format!("{LEASES}?which=all")).json()["total"], 0);
}

#[test]
fn a_token_of_one_reseller_lists_its_own_leases_only() {
    let server = TestServer::with_tokens();
    let with = |token: &str| format!("Bearer {token}");
    for (i, reseller) in [RESELLER_A, RESELLER_B].into_iter().enumerate() {
        let body = json!([{ "ip": format!("10.7.0.{i}"), "subscriber_id": SUBSCRIBER_1, "reseller_id": reseller }]);
        let got =
            server.request(Method::Post, LEASES, &[("authorization", &with("ingester"))], body.to_string().as_bytes());
        assert_eq!(got.status, 200, "{}", got.body);
    }
    let list = |token: &str, query: &str| {
        let got = server.request(Method::Get, &format!("{LEASES}{query}"), &[("authorization", &with(token))], b"");
        (got.status, got.json()["total"].as_u64())
    };
    assert_eq!(list("reader", ""), (200, Some(2)));
    assert_eq!(list("reader-a", ""), (200, Some(1)));
    assert_eq!(list("reader-a", "?ip=10.7.0.1"), (200, Some(0)));
    assert_eq!(list("reader-a", &format!("?reseller_id={RESELLER_B}")).0, 403);
    assert_eq!(list("ingester", "").0, 403);
}
