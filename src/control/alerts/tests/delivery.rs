//! What reaches receivers, over real sockets.

mod smtp;
pub(super) mod web;

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;

use self::web::WebServer;
use super::*;

/// Longest wait for anything; tests on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "a secret of the test";

pub(super) fn webhook(name: &str, url: &str) -> ReceiverConfig {
    ReceiverConfig { url: url.into(), secret: SECRET.into(), ..ReceiverConfig::new(name, ReceiverKind::Webhook) }
}

fn config(receiver: Vec<ReceiverConfig>) -> Config {
    Config { subscriber_24h_bytes: 1000, receiver, ..Config::default() }
}

/// One subscriber goes over its threshold.
fn fire(bench: &mut Bench) {
    bench.engine.add(1, &flow(T0, 2000, Direction::In), T0);
    bench.evaluate(T0);
    assert_eq!(bench.firing(), [("subscriber_24h", 2000)]);
}

pub(super) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < until, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_webhook_is_signed_and_tried_again_after_an_error_with_the_same_delivery_id() {
    let server = WebServer::start(vec![500, 200]);
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), config(vec![webhook("hook", &server.url("/in?x=1"))]));
    fire(&mut bench);
    wait_until("two tries", || server.requests().len() == 2);
    let requests = server.requests();
    for request in &requests {
        assert_eq!(request.line, "POST /in?x=1 HTTP/1.1");
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{}.", request.header("x-netflow-timestamp")).as_bytes());
        mac.update(&request.body);
        let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(request.header("x-netflow-signature"), format!("sha256={expected}"));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((&body["event"], &body["delivery"]), (&"firing".into(), &"0-firing".into()));
        assert_eq!(body["alert"]["subscriber_id"], SUBSCRIBER.to_string());
        assert_eq!((&body["alert"]["bytes"], &body["alert"]["threshold"]), (&2000.into(), &1000.into()));
        assert_eq!(request.header("x-netflow-delivery"), "0-firing");
    }
}

#[test]
fn what_a_receiver_did_not_take_is_brought_after_a_restart_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let refusing = WebServer::start(vec![503; 1000]);
    {
        let mut bench = Bench::open(folder.path(), config(vec![webhook("hook", &refusing.url("/"))]));
        fire(&mut bench);
        wait_until("a try", || !refusing.requests().is_empty());
    }
    let taking = WebServer::start(vec![204; 1000]);
    for _ in 0..2 {
        let bench = Bench::open(folder.path(), config(vec![webhook("hook", &taking.url("/"))]));
        wait_until("it is taken", || taking.requests().len() == 1);
        drop(bench);
    }
    let mut bench = Bench::open(folder.path(), config(vec![webhook("hook", &taking.url("/"))]));
    bench.evaluate(T0 + 26 * HOUR_MS);
    wait_until("the end is told", || taking.requests().len() == 2);
    let events: Vec<Value> = taking.requests().iter().map(|r| serde_json::from_slice(&r.body).unwrap()).collect();
    assert_eq!(events.iter().map(|e| e["event"].as_str().unwrap()).collect::<Vec<_>>(), ["firing", "resolved"]);
    assert_eq!(events[1]["alert"]["state"], "resolved");
}

#[test]
fn a_receiver_that_hangs_delays_no_other_and_each_gets_what_it_wants() {
    let (hanging, quick, high) = (WebServer::hang(), WebServer::start(vec![200; 9]), WebServer::start(vec![200; 9]));
    let folder = tempfile::tempdir().unwrap();
    let only = |severity, receiver: ReceiverConfig| ReceiverConfig { severities: vec![severity], ..receiver };
    let other = Some(Uuid::from_u128(0xB));
    let receivers = vec![
        webhook("hanging", &hanging.url("/")),
        only(Severity::High, webhook("high", &high.url("/"))),
        only(Severity::Low, webhook("low", &quick.url("/low"))),
        ReceiverConfig { reseller_id: other, ..webhook("other", &quick.url("/other")) },
        webhook("quick", &quick.url("/quick")),
    ];
    let mut bench = Bench::open(folder.path(), config(receivers));
    fire(&mut bench);
    wait_until("both have it", || quick.requests().len() == 1 && high.requests().len() == 1);
    assert_eq!(quick.requests()[0].line, "POST /quick HTTP/1.1");
}

#[test]
fn redirects_are_not_followed() {
    let server = WebServer::start(vec![302; 100]);
    let receiver = webhook("hook", &server.url("/"));
    let alert = sample_alert();
    let error = test_receiver(&receiver, Path::new("."), alert, T0).unwrap_err();
    assert!(error.contains("302"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn alertmanagers_get_what_lasts_with_an_end_ahead_and_what_ended_with_its_end() {
    let server = WebServer::start(vec![200; 100]);
    let receiver = ReceiverConfig { url: server.url("/am/"), ..ReceiverConfig::new("am", ReceiverKind::Alertmanager) };
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), config(vec![receiver]));
    fire(&mut bench);
    let posts = |server: &WebServer| -> Vec<Value> {
        server.requests().iter().flat_map(|r| serde_json::from_slice::<Vec<Value>>(&r.body).unwrap()).collect()
    };
    wait_until("it is posted", || !posts(&server).is_empty());
    let first = posts(&server).remove(0);
    assert_eq!(server.requests()[0].line, "POST /am/api/v2/alerts HTTP/1.1");
    assert_eq!(first["labels"]["alertname"], "subscriber_24h");
    assert_eq!(first["labels"]["reseller_id"], RESELLER.to_string());
    assert_eq!((&first["annotations"]["value"], &first["labels"]["value"]), (&"2000".into(), &Value::Null));
    assert!(first["endsAt"].as_str().unwrap() > first["startsAt"].as_str().unwrap());
    let ended = T0 + 26 * HOUR_MS;
    bench.evaluate(ended);
    wait_until("its end is posted", || posts(&server).last().unwrap()["endsAt"] == crate::flow::time::rfc3339(ended));
    assert_eq!(posts(&server).last().unwrap()["labels"], first["labels"]);
}

fn sample_alert() -> Alert {
    Alert {
        id: 0,
        alert_type: Kind::SinkLag,
        severity: Severity::Medium,
        subject: Subject { name: Some("evil\r\nBcc: everybody@example.net".into()), ..Subject::default() },
        value: 1,
        threshold: 0,
        measured: Measured::default(),
        summary: "sink evil\r\nBcc: everybody@example.net is behind".into(),
        fired_ms: T0,
        held_ms: T0,
        hold_down_ms: 0,
        resolved_ms: None,
        acknowledged: None,
    }
}
