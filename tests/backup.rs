//! A backup of the data folder is brought back beside databases that went on: what comes then is stored after what they have.

#[path = "../sinks/influxdb/tests/server/mod.rs"]
mod influxd;
#[path = "../sinks/postgres/tests/server/mod.rs"]
mod postgresd;
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::totals::number;
use support::{Collector, wait_until};

const PATIENCE: Duration = Duration::from_secs(120);
/// A time range that holds everything.
const ALWAYS: &str = "from=1970-01-02T00:00:00Z&to=2100-01-01T00:00:00Z";

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Sends so many flows to a collector that had none since it was started; gives how many it has.
fn send(collector: &Collector, flows: u64) -> u64 {
    let sent = number(&collector.generate(&["--rate", "20000", "--count", &flows.to_string()]), "flows");
    wait_until("all are logged", PATIENCE, || collector.ledger("flows/logged") == sent);
    sent
}

#[test]
fn an_older_folder_beside_databases_that_went_on_loses_nothing_new_and_doubles_nothing() {
    let Some(mut postgres) = postgresd::Server::start() else { return };
    let Some(mut influx) = influxd::Server::start() else { return };
    postgres.database("flows");
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[[sink]]\nname = \"tables\"\nkind = \"postgres\"\nurl = \"{}\"\nsslmode = \"disable\"\nflush_interval = \"1s\"\n\
         [[sink]]\nname = \"points\"\nkind = \"influxdb\"\napi = \"v1\"\nurl = \"{}\"\ndetail = true\nflush_interval = \"1s\"\n",
        postgres.url("flows"),
        influx.url()
    );
    let mut collector = Collector::with_config(folder.path(), &config).start();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let mut sent = send(&collector, 3000);
    collector.wait_delivered();
    collector.stop();
    copy(&data, &backup);
    collector.restart();
    sent += send(&collector, 40_000);
    collector.wait_delivered();
    collector.stop();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&backup, &data).unwrap();

    // The log has new flows before the databases can say how far they are.
    postgres.stop("INT");
    influx.stop("TERM");
    collector.restart();
    sent += send(&collector, 3000);
    postgres.run();
    influx.run();
    collector.wait_delivered();
    for store in ["tables", "points"] {
        for tier in ["flows", "traffic"] {
            let found = || {
                let answer = collector.get(&format!("query?{ALWAYS}&store={store}&tier={tier}&measures=flows"));
                number(&answer["matched"], "flows")
            };
            wait_until(&format!("{store} has all in {tier}"), PATIENCE, || found() >= sent);
            assert_eq!(found(), sent, "{store} {tier}");
        }
    }
    collector.stop();
}
