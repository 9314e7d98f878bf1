//! `doctor exporter` on a running collector, with an exporter that reports every flow twice and then, by the rule that the doctor
//! suggests, once.

mod support;

use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rgz_netflow::wire::{self, FlowRecord, Header};
use serde_json::Value;
use support::{Collector, PROGRAM, wait_until};

/// Flows of one sending, each reported twice.
const FLOWS: u32 = 300;
const UPTIME_MS: u32 = 3_600_000;

/// Sends every flow as it came in (interface 1 or 2) and as the bridge in between (7) saw it.
fn send_twice(collector: &Collector, sequence: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for start in (0..FLOWS).step_by(10) {
        let views = (start..start + 10).flat_map(|flow| {
            let inward = flow % 2 == 1;
            let (input_if, output_if) = if inward { (2, 1) } else { (1, 2) };
            let record = FlowRecord {
                src_addr: 0x0a00_0000 + flow,
                dst_addr: 0xcb00_7101,
                src_port: 40_000,
                dst_port: 443,
                protocol: 6,
                packets: 10,
                bytes: 5_000 + flow,
                first_ms: UPTIME_MS - 20_000,
                last_ms: UPTIME_MS - 10_000,
                input_if,
                output_if,
                ..FlowRecord::default()
            };
            [record, FlowRecord { input_if: 7, ..record }]
        });
        let header = Header {
            version: 5,
            sys_uptime_ms: UPTIME_MS,
            unix_secs: now.as_secs() as u32,
            unix_nsecs: now.subsec_nanos(),
            sequence: sequence + start * 2,
            ..Header::default()
        };
        let datagram = wire::datagram(&header, &views.collect::<Vec<_>>());
        socket.send_to(&datagram, ("127.0.0.1", collector.port)).unwrap();
    }
}

fn doctor(collector: &Collector, address: &str, more: &[&str]) -> Output {
    let url = collector.url("");
    let mut command = Command::new(PROGRAM);
    command.args(["doctor", "exporter", address, "--url", &url]).args(more).current_dir(&collector.folder);
    command.env_remove("NETFLOW_TOKEN").output().unwrap()
}

fn finding(output: &Output, about: &str) -> Value {
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = findings.as_array().unwrap();
    all.iter().find(|finding| finding["about"] == about).unwrap_or_else(|| panic!("{findings}")).clone()
}

#[test]
fn double_counting_is_found_and_the_suggested_rule_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    send_twice(&collector, 0);
    let logged = u64::from(FLOWS) * 2;
    wait_until("all are logged", Duration::from_secs(60), || collector.ledger("flows/logged") == logged);

    let output = doctor(&collector, "127.0.0.1", &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let found = finding(&output, "double counting");
    assert_eq!((&found["grade"], found["seen"].as_str().unwrap().split(' ').next()), (&"mend".into(), Some("300")));
    let mend = found["mend"].as_str().unwrap();
    assert!(mend.contains("count_input_if = [1, 2]"), "{mend}");
    for (about, part) in [
        ("arrival", "latest datagram"),
        ("version", "version 5"),
        ("rate", "600 flows since"),
        ("clock", "clock"),
        ("sampling", "none"),
        ("loss on the way", "0 of 600 flows never arrived"),
        ("records", "all are what they should be"),
    ] {
        let found = finding(&output, about);
        assert!(found["grade"] == "ok" && found["seen"].as_str().unwrap().contains(part), "{found}");
    }
    // As text, what to mend is shown as it goes into the file.
    let text = String::from_utf8(doctor(&collector, "127.0.0.1", &[]).stdout).unwrap();
    assert!(text.contains("MEND double counting"), "{text}");

    collector.stop();
    let rule: Vec<_> = mend.lines().filter(|line| line.contains(" = ") || line.starts_with('[')).collect();
    support::append(&folder.path().join("pipeline.toml"), &format!("{}\n", rule.join("\n")));
    collector.restart();
    send_twice(&collector, FLOWS * 2);
    wait_until("half is left out", Duration::from_secs(60), || {
        collector.ledger("flows/left_out/second_view") == u64::from(FLOWS)
            && collector.ledger("flows/logged") == u64::from(FLOWS)
    });
    collector.stop();
}

#[test]
fn an_exporter_that_was_never_heard_is_a_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    let output = doctor(&collector, "192.0.2.99", &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("rgz-netflow: nothing ever arrived from 192.0.2.99; heard were: nobody\n"), "{text}");
    collector.stop();
}
