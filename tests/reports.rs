//! Reports are the same whatever the store: one collector writes six weeks of flows to Parquet, PostgreSQL and InfluxDB, and each
//! gives the same month and the same peak hours.

#[path = "../sinks/influxdb/tests/server/mod.rs"]
mod influx_server;
#[path = "../sinks/postgres/tests/server/mod.rs"]
mod postgres_server;
mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::{Collector, wait_until};

/// Longest wait for anything; tests on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(60);
const DAYS: u64 = 45;
const HOUR_S: u64 = 3600;

/// Flows of five subscribers that end at a time, each of them another size at each time.
fn datagram(sequence: u32, end_s: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(5u16.to_be_bytes());
    bytes.extend(10u16.to_be_bytes());
    for word in [3_600_000, end_s as u32, 0, sequence, 0] {
        bytes.extend(u32::to_be_bytes(word));
    }
    for flow in 0..10u32 {
        let (customer, other) = (0x0a00_0001 | (flow / 2) << 8, 0xc633_6401);
        let (src, dst) = if flow % 2 == 0 { (customer, other) } else { (other, customer) };
        let size = 100_000 * (1 + flow) + (sequence % 97) * 1000;
        let words = [src, dst, 0, 0, 1000, size, 3_590_000, 3_599_000];
        words.iter().for_each(|word| bytes.extend(word.to_be_bytes()));
        bytes.extend([0x9c, 0x40, 1, 187, 0, 0x1b, 6, 0]);
        bytes.extend([0; 8]);
    }
    bytes
}

fn write_sources(folder: &std::path::Path) {
    let mut subscribers = String::from("prefix,subscriber_id,reseller_id,nas_id,site\n");
    for n in 0..5 {
        let site = ["hotel", "cafe"][n % 2];
        let (subscriber, reseller) = (format!("6f9619ff-8b86-4011-b42d-00000000000{n}"), n % 3);
        subscribers += &format!("10.0.{n}.0/24,{subscriber},0e02b2c3-58cc-4372-a567-00000000000{reseller},gw,{site}\n");
    }
    std::fs::write(folder.join("subscribers.csv"), subscribers).unwrap();
    std::fs::write(folder.join("sites.csv"), "nas_id,site,cir_bps\ngw,hotel,50000\ngw,cafe,20000\n").unwrap();
}

#[test]
fn months_and_peak_hours_are_the_same_from_every_store() {
    let Some(postgres) = postgres_server::Server::start() else { return };
    let Some(influx) = influx_server::Server::start() else { return };
    postgres.database("flows");
    let folder = tempfile::tempdir().unwrap();
    write_sources(folder.path());
    let config = format!(
        "[decode]\nclock_skew_max = \"100d\"\n[enrich]\ngeoip = \"\"\nsubscribers = \"subscribers.csv\"\nsites = \"sites.csv\"\n\
         [[sink]]\nname = \"files\"\nkind = \"parquet\"\npath = \"data\"\nflush_interval = \"1s\"\nretention_detail_days = 100\n\
         [[sink]]\nname = \"tables\"\nkind = \"postgres\"\nurl = \"{}\"\nsslmode = \"disable\"\nflush_interval = \"1s\"\nretention_detail_days = 100\n\
         [[sink]]\nname = \"points\"\nkind = \"influxdb\"\napi = \"v1\"\nurl = \"{}\"\nflush_interval = \"1s\"\nretention_detail_days = 100\n",
        postgres.url("flows"),
        influx.url()
    );
    let mut collector = Collector::with_config(folder.path(), &config).start();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Busy evenings, quiet nights, the whole hour before this one among them.
    let hours =
        (1..DAYS * 24).filter(|hour| [18, 19, 20, 21, 3].contains(&((now_s / HOUR_S - hour) % 24)) || *hour == 1);
    let times: Vec<u64> = hours.map(|hour| (now_s / HOUR_S - hour) * HOUR_S + 1800).collect();
    let datagrams: Vec<Vec<u8>> =
        times.iter().rev().enumerate().map(|(i, end_s)| datagram(10 * i as u32, *end_s)).collect();
    let url = collector.url("/api/v1/netflow/v5-ingest?exporter=192.0.2.7");
    let answer: Value = ureq::post(&url).send(&datagrams.concat()[..]).unwrap().body_mut().read_json().unwrap();
    assert_eq!(answer["accepted_flows"].as_u64(), Some(10 * datagrams.len() as u64), "{answer}");

    // Sums of open buckets are emitted when they are asked for, and stored a moment later.
    for store in ["files", "tables", "points"] {
        wait_until(&format!("{store} has the sums of every flow"), PATIENCE, || {
            let all = "from=1970-01-02T00:00:00Z&to=2100-01-01T00:00:00Z";
            let answer = collector.get(&format!("query?{all}&tier=usage&measures=flows&store={store}"));
            answer["matched"]["flows"].as_u64() == Some(10 * datagrams.len() as u64)
        });
    }
    let report = |question: &str, store: &str| {
        let mut report = collector.get(&format!("reports/{question}&store={store}"));
        let basis = report.as_object_mut().unwrap();
        assert_eq!(basis.remove("store"), Some(store.into()), "{basis:?}");
        report
    };
    let month = collector.get("reports/monthly")["month"].as_str().unwrap().to_owned();
    let questions = [
        format!("monthly?month={month}&compare=1"),
        format!("monthly?month={month}&nas_id=gw&site=hotel"),
        "peak-hours?days=30".to_owned(),
        "peak-hours?days=30&nas_id=gw&site=cafe".to_owned(),
    ];
    for question in &questions {
        for store in ["tables", "points"] {
            // Should an hour end between the two, they are asked again.
            let is_same = (0..2).any(|_| report(question, store) == report(question, "files"));
            assert!(is_same, "{question} from {store}: {}\n{}", report(question, store), report(question, "files"));
        }
        let files = report(question, "files");
        let rows = files["items"].as_array().map_or(0, Vec::len);
        assert!(rows > 0, "{question}: {files}");
        assert!(files.to_string().contains("\"bytes_in\":"), "{question}: {files}");
    }
    collector.stop();
}
