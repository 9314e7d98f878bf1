//! The dashboards' queries on a real server.

mod delivery;
#[path = "../../../tests/support/grafana.rs"]
mod grafana;
mod server;

use delivery::Log;
use grafana::Macros;
use server::Server;

#[test]
fn every_panel_gives_rows() {
    let Some(server) = Server::start() else { return };
    server.database("flows");
    let log = Log::new(4_000);
    log.deliverer(&server::config(&server.url("flows"))).finish();
    let mut client = server.client("flows");
    let stamp = |ms: i64| format!("'{}'", sink_api::time::rfc3339(ms));
    let macros = Macros {
        interval: "1h",
        from: stamp(sink_api::conformance::START_MS),
        to: stamp(log.set.now_ms),
        time_filter: String::new(),
    };
    let queries = grafana::queries(&grafana::folder("../.."), "netflow-postgres");
    assert!(queries.len() >= 10, "{}", queries.len());
    for query in queries {
        let sql = macros.expand(&query);
        let rows = client.query(&sql, &[]).unwrap_or_else(|e| panic!("{}: {e:?}\n{sql}", query.name));
        assert!(!rows.is_empty(), "{} gives no rows:\n{sql}", query.name);
        let has_time = rows[0].columns().iter().any(|column| column.name() == "time");
        assert_eq!(
            has_time,
            query.text.contains(" AS time") || query.text.starts_with("SELECT time"),
            "{}",
            query.name
        );
    }
}

#[test]
fn a_days_bandwidth_is_the_sum_of_its_flows() {
    let Some(server) = Server::start() else { return };
    server.database("flows");
    let log = Log::new(2_000);
    log.deliverer(&server::config(&server.url("flows"))).finish();
    let (from, to) = (sink_api::conformance::START_MS, log.set.now_ms);
    let stamp = |ms: i64| format!("'{}'", sink_api::time::rfc3339(ms));
    let macros = Macros { interval: "1h", from: stamp(from), to: stamp(to), time_filter: String::new() };
    let queries = grafana::queries(&grafana::folder("../.."), "netflow-postgres");
    let bandwidth = queries.iter().find(|query| query.name.ends_with(": Bandwidth")).unwrap();
    let sql = format!("SELECT (SUM(bps) * 3600 / 8)::float8 FROM ({}) AS panel", macros.expand(bandwidth));
    let mut client = server.client("flows");
    let shown: f64 = client.query_one(&sql, &[]).unwrap().get(0);
    let flows = "SELECT SUM(bytes)::float8 FROM flows WHERE direction IN ('in', 'out')";
    let stored: f64 = client.query_one(flows, &[]).unwrap().get(0);
    assert!((shown - stored).abs() < stored * 1e-9, "{shown} is shown of {stored}");
}
