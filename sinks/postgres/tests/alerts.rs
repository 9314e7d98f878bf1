//! Alerts as a table: every row once whatever breaks, in every column what the collector said, and no harm to a table of the
//! platform's own that has its name.

mod delivery;
mod server;

use delivery::Log;
use server::Server;
use sink_api::conformance::{DataSet, Options, run};
use sink_api::value::Value;
use sink_api::{AlertRow, Entry, LogId, SinkConfig, Uuid};

/// A row as text, each column by its name.
fn told(row: &AlertRow) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Null => "null".to_owned(),
        Value::Number(n) => (*n).min(i64::MAX as u64).to_string(),
        Value::TimeMs(ms) => ms.to_string(),
        other => other.to_string(),
    };
    let mut told = vec![row.time_ms.to_string()];
    told.extend(row.values().iter().map(text));
    told
}

/// The rows of one log as the database has them.
fn stored(client: &mut postgres::Client, log: LogId) -> Vec<Vec<String>> {
    let ms = |name: &str| format!("(extract(epoch FROM {name}) * 1000)::bigint::text");
    let column = |column: &sink_api::alert::AlertColumn| {
        let value = match column.kind {
            sink_api::Kind::TimeMs => ms(column.name),
            sink_api::Kind::Ip => format!("host({})", column.name),
            _ => format!("{}::text", column.name),
        };
        format!("coalesce({value}, 'null')")
    };
    let columns: Vec<String> = std::iter::once(ms("time")).chain(AlertRow::COLUMNS.iter().map(column)).collect();
    let sql = format!("SELECT {} FROM alerts WHERE collector = $1::text::uuid", columns.join(", "));
    let rows = client.query(&sql, &[&Uuid::from_bytes(log.0).to_string()]).unwrap();
    let mut stored: Vec<Vec<String>> =
        rows.iter().map(|row| (0..row.len()).map(|at| row.get::<_, String>(at)).collect()).collect();
    stored.sort();
    stored
}

fn expected(entries: &[Entry]) -> Vec<Vec<String>> {
    let mut expected: Vec<Vec<String>> = DataSet::alerts(entries).map(told).collect();
    expected.sort();
    expected
}

#[test]
fn every_alert_is_there_once_after_torn_groups_and_lost_answers_of_two_logs() {
    let Some(server) = Server::start() else { return };
    let options = Options { flows: 12_000, ..Options::default() };
    let set = DataSet::new(&options, &[]);
    for (name, connections) in [("one", 1), ("three", 3)] {
        server.database(name);
        let mut config = server::config(&server.url(name));
        config.connections = connections;
        run(&config, &options).unwrap_or_else(|failures| panic!("{}", failures.join("\n")));
        let mut client = server.client(name);
        for (log, entries) in
            [(sink_api::conformance::LOG, &set.entries), (sink_api::conformance::OTHER_LOG, &set.other_log)]
        {
            let (expected, stored) = (expected(entries), stored(&mut client, log));
            assert!(expected.len() >= 9, "{}", expected.len());
            assert_eq!(stored, expected, "{name}, {log}");
        }
    }
}

#[test]
fn a_place_from_before_gets_the_table_and_one_of_another_shape_is_left_alone() {
    let Some(server) = Server::start() else { return };
    let log = Log::new(3_000);
    server.database("flows");
    let config = server::config(&server.url("flows"));
    config.open(&log.context).unwrap();
    let mut client = server.client("flows");
    client.batch_execute("DROP TABLE alerts").unwrap();
    config.open(&log.context).unwrap();
    assert_eq!(client.query_one("SELECT count(*) FROM alerts", &[]).unwrap().get::<_, i64>(0), 0);

    server.database("platform");
    let mut client = server.client("platform");
    client.batch_execute("CREATE TABLE alerts (id int); INSERT INTO alerts VALUES (1)").unwrap();
    log.deliverer(&server::config(&server.url("platform"))).finish();
    let counts = client.query_one("SELECT (SELECT count(*) FROM flows), (SELECT sum(id) FROM alerts)", &[]).unwrap();
    assert_eq!((counts.get::<_, i64>(0), counts.get::<_, i64>(1)), (log.totals().0, 1));
}
