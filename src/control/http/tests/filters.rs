//! Every route that shows flows, limited by every field by which people look for them.

use super::*;

struct Case {
    /// A filter expression.
    filter: String,
    /// The plain parameters that say the same, where there are some.
    plain: String,
    /// Bytes of the flows that match.
    bytes: u64,
    /// Those of subscriber 1.
    own_bytes: u64,
}

/// The sums are those of `process::flows`.
fn cases() -> Vec<Case> {
    let case = |filter: &str, plain: &str, bytes, own_bytes| {
        let (filter, plain) = (filter.to_owned(), plain.to_owned());
        Case { filter, plain, bytes, own_bytes }
    };
    vec![
        case("country DE", "country=DE", 6000, 6000),
        case("src country DE", "", 5000, 5000),
        case("country us", "country=us", 300, 0),
        case("country FR", "country=FR", 0, 0),
        case("as 64500", "asn=64500", 6000, 6000),
        case("dst as 64500", "", 1000, 1000),
        case("as 64501", "asn=64501", 300, 0),
        case("app HTTPS", "app=HTTPS", 6000, 6000),
        case("app DNS", "app=DNS", 300, 0),
        case("category web", "app_category=web", 6700, 6700),
        case("app_category dns", "app_category=dns", 300, 0),
        case("site \"north, \\\"1\\\"\"", "site=north,%20%221%22", 7000, 6700),
        case("nas gw1", "nas_id=gw1", 6700, 6700),
        case("nas gw2", "nas_id=gw2", 300, 0),
        case(&format!("reseller {RESELLER_A}"), &format!("reseller_id={RESELLER_A}"), 6700, 6700),
        case(&format!("subscriber {SUBSCRIBER_1}"), &format!("subscriber_id={SUBSCRIBER_1}"), 6700, 6700),
        case("country DE and app HTTPS and nas gw1", "country=DE&app=HTTPS&nas_id=gw1", 6000, 6000),
        case("not category web", "", 350, 0),
    ]
}

/// Bytes that an answer shows, whatever its shape.
fn bytes_shown(route: &Route, got: &Got) -> u64 {
    assert_eq!(got.status, 200, "{}: {}", route.path, got.body);
    let sum = |fields: &[&str]| {
        let items = got.json()["items"].as_array().unwrap().clone();
        items.iter().flat_map(|item| fields.iter().map(|f| item[*f].as_u64().unwrap())).sum()
    };
    match route.path.trim_start_matches("/api/v1/netflow/") {
        "top-talkers" => sum(&["bytes_sent"]),
        "bandwidth-trend" => sum(&["bytes_in", "bytes_out", "bytes_internal", "bytes_transit"]),
        "protocol-breakdown" | "query" => got.json()["matched"]["bytes"].as_u64().unwrap(),
        "subscriber/{subscriber_id}/usage" => got.json()["bytes_total"].as_u64().unwrap(),
        "flows.csv" => got.body.lines().skip(1).map(|line| line.parse::<u64>().unwrap()).sum(),
        other => panic!("how many bytes does {other} show?"),
    }
}

#[test]
fn every_route_that_shows_flows_can_be_limited_by_every_field() {
    let server = TestServer::start();
    let takes = |route: &Route, name: &str| route.params.iter().copied().flatten().any(|p| p.name == name);
    let mut routes = 0;
    for route in super::super::table::ROUTES.iter().filter(|route| takes(route, "filter")) {
        routes += 1;
        let own = route.path.contains("{subscriber_id}");
        let columns = if takes(route, "columns") { "&columns=bytes" } else { "" };
        for Case { filter, plain, bytes, own_bytes } in cases() {
            let want = if own { own_bytes } else { bytes };
            let escaped: String = filter.bytes().map(|b| format!("%{b:02X}")).collect();
            let got = server.ask(route, "", &format!("?period=24h&filter={escaped}{columns}"));
            assert_eq!(bytes_shown(route, &got), want, "{} {filter}", route.path);
            if plain.is_empty() || own && plain.contains("subscriber_id") {
                continue;
            }
            let got = server.ask(route, "", &format!("?period=24h&{plain}{columns}"));
            assert_eq!(bytes_shown(route, &got), want, "{} {plain}", route.path);
        }
        for bad in ["country=Germany", "country=1", "asn=0", "asn=AS1"] {
            let got = server.ask(route, "", &format!("?{bad}"));
            assert_eq!((got.status, got.json()["parameter"].as_str()), (400, bad.split('=').next()), "{}", got.body);
        }
    }
    assert_eq!(routes, 6);
}
