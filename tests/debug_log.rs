//! The table of malformed datagrams: bounded, and absent unless it is wanted.

#[path = "../sinks/postgres/tests/server/mod.rs"]
mod server;
mod support;

use std::net::UdpSocket;
use std::time::Duration;

use server::Server;
use support::{Collector, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

fn collector(folder: &std::path::Path, server: &Server, more: &str) -> Collector {
    let sink = format!(
        "[[sink]]\nname = \"tables\"\nkind = \"postgres\"\nurl = \"{}\"\nsslmode = \"disable\"\nflush_interval = \"1s\"\n{more}\n",
        server.url("flows")
    );
    Collector::with_config(folder, &sink).start()
}

#[test]
fn the_latest_malformed_datagrams_stand_in_a_bounded_table() {
    let Some(server) = Server::start() else { return };
    server.database("flows");
    let folder = tempfile::tempdir().unwrap();
    let mut collector = collector(folder.path(), &server, "debug_log_rows = 20");
    let mut client = server.client("flows");
    let table = "SELECT 1 FROM pg_class WHERE oid = to_regclass('netflow.netflow_debug_log')";
    wait_until("the sink is open", PATIENCE, || !client.query(table, &[]).unwrap().is_empty());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = ("127.0.0.1", collector.port);
    for number in 0..50u8 {
        // The version's number, and too little behind it.
        socket.send_to(&[0, 5, 0, 1, number], to).unwrap();
    }
    socket.send_to(&[[0, 9].as_slice(), &[7; 900]].concat(), to).unwrap();
    let newest = "SELECT max(length) FROM netflow.netflow_debug_log";
    wait_until("the last one is in the table", PATIENCE, || {
        client.query_one(newest, &[]).unwrap().get::<_, Option<i64>>(0) == Some(902)
    });
    let rows = "SELECT host(exporter_ip), reason, length, datagram, received_at > now() - interval '10 minutes' \
                FROM netflow.netflow_debug_log ORDER BY id DESC";
    let rows = client.query(rows, &[]).unwrap();
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| row.get::<_, String>(0) == "127.0.0.1" && row.get::<_, bool>(4)));
    let (reason, bytes): (String, Vec<u8>) = (rows[0].get(1), rows[0].get(3));
    assert_eq!((&*reason, bytes.len()), ("version 9 is not accepted", 256), "its first bytes are enough");
    let (reason, bytes): (String, Vec<u8>) = (rows[1].get(1), rows[1].get(3));
    assert_eq!((&*reason, bytes), ("5 bytes are no datagram of version 5", vec![0, 5, 0, 1, 49]));
    assert_eq!(collector.ledger("datagrams/dropped/malformed"), 50, "all are counted");
    // A restart neither repeats nor forgets.
    collector.stop();
    collector.restart();
    wait_until("the sink is open", PATIENCE, || collector.get("sinks")["items"][0]["state"] == "running");
    socket.send_to(&[0, 5, 0, 1, 99], to).unwrap();
    let last = "SELECT datagram FROM netflow.netflow_debug_log ORDER BY id DESC LIMIT 1";
    wait_until("the new one is in the table", PATIENCE, || {
        client.query_one(last, &[]).unwrap().get::<_, Vec<u8>>(0) == [0, 5, 0, 1, 99]
    });
    let count = "SELECT count(*), count(DISTINCT datagram) FROM netflow.netflow_debug_log";
    let row = client.query_one(count, &[]).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (20, 20));
    collector.stop();
}

#[test]
fn without_being_wanted_there_is_no_table() {
    let Some(server) = Server::start() else { return };
    server.database("flows");
    let folder = tempfile::tempdir().unwrap();
    let mut collector = collector(folder.path(), &server, "");
    let sent = collector.generate(&["--rate", "0", "--count", "30"]);
    wait_until("flows are logged", PATIENCE, || collector.ledger("flows/logged") == sent["flows"].as_u64().unwrap());
    collector.wait_delivered();
    let row = server.client("flows").query_one("SELECT to_regclass('netflow.netflow_debug_log')::text", &[]).unwrap();
    assert_eq!(row.get::<_, Option<String>>(0), None);
    collector.stop();
}
