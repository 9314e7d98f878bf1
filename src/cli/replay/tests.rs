use std::net::{IpAddr, UdpSocket};

use etherparse::PacketBuilder;

use super::*;
use crate::wire::{Builder, FlowRecord, Header};

const EXPORTER: [u8; 4] = [192, 0, 2, 7];
const TIME_S: u32 = 1_700_000_000;

fn export(sequence: u32) -> Vec<u8> {
    let mut bytes = vec![0; 72];
    let header = Header { version: 5, unix_secs: TIME_S, sequence, ..Header::default() };
    let mut builder = Builder::new(&mut bytes, &header).unwrap();
    assert!(builder.push(&FlowRecord { bytes: 100, packets: 1, ..FlowRecord::default() }));
    builder.finish();
    bytes
}

fn ip_frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    PacketBuilder::ipv4(EXPORTER, [192, 0, 2, 1], 64).udp(5000, 2055).write(&mut out, payload).unwrap();
    out
}

fn ethernet_frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).single_vlan(5.try_into().unwrap());
    builder.ipv4(EXPORTER, [192, 0, 2, 1], 64).udp(5000, 2055).write(&mut out, payload).unwrap();
    out
}

/// A pcap file; times count 10 ms from [`TIME_S`].
fn pcap(link: u32, nanoseconds: bool, frames: &[Vec<u8>]) -> Vec<u8> {
    let magic: u32 = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut out = Vec::new();
    for word in [magic, 0x0004_0002, 0, 0, 65_535, link] {
        out.extend(word.to_le_bytes());
    }
    for (i, frame) in frames.iter().enumerate() {
        let ticks = i as u32 * if nanoseconds { 10_000_000 } else { 10_000 };
        for word in [TIME_S, ticks, frame.len() as u32, frame.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(frame);
    }
    out
}

/// A pcapng file of one interface with times in ms.
fn pcapng(link: u16, frames: &[Vec<u8>]) -> Vec<u8> {
    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let length = (12 + body.len()) as u32;
        [&kind.to_le_bytes()[..], &length.to_le_bytes(), body, &length.to_le_bytes()].concat()
    }
    let section = [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255];
    // Option 9, if_tsresol: 10^-3; then the end of options.
    let interface = [&link.to_le_bytes()[..], &[0, 0, 255, 255, 0, 0], &[9, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0]].concat();
    let mut out = [block(0x0a0d_0d0a, &section), block(1, &interface)].concat();
    for (i, frame) in frames.iter().enumerate() {
        let ms = u64::from(TIME_S) * 1000 + i as u64 * 10;
        let mut body = Vec::new();
        for word in [0, (ms >> 32) as u32, ms as u32, frame.len() as u32, frame.len() as u32] {
            body.extend(word.to_le_bytes());
        }
        body.extend(frame);
        body.resize(body.len().next_multiple_of(4), 0);
        out.extend(block(6, &body));
    }
    out
}

fn read_all(file: &[u8]) -> (Vec<(i64, IpAddr, Vec<u8>)>, Skipped) {
    let mut all = Vec::new();
    let skipped = read(file, &mut |datagram, _| {
        assert_eq!((datagram.from.1, datagram.to_port), (5000, 2055));
        all.push((datagram.time_ns, datagram.from.0, datagram.payload.to_vec()));
        true
    });
    (all, skipped.unwrap())
}

#[test]
fn datagrams_come_out_of_every_link_type_and_format() {
    let payloads = [export(0), export(1), export(2)];
    let with = |prefix: &[u8], frame: fn(&[u8]) -> Vec<u8>| -> Vec<Vec<u8>> {
        payloads.iter().map(|payload| [prefix, &frame(payload)].concat()).collect()
    };
    let cooked = [[0; 14].as_slice(), &[8, 0]].concat();
    let cooked2 = [[8, 0].as_slice(), &[0; 18]].concat();
    let files = [
        pcap(1, false, &with(&[], ethernet_frame)),
        pcap(1, true, &with(&[], ethernet_frame)),
        pcap(101, false, &with(&[], ip_frame)),
        pcap(0, false, &with(&[2, 0, 0, 0], ip_frame)),
        pcap(113, false, &with(&cooked, ip_frame)),
        pcap(276, false, &with(&cooked2, ip_frame)),
        pcapng(1, &with(&[], ethernet_frame)),
    ];
    for (i, file) in files.iter().enumerate() {
        let (all, skipped) = read_all(file);
        let start_ns = i64::from(TIME_S) * 1_000_000_000;
        let want = payloads
            .iter()
            .enumerate()
            .map(|(n, payload)| (start_ns + n as i64 * 10_000_000, IpAddr::from(EXPORTER), payload.clone()));
        assert_eq!(all, want.collect::<Vec<_>>(), "file {i}");
        assert_eq!(skipped, Skipped::default(), "file {i}");
    }
}

#[test]
fn what_is_no_whole_datagram_is_counted() {
    let whole = ip_frame(&export(0));
    let cut = whole[..60].to_vec();
    let mut fragment = whole.clone();
    fragment[6] = 0x20;
    let (all, skipped) = read_all(&pcap(101, false, &[whole.clone(), cut, fragment, vec![0xff; 40]]));
    assert_eq!((all.len(), skipped), (1, Skipped { other: 1, fragments: 1, cut: 1, unknown_link: 0 }));
    assert_eq!(read_all(&pcap(147, false, &[whole])).1.unknown_link, 1);
}

#[test]
fn a_file_cut_anywhere_or_of_another_kind_is_no_panic() {
    let file = pcapng(101, &[ip_frame(&export(0)), ip_frame(&export(1))]);
    for length in 0..file.len() {
        let read = read(&file[..length], &mut |_, _| true);
        assert!(read.is_ok() || length < 40, "{length}: {read:?}");
    }
    let error = read(&b"PK\x03\x04 this is a zip file, not a capture"[..], &mut |_, _| true).unwrap_err();
    assert!(error.to_string().contains("neither pcap nor pcapng"), "{error}");
}

#[test]
fn a_replay_keeps_bytes_and_time_and_moves_the_clock_on_wish() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pcap");
    let frames = [ip_frame(&export(0)), ip_frame(b"no flow export, long enough"), ip_frame(&export(1))];
    std::fs::write(&file, pcap(101, false, &frames)).unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut options = Options {
        file,
        to: receiver.local_addr().unwrap(),
        into: None,
        token: None,
        speed: 1.0,
        shift_to_now: false,
        port: None,
    };
    let started = Instant::now();
    let replayed = replay(&options).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(20), "the third frame was captured 20 ms after the first");
    assert_eq!((replayed.datagrams, replayed.left_out), (2, 1));
    assert_eq!(replayed.sources[0].0, IpAddr::from(EXPORTER));
    let mut buffer = [0; 100];
    for sequence in 0..2 {
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], export(sequence));
    }

    options.shift_to_now = true;
    options.speed = 0.0;
    let before_ms = now_ms();
    replay(&options).unwrap();
    let length = receiver.recv(&mut buffer).unwrap();
    let moved = Header::parse(&buffer[..length]).unwrap().clock_ms();
    assert!((before_ms..=now_ms()).contains(&moved), "{moved}");
}

#[test]
fn a_missing_file_is_one_clear_line() {
    let options = Options {
        file: "/nowhere/x.pcap".into(),
        to: "127.0.0.1:9".parse().unwrap(),
        into: None,
        token: None,
        speed: 1.0,
        shift_to_now: false,
        port: None,
    };
    let failure = replay(&options).unwrap_err().to_string();
    assert!(failure.starts_with("cannot read /nowhere/x.pcap: "), "{failure}");
}
