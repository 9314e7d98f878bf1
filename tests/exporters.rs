//! Real exporters feed the collector; what `nfcapd` and `nfdump` report of the same datagrams is what we report.

mod support;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use support::{Collector, Process, capture::write_capture, free_udp_port, installed, wait_until};

/// Copies every datagram it gets to two receivers.
struct Tee {
    port: u16,
    datagrams: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Tee {
    fn start(to: [u16; 2]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (datagrams, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (datagrams.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = [0u8; 65_535];
            while !stopped.load(Relaxed) {
                let Ok(length) = socket.recv(&mut buffer) else { continue };
                to.iter().for_each(|port| drop(socket.send_to(&buffer[..length], ("127.0.0.1", *port))));
                count.fetch_add(1, Relaxed);
            }
        });
        Self { port, datagrams, stop, thread: Some(thread) }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// One flow as both collectors print it.
type Flow = (String, String, String, String, String, String, String, String, String);

/// Starts a collector and `nfcapd` behind a tee, lets `export` send to the tee's port, and compares what both stored.
fn compare(config: &str, export: impl FnOnce(&Path, u16)) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("nfcapd")).unwrap();
    let mut collector = Collector::new(folder, config).start();
    let nfcapd_port = free_udp_port();
    let mut nfcapd = start_nfcapd(folder, nfcapd_port);
    let tee = Tee::start([nfcapd_port, collector.port]);

    export(folder, tee.port);

    wait_until("the collector has every datagram", Duration::from_secs(20), || {
        collector.ledger("datagrams/received") == tee.datagrams.load(Relaxed)
    });
    collector.wait_delivered();
    nfcapd.signal("TERM");
    nfcapd.wait(Duration::from_secs(20));

    let theirs = nfdump_flows(folder);
    assert!(!theirs.is_empty(), "nfcapd stored nothing");
    let ours = our_flows(&collector);
    let different = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
    assert!(different.is_none(), "the first difference: {different:?}");
    assert_eq!(ours.len(), theirs.len());
    compare_talkers(&collector, folder);
    collector.stop();
}

fn start_nfcapd(folder: &Path, port: u16) -> Process {
    let mut command = Command::new("nfcapd");
    command.args(["-b", "127.0.0.1", "-t", "3600", "-p", &port.to_string(), "-l"]).arg(folder.join("nfcapd"));
    let log = folder.join("nfcapd.log");
    let process = Process::start(&mut command, &log);
    wait_until("nfcapd listens", Duration::from_secs(10), || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("Startup"))
            && std::fs::read_to_string("/proc/net/udp").unwrap().contains(&format!(":{port:04X} "))
    });
    process
}

fn nfdump(folder: &Path, args: &[&str]) -> String {
    let output =
        Command::new("nfdump").arg("-R").arg(folder.join("nfcapd")).args(args).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn nfdump_flows(folder: &Path) -> Vec<Flow> {
    let text = nfdump(folder, &["-q", "-N", "-o", "fmt:%ts,%te,%sa,%da,%sp,%dp,%pr,%byt,%pkt"]);
    let mut flows: Vec<Flow> = text
        .lines()
        .map(|line| {
            let f: Vec<String> = line.split(',').map(|field| field.trim().to_owned()).collect();
            let number = |name: &str| match name {
                "TCP" => "6".to_owned(),
                "UDP" => "17".to_owned(),
                "ICMP" => "1".to_owned(),
                other => other.to_owned(),
            };
            let time = |text: &str| format!("{}Z", text.replace(' ', "T"));
            let protocol = number(&f[6]);
            (
                time(&f[0]),
                time(&f[1]),
                f[2].clone(),
                f[3].clone(),
                f[4].clone(),
                f[5].clone(),
                protocol,
                f[7].clone(),
                f[8].clone(),
            )
        })
        .collect();
    flows.sort();
    flows
}

fn our_flows(collector: &Collector) -> Vec<Flow> {
    let text = collector.get_text("/api/v1/netflow/flows.csv?from=1970-01-02T00:00:00Z&to=2100-01-01T00:00:00Z");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns: BTreeMap<String, usize> =
        reader.headers().unwrap().iter().enumerate().map(|(i, name)| (name.to_owned(), i)).collect();
    let mut flows: Vec<Flow> = reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            let f = |name: &str| record[columns[name]].to_owned();
            (
                f("flow_start"),
                f("time"),
                f("src_ip"),
                f("dst_ip"),
                f("src_port"),
                f("dst_port"),
                f("protocol"),
                f("bytes"),
                f("packets"),
            )
        })
        .collect();
    flows.sort();
    flows
}

/// Top 10 sources by bytes, from `nfdump -s srcip/bytes` and from the API, as (address, bytes, packets).
fn compare_talkers(collector: &Collector, folder: &Path) {
    let text = nfdump(folder, &["-N", "-s", "srcip/bytes", "-n", "10", "-o", "csv"]);
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| names.iter().position(|n| *n == name).unwrap();
    let theirs: BTreeMap<String, (u64, u64)> = lines
        .take_while(|line| !line.is_empty())
        .map(|line| line.split(',').map(str::trim).collect::<Vec<_>>())
        .map(|f| (f[column("val")].into(), (f[column("byt")].parse().unwrap(), f[column("pkt")].parse().unwrap())))
        .collect();
    let answer = collector.get("top-talkers?from=1970-01-02T00:00:00Z&to=2100-01-01T00:00:00Z&limit=10");
    let ours: BTreeMap<String, (u64, u64)> = answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| {
            (i["src_ip"].as_str().unwrap().into(), (i["bytes_sent"].as_u64().unwrap(), i["packets"].as_u64().unwrap()))
        })
        .collect();
    assert_eq!(ours, theirs, "{answer}");
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn softflowd_over_a_capture_is_reported_as_nfdump_does() {
    if !(installed("softflowd") && installed("nfcapd") && installed("nfdump")) {
        return;
    }
    compare("", |folder, port| softflowd(folder, port, 300));
}

fn softflowd(folder: &Path, port: u16, conversations: u32) {
    let capture = folder.join("capture.pcap");
    write_capture(&capture, conversations);
    let mut command = Command::new("/usr/sbin/softflowd");
    // Without a control socket it ends when it has read the capture.
    command.args(["-d", "-v", "5", "-n", &format!("127.0.0.1:{port}"), "-p"]).arg(folder.join("softflowd.pid"));
    run(command.arg("-r").arg(&capture));
}

#[test]
fn nfreplay_of_stored_flows_is_reported_as_nfdump_does() {
    if !(installed("softflowd") && installed("nfcapd") && installed("nfdump") && installed("nfreplay")) {
        return;
    }
    // First round: softflowd fills a store of nfcapd. Second round: nfreplay exports that store.
    let stored = tempfile::tempdir().unwrap();
    std::fs::create_dir(stored.path().join("nfcapd")).unwrap();
    let port = free_udp_port();
    let mut nfcapd = start_nfcapd(stored.path(), port);
    softflowd(stored.path(), port, 200);
    std::thread::sleep(Duration::from_millis(500));
    nfcapd.signal("TERM");
    nfcapd.wait(Duration::from_secs(20));
    let file = std::fs::read_dir(stored.path().join("nfcapd")).unwrap().next().unwrap().unwrap().path();
    // It sends the clock of the stored flows, not of now: the collector must be told to believe it.
    compare("[decode]\nclock_skew_max = \"24h\"\n", |_, port| {
        run(Command::new("nfreplay").args(["-v", "5", "-H", "127.0.0.1", "-p", &port.to_string(), "-r"]).arg(&file));
    });
}

#[test]
fn pmacctd_with_nfprobe_is_reported_as_nfdump_does() {
    if !(installed("pmacctd") && installed("nfcapd") && installed("nfdump")) {
        return;
    }
    compare("", |folder, port| {
        let capture = folder.join("capture.pcap");
        write_capture(&capture, 150);
        let config = format!(
            "daemonize: false\npcap_savefile: {}\naggregate: src_host,dst_host,src_port,dst_port,proto,tos\n\
             plugins: nfprobe\nnfprobe_receiver: 127.0.0.1:{port}\nnfprobe_version: 5\n\
             nfprobe_timeouts: tcp=1:tcp.rst=1:tcp.fin=1:udp=1:icmp=1:general=1:maxlife=5:expint=1\n",
            capture.display()
        );
        let path = folder.join("pmacctd.conf");
        std::fs::write(&path, config).unwrap();
        let log = folder.join("pmacctd.log");
        let mut pmacctd = Process::start(Command::new("/usr/sbin/pmacctd").arg("-f").arg(&path), &log);
        // It exports what is left when it ends.
        wait_until("pmacctd has read the capture", Duration::from_secs(20), || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains("Exporting flows"))
        });
        std::thread::sleep(Duration::from_secs(3));
        pmacctd.signal("INT");
        pmacctd.wait(Duration::from_secs(20));
    });
}
