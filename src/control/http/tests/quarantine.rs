use std::sync::atomic::Ordering::SeqCst;

use super::*;

const LIST: &str = "/api/v1/netflow/quarantine";

fn post(server: &TestServer, path: &str, token: &str) -> Got {
    let headers = [("authorization", &*format!("Bearer {token}"))];
    server.request(Method::Post, &format!("{LIST}/{path}"), &headers, b"")
}

#[test]
fn the_list_is_paged_and_a_record_is_shown_by_its_id() {
    let server = TestServer::start();
    let page = server.get(&format!("{LIST}?limit=2")).json();
    assert_eq!((page["items"].as_array().unwrap().len(), page["total"].as_u64()), (2, Some(3)));
    assert_eq!(page["next"], "sink/local/2");
    let rest = server.get(&format!("{LIST}?limit=2&after=sink/local/2")).json();
    assert_eq!(rest["items"][0]["id"], "sink/local/3");
    let shown = server.get(&format!("{LIST}/record?id=sink/local/3"));
    assert_eq!((shown.status, shown.json()["record"]["flows"].as_u64()), (200, Some(3)));
    for (path, status) in [
        ("?limit=0", 400),
        ("?limit=1001", 400),
        ("?by=nobody", 400),
        ("?sink=none", 404),
        ("/record", 400),
        ("/record?id=none", 404),
    ] {
        assert_eq!(server.get(&format!("{LIST}{path}")).status, status, "{path}");
    }
}

#[test]
fn only_an_administrator_replays_and_drops_and_says_what() {
    let server = TestServer::with_tokens();
    for path in ["replay?sink=local", "drop?sink=local"] {
        for token in ["reader", "ingester", "administrator-a"] {
            assert_eq!(post(&server, path, token).status, 403, "{path} {token}");
        }
    }
    for path in ["replay", "drop", "replay?sink=local&id=sink/local/1"] {
        let got = post(&server, path, "administrator");
        assert_eq!((got.status, got.json()["parameter"].as_str()), (400, Some("sink")), "{path}");
    }
    assert_eq!(post(&server, "drop?id=decode/1", "administrator").status, 404);
    assert_eq!(server.process.held.lock().unwrap().len(), 3);
    assert_eq!(post(&server, "replay?id=sink/local/2", "administrator").json()["records"], 1);
    let dropped = post(&server, "drop?sink=local", "administrator").json();
    assert_eq!((&dropped["records"], &dropped["sink"]), (&2.into(), &"local".into()));
}

#[test]
fn a_sink_that_takes_no_data_is_503_with_its_reason() {
    let server = TestServer::with_tokens();
    server.process.busy.store(true, SeqCst);
    let got = post(&server, "replay?sink=local", "administrator");
    assert_eq!((got.status, got.header("retry-after")), (503, "1"));
    assert!(got.json()["error"].as_str().unwrap().contains("connection refused"));
    assert_eq!(server.process.held.lock().unwrap().len(), 3);
}
