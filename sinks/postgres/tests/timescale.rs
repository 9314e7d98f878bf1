//! On a real TimescaleDB: hypertables, policies, columnstore, and what happens where the licence or the extension is missing.
//!
//! The server is the one of `TIMESCALEDB_TEST_URL` (`postgres://user@host:port/database`, a role that may create databases
//! and the extension), else one that the test starts where the extension is installed. Without either the tests say that they
//! were skipped.

mod database;
mod delivery;
mod server;
mod subscribers;

use std::time::{Duration, Instant};

use database::Database;
use delivery::Log;
use postgres::Client;
use server::Server;
use sink_api::conformance::{Options, run};

fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// Runs a policy now. The server runs it by itself as well; while it does, ours fails.
fn run_job(client: &mut Client, job: i64) {
    let until = Instant::now() + Duration::from_secs(60);
    while let Err(error) = client.batch_execute(&format!("CALL run_job({job})")) {
        assert!(Instant::now() < until, "{error:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn jobs(client: &mut Client, proc: &str, key: &str) -> Vec<(String, String)> {
    let sql = format!(
        "SELECT hypertable_name::text, (config->>'{key}')::interval::text FROM timescaledb_information.jobs \
         WHERE proc_name LIKE 'policy_{proc}' ORDER BY 1"
    );
    client.query(&sql, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn answers_are_those_of_the_reference() {
    let Some(database) = Database::new("conformance") else { return };
    let flows = std::env::var("CONFORMANCE_FLOWS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let options = Options { flows, ..Options::default() };
    let report = run(&database.config(), &options).unwrap_or_else(|failures| panic!("{}", failures.join("\n")));
    assert!(report.questions > 500, "{report:?}");
    let hypertables = "SELECT count(*) FROM timescaledb_information.hypertables";
    assert_eq!(number(&mut database.client(), hypertables), 9, "flows, seven rollups, alerts");
}

#[test]
fn policies_follow_the_configuration() {
    let Some(database) = Database::new("policies") else { return };
    let log = Log::new(10);
    let mut config = database.config();
    config.retention.detail_days = 30;
    config.retention.aggregate_months = 12;
    let mut client = database.client();
    drop(sink_api::SinkConfig::open(&config, &log.context).unwrap());
    let said = sink_api::SinkConfig::probe(&config).unwrap().unwrap();
    assert!(said.contains("TimescaleDB 2") && said.ends_with("hypertables with policies"), "{said}");
    let retention = jobs(&mut client, "retention", "drop_after");
    let kept = |days: &str, months: &str| {
        ["alerts", "flows", "flows_geo", "flows_talkers", "flows_traffic", "flows_usage", "flows_usage_apps"]
            .map(|table| {
                (table, if matches!(table, "flows" | "flows_talkers" | "flows_traffic") { days } else { months })
            })
            .map(|(table, after)| (table.to_owned(), after.to_owned()))
    };
    assert_eq!(retention, kept("30 days", "1 year"));
    let columnar: Vec<String> = jobs(&mut client, "c%", "compress_after").into_iter().map(|(table, _)| table).collect();
    assert_eq!(columnar, ["flows", "flows_talkers", "flows_traffic"]);

    config.retention.detail_days = 7;
    config.retention.aggregate_months = 3;
    config.chunk_interval_hours = 6;
    drop(sink_api::SinkConfig::open(&config, &log.context).unwrap());
    assert_eq!(jobs(&mut client, "retention", "drop_after"), kept("7 days", "3 mons"));
    let width = "SELECT (extract(epoch FROM time_interval) / 3600)::bigint FROM timescaledb_information.dimensions \
                 WHERE hypertable_name = 'flows'";
    assert_eq!(number(&mut client, width), 6);
}

#[test]
fn a_database_that_will_be_given_the_extension_is_said_to() {
    let Some(server) = Server::start_timescale("") else { return };
    server.database("flows");
    let config = sink_postgres::Config { timescale: true, ..server::config(&server.url("flows")) };
    let probed = || sink_api::SinkConfig::probe(&config).unwrap().unwrap();
    let before = probed();
    assert!(before.contains("TimescaleDB 2") && before.ends_with("to be made here: hypertables"), "{before}");
    drop(sink_api::SinkConfig::open(&config, &Log::new(10).context).unwrap());
    let after = probed();
    assert!(after.ends_with("hypertables with policies"), "{after}");
}

#[test]
fn chunks_become_columnar_and_are_dropped_and_queries_run_on() {
    let Some(database) = Database::new("chunks") else { return };
    let mut log = Log::new(4_000);
    log.shift_to(sink_api::time::now_ms());
    log.deliverer(&database.config()).finish();
    let mut client = database.client();
    let totals = "SELECT count(*) FROM flows";
    assert_eq!(number(&mut client, totals), log.totals().0);

    let job = number(
        &mut client,
        "SELECT job_id::bigint FROM timescaledb_information.jobs WHERE hypertable_name = 'flows' AND proc_name LIKE 'policy_c%'",
    );
    run_job(&mut client, job);
    let columnar =
        "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'flows' AND is_compressed";
    assert!(number(&mut client, columnar) >= 4, "chunks older than a day are columnar");
    assert_eq!(number(&mut client, totals), log.totals().0);

    let queries = [
        "SELECT time, src_ip, dst_ip, src_port, dst_port, protocol, bytes, packets FROM flows ORDER BY time DESC LIMIT 20",
        "SELECT src_ip, SUM(bytes) AS total_bytes, SUM(packets) AS total_pkts FROM flows \
         WHERE time > NOW() - INTERVAL '24 hours' GROUP BY src_ip ORDER BY total_bytes DESC LIMIT 10",
        "SELECT time_bucket('1h', time), SUM(bytes) FROM flows GROUP BY 1",
        "SELECT dst_port, protocol, COUNT(*) FROM flows GROUP BY dst_port, protocol",
        "SELECT * FROM netflow.netflow_flows LIMIT 10",
        "SELECT * FROM netflow.netflow_aggregates LIMIT 10",
    ];
    for sql in queries {
        assert!(!client.query(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}")).is_empty(), "{sql}");
    }

    // Late flows land in chunks that are columnar already.
    client.batch_execute("DELETE FROM netflow.cursors").unwrap();
    log.deliverer(&database.config()).finish();
    assert_eq!(number(&mut client, totals), 2 * log.totals().0);

    // The retention of two days, as its policy runs.
    let mut config = database.config();
    config.retention.detail_days = 2;
    drop(sink_api::SinkConfig::open(&config, &log.context).unwrap());
    let job = number(
        &mut client,
        "SELECT job_id::bigint FROM timescaledb_information.jobs WHERE hypertable_name = 'flows' AND proc_name = 'policy_retention'",
    );
    run_job(&mut client, job);
    let oldest = "SELECT (extract(epoch FROM now() - min(time)) / 3600)::bigint FROM flows";
    assert!(number(&mut client, oldest) <= 72, "chunks that ended over 2 days ago are gone");
    assert!(number(&mut client, totals) > 0);
}

#[test]
fn one_subscribers_flows_are_found_by_the_index() {
    let Some(database) = Database::new("subscriber") else { return };
    let (config, context) = (database.config(), subscribers::context());
    subscribers::write(&config, &context);
    let mut client = database.client();
    let index = "SELECT count(*) FROM pg_indexes WHERE schemaname = '_timescaledb_internal' \
                 AND indexdef LIKE '% USING brin (\"time\", subscriber_id) %'";
    assert_eq!(number(&mut client, index), 1, "of the only chunk");
    let store = sink_api::SinkConfig::store(&config, &context).unwrap().unwrap();
    let each = u64::from(subscribers::FLOWS / subscribers::SUBSCRIBERS);
    assert_eq!(subscribers::flows_of(&*store, 5), each);

    let explain = format!(
        "EXPLAIN (ANALYZE) SELECT sum(bytes) FROM flows WHERE time >= to_timestamp({}) \
         AND subscriber_id = '{}'",
        subscribers::DAY_START_MS / 1000,
        subscribers::subscriber(5)
    );
    client.batch_execute("SET enable_seqscan = off").unwrap();
    let lines: Vec<String> = client.query(&explain, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    let removed = lines.iter().find_map(|line| line.trim().strip_prefix("Rows Removed by Index Recheck: "));
    let removed: u32 = removed.unwrap_or_else(|| panic!("{lines:#?}")).parse().unwrap();
    assert!(removed * 10 < subscribers::FLOWS, "{lines:#?}");
}

#[test]
fn without_policies_retention_is_ours() {
    let Some(server) = Server::start_timescale("apache") else { return };
    server.database("flows");
    let mut log = Log::new(4_000);
    log.shift_to(sink_api::time::now_ms());
    let mut config = sink_postgres::Config { timescale: true, ..server::config(&server.url("flows")) };
    log.deliverer(&config).finish();
    let mut client = server.client("flows");
    assert_eq!(number(&mut client, "SELECT count(*) FROM timescaledb_information.hypertables"), 7);
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM timescaledb_information.jobs WHERE hypertable_name IS NOT NULL"),
        0
    );
    let said = sink_api::SinkConfig::probe(&config).unwrap().unwrap();
    assert!(said.contains("Apache licence: hypertables, retention by the collector"), "{said}");
    let before = number(&mut client, "SELECT count(*) FROM show_chunks('flows')");
    config.retention.detail_days = 2;
    sink_api::SinkConfig::open(&config, &log.context).unwrap().maintain().unwrap();
    assert!(number(&mut client, "SELECT count(*) FROM show_chunks('flows')") < before);
}

#[test]
fn a_database_that_gets_the_extension_later_loses_our_time_bucket() {
    let Some(database) = Database::new("later") else { return };
    let log = Log::new(10);
    let native = sink_postgres::Config { timescale: false, table: "plain".to_owned(), ..database.config() };
    drop(sink_api::SinkConfig::open(&native, &log.context).unwrap());
    let mut client = database.client();
    let ours = "SELECT count(*) FROM pg_proc WHERE proname = 'time_bucket' AND prolang = \
                (SELECT oid FROM pg_language WHERE lanname = 'sql') AND pronamespace = 'public'::regnamespace";
    assert_eq!(number(&mut client, ours), 1, "ours, where there is no extension");
    drop(sink_api::SinkConfig::open(&database.config(), &log.context).unwrap());
    assert_eq!(number(&mut client, ours), 0);
    let bucket = "SELECT count(*) FROM (SELECT time_bucket('1h', now())) b";
    assert_eq!(number(&mut client, bucket), 1, "time_bucket is not ambiguous");
    // The table of alerts is the one that stands there already, with native partitions.
    assert_eq!(number(&mut client, "SELECT count(*) FROM timescaledb_information.hypertables"), 6);
}
