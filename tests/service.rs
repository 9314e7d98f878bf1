//! The service: what it tells the service manager, and its unit file as systemd's own tools see it.

mod support;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use support::{Collector, PROGRAM, Process, installed};

/// Longest time for anything that the collector is to say.
const PATIENCE: Duration = Duration::from_secs(60);
const UNIT: &str = include_str!("../docker/rgz-netflow.service");
/// The exposure that `systemd-analyze security` calls OK begins at 5; this unit reaches 1.2.
const EXPOSURE_MAX: f64 = 2.0;

/// Starts a collector under a service manager, which is the test.
fn start(folder: &Path, notify_socket: &str, watchdog_usec: Option<&str>) -> Collector {
    let mut collector = Collector::new(folder, "");
    let mut command = Command::new(PROGRAM);
    command.arg("run").current_dir(folder).env("NOTIFY_SOCKET", notify_socket);
    if let Some(usec) = watchdog_usec {
        command.env("WATCHDOG_USEC", usec);
    }
    collector.process = Some(Process::start(&mut command, &folder.join("collector.log")));
    collector
}

/// What the manager is told, read at once by a thread: the kernel keeps only ten datagrams.
struct Manager(Receiver<String>);

impl Manager {
    fn listen(socket: UnixDatagram) -> Self {
        let (sender, told) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self(told)
    }

    /// The next that it is told.
    fn told(&self) -> String {
        self.0.recv_timeout(PATIENCE).unwrap()
    }

    /// The next beside the watchdog's.
    fn told_besides_watchdog(&self) -> String {
        loop {
            let text = self.told();
            if text != "WATCHDOG=1" {
                return text;
            }
        }
    }
}

#[test]
fn readiness_watchdog_reload_and_stop_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::listen(UnixDatagram::bind(&path).unwrap());
    let mut collector = start(folder.path(), path.to_str().unwrap(), Some("400000"));
    assert_eq!(manager.told(), "READY=1\nSTATUS=receiving", "{}", collector.log());
    // Ready means ready: at once.
    assert_eq!(collector.get_text("/healthz"), "ok\n");
    assert!(collector.get_text("/readyz").contains("\"ready\":true"));
    for _ in 0..3 {
        assert_eq!(manager.told(), "WATCHDOG=1");
    }
    collector.process.as_ref().unwrap().signal("HUP");
    let reloading = manager.told_besides_watchdog();
    let (first, second) = reloading.split_once('\n').unwrap();
    assert_eq!(first, "RELOADING=1");
    assert!(second.strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(manager.told_besides_watchdog(), "READY=1\nSTATUS=receiving");
    let mut process = collector.process.take().unwrap();
    process.signal("TERM");
    assert!(manager.told_besides_watchdog().starts_with("STOPPING=1\n"));
    assert!(process.wait(PATIENCE).success());
}

#[test]
fn an_abstract_socket_is_told_too_and_no_watchdog_is_fed_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("rgz-netflow-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager::listen(UnixDatagram::bind_addr(&address).unwrap());
    let mut collector = start(folder.path(), &format!("@{name}"), None);
    assert!(manager.told().starts_with("READY=1\n"));
    collector.stop();
    assert!(manager.told().starts_with("STOPPING=1\n"));
}

#[test]
fn a_manager_that_is_gone_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = start(folder.path(), "/nowhere/at/all", None);
    support::wait_until("it is ready", PATIENCE, || ureq::get(&collector.url("/readyz")).call().is_ok());
    assert!(collector.log().contains("the service manager cannot be told anything"), "{}", collector.log());
    collector.stop();
}

#[test]
fn the_unit_is_valid_and_hardened() {
    if !installed("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rgz-netflow.service");
    // The check wants the program to be there.
    let unit = UNIT.replace("/usr/local/bin/rgz-netflow", PROGRAM);
    assert_ne!(unit, UNIT);
    std::fs::write(&path, unit).unwrap();
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).arg(&path).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.success(), text)
    };
    let (valid, text) = analyze(&["verify"]);
    assert!(valid && !text.contains("rgz-netflow.service:"), "{text}");
    let (_, text) = analyze(&["security", "--offline=true", "--no-pager"]);
    let exposure = text.lines().find_map(|line| line.split("Overall exposure level for rgz-netflow.service: ").nth(1));
    let exposure: f64 =
        exposure.and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{text}"));
    assert!(exposure <= EXPOSURE_MAX, "{text}");
    println!("exposure {exposure}");
}
