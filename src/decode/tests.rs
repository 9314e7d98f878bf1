//! The stage as a whole: framed datagrams in, columns and accounts out.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use proptest::prelude::*;

use super::*;
use crate::flow::{Addr, Field, FlowBatch, Value};
use crate::receive::{Admission, Framer, Pool, Protocol, Restored, Slab};
use crate::telemetry::ledger::Ledger;
use crate::wire::{self, FlowRecord, Header};

const NOW_MS: i64 = 1_700_000_000_000;
const EXPORTER: [u8; 4] = [192, 0, 2, 1];

struct Bench {
    ledger: Arc<Ledger>,
    framer: Framer,
    slab: Slab,
    decoder: Decoder,
    quarantine: Arc<Quarantine>,
    batch: FlowBatch,
}

impl Bench {
    fn new(config: &Config) -> Self {
        let (ledger, quarantine) = (Arc::new(Ledger::default()), Arc::new(Quarantine::default()));
        let admission = Arc::new(ArcSwap::from_pointee(Admission::new(&[], &Protocol::ALL)));
        let rules = Arc::new(ArcSwap::from_pointee(Rules::new(config)));
        Self {
            framer: Framer::new(ledger.clone(), admission, Arc::new(Restored::default())),
            slab: Pool::new(1, 1 << 20).take().unwrap(),
            decoder: Decoder::new(rules, quarantine.clone()),
            batch: FlowBatch::default(),
            ledger,
            quarantine,
        }
    }

    fn push(&mut self, datagram: &[u8]) {
        let exporter = Addr::from(IpAddr::from(EXPORTER));
        let _ = self.framer.push(&mut self.slab, exporter, 7, NOW_MS, datagram);
    }

    fn decode(&mut self) -> &FlowBatch {
        self.decoder.decode(&self.slab, &mut self.batch);
        self.decoder.book_logged(&self.slab);
        assert_eq!(self.batch.ragged_column(), None);
        &self.batch
    }

    fn count(&self, name: &str) -> u64 {
        self.ledger.totals().into_iter().find(|(n, _)| *n == name).unwrap().1
    }
}

fn header(version: u16) -> Header {
    Header { version, sys_uptime_ms: 1_000_000, unix_secs: (NOW_MS / 1000) as u32, ..Header::default() }
}

fn record(i: u32) -> FlowRecord {
    FlowRecord {
        src_addr: 0x0a00_0000 + i,
        dst_addr: 0xc633_6400 + i,
        next_hop: 0x0a0a_0a0a,
        input_if: 3,
        output_if: 4,
        packets: 2 + i,
        bytes: 100 * (2 + i),
        first_ms: 900_000 + i,
        last_ms: 950_000 + i,
        src_port: 1024 + i as u16,
        dst_port: 443,
        tcp_flags: 0x1b,
        protocol: 6,
        tos: 8,
        src_as: 64512,
        dst_as: 15169,
        src_mask: 24,
        dst_mask: 19,
    }
}

/// What the row must hold, told field by field from the record.
fn expected(version: u16, header: &Header, record: &FlowRecord, rate: u64) -> Vec<(Field, Value)> {
    let number = |n: u64| Value::Number(n);
    let time =
        |uptime: u32| Value::TimeMs(header.clock_ms() - i64::from(header.sys_uptime_ms.wrapping_sub(uptime) as i32));
    let carried = |n: u64| if version == 1 { Value::Null } else { number(n) };
    vec![
        (Field::Time, time(record.last_ms)),
        (Field::FlowStart, time(record.first_ms)),
        (Field::ReceivedAt, Value::TimeMs(NOW_MS)),
        (Field::ExporterIp, Value::Ip(IpAddr::from(EXPORTER).into())),
        (Field::SrcIp, Value::Ip(Addr::v4(record.src_addr))),
        (Field::DstIp, Value::Ip(Addr::v4(record.dst_addr))),
        (Field::NextHop, Value::Ip(Addr::v4(record.next_hop))),
        (Field::SrcPort, number(record.src_port.into())),
        (Field::DstPort, number(record.dst_port.into())),
        (Field::Protocol, number(record.protocol.into())),
        (Field::Bytes, number(u64::from(record.bytes) * rate)),
        (Field::Packets, number(u64::from(record.packets) * rate)),
        (Field::TcpFlags, number(record.tcp_flags.into())),
        (Field::Tos, number(record.tos.into())),
        (Field::InputIf, number(record.input_if.into())),
        (Field::OutputIf, number(record.output_if.into())),
        (Field::SrcAs, carried(record.src_as.into())),
        (Field::DstAs, carried(record.dst_as.into())),
        (Field::SrcMask, carried(record.src_mask.into())),
        (Field::DstMask, carried(record.dst_mask.into())),
        (Field::SamplingRate, number(rate)),
        (Field::NetflowVersion, number(version.into())),
        (Field::VlanId, Value::Null),
        (Field::SubscriberId, Value::Null),
        (Field::NatSrcIp, Value::Null),
    ]
}

#[test]
fn every_field_of_every_version_reaches_its_column_even_when_mixed() {
    let mut bench = Bench::new(&Config::default());
    let mut want = Vec::new();
    for (n, version) in [1u16, 5, 7, 5, 1].into_iter().enumerate() {
        let records: Vec<_> = (0..n as u32 + 1).map(|i| record(i * 7 + n as u32)).collect();
        bench.push(&wire::datagram(&header(version), &records));
        want.extend(records.iter().map(|record| expected(version, &header(version), record, 1)));
    }
    let batch = bench.decode();
    assert_eq!(batch.len(), want.len());
    for (row, want) in want.iter().enumerate() {
        for (field, value) in want {
            assert_eq!(&batch.value(*field, row), value, "row {row}, {}", field.name());
        }
    }
    let progress: Vec<_> = batch.streams.iter().map(|s| (s.version, s.datagrams, s.flows)).collect();
    assert_eq!(progress, [(1, 2, 6), (5, 2, 6), (7, 1, 3)]);
    assert_eq!(batch.sources.iter().map(|run| run.rows).sum::<u32>(), 15);
    assert_eq!(bench.count("logged_flows"), 15);
}

#[test]
fn bytes_and_packets_are_scaled_by_the_low_14_bits() {
    let mut bench = Bench::new(&Config::default());
    bench.push(&wire::datagram(&Header { sampling: 0xc000 | 100, ..header(5) }, &[record(0)]));
    bench.push(&wire::datagram(&Header { sampling: 0x4000, sequence: 1, ..header(5) }, &[record(1)]));
    let batch = bench.decode();
    assert_eq!(batch.bytes.values(), [20_000, 300]);
    assert_eq!(batch.packets.values(), [200, 3]);
    assert_eq!(batch.sampling_rate.values(), [100, 1]);
    assert_eq!((bench.count("sampling_missing"), bench.count("bytes"), bench.count("packets")), (1, 20_300, 203));
}

#[test]
fn a_configured_rate_stands_in_for_a_missing_one_and_an_override_wins() {
    for (default, over, want) in [(Some(10), None, [1000, 2000]), (Some(10), Some(7), [1400, 1400])] {
        let exporter = ExporterConfig {
            address: EXPORTER.into(),
            sampling_default: default,
            sampling_override: over,
            count_input_if: vec![],
            count_output_if: vec![],
        };
        let mut bench = Bench::new(&Config { exporters: vec![exporter], ..Config::default() });
        bench.push(&wire::datagram(&Header { sampling: 5, ..header(5) }, &[record(0)]));
        bench.push(&wire::datagram(&Header { sequence: 1, ..header(5) }, &[record(0)]));
        assert_eq!(bench.decode().bytes.values(), want);
        assert_eq!(bench.count("sampling_missing"), 0);
    }
}

#[test]
fn absurd_records_are_set_aside_with_their_bytes_and_the_others_stay() {
    let mut bench = Bench::new(&Config::default());
    let absurd = [
        FlowRecord { packets: 0, ..record(1) },
        FlowRecord { bytes: 19, packets: 1, ..record(2) },
        FlowRecord { bytes: 70_000, packets: 1, ..record(3) },
        FlowRecord { first_ms: 960_000, last_ms: 950_000, ..record(4) },
    ];
    bench.push(&wire::datagram(
        &header(5),
        &[record(0), absurd[0], record(1), absurd[1], absurd[2], absurd[3], record(2)],
    ));
    bench.push(&wire::datagram(&Header { sequence: 7, ..header(5) }, &[record(3)]));
    let batch = bench.decode();
    let want: Vec<_> = [0, 1, 2, 3].map(|i| Addr::v4(record(i).src_addr)).into();
    assert_eq!((0..batch.len()).map(|row| batch.src_ip.get(row).unwrap()).collect::<Vec<_>>(), want);
    assert_eq!((batch.streams[0].flows, batch.sources[0].rows), (4, 4));
    let kept = bench.quarantine.list();
    let reasons: Vec<_> = kept.iter().map(|aside| aside.why).collect();
    use Absurdity::*;
    assert_eq!(reasons, [BytesWithoutPackets, PacketsTooSmall, PacketsTooLarge, EndsBeforeStart]);
    for (aside, record) in kept.iter().zip(absurd) {
        assert_eq!(FlowRecord::parse(5, aside.record()), Some(record));
        assert_eq!((aside.exporter, aside.source_port), (IpAddr::from(EXPORTER).into(), 7));
    }
    assert_eq!((bench.count("absurd_flows"), bench.count("logged_flows"), bench.count("flows")), (4, 4, 8));
}

#[test]
fn second_views_are_left_out_and_counted() {
    let exporter = ExporterConfig {
        address: EXPORTER.into(),
        sampling_default: None,
        sampling_override: None,
        count_input_if: vec![3],
        count_output_if: vec![9],
    };
    let mut bench = Bench::new(&Config { exporters: vec![exporter], ..Config::default() });
    let interfaces = [(3, 4), (4, 3), (8, 9), (9, 8), (3, 9)];
    let records = interfaces.map(|(input_if, output_if)| FlowRecord { input_if, output_if, ..record(0) });
    bench.push(&wire::datagram(&header(5), &records));
    let batch = bench.decode();
    assert_eq!(batch.input_if.values(), [3, 8, 3]);
    assert_eq!((bench.count("second_view_flows"), bench.count("bytes")), (2, 600));
}

#[test]
fn a_wrong_header_clock_is_replaced_and_shown() {
    let mut bench = Bench::new(&Config::default());
    let year_ms = 365 * 86_400_000;
    let off = Header { unix_secs: ((NOW_MS - year_ms) / 1000) as u32, ..header(5) };
    bench.push(&wire::datagram(&off, &[record(0)]));
    let batch = bench.decode();
    assert_eq!((batch.time.values(), batch.flow_start.values()), (&[NOW_MS - 50_000][..], &[NOW_MS - 100_000][..]));
    assert_eq!(bench.count("clock_replaced"), 1);
    assert_eq!(bench.ledger.account(EXPORTER.into()).clock_skew_ms.get(), -year_ms);
}

#[test]
fn a_warm_decoder_gives_the_same_as_a_cold_one() {
    let mut bench = Bench::new(&Config::default());
    bench.push(&wire::datagram(&header(5), &[record(0), FlowRecord { packets: 0, ..record(1) }, record(2)]));
    let cold = format!("{:?}", bench.decode());
    assert_eq!(format!("{:?}", bench.decode()), cold);
}

proptest! {
    #[test]
    fn any_records_are_decoded_as_the_plain_parser_reads_them(
        datagrams in prop::collection::vec((prop_oneof![Just(1u16), Just(5), Just(7)], any::<[u8; 22]>(), prop::collection::vec(any::<u8>(), 0..600)), 0..12),
    ) {
        let mut bench = Bench::new(&Config::default());
        let mut want = Vec::new();
        for (version, head, body) in &datagrams {
            let mut bytes = version.to_be_bytes().to_vec();
            bytes.extend(head);
            bytes.extend(body);
            bytes[2] = 0;
            bench.push(&bytes);
            let header = Header::parse(&bytes).unwrap();
            let (header_bytes, record_bytes) = wire::lengths(*version).unwrap();
            let records = bytes[header_bytes..].chunks_exact(record_bytes).take(header.count.into());
            for record in records.map(|bytes| FlowRecord::parse(*version, bytes).unwrap()) {
                let (start, end) = (record.first_ms, record.last_ms);
                let (bytes, packets) = (u64::from(record.bytes), u64::from(record.packets));
                if quarantine::absurdity(start.into(), end.into(), bytes, packets).is_none() {
                    let rate = u64::from(header.sampling_interval().max(1));
                    let scaled = Value::Number(bytes * if *version == 5 { rate } else { 1 });
                    want.push((Value::Ip(Addr::v4(record.src_addr)), Value::Number(record.dst_port.into()), scaled));
                }
            }
        }
        bench.decode();
        let batch = &bench.batch;
        let got: Vec<_> = (0..batch.len())
            .map(|row| (batch.value(Field::SrcIp, row), batch.value(Field::DstPort, row), batch.value(Field::Bytes, row)))
            .collect();
        prop_assert_eq!(got, want);
        prop_assert!((0..batch.len()).all(|row| batch.flow_start.get(row) <= batch.time.get(row)));
        let left = ["torn_flows", "absurd_flows", "second_view_flows", "logged_flows"];
        prop_assert_eq!(bench.count("flows"), left.iter().map(|name| bench.count(name)).sum::<u64>());
    }
}
