use super::super::auth::Needs;
use super::super::route::Scope;
use super::super::table::ROUTES;
use super::*;

#[test]
fn every_route_asks_for_the_role_in_its_row() {
    let server = TestServer::with_tokens();
    let refused = |status: u16| matches!(status, 401 | 403);
    for route in ROUTES {
        let status = |token: &str| server.ask(route, token, "").status;
        let public = route.needs == Needs::Nothing;
        assert_eq!(status(""), if public { 200 } else { 401 }, "{}", route.path);
        assert_eq!(status("wrong"), if public { 200 } else { 401 }, "{}", route.path);
        let allowed = [
            ("reader", matches!(route.needs, Needs::Nothing | Needs::Read)),
            ("ingester", matches!(route.needs, Needs::Nothing | Needs::Ingest)),
            ("administrator", true),
        ];
        for (token, allowed) in allowed {
            let status = status(token);
            assert_eq!(!refused(status), allowed, "{} with {token}: {status}", route.path);
        }
    }
}

#[test]
fn healthz_and_the_description_are_the_only_routes_without_a_token() {
    let open: Vec<_> = ROUTES.iter().filter(|r| r.needs == Needs::Nothing).map(|r| r.path).collect();
    assert_eq!(open, ["/healthz", "/", "/openapi.json"]);
}

#[test]
fn a_token_of_one_reseller_is_told_what_fails_and_not_why() {
    let server = TestServer::with_tokens();
    server.process.busy.store(true, std::sync::atomic::Ordering::SeqCst);
    let checks = |token: &str| {
        let headers = [("authorization", &*format!("Bearer {token}"))];
        let got = server.request(Method::Get, "/readyz", &headers, b"");
        (got.status, got.json()["checks"]["log"].clone())
    };
    assert_eq!(checks("reader"), (503, "busy".into()));
    assert_eq!(checks("reader-a"), (503, "failed".into()));
}

#[test]
fn a_token_of_one_reseller_sees_nothing_of_another_on_any_route() {
    let server = TestServer::with_tokens();
    for route in ROUTES {
        for token in ["reader-a", "administrator-a"] {
            let got = server.ask(route, token, "");
            match (route.scope, got.status) {
                (Scope::Refused, status) => assert_eq!(status, 403, "{}: {}", route.path, got.body),
                (Scope::Free, status) => assert_eq!(status, 200, "{}", route.path),
                (Scope::Filtered, status) => {
                    assert_eq!(status, 200, "{}: {}", route.path, got.body);
                    let others = ["10.0.1.1,198.51.100.7", "198.51.100.7", "192.0.2.8", "gw2"];
                    assert!(others.iter().all(|o| !got.body.contains(o)), "{}: {}", route.path, got.body);
                }
            }
        }
    }
    let bytes = |token: &str, query: &str| {
        let headers = [("authorization", &*format!("Bearer {token}"))];
        let got = server.request(Method::Get, &format!("/api/v1/netflow/query?{query}"), &headers, b"");
        (got.status, got.json()["matched"]["bytes"].as_u64())
    };
    assert_eq!(bytes("reader", ""), (200, Some(7050)));
    assert_eq!(bytes("reader-a", ""), (200, Some(6700)));
    assert_eq!(bytes("reader-a", "filter=any"), (200, Some(6700)));
    assert_eq!(bytes("reader-a", "filter=proto%20tcp%20or%20proto%20udp"), (200, Some(6700)));
    assert_eq!(bytes("reader-a", &format!("reseller_id={RESELLER_A}")), (200, Some(6700)));
    assert_eq!(bytes("reader-a", &format!("reseller_id={RESELLER_B}")).0, 403);
}

#[test]
fn every_route_that_shows_flows_is_limited_or_refused() {
    for route in ROUTES {
        let takes_reseller = route.params.iter().copied().flatten().any(|p| p.name == "reseller_id");
        assert_eq!(takes_reseller, route.scope == Scope::Filtered, "{}", route.path);
    }
}

#[test]
fn pages_of_other_sites_cannot_ask_an_endpoint_without_tokens() {
    let server = TestServer::start();
    let reload = "/api/v1/netflow/reload";
    let status = |headers: &[(&str, &str)]| server.request(Method::Post, reload, headers, b"").status;
    assert_eq!(status(&[]), 200);
    assert_eq!(status(&[("origin", "http://evil.example")]), 403);
    assert_eq!(status(&[("sec-fetch-site", "cross-site")]), 403);
    assert_eq!(status(&[("host", "evil.example")]), 403);
}
