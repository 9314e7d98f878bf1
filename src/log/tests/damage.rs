//! What damage to the files may and may not do.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::log::fixture::tiny_flows_of;
use crate::log::record::{RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES};

/// Records of the small log, two in each segment, with `position + 1` flows each.
const RECORDS: u64 = 4;

/// A record in a file: position, first byte, byte after the last.
type Extent = (u64, usize, usize);

struct SmallLog {
    _dir: tempfile::TempDir,
    config: Config,
    /// Each segment with its content and its records.
    segments: Vec<(PathBuf, Vec<u8>, Vec<Extent>)>,
    cursors: Vec<u8>,
}

fn flows_at(position: u64) -> u64 {
    position + 1
}

fn small_log() -> SmallLog {
    let dir = folder();
    let config = Config { segment_bytes: 300, ..config(dir.path()) };
    let log = open(&config);
    oldest(&log, "a");
    for n in 1..=RECORDS {
        log.append(tiny_flows_of(n, flows_at(n) as usize)).unwrap();
    }
    drop(log);
    let mut paths: Vec<_> = std::fs::read_dir(&config.dir).unwrap().map(|f| f.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "seg"));
    paths.sort();
    let segments: Vec<_> = paths
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let mut records = Vec::new();
            let mut at = SEGMENT_HEADER_BYTES;
            while at < bytes.len() {
                let header: &[u8; RECORD_HEADER_BYTES] = bytes[at..at + RECORD_HEADER_BYTES].try_into().unwrap();
                let header = RecordHeader::from_bytes(header).unwrap();
                records.push((header.position, at, at + header.record_bytes() as usize));
                at += header.record_bytes() as usize;
            }
            (path, bytes, records)
        })
        .collect();
    assert_eq!(segments.iter().map(|(_, _, records)| records.len()).collect::<Vec<_>>(), [2, 2]);
    let cursors = std::fs::read(config.dir.join(cursors::FILE)).unwrap();
    SmallLog { _dir: dir, config, segments, cursors }
}

impl SmallLog {
    /// Puts the damaged content in place of one segment, everything else as it was.
    fn damage(&self, segment: usize, content: &[u8]) {
        for entry in std::fs::read_dir(&self.config.dir).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains(".seg") {
                std::fs::remove_file(path).unwrap();
            }
        }
        for (i, (path, bytes, _)) in self.segments.iter().enumerate() {
            std::fs::write(path, if i == segment { content } else { bytes }).unwrap();
        }
        std::fs::write(self.config.dir.join(cursors::FILE), &self.cursors).unwrap();
    }

    /// Opens it and checks that exactly `whole` comes out, that flows in between are counted, and that it goes on. Only a
    /// log that ends at the border of a record need not show damage.
    fn check(&self, whole: &[u64], at_border: bool, case: &str) {
        let log = open(&self.config);
        let mut a = oldest(&log, "a");
        let want: Vec<_> = whole.iter().map(|n| (*n, *n)).collect();
        assert_eq!(drain(&mut a), want, "{case}");
        let last = whole.last().copied().unwrap_or(0);
        let lost: u64 = (1..=last).filter(|n| !whole.contains(n)).map(flows_at).sum();
        let counted: u64 = lost_flows(&log, "a").iter().map(|(_, n)| n).sum();
        assert_eq!(counted, lost, "{case}");
        let counters = log.counters();
        let seen = counters.torn_bytes.get() + counters.corrupt_bytes.get() + counters.refused_files.get();
        assert!(seen + counted > 0 || at_border, "{case}: nothing counted");
        let position = log.append(flows_of(99, 1)).unwrap();
        assert_eq!(position, RECORDS + 1, "{case}: positions are never given twice");
        assert_eq!(drain(&mut a), [(position, 99)], "{case}");
    }
}

#[test]
fn a_log_cut_at_any_byte_gives_every_record_that_is_whole() {
    let log = small_log();
    for (segment, (_, bytes, records)) in log.segments.iter().enumerate() {
        for cut in 0..bytes.len() {
            log.damage(segment, &bytes[..cut]);
            let cut_off = records.iter().filter(|(_, _, end)| *end > cut).map(|(position, _, _)| *position);
            let cut_off: Vec<_> = cut_off.collect();
            let whole: Vec<_> = (1..=RECORDS).filter(|n| !cut_off.contains(n)).collect();
            let at_border = cut == SEGMENT_HEADER_BYTES || records.iter().any(|(_, _, end)| *end == cut);
            log.check(&whole, at_border, &format!("segment {segment} cut at {cut}"));
        }
    }
}

#[test]
fn a_log_flipped_at_any_byte_gives_every_record_but_that_one() {
    let log = small_log();
    for (segment, (_, bytes, records)) in log.segments.iter().enumerate() {
        for at in 0..bytes.len() {
            let mut content = bytes.clone();
            content[at] ^= 1 << (at % 8);
            log.damage(segment, &content);
            let hit = records.iter().find(|(_, start, end)| (*start..*end).contains(&at)).map(|(p, _, _)| *p);
            let whole: Vec<_> = (1..=RECORDS).filter(|n| Some(*n) != hit).collect();
            log.check(&whole, false, &format!("segment {segment} flipped at {at}"));
        }
    }
}

#[test]
fn bytes_put_in_between_are_passed_over() {
    let log = small_log();
    let (_, bytes, records) = &log.segments[0];
    for len in [1, 7, 40, 1000, 600_000] {
        let mut content = bytes[..records[1].1].to_vec();
        content.extend((0..len).map(|i| record::MARK[i % 3]));
        content.extend_from_slice(&bytes[records[1].1..]);
        log.damage(0, &content);
        log.check(&[1, 2, 3, 4], false, &format!("{len} bytes more"));
    }
}

#[test]
fn a_segment_that_is_gone_is_counted_and_one_of_another_log_is_moved_aside() {
    let log = small_log();
    log.damage(0, &[]);
    std::fs::remove_file(&log.segments[0].0).unwrap();
    let opened = open(&log.config);
    assert_eq!(drain(&mut oldest(&opened, "a")), [(3, 3), (4, 4)]);
    assert_eq!(lost_flows(&opened, "a"), [("damaged", flows_at(1) + flows_at(2))]);
    drop(opened);
    let other = small_log();
    log.damage(1, &other.segments[1].1);
    log.check(&[1, 2], false, "a segment of another log");
    let moved = std::fs::read_dir(&log.config.dir).unwrap().map(|f| f.unwrap().path());
    assert_eq!(moved.filter(|path| path.extension().is_some_and(|e| e == "bad")).count(), 1);
}

#[test]
fn a_segment_that_vanishes_under_an_open_log_is_a_counted_gap() {
    let log = small_log();
    let opened = open(&log.config);
    let mut a = oldest(&opened, "a");
    std::fs::remove_file(&log.segments[0].0).unwrap();
    assert_eq!(drain(&mut a), [(3, 3), (4, 4)]);
    assert_eq!(lost_flows(&opened, "a"), [("damaged", flows_at(1) + flows_at(2))]);
    assert_eq!(opened.counters().missing_segments.get(), 1);
}

#[test]
fn a_lost_id_is_found_again_in_the_segments() {
    let log = small_log();
    let id = OfflineLog::open(&log.config.dir).unwrap().id();
    for content in [&b""[..], b"zzz", b"\xff\xfe"] {
        std::fs::write(log.config.dir.join("log-id"), content).unwrap();
        let opened = open(&log.config);
        assert_eq!(opened.id(), id);
        assert_eq!(drain(&mut oldest(&opened, "b")).len() as u64, RECORDS);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_bytes_as_a_log_file_neither_panic_nor_stop_the_log(
        content in prop::collection::vec(any::<u8>(), 0..3000),
        keep in 0usize..700,
        marks in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let log = small_log();
        let (_, bytes, _) = &log.segments[1];
        let mut file = bytes[..keep.min(bytes.len())].to_vec();
        file.extend(content);
        for at in marks {
            let at = at.index(file.len() + 1);
            file.splice(at..at, record::MARK);
        }
        log.damage(1, &file);
        let report = verify(&log.config.dir).unwrap();
        let opened = open(&log.config);
        let got = drain(&mut oldest(&opened, "a"));
        prop_assert!(got.iter().all(|(position, seed)| position == seed), "a wrong record in {:?}", got);
        prop_assert!(got.len() >= 2);
        prop_assert_eq!(got.len() as u64, report.records);
        prop_assert!(opened.append(flows_of(7, 1)).unwrap() > RECORDS);
    }
}
