//! The totals equal what the datagrams hold, decoded back by the layout of the protocol's documents alone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};

use clap::Parser;

use super::*;
use crate::flow::Direction;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    options: Options,
}

fn options(arguments: &[&str]) -> Options {
    Command::try_parse_from([&["generate"], arguments].concat()).unwrap_or_else(|e| panic!("{e}")).options
}

/// What datagrams hold, read byte by byte.
#[derive(Default)]
struct Seen {
    sums: Sums,
    datagrams: u64,
    directions: BTreeMap<&'static str, Sums>,
    sources: BTreeMap<Ipv4Addr, Sums>,
    sequences: BTreeMap<Ipv4Addr, Vec<(u32, u32)>>,
    starts_ms: BTreeMap<Ipv4Addr, Vec<i64>>,
    sampling: u64,
}

impl Seen {
    fn take(&mut self, exporter: Ipv4Addr, bytes: &[u8]) {
        let u16_at = |at: usize| u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let count = u16_at(2);
        assert_eq!((u16_at(0), bytes.len()), (5, 24 + 48 * count as usize));
        self.datagrams += 1;
        self.sequences.entry(exporter).or_default().push((u32_at(16), count));
        let (uptime, clock_ms) = (u32_at(4), i64::from(u32_at(8)) * 1000 + i64::from(u32_at(12) / 1_000_000));
        self.starts_ms.entry(exporter).or_default().push(clock_ms - i64::from(uptime));
        let scale = u64::from(u16_at(22) & 0x3fff).max(1);
        self.sampling = scale;
        for at in (24..bytes.len()).step_by(48) {
            let (src, dst) = (Ipv4Addr::from(u32_at(at)), Ipv4Addr::from(u32_at(at + 4)));
            let (packets, octets) = (u64::from(u32_at(at + 16)) * scale, u64::from(u32_at(at + 20)) * scale);
            let (first_age, last_age) = (uptime.wrapping_sub(u32_at(at + 24)), uptime.wrapping_sub(u32_at(at + 28)));
            assert!(last_age <= first_age && first_age <= 915_000 && last_age < 15_000, "{first_age} {last_age}");
            let direction = match (src.octets()[0] == 10, dst.octets()[0] == 10) {
                (true, true) => "internal",
                (true, false) => "out",
                (false, true) => "in",
                (false, false) => "transit",
            };
            self.sums.add(octets, packets, 1);
            self.directions.entry(direction).or_default().add(octets, packets, 1);
            self.sources.entry(src).or_default().add(octets, packets, 1);
        }
    }

    fn assert_equals(&self, totals: &Totals) {
        assert_eq!((self.sums, self.datagrams), (totals.sums, totals.datagrams));
        assert_eq!((&self.directions, &self.sources), (&totals.by_direction, &totals.sources));
        assert_eq!(totals.datagram_bytes, self.datagrams * 24 + self.sums.flows * 48);
        let mut top: Vec<_> = self.sources.iter().map(|(ip, s)| (std::cmp::Reverse(s.bytes), *ip)).collect();
        top.sort();
        let top: Vec<_> = top.into_iter().take(10).map(|(_, ip)| ip).collect();
        assert_eq!(totals.top_sources.iter().map(|s| s.src_ip).collect::<Vec<_>>(), top);
        for sequences in self.sequences.values() {
            let follow = |pair: &[(u32, u32)]| pair[0].0.wrapping_add(pair[0].1) == pair[1].0;
            assert!(sequences.windows(2).all(follow), "sequence numbers follow each other");
        }
        for starts in self.starts_ms.values() {
            assert!(starts.windows(2).all(|pair| pair[0] == pair[1]), "the exporter's start never moves");
        }
    }
}

#[test]
fn totals_equal_what_arrives_on_a_socket() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let to = receiver.local_addr().unwrap().to_string();
    let options = options(&["--to", &to, "--rate", "20000", "--duration", "250ms", "--sampling", "10"]);
    let reader = std::thread::spawn(move || {
        let (mut seen, mut buffer) = (Seen::default(), [0u8; 2048]);
        while seen.sums.flows < 5000 {
            let (length, from) = receiver.recv_from(&mut buffer).unwrap();
            let IpAddr::V4(exporter) = from.ip() else { panic!("{from}") };
            seen.take(exporter, &buffer[..length]);
        }
        seen
    });
    let totals = generate(&options).unwrap();
    let seen = reader.join().unwrap();
    assert_eq!(totals.sums.flows, 5000);
    seen.assert_equals(&totals);
    let exporters: Vec<String> = seen.sequences.keys().map(ToString::to_string).collect();
    assert_eq!(exporters, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    assert_eq!(totals.by_exporter.iter().map(|e| e.exporter.clone()).collect::<Vec<_>>(), exporters);
}

/// Many rounds of a small pool, batches cut by lost sends and by the count.
#[test]
fn totals_stay_exact_over_rounds_and_partial_sends() {
    let mut source =
        Source::new(&Plan { flows: Some(500), exporters: 2, start_sequence: u32::MAX - 100, ..Plan::default() });
    let (mut seen, mut prepared, mut rng) = (Seen::default(), Vec::new(), Rng::new(5, 5));
    let names = ["127.0.0.1".to_owned(), "127.0.0.2".to_owned()];
    let mut now = 1_800_000_000_123;
    for round in 0..400 {
        now += i64::from(rng.below(200_000));
        let exporter = round % 2;
        let pool = &mut source.pools[exporter];
        pool.prepare(now, 1 + rng.below(20) as usize, u64::from(rng.below(300)), &mut prepared);
        let sent = rng.below(prepared.len() as u32 + 1) as usize;
        for datagram in &prepared[..sent] {
            seen.take(names[exporter].parse().unwrap(), pool.bytes(datagram));
        }
        pool.sent(&prepared[..sent]);
    }
    let totals = source.totals(&names);
    assert!(totals.sums.flows > 10_000, "{}", totals.sums.flows);
    seen.assert_equals(&totals);
    let internal = totals.direction(Direction::Internal);
    assert!(internal.flows > 0 && totals.top_subscribers.len() == 10);
}

#[test]
fn the_same_seed_sends_the_same_bytes() {
    let first = |seed| {
        let mut source = Source::new(&Plan { seed, flows: Some(1000), ..Plan::default() });
        let mut prepared = Vec::new();
        source.pools[0].prepare(1_800_000_000_000, 8, 240, &mut prepared);
        prepared.iter().flat_map(|p| source.pools[0].bytes(p).to_vec()).collect::<Vec<u8>>()
    };
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
    assert_eq!(first(1).len(), 8 * (24 + 30 * 48));
}

#[test]
fn flows_follow_from_rate_duration_and_count() {
    assert_eq!(options(&["--rate", "1000", "--duration", "10s"]).flows(), Some(10_000));
    assert_eq!(options(&["--rate", "1000", "--duration", "10s", "--count", "7"]).flows(), Some(7));
    assert_eq!(options(&["--rate", "0", "--duration", "10s"]).flows(), None);
    assert_eq!(options(&["--count", "31"]).flows(), Some(31));
}

#[test]
fn a_target_where_nobody_listens_is_counted_and_ends() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let totals = generate(&options(&["--to", &free, "--rate", "0", "--count", "3000", "--exporters", "1"])).unwrap();
    assert_eq!(totals.sums.flows, 3000);
    assert!(totals.refused > 0);
}

#[test]
fn text_and_json_carry_the_totals() {
    let mut source = Source::new(&Plan { flows: Some(90), exporters: 1, ..Plan::default() });
    let mut prepared = Vec::new();
    source.pools[0].prepare(now_ms(), 3, 90, &mut prepared);
    source.pools[0].sent(&prepared);
    let totals = source.totals(&["127.0.0.1".to_owned()]);
    let json = serde_json::to_value(&totals).unwrap();
    assert_eq!(json["flows"], 90);
    assert_eq!(json["bytes"], totals.sums.bytes);
    assert!(json["by_direction"]["out"]["flows"].as_u64().is_some());
    assert!(totals.text().contains("sent 90 flows in 3 datagrams (4392 bytes)"), "{}", totals.text());
}
