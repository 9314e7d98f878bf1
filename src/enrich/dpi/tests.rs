use std::io::Write as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::source::{DpiSource, Place};
use super::*;
use crate::enrich::{Config, Enricher, Enrichment};
use crate::flow::FlowBatch;

/// Events in the form that Suricata's manual shows, 10.0.0.5 port 50000 and up.
const FLOW: &str = r#"{"timestamp":"2026-01-31T11:59:58.123456+0000","flow_id":1234567890123,"in_iface":"eth0","event_type":"flow","src_ip":"10.0.0.5","src_port":50000,"dest_ip":"203.0.113.9","dest_port":40000,"proto":"TCP","app_proto":"bittorrent-dht","flow":{"pkts_toserver":5,"pkts_toclient":4,"bytes_toserver":500,"bytes_toclient":400,"start":"2026-01-31T11:50:00.000000+0000","end":"2026-01-31T11:59:00.000000+0000","age":540,"state":"closed","reason":"timeout","alerted":false},"community_id":"1:abc=","tcp":{"tcp_flags":"1b","syn":true}}"#;
const TLS: &str = r#"{"timestamp":"2026-01-31T12:00:00.000000+0100","flow_id":2,"event_type":"tls","src_ip":"2001:db8::5","src_port":50001,"dest_ip":"2001:db8:1::9","dest_port":40001,"proto":"TCP","tls":{"subject":"CN=\"x\"","sni":"example.com","version":"TLS 1.3"}}"#;
const OWN_NAME: &str = r#"{"timestamp":"2026-01-31T12:00:00.000000+0000","event_type":"flow","src_ip":"10.0.0.5","src_port":50002,"dest_ip":"203.0.113.9","dest_port":40002,"proto":"UDP","app_proto":"newproto"}"#;
const FAILED: &str = r#"{"timestamp":"2026-01-31T12:00:00.000000+0000","event_type":"flow","src_ip":"10.0.0.5","src_port":50003,"dest_ip":"203.0.113.9","dest_port":40003,"proto":"TCP","app_proto":"failed"}"#;
const STATS: &str = r#"{"timestamp":"2026-01-31T12:00:00.000000+0000","event_type":"stats","stats":{"uptime":1}}"#;

/// 2026-01-31T12:00:00Z.
const NOON_MS: i64 = 1_769_860_800_000;
const MINUTE_MS: i64 = 60_000;

fn enrichment() -> Arc<Enrichment> {
    Arc::new(Enrichment::builtin(Config { geoip: Default::default(), ..Config::default() }).unwrap())
}

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

/// Source, destination, ports, protocol, start, end.
type Flow = (&'static str, &'static str, (u16, u16), u8, i64, i64);

/// Application and category of flows.
fn named(enrichment: &Arc<Enrichment>, flows: &[Flow]) -> Vec<(String, String)> {
    let mut batch = FlowBatch::default();
    for (src, dst, ports, protocol, start_ms, end_ms) in flows {
        batch.time.push(Some(*end_ms));
        batch.flow_start.push(Some(*start_ms));
        batch.src_ip.push(Some(addr(src)));
        batch.dst_ip.push(Some(addr(dst)));
        batch.src_port.push(Some(ports.0));
        batch.dst_port.push(Some(ports.1));
        batch.protocol.push(Some(*protocol));
        batch.exporter_ip.push(Some(&addr("192.0.2.1")));
        batch.netflow_version.push(Some(5));
    }
    batch.fill_missing();
    Enricher::new(enrichment.clone()).enrich(&mut batch);
    let text = |value: Option<&Arc<str>>| value.map_or(String::new(), |text| text.to_string());
    (0..flows.len()).map(|row| (text(batch.app.get(row)), text(batch.app_category.get(row)))).collect()
}

fn pair(name: &str, category: &str) -> (String, String) {
    (name.to_owned(), category.to_owned())
}

#[test]
fn flows_are_named_by_events_of_their_conversation_and_time_where_ports_cannot() {
    let enrichment = enrichment();
    for event in [FLOW, TLS, OWN_NAME, FAILED, STATS, "{", "[]", r#"{"event_type":"flow"}"#, " "] {
        enrichment.dpi().take(enrichment.names(), event.as_bytes());
    }
    let dpi = enrichment.dpi();
    assert_eq!((dpi.used.get(), dpi.other.get(), dpi.malformed.get(), dpi.cache.len()), (3, 2, 3, 3));
    let (a, b) = ("10.0.0.5", "203.0.113.9");
    let (begin, end) = (NOON_MS - 10 * MINUTE_MS, NOON_MS - MINUTE_MS);
    let eleven = NOON_MS - 60 * MINUTE_MS;
    let (a6, b6) = ("2001:db8::5", "2001:db8:1::9");
    let flows: Vec<(Flow, (String, String))> = vec![
        // Both directions; an export of a part of it.
        ((a, b, (50_000, 40_000), 6, begin, end), pair("BitTorrent", "torrent")),
        ((b, a, (40_000, 50_000), 6, begin + MINUTE_MS, begin + 2 * MINUTE_MS), pair("BitTorrent", "torrent")),
        // Clocks that differ by less than a minute.
        ((a, b, (50_000, 40_000), 6, end + 59_000, end + MINUTE_MS), pair("BitTorrent", "torrent")),
        // Another time, another protocol, another port.
        ((a, b, (50_000, 40_000), 6, end + 61_000, end + 2 * MINUTE_MS), pair("", "")),
        ((a, b, (50_000, 40_000), 17, begin, end), pair("", "")),
        ((a, b, (50_000, 40_001), 6, begin, end), pair("", "")),
        // The event of a connection that goes on holds for an hour.
        ((a6, b6, (50_001, 40_001), 6, eleven, eleven + 50 * MINUTE_MS), pair("TLS", "web")),
        ((a6, b6, (50_001, 40_001), 6, eleven + 62 * MINUTE_MS, eleven + 63 * MINUTE_MS), pair("", "")),
        ((a, b, (50_002, 40_002), 17, NOON_MS, NOON_MS), pair("NEWPROTO", "")),
        ((a, b, (50_003, 40_003), 6, NOON_MS, NOON_MS), pair("", "")),
        // A port that is known stays what it is.
        ((a, b, (50_000, 443), 6, begin, end), pair("HTTPS", "web")),
    ];
    let rows: Vec<Flow> = flows.iter().map(|flow| flow.0).collect();
    let want: Vec<_> = flows.into_iter().map(|flow| flow.1).collect();
    assert_eq!(named(&enrichment, &rows), want);
    assert_eq!(dpi.hits.get(), 5);
}

#[test]
fn the_cache_keeps_its_bound_and_the_newest() {
    let bound = 1 << 20;
    let dpi = Dpi::new(bound);
    let tuple = |i: u32| Tuple::new((Addr::v4(i), 1), (Addr::v4(7), 2), 6);
    for i in 0..100_000 {
        dpi.cache.put(tuple(i), Verdict { from_ms: 0, to_ms: 0, app: App { name: i, category: 0 } });
        let newest = dpi.find(&tuple(i), 0, 0).map(|app| app.name);
        assert_eq!(newest, Some(i));
    }
    let held = dpi.cache.len() as u64;
    assert!(held * cache::ENTRY_BYTES <= bound && held * cache::ENTRY_BYTES > bound / 4, "{held}");
    assert_eq!(dpi.find(&tuple(0), 0, 0), None);
}

fn wait_for(dpi: &Dpi, used: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while dpi.used.get() < used {
        assert!(Instant::now() < deadline, "{} events instead of {used}", dpi.used.get());
        std::thread::yield_now();
    }
}

fn spawn(enrichment: &Arc<Enrichment>, place: &Place) -> DpiSource {
    DpiSource::spawn_every(enrichment.clone(), place, Duration::from_millis(2)).unwrap()
}

#[test]
fn a_file_that_comes_late_grows_rotates_and_is_cut_is_read_to_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eve.json");
    let enrichment = enrichment();
    let dpi = enrichment.dpi();
    let source = spawn(&enrichment, &Place::parse("eve.json", folder.path()));
    let mut file = std::fs::File::create(&path).unwrap();
    // A line in two halves.
    file.write_all(&FLOW.as_bytes()[..100]).unwrap();
    file.write_all(&FLOW.as_bytes()[100..]).unwrap();
    writeln!(file).unwrap();
    wait_for(dpi, 1);
    // Rotated by rename: what is written to the old file until Suricata opens the new one counts, too.
    std::fs::rename(&path, folder.path().join("eve.json.1")).unwrap();
    writeln!(file, "{TLS}").unwrap();
    drop(file);
    std::fs::write(&path, format!("{OWN_NAME}\n")).unwrap();
    wait_for(dpi, 3);
    // Cut and written anew (copytruncate), with an event that is too long before a good one.
    std::fs::write(&path, "").unwrap();
    let opened = dpi.reopened.get();
    let deadline = Instant::now() + Duration::from_secs(60);
    while dpi.reopened.get() == opened {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let long = format!("{{\"payload\":\"{}\"}}", "x".repeat(400 << 10));
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    write!(file, "{long}\n{FLOW}\n").unwrap();
    wait_for(dpi, 4);
    assert_eq!((dpi.malformed.get(), dpi.too_long.get()), (0, 1));
    drop(source);
}

#[test]
fn events_come_over_sockets_of_both_kinds_and_leftover_sockets_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let enrichment = enrichment();
    let dpi = enrichment.dpi();
    let path = folder.path().join("eve.sock");
    for round in 0..2 {
        // Left over by a run that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let source = spawn(&enrichment, &Place::parse("unix_stream:eve.sock", folder.path()));
        assert!(DpiSource::spawn(enrichment.clone(), &Place::Stream(path.clone())).is_err(), "one reader a socket");
        for _ in 0..2 {
            let mut stream = UnixStream::connect(&path).unwrap();
            writeln!(stream, "{FLOW}\n{TLS}").unwrap();
        }
        wait_for(dpi, round * 5 + 4);
        drop(source);
        assert!(!path.exists());
        let source = spawn(&enrichment, &Place::parse("unix_dgram:eve.sock", folder.path()));
        UnixDatagram::unbound().unwrap().send_to(OWN_NAME.as_bytes(), &path).unwrap();
        wait_for(dpi, round * 5 + 5);
        drop(source);
        assert!(!path.exists());
    }
}
