//! Starting and ending as an operator meets it: what keeps the collector from starting is one clear line and exit code 2,
//! `run --test` tries the way of one datagram, a second signal forces the end.

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::capture::{ethernet, ipv4, udp_segment, write_frames};
use support::{Collector, PROGRAM, Process, free_tcp_port, free_udp_port, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);
/// Exit code of a stop that a second signal forced.
const FORCED: i32 = 3;

/// The program in a folder, without the variables of whoever runs the tests.
fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

/// What `run` says before it ends with exit code 2. Lines of the log, which begin with a time, are not counted.
fn refusal(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let log = folder.join("output");
    let mut process = Process::start(&mut program(folder, arguments), &log);
    let status = process.wait(PATIENCE);
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(!text.contains("panicked") && !text.contains("backtrace") && !text.contains("is ready"), "{text}");
    text.lines().filter_map(|line| line.strip_prefix("rgz-netflow: ")).map(str::to_owned).collect()
}

/// A configuration with free ports and this after it.
fn configure(folder: &Path, rest: &str) -> Collector {
    Collector::with_config(folder, rest)
}

#[test]
fn a_port_in_use_is_one_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let flows = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = flows.local_addr().unwrap();
    configure(folder.path(), "");
    assert_eq!(
        refusal(folder.path(), &["run", "-p", &udp.port().to_string()]),
        [format!("[receive] listen: udp {udp} is in use by another process")]
    );
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let held = TcpListener::bind(admin).unwrap();
    let text = format!("[receive]\nlisten = [\"127.0.0.1:{}\"]\n[admin]\nlisten = \"{admin}\"\n", free_udp_port());
    std::fs::write(folder.path().join("pipeline.toml"), text).unwrap();
    assert_eq!(refusal(folder.path(), &["run"]), [format!("[admin] listen: {admin} is in use by another process")]);
    drop((flows, held));
}

#[test]
fn a_folder_that_cannot_be_written_is_one_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    // Root may write anywhere but into a file.
    for name in ["data", "store"] {
        std::fs::write(folder.path().join(name), "a file where a folder must be").unwrap();
    }
    let store = "[[sink]]\nname = \"local\"\nkind = \"parquet\"\npath = \"store\"\n";
    for (rest, starts) in [
        ("", &["log: cannot write to data/log: ", "sink local: cannot write to data: "][..]),
        (&format!("[log]\ndir = \"elsewhere/log\"\n{store}"), &["sink local: cannot write to store: "]),
    ] {
        configure(folder.path(), rest);
        let lines = refusal(folder.path(), &["run"]);
        assert_eq!(lines.len(), starts.len(), "{lines:?}");
        assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{lines:?}");
    }
}

#[test]
fn a_missing_file_is_one_line_that_names_it_and_where_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let token = "[[admin.token]]\nname = \"x\"\nfile = \"none.token\"\n";
    for (arguments, rest, starts) in [
        (&["run", "-c", "none.toml"][..], "", "none.toml: cannot read the configuration: "),
        (&["run", "--env-file", "none.env"], "", "none.env: cannot read the environment file: "),
        (
            &["run"],
            "[enrich]\nsubscribers = \"none.csv\"\n",
            "pipeline.toml:6: enrich.subscribers: there is no file none.csv",
        ),
        (&["run"], token, "[admin] token[0].file: cannot read none.token: "),
        (&["run"], "[telemetry]\nlog_file = \"none/all.log\"\n", "cannot write the log file none/all.log "),
    ] {
        configure(folder.path(), rest);
        let lines = refusal(folder.path(), arguments);
        assert!(lines.len() == 1 && lines[0].starts_with(starts), "{lines:?}");
    }
}

#[test]
fn every_problem_of_a_configuration_is_told_by_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[receive]\nlisen = []\n\n[decode]\nworkers = \"many\"\n\n[[sink]]\nname = \"a\"\nkind = \"floppy\"\n";
    std::fs::write(folder.path().join("pipeline.toml"), text).unwrap();
    let lines = refusal(folder.path(), &["run"]);
    let starts = [
        "pipeline.toml:2: receive.lisen: unknown key \"lisen\", the nearest known one is \"listen\"",
        "pipeline.toml:5: decode.workers: ",
        "pipeline.toml:9: ",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:?}");
    assert!(starts.iter().all(|start| lines.iter().any(|line| line.starts_with(start))), "{lines:?}");
}

#[test]
fn a_data_folder_belongs_to_one_collector_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Collector::new(folder.path(), "").start();
    let (udp, tcp) = (free_udp_port().to_string(), free_tcp_port());
    let second = folder.path().join("second.toml");
    std::fs::write(&second, format!("[admin]\nlisten = \"127.0.0.1:{tcp}\"\n")).unwrap();
    let lines = refusal(folder.path(), &["run", "-c", "second.toml", "-p", &udp]);
    assert!(lines.len() == 1 && lines[0].contains("is in use by another process"), "{lines:?}");
    assert!(first.get_text("/readyz").contains("\"ready\":true"));
    first.stop();
}

#[test]
fn run_test_prints_the_records_of_one_datagram_and_stores_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::new(folder.path(), "");
    let mut process = program(folder.path(), &["run", "--test"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(Process)
        .unwrap();
    let mut said = BufReader::new(process.0.stderr.take().unwrap()).lines();
    let waiting = format!("waiting for a datagram on udp 127.0.0.1:{}", collector.port);
    assert!(said.by_ref().any(|line| line.unwrap() == waiting));
    // One datagram of three records.
    collector.generate(&["--count", "3", "--rate", "0", "--exporters", "1"]);
    let output = std::io::read_to_string(process.0.stdout.take().unwrap()).unwrap();
    assert!(process.wait(PATIENCE).success(), "{output}");
    let records = output.lines().filter(|line| line.contains("src_ip=")).count();
    assert_eq!(records, 3, "{output}");
    assert!(output.ends_with("the first record is stored in sink local (parquet)\n"), "{output}");
    let stored = collector.cli(&["query", "--data", "data", "--period", "7d", "--tier", "flows", "--json"]);
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["matched"]["flows"], 1, "{stored}");
}

#[test]
fn run_test_without_a_datagram_ends_with_1_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), "");
    let output = program(folder.path(), &["run", "--test", "--wait", "1s"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.ends_with("rgz-netflow: no flow record came within 1 s\n"), "{text}");
}

#[test]
fn a_capture_replayed_into_the_api_keeps_its_exporters() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    let exporters = [[192, 0, 2, 1], [192, 0, 2, 2]];
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let frame = |exporter: [u8; 4], sequence: u32| {
        let mut export = vec![0u8; 24 + 2 * 48];
        (export[1], export[3]) = (5, 2);
        export[8..12].copy_from_slice(&(now_s as u32).to_be_bytes());
        export[16..20].copy_from_slice(&sequence.to_be_bytes());
        for record in export[24..].chunks_mut(48) {
            record[0..4].copy_from_slice(&[10, 0, 0, 1]);
            record[4..8].copy_from_slice(&[198, 51, 100, 1]);
            (record[19], record[22], record[38]) = (10, 4, 6);
        }
        (now_s * 1_000_000, ethernet(&ipv4(exporter, [192, 0, 2, 100], 17, &udp_segment(40_000, 2055, &export))))
    };
    let frames: Vec<_> = (0..3).flat_map(|n| exporters.map(|exporter| frame(exporter, n * 2))).collect();
    write_frames(&folder.path().join("exports.pcap"), &frames);
    let output = collector.cli(&["replay", "exports.pcap", "--into", &collector.url(""), "--speed", "0"]);
    assert!(output.starts_with("replayed 6 datagrams of 2 sources\n"), "{output}");
    // Answered means logged.
    assert_eq!((collector.ledger("flows/logged"), collector.ledger("sequence/gap")), (12, 0));
    let known = collector.get("exporters");
    let known: Vec<_> = known["items"].as_array().unwrap().iter().map(|e| e["exporter_ip"].as_str().unwrap()).collect();
    assert_eq!(known, ["192.0.2.1", "192.0.2.2"]);
    collector.stop();
}

#[test]
fn a_second_signal_ends_a_stop_that_hangs() {
    for second in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        // A server that takes connections and never answers: its sink cannot end by itself.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let sink = format!(
            "[[sink]]\nname = \"db\"\nkind = \"postgres\"\nurl = \"postgres://rgz@{}/rgz\"\nsslmode = \"disable\"\n",
            silent.local_addr().unwrap()
        );
        let mut collector = configure(folder.path(), &sink).start();
        let mut process = collector.process.take().unwrap();
        process.signal("TERM");
        wait_until("it stops receiving", PATIENCE, || UdpSocket::bind(("127.0.0.1", collector.port)).is_ok());
        assert!(process.0.try_wait().unwrap().is_none(), "it did not wait for the sink:\n{}", collector.log());
        let asked = Instant::now();
        process.signal(second);
        assert_eq!(process.wait(PATIENCE).code(), Some(FORCED), "{}", collector.log());
        assert!(asked.elapsed() < Duration::from_secs(10));
        assert!(collector.log().contains("asked to stop again: ending at once"), "{}", collector.log());
    }
}
