//! The command line as a user meets it: bad input is a clear line and exit code 2, never a backtrace.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

/// Runs the command in a folder of its own, without the variables of whoever runs the tests.
fn rgz(folder: &Path, arguments: &[&str]) -> Output {
    Command::cargo_bin("rgz-netflow").unwrap().current_dir(folder).env_clear().args(arguments).output().unwrap()
}

/// The lines of a failure: exit code 2, nothing else on standard error than lines with the program's name.
fn failure(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let output = rgz(folder, arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(!text.contains("panicked") && !text.contains("backtrace"), "{text}");
    text.lines().map(|line| line.strip_prefix("rgz-netflow: ").unwrap_or_else(|| panic!("{text}")).to_owned()).collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn every_problem_of_a_configuration_is_a_line_with_file_line_and_key() {
    let folder = folder();
    std::fs::write(folder.path().join("p.toml"), "[receive]\nlisen = []\n\n[decode]\nworkers = \"many\"\n").unwrap();
    let lines = failure(folder.path(), &["check", "-c", "p.toml"]);
    assert!(
        lines[0].starts_with("p.toml:2: receive.lisen: unknown key \"lisen\", the nearest known one is \"listen\"")
    );
    assert!(lines[1].starts_with("p.toml:5: decode.workers: "), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn missing_files_are_named() {
    let folder = folder();
    for (arguments, start) in [
        (&["check", "-c", "none.toml"][..], "none.toml: cannot read the configuration: "),
        (&["check", "--env-file", "none.env"], "none.env: cannot read the environment file: "),
        (&["replay", "none.pcap"], "cannot read none.pcap: "),
    ] {
        let lines = failure(folder.path(), arguments);
        assert!(lines.len() == 1 && lines[0].starts_with(start), "{lines:?}");
    }
}

#[test]
fn a_capture_of_another_kind_is_refused() {
    let folder = folder();
    std::fs::write(folder.path().join("x.pcap"), "not a capture at all, whatever its name says").unwrap();
    let lines = failure(folder.path(), &["replay", "x.pcap"]);
    assert_eq!(lines, ["cannot replay x.pcap: it is neither pcap nor pcapng"]);
}

#[test]
fn no_collector_is_a_clear_line() {
    let folder = folder();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    for command in [&["top"][..], &["query"], &["export", "csv"]] {
        let lines = failure(folder.path(), &[command, &["--url", &url]].concat());
        assert!(lines.len() == 1 && lines[0].starts_with(&format!("no collector answers at {url}: ")), "{lines:?}");
    }
    let lines = failure(folder.path(), &["top", "--url", "127.0.0.1"]);
    assert!(lines[0].contains("like http://127.0.0.1:9100"), "{lines:?}");
    // Without a URL it is the collector of the configuration, on this machine.
    let listen = format!("0.0.0.0:{}", free.port());
    let settings = format!("[admin]\nlisten = {listen:?}\nwithout_tokens = \"open to everyone\"\n");
    std::fs::write(folder.path().join("pipeline.toml"), settings).unwrap();
    for command in [&["top"][..], &["doctor", "exporter", "192.0.2.1"], &["quarantine", "list"], &["alerts", "list"]] {
        let lines = failure(folder.path(), command);
        assert!(lines.len() == 1 && lines[0].starts_with(&format!("no collector answers at {url}: ")), "{lines:?}");
    }
    let lines = failure(folder.path(), &["top", "-c", "none.toml"]);
    assert!(lines[0].starts_with("none.toml: cannot read the configuration: "), "{lines:?}");
}

#[test]
fn an_unknown_kind_of_sink_names_the_known_ones() {
    let lines = failure(folder().path(), &["sample", "floppy"]);
    assert!(lines[0].starts_with("unknown kind of sink \"floppy\" (known kinds: "), "{lines:?}");
}

#[test]
fn a_data_folder_answers_without_a_collector() {
    let folder = folder();
    let lines = failure(folder.path(), &["top", "--data", "none"]);
    assert_eq!(lines, ["data folder none: there is no such folder"]);
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let output = rgz(folder.path(), &["top", "--data", "data"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("0 of 0 rows"), "{text} {:?}", output.stderr);
    let report = rgz(folder.path(), &["report", "monthly", "--data", "data", "--format", "csv", "--month", "2026-01"]);
    let text = String::from_utf8(report.stdout).unwrap();
    assert!(
        report.status.success() && text.starts_with("reseller_id,nas_id,site,bytes_in,"),
        "{text} {:?}",
        report.stderr
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    let lines = failure(folder.path(), &["report", "monthly", "--data", "data", "--month", "January"]);
    assert!(lines[0].contains("a month, such as 2026-01"), "{lines:?}");
    let lines = failure(folder.path(), &["top", "--data", "data", "--filter", "src nat 10.0.0.0/8"]);
    assert!(lines[0].contains("filter"), "{lines:?}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = folder();
    std::fs::write(folder.path().join("data"), "a file where the folder should be").unwrap();
    let lines = failure(folder.path(), &["check"]);
    assert!(lines.iter().any(|line| line.starts_with("sink local: cannot write to data: ")), "{lines:?}");
}

#[test]
fn check_prints_the_memory_and_config_the_origins() {
    let folder = folder();
    let output = rgz(folder.path(), &["check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for stage in [
        "slabs and their queue",
        "batches being filled or reused",
        "pairing",
        "leases",
        "recent records of the log",
        "keys and sums of rollups",
        "counters of alerts",
        "sink local",
        "quarantine of local",
        "bodies of HTTP requests",
        "together",
        "prefix table",
    ] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(stage)), "{stage} in {text}");
    }
    assert!(!folder.path().join("data").exists(), "check leaves nothing behind");
    let output = rgz(folder.path(), &["config", "-p", "9995"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines().any(|line| line.starts_with("receive.listen = [\"0.0.0.0:9995\"]") && line.ends_with("# --port"))
    );
}

#[test]
fn generate_prints_exact_totals_and_writes_the_subscribers() {
    let folder = folder();
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap().to_string();
    let arguments = ["generate", "--to", &to, "--count", "95", "--rate", "0", "--subscribers", "600", "--json"];
    let output = rgz(folder.path(), &[&arguments[..], &["--write-subscribers", "s.csv"]].concat());
    assert!(output.status.success());
    let totals: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&totals["flows"], &totals["datagrams"]), (&95.into(), &4.into()));
    let (mut buffer, mut flows) = ([0; 2048], 0);
    for _ in 0..4 {
        let length = receiver.recv(&mut buffer).unwrap();
        flows += (length - 24) / 48;
    }
    assert_eq!(flows, 95);
    let lines = std::fs::read_to_string(folder.path().join("s.csv")).unwrap().lines().count();
    assert_eq!(lines, 601);
}

#[test]
fn help_and_version_work_everywhere() {
    let folder = folder();
    for arguments in
        [&["--help"][..], &["generate", "--help"], &["replay", "--help"], &["top", "--help"], &["check", "--help"]]
    {
        let output = rgz(folder.path(), arguments);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("Example"), "{arguments:?}");
    }
    assert!(rgz(folder.path(), &["--version"]).status.success());
}
