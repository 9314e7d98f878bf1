//! Tables with fewer columns than the record.

mod delivery;
mod server;

use std::time::{Duration, Instant};

use delivery::Log;
use sink_api::conformance::{Options, run_with_columns};
use sink_api::store::{FlowsQuestion, StoreError, TimeRange};
use sink_api::{Field, Filter, SinkConfig};

const CORE: [Field; 11] = [
    Field::Time,
    Field::SrcIp,
    Field::DstIp,
    Field::SrcPort,
    Field::DstPort,
    Field::Protocol,
    Field::Bytes,
    Field::Packets,
    Field::NasId,
    Field::SubscriberId,
    Field::ResellerId,
];

fn core(url: &str) -> sink_postgres::Config {
    sink_postgres::Config { columns: CORE.to_vec(), ..server::config(url) }
}

#[test]
fn what_is_stored_is_answered_as_by_the_reference_and_all_else_is_refused() {
    let Some(server) = server::Server::start() else { return };
    server.database("flows");
    let options = Options { flows: 6_000, ..Options::default() };
    let report = run_with_columns(&core(&server.url("flows")), &options, &CORE)
        .unwrap_or_else(|failures| panic!("{}", failures.join("\n")));
    assert!(report.questions > 300, "{report:?}");
}

#[test]
fn columns_come_and_go_with_the_setting() {
    let Some(server) = server::Server::start() else { return };
    server.database("flows");
    let log = Log::new(3_000);
    let (few, all) = (core(&server.url("flows")), server::config(&server.url("flows")));
    let mut client = server.client("flows");
    let mut counts = |sql: &str| {
        let row = client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    log.deliverer(&few).finish();
    let columns = "SELECT count(*), 0::bigint FROM information_schema.columns WHERE table_name = 'flows'";
    assert_eq!(counts(columns).0, CORE.len() as i64);
    let view = "SELECT count(*), count(exporter_ip) FROM netflow.netflow_flows";
    assert_eq!(counts(view), (log.totals().0, 0), "views give null for what is not there");
    let exporters = "SELECT total_flows, count(exporter_ip) OVER () FROM netflow.netflow_exporters";
    assert_eq!(counts(exporters), (log.totals().0, 0));

    // All columns are wanted: the table grows, what was written before stays without.
    let again = |config: &sink_postgres::Config, position: u64| {
        let mut client = server.client("flows");
        client.execute("UPDATE netflow.cursors SET position = $1", &[&(position as i64)]).unwrap();
        log.deliverer(config).finish();
    };
    again(&all, 0);
    assert_eq!(counts(columns).0, Field::ALL.len() as i64);
    assert_eq!(counts("SELECT count(*), count(exporter_ip) FROM flows"), (2 * log.totals().0, log.totals().0));
    assert_eq!(counts(view), (2 * log.totals().0, log.totals().0));

    // Fewer again: the columns stay and are not written.
    again(&few, 0);
    assert_eq!(counts("SELECT count(*), count(exporter_ip) FROM flows"), (3 * log.totals().0, log.totals().0));
    assert_eq!(counts(view), (3 * log.totals().0, log.totals().0));
}

#[test]
fn a_question_for_a_column_that_is_not_stored_says_which_key_mends_it() {
    let Some(server) = server::Server::start() else { return };
    server.database("flows");
    let log = Log::new(10);
    let config = core(&server.url("flows"));
    log.deliverer(&config).finish();
    let store = config.store(&log.context).unwrap().unwrap();
    let question = |filter: &str| FlowsQuestion {
        range: TimeRange { from: 0, to: i64::MAX },
        filter: filter.parse::<Filter>().unwrap(),
        deadline: Instant::now() + Duration::from_secs(60),
    };
    let error = store.flows(&question("vlan 5"), &mut |_, _| true).unwrap_err();
    let StoreError::Unsupported { reason, remedy, .. } = &error else { panic!("{error}") };
    assert_eq!(reason, "flows are stored without vlan_id");
    assert!(remedy.contains("`columns` of this sink"), "{remedy}");
    let mut rows = 0;
    let summary = store.flows(&question("any"), &mut |batch, all| {
        rows += all.iter().filter(|row| batch.vlan_id.get(**row as usize).is_none()).count();
        true
    });
    assert_eq!((summary.unwrap().rows, rows as u64), (10, 10), "flows come without it");
}
