//! What the end-to-end tests share: a collector in a folder of its own, started as its users start it, and programs that
//! feed and ask it.

#![allow(dead_code)] // Each test binary uses a part.

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub mod capture;
pub mod grafana;
pub mod mmdb;
pub mod totals;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rgz-netflow");

/// A UDP port that was free a moment ago.
pub fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A TCP port that was free a moment ago.
pub fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Polls until the condition holds; fails the test after `timeout` with `what`.
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < until, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a program is installed; prints that the test is skipped when it is not.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// Whether the test runs as root; prints that it is skipped when it does not.
pub fn is_root() -> bool {
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// A child process that ends with the test.
pub struct Process(pub Child);

impl Process {
    /// Starts a program, its output to a file.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let out = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        Self(child.unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -{name}");
    }

    /// Waits for its end; fails the test after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> std::process::ExitStatus {
        let until = Instant::now() + timeout;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "process did not end in {timeout:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A collector in a folder of its own.
pub struct Collector {
    pub folder: PathBuf,
    pub port: u16,
    pub admin: u16,
    pub process: Option<Process>,
}

impl Collector {
    /// Prepares a collector in a folder: `pipeline.toml` with free ports, `extra` appended. Does not start it.
    ///
    /// `extra` must not repeat the tables `[receive]`, `[admin]`, `[[sink]]`; see [`Collector::with_config`] for more.
    pub fn new(folder: &Path, extra: &str) -> Self {
        let sink = "[[sink]]\nname = \"local\"\nkind = \"parquet\"\npath = \"data\"\nflush_interval = \"1s\"\n";
        Self::with_config(folder, &format!("{extra}\n{sink}"))
    }

    /// The same with all of `pipeline.toml` after `[receive]` listen and `[admin]` listen.
    pub fn with_config(folder: &Path, rest: &str) -> Self {
        let (port, admin) = (free_udp_port(), free_tcp_port());
        let text =
            format!("[receive]\nlisten = [\"127.0.0.1:{port}\"]\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n{rest}\n");
        std::fs::write(folder.join("pipeline.toml"), text).unwrap();
        Self { folder: folder.to_owned(), port, admin, process: None }
    }

    /// Starts it and waits until it is ready.
    pub fn start(mut self) -> Self {
        self.restart();
        self
    }

    /// Starts it (again) and waits until it is ready.
    pub fn restart(&mut self) {
        let mut command = Command::new(PROGRAM);
        command.arg("run").current_dir(&self.folder).env("LOG_LEVEL", "info");
        self.process = Some(Process::start(&mut command, &self.folder.join("collector.log")));
        wait_until("the collector is ready", Duration::from_secs(30), || {
            if let Some(status) = self.process.as_mut().unwrap().0.try_wait().unwrap() {
                panic!("the collector ended with {status}:\n{}", self.log());
            }
            ureq::get(&self.url("/readyz")).call().is_ok()
        });
    }

    /// Stops it as a service manager does and checks that it ends well.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("running");
        process.signal("TERM");
        let status = process.wait(Duration::from_secs(30));
        assert!(status.success(), "ended with {status}:\n{}", self.log());
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.process.take().expect("running").signal("KILL");
    }

    /// What it wrote to its terminal.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("collector.log")).unwrap_or_default()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin)
    }

    /// GET of an API route, as JSON.
    pub fn get(&self, path: &str) -> Value {
        let url = self.url(&format!("/api/v1/netflow/{path}"));
        let mut answer = ureq::get(&url).call().unwrap_or_else(|e| panic!("GET {url}: {e}\n{}", self.log()));
        answer.body_mut().read_json().unwrap()
    }

    /// GET of any path, as text.
    pub fn get_text(&self, path: &str) -> String {
        ureq::get(&self.url(path)).call().unwrap().body_mut().with_config().limit(1 << 30).read_to_string().unwrap()
    }

    /// Runs a subcommand of the program in the collector's folder; gives its standard output.
    pub fn cli(&self, args: &[&str]) -> String {
        let output = Command::new(PROGRAM).args(args).current_dir(&self.folder).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {}\n{stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `generate` against it with more arguments; gives its exact totals.
    pub fn generate(&self, args: &[&str]) -> Value {
        let to = format!("127.0.0.1:{}", self.port);
        let text = self.cli(&[&["generate", "--to", &to, "--json"], args].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// A number of the ledger by its place in it, such as `flows/logged`.
    pub fn ledger(&self, place: &str) -> u64 {
        let ledger = self.get("ledger");
        let number = ledger.pointer(&format!("/{place}")).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no {place} in {ledger}"))
    }

    /// Flows that were dropped or left out after they were announced.
    pub fn dropped_flows(&self) -> u64 {
        ["dropped/queue_full", "dropped/log_refused", "dropped/torn", "left_out/absurd", "left_out/second_view"]
            .iter()
            .map(|name| self.ledger(&format!("flows/{name}")))
            .sum()
    }

    /// Waits until every sink has everything that was received.
    pub fn wait_delivered(&self) {
        wait_until("announced flows are logged or counted", Duration::from_secs(60), || {
            self.ledger("flows/announced") == self.ledger("flows/logged") + self.dropped_flows()
        });
        wait_until("everything is delivered", Duration::from_secs(60), || {
            let sinks = self.get("sinks");
            sinks["items"].as_array().unwrap().iter().all(|s| s["waiting_flows"].as_u64() == Some(0))
        });
    }
}

/// Appends to a file of the test's folder.
pub fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
