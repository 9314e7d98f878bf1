//! An InfluxDB 1 server of the test's own: in a temporary folder, on free ports, stopped and removed at the end.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sink_influxdb::{Api, Config, Secret};

/// How long the server may take to answer.
const START: Duration = Duration::from_secs(60);

/// Settings of the section `[data]` as the README advises: the cache is written out ten times less often, in longer blocks.
const DATA_SETTINGS: &str = "cache-snapshot-memory-size = 268435456";

pub struct Server {
    folder: tempfile::TempDir,
    pub port: u16,
    rpc_port: u16,
    settings: String,
    process: Option<Child>,
}

impl Server {
    /// A new server, or `None` with the reason printed where InfluxDB is not installed.
    pub fn start() -> Option<Self> {
        Self::with_settings("")
    }

    /// The same with settings of its section `[http]`.
    pub fn with_settings(settings: &str) -> Option<Self> {
        if Command::new("influxd").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            println!("skipped: no InfluxDB server (Debian: apt-get install influxdb)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (port, rpc_port) = (free_port(), free_port());
        let mut server = Self { folder, port, rpc_port, settings: settings.to_owned(), process: None };
        server.run();
        Some(server)
    }

    /// Starts the process and waits until it answers.
    pub fn run(&mut self) {
        let deadline = Instant::now() + START;
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let mut child = self.spawn();
        while !self.answers() {
            assert!(Instant::now() < deadline, "the server does not answer:\n{}", log());
            if child.try_wait().unwrap().is_some() {
                child = self.spawn();
            }
            std::thread::yield_now();
        }
        self.process = Some(child);
    }

    /// Whether it is this server that answers: its command line names the folder.
    fn answers(&self) -> bool {
        let Ok(mut answer) = ureq::get(format!("{}/debug/vars", self.url())).call() else { return false };
        let vars: serde_json::Value = answer.body_mut().read_json().unwrap_or_default();
        vars["cmdline"].to_string().contains(&self.folder.path().display().to_string())
    }

    fn spawn(&self) -> Child {
        let folder = self.folder.path();
        let path = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{}\"\n[meta]\ndir = \"{}\"\n[data]\ndir = \"{}\"\n\
             wal-dir = \"{}\"\nquery-log-enabled = false\n{DATA_SETTINGS}\n[monitor]\nstore-enabled = false\n[http]\n\
             bind-address = \"127.0.0.1:{}\"\nlog-enabled = false\n{}\n",
            self.rpc_port,
            path("meta"),
            path("data"),
            path("wal"),
            self.port,
            self.settings,
        );
        std::fs::write(folder.join("influxdb.conf"), config).unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("influxd");
        command.args(["run", "-config"]).arg(folder.join("influxdb.conf"));
        command.current_dir(folder).env("HOME", folder).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Stops it: `TERM` ends it in order, `KILL` is a crash.
    pub fn stop(&mut self, signal: &str) {
        if let Some(mut child) = self.process.take() {
            let _ = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
            child.wait().unwrap();
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.unwrap().success(), "kill -{name}");
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Bytes of the server's files.
    pub fn stored_bytes(&self) -> u64 {
        let mut folders: Vec<PathBuf> = vec![self.folder.path().to_owned()];
        let mut bytes = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                    Ok(metadata) => bytes += metadata.len(),
                    Err(_) => {}
                }
            }
        }
        bytes
    }

    /// Runs a statement; gives the answer's JSON.
    pub fn query(&self, statement: &str) -> serde_json::Value {
        let url = format!("{}/query", self.url());
        let answer = ureq::post(url).query("epoch", "ns").query("db", "netflow").send_form([("q", statement)]);
        answer
            .unwrap_or_else(|e| panic!("{statement}: {e}"))
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_json()
            .unwrap()
    }

    /// The numbers of the first row after its time.
    pub fn numbers(&self, statement: &str) -> Vec<u64> {
        let answer = self.query(statement);
        let row = answer["results"][0]["series"][0]["values"][0].as_array().cloned().unwrap_or_default();
        row.iter().skip(1).map(|n| n.as_u64().unwrap_or(0)).collect()
    }

    /// A sink's configuration for this server, with retention off and detail on.
    pub fn config(&self) -> Config {
        config(&self.url())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("KILL");
    }
}

pub fn config(url: &str) -> Config {
    let mut config = Config { url: url.to_owned(), api: Api::V1, detail: true, ..Config::default() };
    config.retention.detail_days = 36_500;
    config.retention.aggregate_months = 1_200;
    config
}

/// A configuration for the InfluxDB 2 server that the environment names, or `None` with a word about it.
pub fn v2_config(bucket: &str) -> Option<Config> {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(url), Some(org), Some(token)) = (of("INFLUXDB_V2_URL"), of("INFLUXDB_V2_ORG"), of("INFLUXDB_V2_TOKEN"))
    else {
        println!("skipped: INFLUXDB_V2_URL, INFLUXDB_V2_ORG and INFLUXDB_V2_TOKEN name no InfluxDB 2");
        return None;
    };
    let bucket = bucket.to_owned();
    Some(Config { api: Api::V2, org, token: Some(Secret(token)), bucket, ..config(&url) })
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
