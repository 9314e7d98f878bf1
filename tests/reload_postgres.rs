//! Sinks on a PostgreSQL come, change and go by reload while flows arrive: nothing is lost, nothing stands twice.

#[path = "../sinks/postgres/tests/server/mod.rs"]
mod server;
mod support;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use server::Server;
use support::{Collector, PROGRAM, Process, wait_until};

const PATIENCE: Duration = Duration::from_secs(120);

/// Puts sinks in force.
fn reload(collector: &Collector, sinks: &[String]) {
    let path = collector.folder.join("pipeline.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let rest = &text[..text.find("[[sink]]").unwrap()];
    let new = collector.folder.join("pipeline.toml.new");
    std::fs::write(&new, format!("{rest}{}", sinks.concat())).unwrap();
    std::fs::rename(new, path).unwrap();
    let agent = ureq::Agent::from(ureq::Agent::config_builder().http_status_as_error(false).build());
    let mut answer = agent.post(collector.url("/api/v1/netflow/reload")).send_empty().unwrap();
    let report = answer.body_mut().read_to_string().unwrap();
    assert_eq!(answer.status(), 200, "{report}");
}

fn status(collector: &Collector, name: &str) -> Option<Value> {
    let sinks = collector.get("sinks");
    sinks["items"].as_array().unwrap().iter().find(|sink| sink["name"] == name).cloned()
}

/// Waits until a sink has brought more flows to its place since it was opened.
fn wait_for_more(collector: &Collector, name: &str) {
    let delivered = || status(collector, name).map_or(0, |sink| sink["delivered_flows"].as_u64().unwrap());
    let before = delivered();
    wait_until(&format!("{name} goes on"), PATIENCE, || delivered() > before);
}

#[test]
fn tables_come_change_and_go_while_flows_arrive_and_nothing_is_lost() {
    let Some(server) = Server::start() else { return };
    server.database("flows");
    let local = "[[sink]]\nname = \"local\"\nkind = \"parquet\"\npath = \"data\"\nflush_interval = \"1s\"\n".to_owned();
    let table = |name: &str, table: &str, more: &str| {
        let url = server.url("flows");
        format!(
            "[[sink]]\nname = \"{name}\"\nkind = \"postgres\"\nurl = \"{url}\"\nsslmode = \"disable\"\ntable = \"{table}\"\n\
             flush_interval = \"1s\"\n{more}\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::with_config(folder.path(), &local).start();
    let output = folder.path().join("generate.json");
    let mut command = Command::new(PROGRAM);
    command.args(["generate", "--json", "--rate", "3000", "--to", &format!("127.0.0.1:{}", collector.port)]);
    let mut generator = Process::start(&mut command, &output);
    wait_for_more(&collector, "local");

    // It comes: with all that the log still holds.
    reload(&collector, &[local.clone(), table("tables", "flows", "start = \"oldest\"")]);
    wait_for_more(&collector, "tables");
    // It changes: to several connections, then to another place.
    reload(&collector, &[local.clone(), table("tables", "flows", "start = \"oldest\"\nconnections = 3")]);
    wait_for_more(&collector, "tables");
    reload(&collector, &[local.clone(), table("tables", "moved", ""), table("guest", "guest", "")]);
    wait_for_more(&collector, "tables");
    wait_for_more(&collector, "guest");
    // One goes.
    reload(&collector, &[local.clone(), table("tables", "moved", "")]);
    assert!(status(&collector, "guest").is_none());
    wait_for_more(&collector, "tables");

    generator.signal("INT");
    generator.wait(PATIENCE);
    let sent: Value = serde_json::from_str(&std::fs::read_to_string(&output).unwrap()).unwrap();
    let sent = sent["flows"].as_u64().unwrap() as i64;
    wait_until("everything is received", PATIENCE, || collector.ledger("flows/announced") as i64 == sent);
    collector.wait_delivered();
    let mut client = server.client("flows");
    let mut count = |sql: &str| client.query_one(sql, &[]).unwrap().get::<_, i64>(0);
    let in_database = [count("SELECT count(*) FROM flows"), count("SELECT count(*) FROM moved")];
    // The log still held what came before the sink did: so little fits into its first segment.
    assert!(in_database.iter().all(|rows| *rows > 0), "{in_database:?}");
    assert_eq!(in_database.iter().sum::<i64>(), sent, "{in_database:?}");
    let tables = status(&collector, "tables").unwrap();
    assert_eq!(tables["lag_records"], 0, "{tables}");
    // It was opened anew for a rollup that the tables want.
    let local = collector.get("query?period=7d&tier=flows");
    assert_eq!(local["matched"]["flows"].as_i64(), Some(sent), "{local}");
    let guest = count("SELECT count(*) FROM guest");
    let strange = "SELECT count(*) FROM (SELECT * FROM guest EXCEPT ALL (TABLE flows UNION ALL TABLE moved)) AS rows";
    assert!(guest > 0, "the guest had flows");
    assert_eq!(count(strange), 0, "each of the guest's rows stands as often as in the other tables");
    assert_eq!(collector.dropped_flows(), 0);
    collector.stop();
}
