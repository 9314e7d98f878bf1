//! A PostgreSQL server of the test's own: in a temporary folder, on a free port, stopped and removed at the end.
//!
//! The server refuses to run as root, so it runs as the user `postgres` (or `nobody`) when the tests do.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the server may take to answer.
const START: Duration = Duration::from_secs(60);

pub struct Server {
    folder: tempfile::TempDir,
    bin: PathBuf,
    pub port: u16,
    user: Option<(u32, u32)>,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// A new server, or `None` with the reason printed where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with TimescaleDB of a licence (`timescale`, `apache`, or empty for the one it was built with), or `None` with the reason printed where the
    /// extension is not installed beside the server.
    pub fn start_timescale(licence: &str) -> Option<Self> {
        let control = |bin: &PathBuf| {
            let config = Command::new(bin.join("pg_config")).arg("--sharedir").output().ok()?;
            let share = String::from_utf8(config.stdout).ok()?;
            Path::new(share.trim()).join("extension/timescaledb.control").exists().then_some(())
        };
        if binaries().as_ref().and_then(control).is_none() {
            println!("skipped: the server has no TimescaleDB (TIMESCALEDB_TEST_URL names one that has)");
            return None;
        }
        let licence = format!("timescaledb.license={licence}");
        let settings = ["shared_preload_libraries=timescaledb", &licence];
        Self::start_with(&settings[..if licence.ends_with('=') { 1 } else { 2 }])
    }

    fn start_with(settings: &[&str]) -> Option<Self> {
        let Some(bin) = binaries() else {
            println!("skipped: no PostgreSQL server binaries (Debian: apt-get install postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let user = is_root().then(unprivileged);
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { folder, bin, port, user, settings, process: None };
        let data = server.data();
        let made = server
            .command("initdb")
            .args(["-U", "rgz", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb failed");
        server.run();
        Some(server)
    }

    /// Starts it again with a certificate for `localhost`; gives the file with the authority, or `None` with the reason
    /// printed where there is no `openssl`.
    pub fn with_tls(&mut self) -> Option<PathBuf> {
        if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: no openssl to make certificates with");
            return None;
        }
        self.stop("INT");
        let openssl = |args: &str| {
            let status =
                self.command_at("openssl".into()).args(args.split(' ')).stderr(Stdio::null()).status().unwrap();
            assert!(status.success(), "openssl {args}");
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
        openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
        std::fs::write(self.folder.path().join("names"), "subjectAltName=DNS:localhost\n").unwrap();
        openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
        );
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let settings =
            [("ssl", "on".to_owned()), ("ssl_cert_file", file("server.pem")), ("ssl_key_file", file("server.key"))];
        self.settings.extend(settings.iter().map(|(name, value)| format!("{name}={value}")));
        self.run();
        Some(self.folder.path().join("ca.pem"))
    }

    /// Starts the process and waits until it answers. After a crash the old processes may hold the memory for a moment:
    /// then it is started again.
    pub fn run(&mut self) {
        let deadline = Instant::now() + START;
        let mut child = self.spawn();
        while let Err(error) = postgres::Client::connect(&self.url("postgres"), postgres::NoTls) {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the server does not answer: {error}\n{}", log());
            if child.try_wait().unwrap().is_some() {
                child = self.spawn();
            }
            std::thread::yield_now();
        }
        self.process = Some(child);
    }

    fn spawn(&self) -> Child {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        self.command("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path())
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=50"])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Stops it: `INT` shuts down fast, `KILL` is a crash; the postmaster's children end when they see it gone.
    pub fn stop(&mut self, name: &str) {
        if let Some(mut child) = self.process.take() {
            signal(child.id(), name);
            child.wait().unwrap();
        }
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://rgz@127.0.0.1:{}/{database}", self.port)
    }

    pub fn client(&self, database: &str) -> postgres::Client {
        postgres::Client::connect(&self.url(database), postgres::NoTls).unwrap()
    }

    /// An empty database of this name.
    pub fn database(&self, name: &str) {
        let mut client = self.client("postgres");
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        self.command_at(self.bin.join(program))
    }

    fn command_at(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env("LC_ALL", "C.UTF-8");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("INT");
    }
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// The newest installed server's programs.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    found.retain(|bin| bin.join("initdb").exists());
    found.sort();
    found.pop().or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    })
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self").metadata().is_ok_and(|m| m.uid() == 0)
}

/// User and group of `postgres`, else of `nobody`.
fn unprivileged() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut parts = line.split(':').skip(2);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).unwrap_or((65_534, 65_534))
}

/// A sink's configuration for a database of the server, with retention off.
pub fn config(url: &str) -> sink_postgres::Config {
    let mut config = sink_postgres::Config::new(false);
    config.url = sink_postgres::Secret(url.to_owned());
    config.sslmode = sink_postgres::SslMode::Disable;
    config.retention.detail_days = 36_500;
    config.retention.aggregate_months = 1_200;
    config
}
