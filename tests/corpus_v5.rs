//! Every NetFlow v5 file of the developers' corpus decodes to what Wireshark's tshark reads in the same bytes.
//!
//! The corpus is found by the environment variable RGZ_CORPUS, else beside the repository; without it the test says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rgz_netflow::cli::replay;
use rgz_netflow::decode::{self, AGE_MIN_MS, Decoder, Quarantine, Rules};
use rgz_netflow::flow::{Addr, Field, FlowBatch, Value};
use rgz_netflow::receive::{Admission, Framer, Pool, Protocol};
use rgz_netflow::telemetry::ledger::Ledger;
use rgz_netflow::wire::{FlowRecord, Header};

/// What the corpus says of a file.
struct Source {
    file: &'static str,
    golden: &'static str,
    /// v5 records that it holds.
    records: u64,
    /// Records that its headers announce beyond those, unless no datagram can hold what they announce.
    torn: u64,
    /// Datagrams longer than their records.
    long: u64,
}

const fn source(file: &'static str, golden: &'static str, records: u64, torn: u64, long: u64) -> Source {
    Source { file, golden, records, torn, long }
}

const SOURCES: &[Source] = &[
    source("elastic-flowbeat/pcap/ipt_netflow_v5.pcap", "elastic-flowbeat/pcap/ipt_netflow_v5.pcap", 60, 0, 0),
    source("fluent-plugin-netflow/netflow.v5.dump", "fluent-plugin-netflow/case-00-", 1, 0, 0),
    source("goflow2/TestDecodeNetFlowV5_data.dat", "goflow2/case-00-", 6, 0, 0),
    source("graylog-plugin-netflow/netflow-v5-1.dat", "graylog-plugin-netflow/case-00-", 2, 0, 1),
    source("graylog-plugin-netflow/netflow-v5-2.dat", "graylog-plugin-netflow/case-01-", 30, 0, 0),
    source("graylog-plugin-netflow/netflow5.pcap", "graylog-plugin-netflow/netflow5.pcap", 4, 0, 0),
    source("graylog-plugin-netflow/netgraph-netflow5.pcap", "graylog-plugin-netflow/netgraph-netflow5", 120, 0, 0),
    source("graylog-plugin-netflow/nprobe-netflow9.pcap", "graylog-plugin-netflow/nprobe-netflow9.pcap", 150, 0, 0),
    source("graylog-plugin-netflow/pmacctd-netflow5.pcap", "graylog-plugin-netflow/pmacctd-netflow5", 42, 0, 0),
    source("logstash-codec-netflow/netflow5.dat", "logstash-codec-netflow/case-00-", 2, 0, 1),
    source("logstash-codec-netflow/netflow5_test_invalid01.dat", "logstash-codec-netflow/case-01-", 30, 0, 0),
    source("logstash-codec-netflow/netflow5_test_invalid02.dat", "logstash-codec-netflow/case-02-", 30, 133, 0),
    source("logstash-codec-netflow/netflow5_test_microtik.dat", "logstash-codec-netflow/case-13-", 30, 0, 0),
    source("logstash-codec-netflow/netflow5_test_juniper_mx80.dat", "logstash-codec-netflow/case-14-", 29, 0, 0),
    source("vflow/netflow-v5/TestV5FlowPacket.dat", "vflow/netflow-v5/TestV5FlowPacket", 29, 0, 1),
];

fn corpus() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let dir = std::env::var_os("RGZ_CORPUS").map_or_else(beside, PathBuf::from);
    dir.join("golden-tshark").is_dir().then_some(dir)
}

/// The file's v5 datagrams.
fn datagrams(file: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    if file.extension().is_some_and(|e| e == "pcap") {
        let read = replay::read(std::fs::File::open(file).unwrap(), &mut |datagram, _| {
            found.push(datagram.payload.to_vec());
            true
        });
        read.unwrap();
    } else {
        found.push(std::fs::read(file).unwrap());
    }
    found.retain(|datagram| Header::parse(datagram).is_some_and(|header| header.version == 5));
    found
}

/// tshark's v5 datagrams: each its header and its records in order.
fn golden(dir: &Path, prefix: &str) -> Vec<(serde_json::Value, Vec<serde_json::Value>)> {
    let prefix = dir.join("golden-tshark").join(prefix);
    let (folder, name) = (prefix.parent().unwrap(), prefix.file_name().unwrap().to_str().unwrap());
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let matches = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(name);
    let path = entries.filter(|path| path.is_file()).find(matches).unwrap_or_else(|| panic!("no {prefix:?}"));
    let frames: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let datagrams =
        frames.into_iter().map(|mut frame| frame["cflow"].take()).filter(|cflow| cflow["cflow.version"] == "5");
    datagrams
        .map(|cflow| {
            let count: usize = cflow["cflow.count"].as_str().unwrap().parse().unwrap();
            let records = (1..=count).map_while(|n| cflow.get(format!("pdu {n}/{count}")).cloned()).collect();
            (cflow, records)
        })
        .collect()
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn number(value: &serde_json::Value, key: &str) -> u64 {
    let text = text(value, key);
    text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16)).unwrap()
}

/// Seconds with 9 decimals as ms.
fn ms(value: &serde_json::Value, key: &str) -> u32 {
    let (seconds, nanos) = text(value, key).split_once('.').unwrap();
    (seconds.parse::<u64>().unwrap() * 1000 + nanos[..3].parse::<u64>().unwrap()) as u32
}

/// The row that tshark's record stands for; `None` when it cannot be true.
fn expected(header: &serde_json::Value, record: &serde_json::Value) -> Option<Vec<(Field, Value)>> {
    let stamp = &header["cflow.timestamp_tree"];
    let clock_ms = (number(stamp, "cflow.unix_secs") * 1000 + number(stamp, "cflow.unix_nsecs") / 1_000_000) as i64;
    let uptime = ms(header, "cflow.sysuptime");
    let span = record.get("cflow.timedelta_tree").unwrap_or(record);
    let (first, last) = (ms(span, "cflow.timestart"), ms(span, "cflow.timeend"));
    // A time more than a minute ahead of the export is taken as a minute ahead.
    let time = |at: u32| clock_ms - i64::from((uptime.wrapping_sub(at) as i32).max(AGE_MIN_MS));
    let (bytes, packets) = (number(record, "cflow.octets"), number(record, "cflow.packets"));
    if bytes < 20 * packets || bytes > 65_535 * packets || (last.wrapping_sub(first) as i32) < 0 {
        return None;
    }
    let rate = number(header, "cflow.samplerate").max(1);
    let ip = |key: &str| Value::Ip(text(record, key).parse::<Addr>().unwrap());
    let plain = |key: &str| Value::Number(number(record, key));
    Some(vec![
        (Field::Time, Value::TimeMs(time(last))),
        // A start so old that 32 bits show it after the end is taken as the end.
        (Field::FlowStart, Value::TimeMs(time(first).min(time(last)))),
        (Field::SrcIp, ip("cflow.srcaddr")),
        (Field::DstIp, ip("cflow.dstaddr")),
        (Field::NextHop, ip("cflow.nexthop")),
        (Field::InputIf, plain("cflow.inputint")),
        (Field::OutputIf, plain("cflow.outputint")),
        (Field::SrcPort, plain("cflow.srcport")),
        (Field::DstPort, plain("cflow.dstport")),
        (Field::Protocol, plain("cflow.protocol")),
        (Field::Tos, plain("cflow.tos")),
        (Field::TcpFlags, plain("cflow.tcpflags")),
        (Field::SrcAs, plain("cflow.srcas")),
        (Field::DstAs, plain("cflow.dstas")),
        (Field::SrcMask, plain("cflow.srcmask")),
        (Field::DstMask, plain("cflow.dstmask")),
        (Field::Bytes, Value::Number(bytes * rate)),
        (Field::Packets, Value::Number(packets * rate)),
        (Field::SamplingRate, Value::Number(rate)),
    ])
}

#[test]
fn every_v5_file_decodes_to_its_expected_values() {
    let Some(dir) = corpus() else {
        println!("skipped: no corpus at $RGZ_CORPUS or ../shared/corpus");
        return;
    };
    for source in SOURCES {
        let file = source.file;
        let ledger = Arc::new(Ledger::default());
        let admission = Arc::new(ArcSwap::from_pointee(Admission::new(&[], &Protocol::ALL)));
        let mut framer = Framer::new(ledger.clone(), admission, Arc::default());
        let mut slab = Pool::new(1, 1 << 20).take().unwrap();
        for datagram in datagrams(&dir.join(file)) {
            let received_at_ms = Header::parse(&datagram).unwrap().clock_ms();
            framer.push(&mut slab, "192.0.2.1".parse().unwrap(), 2055, received_at_ms, &datagram).unwrap();
        }
        let quarantine = Arc::new(Quarantine::default());
        let rules = Arc::new(ArcSwap::from_pointee(Rules::new(&decode::Config::default())));
        let mut batch = FlowBatch::default();
        Decoder::new(rules, quarantine.clone()).decode(&slab, &mut batch);

        let golden = golden(&dir, source.golden);
        let records = golden.iter().flat_map(|(header, records)| records.iter().map(move |record| (header, record)));
        let (mut row, mut set_aside) = (0, quarantine.list().into_iter());
        for (header, record) in records {
            match expected(header, record) {
                Some(fields) => {
                    for (field, want) in fields {
                        assert_eq!(batch.value(field, row), want, "{file}: row {row}, {}", field.name());
                    }
                    row += 1;
                }
                None => {
                    let aside = set_aside.next().unwrap_or_else(|| panic!("{file}: {record} is not set aside"));
                    let raw = FlowRecord::parse(5, aside.record()).unwrap();
                    assert_eq!(u64::from(raw.bytes), number(record, "cflow.octets"), "{file}");
                }
            }
        }
        assert_eq!((row, set_aside.len()), (batch.len(), 0), "{file}");
        let account = ledger.account([192, 0, 2, 1].into());
        assert_eq!(batch.len() as u64 + account.absurd_flows.get(), source.records, "{file}");
        assert_eq!((account.torn_flows.get(), account.long_datagrams.get()), (source.torn, source.long), "{file}");
        assert_eq!(account.flows.get(), source.records + source.torn, "{file}");
    }
}
