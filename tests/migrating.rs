//! What those who come from another collector rely on: their environment files, their one-packet test, their listening check, their
//! simulated alert; and labels that stay few whatever addresses come.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::{Collector, PROGRAM, Process, free_tcp_port, free_udp_port, installed, wait_until};

/// Longest wait for anything; tests on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The environment file of the Python collector with PostgreSQL, as its documentation has it.
const PYTHON_ENV: &str = "\
# Database
DB_HOST=localhost
DB_PORT=5432
DB_NAME=netflow_db
DB_USER=netflow_user
DB_PASSWORD=change_me  # set your own
DB_SCHEMA=public

# Collector
NETFLOW_PORT=2055          # UDP
BUFFER_SIZE=65535
BATCH_SIZE=100             # rows
FLUSH_INTERVAL=10          # seconds
LOG_LEVEL=INFO
LOG_FILE=netflow_collector.log
";

/// The environment of the platform's container.
const PLATFORM_ENV: &str = "\
NETFLOW_LISTEN_PORT=2055
NETFLOW_LISTEN_ADDR=0.0.0.0
NETFLOW_PROTOCOL=v5
TIMESCALEDB_FLOWS_TABLE=flows
TIMESCALEDB_FLOWS_RETENTION_DETAIL=30      # days
TIMESCALEDB_FLOWS_RETENTION_AGGREGATE=12   # months
TIMESCALEDB_FLOWS_CHUNK_INTERVAL=1 day
INFLUXDB_BUCKET=netflow
INFLUXDB_ORG=rgz
INFLUXDB_RETENTION=30d
PROMETHEUS_NETFLOW_METRICS_ENABLED=true
PROMETHEUS_NETFLOW_PORT=9101
NETFLOW_ALERT_SUBSCRIBER_24H_BYTES=1073741824   # 1 GiB
NETFLOW_ALERT_SITE_CIR_PERCENT=80
NETFLOW_ALERT_DPI_PROTOCOL=tor,p2p
";

/// What `config` says with an environment file: a line a value.
fn config_with(folder: &Path, name: &str, text: &str) -> String {
    std::fs::write(folder.join(name), text).unwrap();
    let output =
        Command::new(PROGRAM).args(["config", "--env-file", name]).current_dir(folder).env_clear().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a line names the key, the value and the variable that it came from.
fn says(told: &str, key: &str, value: &str, variable: &str) -> bool {
    told.lines()
        .any(|line| line.split([' ', '=']).next() == Some(key) && line.contains(value) && line.contains(variable))
}

#[test]
fn the_environment_files_of_both_predecessors_work_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let told = config_with(folder.path(), "python.env", PYTHON_ENV);
    for (key, value, variable) in [
        ("receive.listen", "2055", "NETFLOW_PORT"),
        ("telemetry.log_level", "info", "LOG_LEVEL"),
        ("telemetry.log_file", "netflow_collector.log", "LOG_FILE"),
    ] {
        assert!(says(&told, key, value, variable), "{key} = {value} by {variable}:\n{told}");
    }
    for value in ["\"localhost\"", "5432", "netflow_db", "netflow_user", "public", "100", "10s"] {
        assert!(told.lines().any(|line| line.starts_with("sink[") && line.contains(value)), "{value}:\n{told}");
    }
    assert!(!told.contains("change_me"), "the password is masked:\n{told}");

    let told = config_with(folder.path(), "platform.env", PLATFORM_ENV);
    for (key, value, variable) in [
        ("receive.listen", "0.0.0.0:2055", "NETFLOW_LISTEN"),
        ("receive.protocols", "v5", "NETFLOW_PROTOCOL"),
        ("admin.metrics", "true", "PROMETHEUS_NETFLOW_METRICS_ENABLED"),
        ("admin.metrics_port", "9101", "PROMETHEUS_NETFLOW_PORT"),
        ("alerts.subscriber_24h_bytes", "1GiB", "NETFLOW_ALERT_SUBSCRIBER_24H_BYTES"),
        ("alerts.site_cir_percent", "80", "NETFLOW_ALERT_SITE_CIR_PERCENT"),
        ("alerts.dpi_protocols", "tor", "NETFLOW_ALERT_DPI_PROTOCOL"),
    ] {
        assert!(says(&told, key, value, variable), "{key} = {value} by {variable}:\n{told}");
    }
    // With its sinks in the file, the names of their kinds reach them.
    let sinks = "[[sink]]\nname = \"t\"\nkind = \"timescaledb\"\nurl = \"postgres://rgz@rgz-db/rgz\"\n\
                 [[sink]]\nname = \"i\"\nkind = \"influxdb\"\nurl = \"http://127.0.0.1:8086\"\ntoken = \"t\"\n";
    std::fs::write(folder.path().join("pipeline.toml"), sinks).unwrap();
    let told = config_with(folder.path(), "platform.env", PLATFORM_ENV);
    for variable in [
        "TIMESCALEDB_FLOWS_TABLE",
        "TIMESCALEDB_FLOWS_RETENTION_DETAIL",
        "TIMESCALEDB_FLOWS_RETENTION_AGGREGATE",
        "TIMESCALEDB_FLOWS_CHUNK_INTERVAL",
        "INFLUXDB_BUCKET",
        "INFLUXDB_ORG",
        "INFLUXDB_RETENTION",
    ] {
        assert!(told.lines().any(|line| line.starts_with("sink[") && line.contains(variable)), "{variable}:\n{told}");
    }
}

#[test]
fn one_packet_then_stop_prints_and_stores_it() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_udp_port();
    let text = "[[sink]]\nname = \"local\"\nkind = \"parquet\"\npath = \"data\"\n";
    std::fs::write(folder.path().join("pipeline.toml"), text).unwrap();
    let log = folder.path().join("log");
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--test", "-p", &port.to_string()]).current_dir(folder.path());
    let mut process = Process::start(&mut command, &log);
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("it listens", PATIENCE, || told().contains("waiting for a datagram"));
    let to = format!("127.0.0.1:{port}");
    let sent = Command::new(PROGRAM).args(["generate", "--to", &to, "--count", "30"]).output().unwrap();
    assert!(sent.status.success());
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{status}: {}", told());
    let records: Vec<String> = told().lines().filter(|l| l.contains("src_ip=")).map(str::to_owned).collect();
    assert!(records.len() == 30 && records[0].contains(" bytes="), "{}", told());
    assert!(told().contains("the first record is stored in sink local (parquet)"), "{}", told());
    let range = ["--from", "1970-01-02T00:00:00Z", "--to", "2100-01-01T00:00:00Z"];
    let args = [&["query", "--data", "data", "--tier", "flows", "--measures", "flows", "--json"], &range[..]].concat();
    let output = Command::new(PROGRAM).args(args).current_dir(folder.path()).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["matched"]["flows"], 1, "{answer}");
}

#[test]
fn the_listening_check_finds_the_port() {
    if !installed("ss") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    for program in ["ss", "netstat"].into_iter().filter(|program| installed(program)) {
        let check = format!("{program} -ulpn | grep {}", collector.port);
        let output = Command::new("sh").args(["-c", &check]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(&format!(":{}", collector.port)), "{check}: {said}");
    }
    collector.stop();
}

/// Takes one request and says that all is well; gives what came.
fn take_one_post(listener: TcpListener) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut request, mut buffer) = (String::new(), [0; 4096]);
        let is_whole = |request: &str| {
            let (head, body) = request.split_once("\r\n\r\n")?;
            let head = head.to_ascii_lowercase();
            let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.trim().parse().ok()?;
            (body.len() >= length).then_some(())
        };
        while is_whole(&request).is_none() {
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "cut: {request}");
            request += &String::from_utf8_lossy(&buffer[..length]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        request
    })
}

#[test]
fn an_alert_is_simulated_by_asking_who_would_be_over_and_by_trying_a_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let made = Command::new(PROGRAM)
        .args(["generate", "--count", "0", "--write-subscribers", "subscribers.csv"])
        .current_dir(folder.path())
        .output();
    assert!(made.unwrap().status.success());
    let extra = format!(
        "[enrich]\nsubscribers = \"subscribers.csv\"\n[[alerts.receiver]]\nname = \"ops\"\nkind = \"webhook\"\n\
         url = \"http://{address}/hook\"\nsecret = \"of the test\"\n"
    );
    let mut collector = Collector::new(folder.path(), &extra).start();
    collector.generate(&["--rate", "0", "--count", "3000"]);
    collector.wait_delivered();
    let url = collector.url("");
    let check = ["alerts", "check", "--period", "24h", "--threshold", "1000", "--json", "--url", &url];
    let answer: Value = serde_json::from_str(&collector.cli(&check)).unwrap();
    let over = answer["items"].as_array().unwrap();
    assert!(over.len() > 10 && over.iter().all(|item| item["bytes"].as_u64() > Some(1000)), "{answer}");
    let taken = take_one_post(listener);
    let said = collector.cli(&["alerts", "test", "ops"]);
    assert!(said.contains("took the test alert"), "{said}");
    let request = taken.join().unwrap();
    assert!(request.starts_with("POST /hook HTTP/1.1") && request.contains("\"event\":\"test\""), "{request}");
    collector.stop();
}

/// A datagram of 30 flows from so many sources to as many destinations, none of them seen before.
fn strangers(sequence: u32) -> Vec<u8> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32;
    let mut bytes = [5u16.to_be_bytes(), 30u16.to_be_bytes()].concat();
    [3_600_000, now_s, 0, sequence, 0].iter().for_each(|word: &u32| bytes.extend(word.to_be_bytes()));
    for flow in sequence..sequence + 30 {
        let words = [0x0a00_0000 + flow, 0x3000_0000 + flow, 0, 0, 10, 1000 + flow, 3_590_000, 3_599_000];
        words.iter().for_each(|word: &u32| bytes.extend(word.to_be_bytes()));
        bytes.extend((flow as u16).to_be_bytes());
        bytes.extend([1, 187, 0, 0x1b, 6, 0]);
        bytes.extend([0; 8]);
    }
    bytes
}

#[test]
fn a_hundred_thousand_addresses_make_no_more_series_than_a_hundred() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "[alerts]\ninterval = \"100ms\"\n").start();
    let ingest = |sequences: std::ops::Range<u32>| {
        let url = collector.url("/api/v1/netflow/v5-ingest?exporter=192.0.2.7");
        let body: Vec<u8> = sequences.flat_map(|n| strangers(n * 30)).collect();
        let answer: Value = ureq::post(&url).send(&body[..]).unwrap().body_mut().read_json().unwrap();
        assert_eq!(answer["rejected"], serde_json::json!([]));
    };
    let evaluated = || {
        let metrics = collector.get_text("/metrics");
        let line = metrics.lines().find(|line| line.starts_with("netflow_alerts_evaluations_total ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let series = |flows: u64| {
        wait_until("they are logged", PATIENCE, || collector.ledger("flows/logged") == flows);
        collector.wait_delivered();
        let (before, talkers) = (evaluated(), collector.get("top-talkers?period=1h&limit=1"));
        assert_eq!(talkers["total"].as_u64(), Some(flows), "every source is counted");
        wait_until("the alerts have judged them", PATIENCE, || evaluated() >= before + 2.0);
        collector.get_text("/metrics").lines().filter(|line| !line.starts_with('#')).count()
    };
    ingest(0..4);
    let of_few = series(120);
    for part in 0..10 {
        ingest(4 + part * 334..4 + (part + 1) * 334);
    }
    let of_many = series(120 + 10 * 334 * 30);
    // The same sources of a bounded number at the top, whoever they are; quantiles and the like may appear meanwhile.
    assert!(of_many <= of_few + 50, "{of_few} series of 120 addresses, {of_many} of a hundred thousand");
    collector.stop();
}

#[test]
fn another_port_is_an_option_a_variable_or_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_tcp_port().to_string();
    let told = |args: &[&str], variable: Option<&str>| {
        let mut command = Command::new(PROGRAM);
        command.arg("config").args(args).current_dir(folder.path()).env_clear();
        if let Some(name) = variable {
            command.env(name, &port);
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    for told in [told(&["-p", &port], None), told(&[], Some("NETFLOW_PORT")), told(&[], Some("NETFLOW_LISTEN_PORT"))] {
        let line = told.lines().find(|line| line.starts_with("receive.listen")).unwrap();
        assert!(line.contains(&format!(":{port}")), "{line}");
    }
}
