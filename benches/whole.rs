//! The whole path, from the wire to durable columns: `rgz-netflow generate` against `rgz-netflow run` with everything on,
//! and `nfcapd` beside it when it is installed.
//!
//! ```text
//! cargo bench --bench whole                                # 3 rounds of 10 s at each of several rates
//! cargo bench --bench whole -- --rates 500000 --rounds 1 --seconds 5
//! cargo bench --bench whole -- --rates 450000 --rounds 6 --beside /path/to/other/rgz-netflow
//! ```
//!
//! One line a round: flows sent a second, flows that reached the sink, loss, CPU seconds (user + system) of the collector
//! and of the generator per million flows, peak resident memory, bytes a flow on disk.
//!
//! Machines differ, and a shared one differs from minute to minute: compare what ran next to each other. After each round
//! comes one of `nfcapd`, and the last line of a rate says how many times its CPU seconds the collector takes. With
//! `--beside` another build of the program runs at the same time, each at the given rate: both have the same machine, so
//! that some rounds tell differences of 2 % apart.

#[path = "support/memory.rs"]
mod memory;

use std::io::{self, Read as _};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rgz-netflow");

struct Options {
    rates: Vec<u64>,
    rounds: u32,
    seconds: u32,
    workers: Option<u32>,
    /// Another build of the program.
    beside: Option<PathBuf>,
}

/// One round's figures.
#[derive(Default)]
struct Round {
    sent: u64,
    sent_per_second: f64,
    stored: u64,
    cpu_s: f64,
    generator_cpu_s: f64,
    resident_bytes: u64,
    disk_bytes: u64,
}

impl Round {
    fn millions(&self) -> f64 {
        self.stored.max(1) as f64 / 1e6
    }

    fn cpu_s_per_million(&self) -> f64 {
        self.cpu_s / self.millions()
    }
}

fn main() -> io::Result<()> {
    let options = options();
    println!(
        "{:<12} {:>9} {:>9} {:>10} {:>8} {:>9} {:>10} {:>8} {:>11}",
        "collector", "rate", "sent/s", "stored", "loss %", "CPU s/M", "generator", "RSS MB", "bytes/flow"
    );
    let has_nfcapd = installed("nfcapd");
    let other_name = if options.beside.is_some() { "beside" } else { "nfcapd" };
    for rate in &options.rates {
        let mut ratios = Vec::new();
        for _ in 0..options.rounds {
            let (ours, other) = match &options.beside {
                Some(program) => measure_both(program, *rate, &options)?,
                None => {
                    let ours = measure(PROGRAM.as_ref(), *rate, &options)?;
                    (ours, has_nfcapd.then(|| measure_nfcapd(*rate, &options)).transpose()?)
                }
            };
            print_round("rgz-netflow", *rate, &ours);
            if let Some(other) = other {
                print_round(other_name, *rate, &other);
                ratios.push(ours.cpu_s_per_million() / other.cpu_s_per_million());
            }
        }
        ratios.sort_by(f64::total_cmp);
        if let Some(median) = ratios.get(ratios.len() / 2) {
            println!("rgz-netflow / {other_name}, CPU s/M of the pairs: {ratios:.2?}, median {median:.2}");
        }
    }
    if options.beside.is_none() && !has_nfcapd {
        println!("nfcapd is not installed: no comparison");
    }
    Ok(())
}

fn options() -> Options {
    let rates = vec![100_000, 500_000, 1_000_000];
    let mut options = Options { rates, rounds: 3, seconds: 10, workers: None, beside: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse::<u64>().ok());
        match &*arg {
            "--rounds" => options.rounds = number().unwrap_or(3) as u32,
            "--seconds" => options.seconds = number().unwrap_or(10) as u32,
            "--workers" => options.workers = number().map(|n| n as u32),
            "--beside" => options.beside = args.next().map(PathBuf::from),
            "--rates" => {
                let list = args.next().unwrap_or_default();
                options.rates = list.split(',').filter_map(|rate| rate.parse().ok()).collect();
            }
            // Cargo adds `--bench`.
            _ => {}
        }
    }
    options
}

fn print_round(collector: &str, rate: u64, round: &Round) {
    println!(
        "{collector:<12} {rate:>9} {:>9.0} {:>10} {:>8.3} {:>9.3} {:>10.3} {:>8.0} {:>11.1}",
        round.sent_per_second,
        round.stored,
        (1.0 - round.stored as f64 / round.sent.max(1) as f64) * 100.0,
        round.cpu_s_per_million(),
        round.generator_cpu_s / round.millions(),
        round.resident_bytes as f64 / 1e6,
        round.disk_bytes as f64 / round.stored.max(1) as f64,
    );
}

/// This build and another one, both at the same time.
fn measure_both(other: &Path, rate: u64, options: &Options) -> io::Result<(Round, Option<Round>)> {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| measure(other, rate, options));
        let ours = measure(PROGRAM.as_ref(), rate, options)?;
        let other = other.join().map_err(|_| io::Error::other("the round beside it panicked"))??;
        Ok((ours, Some(other)))
    })
}

fn measure(program: &Path, rate: u64, options: &Options) -> io::Result<Round> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let (port, admin) = (free_udp_port()?, free_tcp_port()?);
    let subscribers = folder.join("subscribers.csv");
    run(Command::new(PROGRAM).args(["generate", "--count", "0", "--write-subscribers"]).arg(subscribers))?;
    let workers = options.workers.map(|n| format!("[decode]\nworkers = {n}\n")).unwrap_or_default();
    let config = format!(
        "[receive]\nlisten = [\"127.0.0.1:{port}\"]\n[enrich]\nsubscribers = \"subscribers.csv\"\n{workers}\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n"
    );
    std::fs::write(folder.join("pipeline.toml"), config)?;
    let log = std::fs::File::create(folder.join("collector.log"))?;
    let collector = Command::new(program).arg("run").current_dir(folder).stdout(Stdio::null()).stderr(log).spawn()?;
    let ready = format!("http://127.0.0.1:{admin}/readyz");
    wait_until("the collector is ready", || ureq::get(&ready).call().is_ok())?;
    let generated = generate(port, rate, options)?;
    let stored = wait_delivered(&format!("http://127.0.0.1:{admin}/api/v1/netflow/sinks"))?;
    let resident_bytes = memory::peak_resident_bytes(collector.id());
    let cpu_s = stop(collector)?;
    let disk_bytes = folder_bytes(&folder.join("data/flows"))?;
    Ok(Round { stored, cpu_s, resident_bytes, disk_bytes, ..generated })
}

/// Waits until nothing waits for the sink any more; gives the flows it has.
fn wait_delivered(sinks: &str) -> io::Result<u64> {
    let mut stored = 0;
    wait_until("everything is in the sink", || {
        std::thread::sleep(Duration::from_millis(300));
        let Ok(mut answer) = ureq::get(sinks).call() else { return false };
        let Ok(answer) = answer.body_mut().read_json::<Value>() else { return false };
        let sink = &answer["items"][0];
        let delivered = sink["delivered_flows"].as_u64().unwrap_or(0);
        let settled = delivered > 0 && delivered == stored && sink["waiting_flows"].as_u64() == Some(0);
        stored = delivered;
        settled
    })?;
    Ok(stored)
}

fn measure_nfcapd(rate: u64, options: &Options) -> io::Result<Round> {
    let folder = tempfile::tempdir()?;
    let port = free_udp_port()?;
    let nfcapd = Command::new("nfcapd")
        .args(["-b", "127.0.0.1", "-t", "3600", "-B", "67108864", "-p", &port.to_string(), "-l"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    let generated = generate(port, rate, options)?;
    std::thread::sleep(Duration::from_secs(1));
    let resident_bytes = memory::peak_resident_bytes(nfcapd.id());
    let cpu_s = stop(nfcapd)?;
    let output = Command::new("nfdump").arg("-R").arg(folder.path()).arg("-I").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let stored = text.lines().find_map(|line| line.strip_prefix("Flows: ")?.parse().ok()).unwrap_or(0);
    Ok(Round { stored, cpu_s, resident_bytes, disk_bytes: folder_bytes(folder.path())?, ..generated })
}

/// Runs the generator to its end; fills what it knows.
fn generate(port: u16, rate: u64, options: &Options) -> io::Result<Round> {
    let started = Instant::now();
    let mut child = Command::new(PROGRAM)
        .args(["generate", "--json", "--to", &format!("127.0.0.1:{port}"), "--rate", &rate.to_string()])
        .args(["--duration", &format!("{}s", options.seconds)])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut output)?;
    }
    let generator_cpu_s = reap(&child)?;
    let totals: Value = serde_json::from_slice(&output)?;
    let sent = totals["flows"].as_u64().unwrap_or(0);
    let elapsed_s = totals["seconds"].as_f64().unwrap_or_else(|| started.elapsed().as_secs_f64());
    Ok(Round { sent, sent_per_second: sent as f64 / elapsed_s, generator_cpu_s, ..Round::default() })
}

/// Ends a process as a service manager does; gives its CPU seconds.
fn stop(child: Child) -> io::Result<f64> {
    run(Command::new("kill").args(["-TERM", &child.id().to_string()]))?;
    reap(&child)
}

/// Waits for a child; gives its user and system CPU seconds, all threads.
fn reap(child: &Child) -> io::Result<f64> {
    let mut status = 0;
    // SAFETY: `usage` is plain data, the pointers live through the call, and the pid is our own child's, not waited for yet.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) < 0 {
            return Err(io::Error::last_os_error());
        }
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

fn folder_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { folder_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

fn run(command: &mut Command) -> io::Result<()> {
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(120);
    while !condition() {
        if Instant::now() > until {
            return Err(io::Error::other(format!("timed out waiting until {what}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn free_udp_port() -> io::Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn free_tcp_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn installed(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(program).is_file())
}
