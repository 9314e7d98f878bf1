//! The dashboard's queries on a real server, filled with the data set of the conformance suite.

mod delivery;
#[path = "../../../tests/support/grafana.rs"]
mod grafana;
mod server;

use delivery::Log;
use grafana::{Macros, Query};
use serde_json::Value;
use server::Server;
use sink_api::conformance::START_MS;

/// A server that holds a log, and the macros over its time.
fn filled() -> Option<(Server, Log, Macros)> {
    let server = Server::start()?;
    let log = Log::new(2_000);
    log.deliverer(&server.config()).finish();
    let time_filter = format!("time >= {START_MS}ms and time <= {}ms", log.set.now_ms);
    let macros = Macros { interval: "1h", from: String::new(), to: String::new(), time_filter };
    Some((server, log, macros))
}

/// Series of a panel's answer.
fn answer(server: &Server, macros: &Macros, query: &Query) -> Vec<Value> {
    let statement = macros.expand(query);
    let answer = server.query(&statement);
    let result = &answer["results"][0];
    assert!(answer["error"].is_null() && result["error"].is_null(), "{}: {answer}\n{statement}", query.name);
    result["series"].as_array().cloned().unwrap_or_default()
}

fn sum(series: &[Value], column: &str) -> u64 {
    let of = |series: &Value| {
        let at = series["columns"].as_array().unwrap().iter().position(|name| name == column).unwrap();
        series["values"].as_array().unwrap().iter().map(|row| row[at].as_u64().unwrap_or(0)).sum::<u64>()
    };
    series.iter().map(of).sum()
}

#[test]
fn every_panel_gives_rows() {
    let Some((server, _, macros)) = filled() else { return };
    let queries = grafana::queries(&grafana::folder("../.."), "netflow-influxdb");
    assert!(queries.len() >= 8, "{}", queries.len());
    for query in queries {
        let series = answer(&server, &macros, &query);
        let values = series.iter().flat_map(|series| series["values"].as_array().unwrap());
        let numbers = values.filter(|row| row.as_array().unwrap()[1..].iter().any(|cell| cell.as_u64() > Some(0)));
        assert!(numbers.count() > 0, "{} gives no rows: {}", query.name, query.text);
    }
}

#[test]
fn what_the_panels_show_is_what_was_stored() {
    let Some((server, log, macros)) = filled() else { return };
    let queries = grafana::queries(&grafana::folder("../.."), "netflow-influxdb");
    let shown = |title: &str, column: &str| {
        let query = queries.iter().find(|query| query.name.ends_with(&format!(": {title}"))).unwrap();
        sum(&answer(&server, &macros, query), column)
    };
    let all = log.totals()["traffic"][0];
    for title in ["Directions", "Applications (bytes a step)", "Protocols (bytes a step)"] {
        assert_eq!(shown(title, "sum"), all, "{title}");
    }
    let usage = "SELECT sum(bytes) FROM netflow_long.usage WHERE direction != 'internal_in'";
    let usage = server.numbers(usage)[0];
    for title in ["Resellers", "Sites"] {
        assert_eq!(shown(title, "bytes"), usage, "{title}");
    }
}
