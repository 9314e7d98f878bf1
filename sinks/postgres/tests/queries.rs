//! The queries that users of the tables run, as a reader with the README's rights.

mod delivery;
mod server;

use delivery::Log;
use server::Server;

/// A server with flows that end now, and a reader.
fn filled() -> Option<(Server, Log)> {
    let server = Server::start()?;
    server.database("flows");
    let mut log = Log::new(4_000);
    log.shift_to(sink_api::time::now_ms());
    let config = server::config(&server.url("flows"));
    log.deliverer(&config).finish();
    server.client("flows").batch_execute(&grants()).unwrap();
    Some((server, log))
}

/// The statements of the README's section on rights.
fn grants() -> String {
    let readme = include_str!("../README.md");
    let section = readme.split("## Rights").nth(1).unwrap();
    section.split("```sql").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

fn reader(server: &Server) -> postgres::Client {
    let url = server.url("flows").replace("rgz@", "reader@");
    postgres::Client::connect(&url, postgres::NoTls).unwrap()
}

#[test]
fn the_platforms_queries_run_as_they_stand() {
    let Some((server, log)) = filled() else { return };
    let mut reader = reader(&server);
    let rows =
        |reader: &mut postgres::Client, sql: &str| reader.query(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let last = "SELECT time, src_ip, dst_ip, src_port, dst_port, protocol, bytes, packets FROM flows ORDER BY time DESC LIMIT 20";
    assert_eq!(rows(&mut reader, last).len(), 20);
    let top = "SELECT src_ip, SUM(bytes) AS total_bytes, SUM(packets) AS total_pkts FROM flows \
               WHERE time > NOW() - INTERVAL '24 hours' GROUP BY src_ip ORDER BY total_bytes DESC LIMIT 10";
    assert_eq!(rows(&mut reader, top).len(), 10);
    let trend = "SELECT time_bucket('1h', time), SUM(bytes) FROM flows GROUP BY 1";
    assert!(rows(&mut reader, trend).len() > 24);
    let ports = "SELECT dst_port, protocol, COUNT(*) FROM flows GROUP BY dst_port, protocol";
    let flows: i64 = rows(&mut reader, ports).iter().map(|row| row.get::<_, i64>(2)).sum();
    assert_eq!(flows, log.totals().0);
    let copy = "COPY (SELECT * FROM flows WHERE time > NOW() - INTERVAL '7 days') TO STDOUT CSV HEADER";
    let mut csv = String::new();
    std::io::Read::read_to_string(&mut reader.copy_out(copy).unwrap(), &mut csv).unwrap();
    assert!(
        csv.starts_with(
            "time,src_ip,dst_ip,src_port,dst_port,protocol,bytes,packets,nas_id,subscriber_id,reseller_id,"
        )
    );
    assert_eq!(csv.lines().count() as i64, log.totals().0 + 1);
}

#[test]
fn a_store_may_be_dropped_within_an_async_runtime() {
    let Some((server, log)) = filled() else { return };
    let config = server::config(&server.url("flows"));
    let store = sink_api::SinkConfig::store(&config, &log.context).unwrap().unwrap();
    let range = sink_api::store::TimeRange { from: 0, to: i64::MAX };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let question = sink_api::store::FlowsQuestion { range, filter: sink_api::Filter::Any, deadline };
    let summary = store.flows(&question, &mut |_, _| true).unwrap();
    assert_eq!(summary.rows as i64, log.totals().0);
    tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async move { drop(store) });
}

#[test]
fn a_question_ends_at_its_deadline_here_and_at_the_server() {
    let Some((server, log)) = filled() else { return };
    let store = sink_api::SinkConfig::store(&server::config(&server.url("flows")), &log.context).unwrap().unwrap();
    let mut other = server.client("flows");
    let mut blocker = other.transaction().unwrap();
    blocker.batch_execute("LOCK TABLE flows IN ACCESS EXCLUSIVE MODE").unwrap();
    let range = sink_api::store::TimeRange { from: 0, to: i64::MAX };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(1);
    let question = sink_api::store::FlowsQuestion { range, filter: sink_api::Filter::Any, deadline };
    let answer = store.flows(&question, &mut |_, _| true);
    assert!(matches!(answer, Err(sink_api::store::StoreError::Deadline { .. })), "{answer:?}");
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'";
    let row = server.client("postgres").query_one(waiting, &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 0, "the server was told the deadline");
    blocker.rollback().unwrap();
    let question =
        sink_api::store::FlowsQuestion { deadline: deadline + std::time::Duration::from_secs(60), ..question };
    assert_eq!(store.flows(&question, &mut |_, _| true).unwrap().rows as i64, log.totals().0, "and goes on");
}

#[test]
fn views_give_the_older_collectors_names() {
    let Some((server, log)) = filled() else { return };
    let mut reader = reader(&server);
    let columns = |view: &str| {
        let sql = "SELECT string_agg(column_name, ', ' ORDER BY ordinal_position) FROM information_schema.columns \
                   WHERE table_schema = 'netflow' AND table_name = $1";
        server.client("flows").query_one(sql, &[&view]).unwrap().get::<_, String>(0)
    };
    let flows = "id, timestamp, flow_id, flow_start, flow_end, src_ip, dst_ip, src_port, dst_port, protocol, packets, bytes, \
                 flow_duration_ms, exporter_ip, input_snmp, output_snmp, tcp_flags, src_tos, dst_tos, src_as, dst_as, next_hop, \
                 vlan_id, application_name, bidirectional, netflow_version, received_at, created_at";
    assert_eq!(columns("netflow_flows"), flows);
    let exporters =
        "id, exporter_ip, exporter_name, first_seen, last_seen, total_flows, total_bytes, version, sampling_rate";
    assert_eq!(columns("netflow_exporters"), exporters);
    let aggregates = "id, period_start, period_end, src_ip, dst_ip, protocol, total_bytes, total_packets, flow_count";
    assert_eq!(columns("netflow_aggregates"), aggregates);

    let top = "SELECT src_ip, dst_ip, SUM(bytes) AS total FROM netflow.netflow_flows \
               WHERE flow_start > NOW() - INTERVAL '1 hour' GROUP BY src_ip, dst_ip ORDER BY total DESC LIMIT 10";
    assert_eq!(reader.query(top, &[]).unwrap().len(), 10);
    let scans = "SELECT src_ip, COUNT(*) AS connections, COUNT(DISTINCT dst_ip) FROM netflow.netflow_flows \
                 WHERE flow_start > NOW() - INTERVAL '5 minutes' GROUP BY src_ip HAVING COUNT(*) > 1000";
    assert!(reader.query(scans, &[]).unwrap().is_empty());
    let client_ports = "INSERT INTO flows (time, src_ip, dst_ip, src_port, dst_port, protocol, bytes, packets) \
                        SELECT max(time), '10.0.0.1', '192.0.2.1', 50000, 40000, 6, 1, 1 FROM flows";
    server.client("flows").batch_execute(client_ports).unwrap();
    let names = "SELECT count(*) FILTER (WHERE application_name LIKE 'system-%'), \
                 count(*) FILTER (WHERE application_name LIKE 'user-%'), \
                 count(*) FILTER (WHERE application_name LIKE 'protocol-%'), \
                 count(*) FILTER (WHERE application_name IS NULL), count(DISTINCT id) FROM netflow.netflow_flows";
    let row = reader.query_one(names, &[]).unwrap();
    let count = |column| row.get::<_, i64>(column);
    assert!(count(0) > 0 && count(1) > 0 && count(2) > 0 && count(3) == 0, "{row:?}");
    assert!(count(4) > log.totals().0 / 2, "ids tell flows apart");
    let sums = "SELECT (SELECT sum(total_flows) FROM netflow.netflow_exporters)::bigint, \
                (SELECT sum(flow_count) FROM netflow.netflow_aggregates)::bigint";
    let row = reader.query_one(sums, &[]).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (log.totals().0 + 1, log.totals().0 + 1));
}

#[test]
fn what_is_too_old_is_neither_stored_nor_kept() {
    let Some((server, log)) = filled() else { return };
    let mut config = server::config(&server.url("flows"));
    config.retention.detail_days = 2;
    let mut sink = sink_api::SinkConfig::open(&config, &log.context).unwrap();
    sink.maintain().unwrap();
    let mut client = server.client("flows");
    let oldest = "SELECT (extract(epoch FROM min(time)) * 1000)::bigint, count(*) FROM flows";
    let row = client.query_one(oldest, &[]).unwrap();
    let cutoff = (log.context.clock)() - 3 * sink_api::time::DAY_MS;
    assert!(row.get::<_, i64>(0) >= cutoff && row.get::<_, i64>(1) > 0, "{row:?}");
    drop(sink);

    // The same flows from another log: those of the first days are expired.
    client.batch_execute("TRUNCATE flows; DELETE FROM netflow.cursors").unwrap();
    let mut deliverer = log.deliverer(&config);
    deliverer.finish();
    let expired = deliverer.counters().expired_flows;
    let stored: i64 = client.query_one("SELECT count(*) FROM flows", &[]).unwrap().get(0);
    assert!(expired > 0 && stored > 0);
    assert_eq!(stored + expired as i64, log.totals().0);
}

#[test]
fn a_row_that_the_server_refuses_is_set_aside_alone() {
    let Some(server) = Server::start() else { return };
    for connections in [1, 3] {
        let name = format!("flows{connections}");
        server.database(&name);
        refused_rows_are_set_aside(&server, &name, connections);
    }
}

fn refused_rows_are_set_aside(server: &Server, database: &str, connections: usize) {
    let log = Log::new(12_000);
    let config = sink_postgres::Config { connections, ..server::config(&server.url(database)) };
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(0), "opening makes the tables");
    let mut client = server.client(database);
    // An operator's own constraint, which a handful of the flows violate.
    client.batch_execute("ALTER TABLE flows ADD CONSTRAINT odd CHECK (bytes % 1009 <> 0)").unwrap();
    // Rows that cannot be kept are not left out of a commit.
    deliverer.keeps = false;
    while deliverer.step(16) {}
    assert!(deliverer.set_aside.is_empty());
    deliverer.keeps = true;
    deliverer.finish();
    let refused = log.count_flows(|batch, row| batch.bytes.value_or_default(row) % 1009 == 0);
    assert!(refused > 0);
    assert_eq!(deliverer.set_aside.len(), refused);
    assert!(deliverer.set_aside.iter().all(|(_, _, reason)| reason.contains("odd")), "{:?}", deliverer.set_aside);
    let stored: i64 = client.query_one("SELECT count(*) FROM flows", &[]).unwrap().get(0);
    assert_eq!(stored, log.totals().0 - refused as i64);
}
