//! Whatever breaks, every flow is there exactly once at the end.

mod delivery;
#[path = "delivery/proxy.rs"]
mod proxy;
mod server;

use std::time::Duration;

use delivery::Log;
use proxy::{Cut, Proxy};
use server::Server;
use sink_api::Entry;
use sink_api::sink::GROUP_ROWS_MAX;

/// A server with an empty database `flows`.
fn started() -> Option<Server> {
    let server = Server::start()?;
    server.database("flows");
    Some(server)
}

#[test]
fn connections_cut_anywhere_lose_and_double_nothing() {
    let Some(server) = started() else { return };
    let log = Log::new(30_000);
    let proxy = Proxy::start(server.port);
    let config = server::config(&format!("postgres://rgz@127.0.0.1:{}/flows", proxy.port));
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(1), "the first group makes the tables");
    let mut random = 0x5eed_u64;
    let (mut cuts, mut lost_answers) = (0, 0);
    for round in 0..58 {
        // A new connection for each: the sink is dropped by the error that follows.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let cut = if round % 8 == 7 { Cut::Commit } else { Cut::After(1 + (random >> 33) as usize % 400_000) };
        *proxy.cut.lock().unwrap() = cut;
        deliverer.reopen();
        let before = deliverer.stored;
        // A cut far behind what one group sends hits a later group.
        while !deliverer.done() && deliverer.step(1) {}
        assert!(!deliverer.done(), "the log is too short");
        cuts += usize::from(cut != Cut::Commit);
        if cut == Cut::Commit {
            // The deliverer knows of an error; the cursor tells that the group is there.
            *proxy.cut.lock().unwrap() = Cut::Never;
            deliverer.reopen();
            assert!(deliverer.step(0));
            lost_answers += usize::from(deliverer.stored > before);
        }
    }
    assert!(cuts > 50, "{cuts} cuts");
    deliverer.finish();
    assert!(lost_answers > 0, "no answer to a COMMIT was lost: {:?}", deliverer.errors);
    log.assert_stored(&mut server.client("flows"));
}

#[test]
fn several_connections_lose_and_double_nothing() {
    let Some(server) = started() else { return };
    let log = Log::new(60_000);
    let proxy = Proxy::start(server.port);
    let mut config = server::config(&format!("postgres://rgz@127.0.0.1:{}/flows", proxy.port));
    config.connections = 3;
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(1), "the first group makes the tables");
    let mut client = server.client("flows");
    let mut random = 0xc0de_u64;
    let mut half_done = 0;
    for round in 0..24 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let cut = if round % 6 == 5 { Cut::Commit } else { Cut::After(1 + (random >> 33) as usize % 2_000_000) };
        *proxy.cut.lock().unwrap() = cut;
        deliverer.reopen();
        // Never the same groups twice.
        let well = deliverer.step(18 + round % 5);
        half_done += usize::from(!well && ranges(&mut client) > 0);
        if deliverer.done() {
            break;
        }
    }
    assert!(half_done > 0, "no cut left a part of a group stored: {:?}", deliverer.errors);
    *proxy.cut.lock().unwrap() = Cut::Never;
    // What several connections left is finished by one.
    let single = sink_postgres::Config { connections: 1, ..config.clone() };
    let mut deliverer = log.deliverer(&single);
    deliverer.finish();
    log.assert_stored(&mut client);
    assert_eq!(ranges(&mut client), 0, "the cursor takes the ranges with it");
}

#[test]
fn a_group_that_is_too_large_for_memory_is_written_in_parts_one_after_the_other() {
    let Some(server) = started() else { return };
    let mut log = Log::new(4_000);
    let one = log.set.entries.iter().find(|entry| entry.record.flow_count() == 1000).unwrap().record.clone();
    let entries = GROUP_ROWS_MAX / 1000 + 20;
    log.set.entries = (1..=entries as u64).map(|position| Entry { position, record: one.clone() }).collect();
    let proxy = Proxy::start(server.port);
    let url = format!("postgres://rgz@127.0.0.1:{}/flows", proxy.port);
    let config = sink_postgres::Config { connections: 1, ..server::config(&url) };
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(1), "the first group makes the tables");
    // The answer to the first part's COMMIT is lost when the second has been pulled.
    *proxy.cut.lock().unwrap() = Cut::Commit;
    deliverer.reopen();
    assert!(!deliverer.step(entries));
    *proxy.cut.lock().unwrap() = Cut::Never;
    assert!(deliverer.step(0));
    assert_eq!(deliverer.stored, 1 + GROUP_ROWS_MAX / 1000, "the first part is there");
    deliverer.finish();
    let mut client = server.client("flows");
    let sql = "SELECT sum(n)::bigint, max(n) FROM (SELECT count(*) AS n FROM flows GROUP BY xmin::text) AS parts";
    let row = client.query_one(sql, &[]).unwrap();
    let (rows, most): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!((rows as usize, most as usize), (entries * 1000, GROUP_ROWS_MAX));
}

fn ranges(client: &mut postgres::Client) -> i64 {
    client.query_one("SELECT count(*) FROM netflow.cursor_ranges", &[]).unwrap().get(0)
}

#[test]
fn a_crash_in_the_middle_of_a_copy_loses_and_doubles_nothing() {
    let Some(mut server) = started() else { return };
    let log = Log::new(40_000);
    let proxy = Proxy::start(server.port);
    let config = server::config(&format!("postgres://rgz@127.0.0.1:{}/flows", proxy.port));
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(1), "the first group makes the tables");
    // Opening sends a few thousand bytes, a group of 12 entries more than a million: all of these lie in its COPY.
    for bytes in [150_000, 400_000, 900_000] {
        *proxy.cut.lock().unwrap() = Cut::Kill(bytes, server.pid());
        deliverer.reopen();
        assert!(!deliverer.step(12), "the server was killed");
        server.stop("KILL");
        server.run();
    }
    deliverer.finish();
    log.assert_stored(&mut server.client("flows"));
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let Some(mut server) = started() else { return };
    let log = Log::new(6_000);
    let config = server::config(&server.url("flows"));
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(4));
    server.stop("INT");
    for _ in 0..5 {
        assert!(!deliverer.step(4), "a server that is stopped stores nothing");
    }
    server.run();
    deliverer.finish();
    log.assert_stored(&mut server.client("flows"));
}

#[test]
fn a_table_dropped_under_it_is_made_again() {
    let Some(server) = started() else { return };
    let log = Log::new(6_000);
    let config = server::config(&server.url("flows"));
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(0), "opening makes the tables");
    let mut client = server.client("flows");
    client.batch_execute("DROP TABLE flows CASCADE; DROP TABLE flows_traffic").unwrap();
    assert!(!deliverer.step(4));
    deliverer.finish();
    log.assert_stored(&mut client);
}

#[test]
fn a_partition_dropped_under_it_is_made_again() {
    let Some(server) = started() else { return };
    let log = Log::new(6_000);
    let config = server::config(&server.url("flows"));
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(1));
    let mut client = server.client("flows");
    let partitions = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'flows'::regclass";
    for row in client.query(partitions, &[]).unwrap() {
        client.batch_execute(&format!("DROP TABLE {}", row.get::<_, String>(0))).unwrap();
    }
    client.batch_execute("DELETE FROM netflow.cursors").unwrap();
    assert!(!deliverer.step(3), "late rows find no partition");
    assert!(deliverer.set_aside.is_empty());
    deliverer.finish();
    log.assert_stored(&mut client);
}

#[test]
fn a_statement_that_waits_too_long_is_given_up_and_repeated() {
    let Some(server) = started() else { return };
    let log = Log::new(3_000);
    let mut config = server::config(&server.url("flows"));
    config.statement_timeout = Duration::from_secs(1);
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(2));
    let mut other = server.client("flows");
    let mut blocker = other.transaction().unwrap();
    blocker.batch_execute("LOCK TABLE flows IN ACCESS EXCLUSIVE MODE").unwrap();
    assert!(!deliverer.step(2));
    assert!(deliverer.errors[0].contains("57014") || deliverer.errors[0].contains("timeout"), "{:?}", deliverer.errors);
    blocker.rollback().unwrap();
    deliverer.finish();
    log.assert_stored(&mut server.client("flows"));
}

#[test]
fn a_table_of_another_shape_is_refused_with_the_difference() {
    let Some(server) = started() else { return };
    let mut client = server.client("flows");
    client
        .batch_execute("CREATE TABLE flows (time timestamptz NOT NULL, src_ip text) PARTITION BY RANGE (time)")
        .unwrap();
    let log = Log::new(10);
    let config = server::config(&server.url("flows"));
    let error = sink_api::SinkConfig::open(&config, &log.context).err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, sink_api::SinkError::Fatal(_)), "{error:?}");
    assert!(text.contains("src_ip is text instead of inet") && text.contains("dst_ip is missing"), "{text}");
}
