//! One subscriber's flows are found without reading the day.

mod server;
mod subscribers;

use std::time::{Duration, Instant};

use server::Server;
use sink_api::SinkConfig;
use subscribers::{FLOWS, SUBSCRIBERS, context, flows_of, write};

const PARTITION: &str = "flows_p20241004";

fn server() -> Option<Server> {
    let server = Server::start()?;
    // What it reads would be counted as ours.
    server.client("postgres").batch_execute("ALTER SYSTEM SET autovacuum = off").unwrap();
    server.client("postgres").batch_execute("SELECT pg_reload_conf()").unwrap();
    server.database("flows");
    Some(server)
}

/// Waits until ours is the only connection: a connection tells what it read when it ends at the latest.
fn wait_alone(client: &mut postgres::Client) {
    let others =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let until = Instant::now() + Duration::from_secs(60);
    while client.query_one(others, &[]).unwrap().get::<_, i64>(0) > 0 {
        assert!(Instant::now() < until, "connections stay open");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn number(client: &mut postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// Blocks of the partition's rows that were read so far, from memory or disk.
fn blocks_read(client: &mut postgres::Client) -> i64 {
    wait_alone(client);
    let sql = "SELECT heap_blks_read + heap_blks_hit FROM pg_statio_user_tables WHERE relname = $1";
    client.query_one(sql, &[&PARTITION]).unwrap().get(0)
}

fn indexes(client: &mut postgres::Client) -> Vec<String> {
    let sql = "SELECT indexname::text FROM pg_indexes WHERE tablename = $1 ORDER BY 1";
    client.query(sql, &[&PARTITION]).unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn few_blocks_are_read_for_one_subscriber() {
    let Some(server) = server() else { return };
    let config = server::config(&server.url("flows"));
    let context = context();
    write(&config, &context);
    let mut client = server.client("flows");
    let all = number(&mut client, &format!("SELECT pg_relation_size('{PARTITION}') / 8192"));
    let before = blocks_read(&mut client);
    for subscriber in [0, 1, SUBSCRIBERS / 2, SUBSCRIBERS - 1] {
        let store = config.store(&context).unwrap().unwrap();
        assert_eq!(flows_of(&*store, subscriber), u64::from(FLOWS / SUBSCRIBERS));
    }
    let read = (blocks_read(&mut client) - before) / 4;
    assert!(all > 500 && read * 10 < all, "{read} of {all} blocks were read for one subscriber");
}

#[test]
fn a_table_from_before_gets_the_index() {
    let Some(server) = server() else { return };
    let config = server::config(&server.url("flows"));
    let context = context();
    write(&config, &context);
    let mut client = server.client("flows");
    let now = indexes(&mut client);
    assert_eq!(now, [format!("{PARTITION}_time_subscriber_id_idx")]);
    client
        .batch_execute(
            "DROP INDEX flows_time_subscriber_id_idx; CREATE INDEX ON flows USING brin (time) WITH (pages_per_range = 32)",
        )
        .unwrap();
    assert_eq!(indexes(&mut client), [format!("{PARTITION}_time_idx")]);
    drop(config.open(&context).unwrap());
    assert_eq!(indexes(&mut client), now);
    let before = blocks_read(&mut client);
    let store = config.store(&context).unwrap().unwrap();
    assert_eq!(flows_of(&*store, 7), u64::from(FLOWS / SUBSCRIBERS));
    drop(store);
    let read = blocks_read(&mut client) - before;
    assert!(read < 100, "{read} blocks were read");
}
