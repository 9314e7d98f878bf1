//! What is found in the log's folder at start: the id, the segments, the end; and what was damaged.
//!
//! Sealed segments are walked by their records' headers only, and checked byte by byte when that does not lead to where the
//! next segment begins; the last segment, which a crash may have torn, is always checked. Nothing is kept in memory but
//! one entry a segment.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::replace_file;
use super::record::{SEGMENT_HEADER_BYTES, SegmentHeader, seed};
use super::segment::{Segment, SegmentReader, Step, read_full};
use crate::flow::LogId;

const ID_FILE: &str = "log-id";
const SEGMENT_SUFFIX: &str = "seg";
/// Appended to the name of a file that is not a segment of this log.
const ASIDE_SUFFIX: &str = "bad";

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The log's id.
    pub id: LogId,
    /// Whether the log was there before: positions of it may have been given.
    pub known: bool,
    /// Segments by position.
    pub segments: VecDeque<Segment>,
    /// The lowest position that may be given next, by the segments alone.
    pub next: u64,
    /// The number of the next segment's file.
    pub next_serial: u64,
    /// What was damaged.
    pub damage: Damage,
}

/// What was damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes cut off the end of the last segment: records that a crash interrupted.
    pub torn_bytes: u64,
    /// Bytes in the middle that are no records.
    pub corrupt_bytes: u64,
    /// Files that are no segments of this log.
    pub refused_files: u64,
    /// Where the damage is: (segment's serial, offset).
    pub places: HashSet<(u64, u64)>,
}

/// Whether finding changes the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For writing: makes the id, cuts the torn tail, moves foreign files aside.
    Repair,
    /// For looking: changes nothing, checks every byte.
    Inspect,
}

/// The file of a segment.
pub fn segment_path(dir: &Path, serial: u64) -> PathBuf {
    dir.join(format!("{serial:016x}.{SEGMENT_SUFFIX}"))
}

/// Looks through the folder.
///
/// # Errors
/// The system's. Damaged content is no error.
pub fn find(dir: &Path, mode: Mode) -> io::Result<Found> {
    let files = segment_files(dir)?;
    let (id, known) = find_id(dir, &files, mode)?;
    let mut found = Found {
        id,
        known,
        segments: VecDeque::new(),
        next: 1,
        next_serial: files.last().map_or(1, |(serial, _)| serial + 1),
        damage: Damage::default(),
    };
    for (i, (serial, path)) in files.iter().enumerate() {
        let after = files.get(i + 1).and_then(|(_, path)| read_header(path).ok().flatten());
        let is_last = i + 1 == files.len();
        let after = after.filter(|_| mode == Mode::Repair);
        let Some(segment) = find_segment(*serial, path, id, after, is_last, &mut found.damage)? else {
            found.damage.refused_files += 1;
            tracing::warn!(file = %path.display(), "not a segment of this log, moved aside");
            if mode == Mode::Repair {
                let aside = path.with_extension(format!("{SEGMENT_SUFFIX}.{ASIDE_SUFFIX}"));
                std::fs::rename(path, aside)?;
            }
            continue;
        };
        if mode == Mode::Repair && is_last {
            cut_tail(&segment)?;
        }
        add(&mut found, segment, mode)?;
    }
    Ok(found)
}

fn add(found: &mut Found, mut segment: Segment, mode: Mode) -> io::Result<()> {
    found.next = found.next.max(segment.last + 1).max(segment.header.first);
    if let Some(before) = found.segments.back() {
        // A segment written again after a failed fsync may begin before the end of the one it stands for.
        segment.last = segment.last.max(before.last);
        segment.flows_after = segment.flows_after.max(before.flows_after);
        if before.records == 0 {
            if mode == Mode::Repair {
                std::fs::remove_file(&before.path)?;
            }
            found.segments.pop_back();
        }
    }
    found.segments.push_back(segment);
    Ok(())
}

/// Headers are trusted when they lead to where `after`, the next segment, begins.
fn find_segment(
    serial: u64,
    path: &Path,
    id: LogId,
    after: Option<SegmentHeader>,
    is_last: bool,
    damage: &mut Damage,
) -> io::Result<Option<Segment>> {
    let header = read_header(path)?;
    if header.is_some_and(|header| header.id != id) {
        return Ok(None);
    }
    if let (Some(after), Some(header)) = (after, header)
        && let Some(segment) = skim(serial, path, header, after)?
    {
        return Ok(Some(segment));
    }
    let mut local = Damage::default();
    let segment = read_all(serial, path, id, header, is_last, &mut local)?;
    if segment.is_some() {
        damage.torn_bytes += local.torn_bytes;
        damage.corrupt_bytes += local.corrupt_bytes;
        damage.places.extend(local.places);
    }
    Ok(segment)
}

/// Walks over the headers. `None` when they do not lead to `after`.
fn skim(serial: u64, path: &Path, header: SegmentHeader, after: SegmentHeader) -> io::Result<Option<Segment>> {
    let file = File::open(path)?;
    let end = file.metadata()?.len();
    let mut reader = SegmentReader::new(file, 0, seed(header.id));
    let mut segment = Segment::new(serial, path.to_owned(), header);
    while let Some((offset, record)) = reader.skim(end)? {
        if record.position <= segment.last {
            return Ok(None);
        }
        segment.add(record.position, record.flows_after(), offset, record.record_bytes());
    }
    let whole = segment.bytes == end && segment.last == after.previous && segment.flows_after == after.flows_before;
    Ok(whole.then_some(segment))
}

/// Checks every byte. `None` when neither the header nor any record is of this log.
fn read_all(
    serial: u64,
    path: &Path,
    id: LogId,
    header: Option<SegmentHeader>,
    is_last: bool,
    damage: &mut Damage,
) -> io::Result<Option<Segment>> {
    let file = File::open(path)?;
    let end = file.metadata()?.len();
    let mut reader = SegmentReader::new(file, 0, seed(id));
    let mut segment = header.map(|header| Segment::new(serial, path.to_owned(), header));
    if header.is_none() {
        damage.corrupt_bytes += end.min(SEGMENT_HEADER_BYTES as u64);
    }
    loop {
        match reader.step(end)? {
            Step::End => return Ok(segment),
            Step::Damage { to_end: true, bytes, .. } if is_last => damage.torn_bytes += bytes,
            Step::Damage { from, bytes, .. } => {
                damage.corrupt_bytes += bytes;
                damage.places.insert((serial, from));
            }
            Step::Record(offset, record) => segment
                .get_or_insert_with(|| {
                    let previous = record.position.saturating_sub(1);
                    let header = SegmentHeader {
                        id,
                        first: record.position,
                        previous,
                        flows_before: record.flows_before,
                        created_ms: record.time_ms,
                    };
                    Segment::new(serial, path.to_owned(), header)
                })
                .add(record.position, record.flows_after(), offset, record.record_bytes()),
        }
    }
}

/// Cuts off what lies behind the last record, so that nothing ever reads it again.
fn cut_tail(segment: &Segment) -> io::Result<()> {
    let file = File::options().write(true).open(&segment.path)?;
    if file.metadata()?.len() > segment.bytes {
        file.set_len(segment.bytes)?;
        file.sync_all()?;
    }
    Ok(())
}

fn segment_files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let is_segment = path.extension().is_some_and(|e| e == SEGMENT_SUFFIX) && path.is_file();
        let serial = path.file_stem().and_then(|s| s.to_str()).and_then(|s| u64::from_str_radix(s, 16).ok());
        if let (true, Some(serial)) = (is_segment, serial) {
            files.push((serial, path));
        }
    }
    files.sort();
    Ok(files)
}

fn read_header(path: &Path) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let whole = read_full(&File::open(path)?, &mut bytes, 0)?;
    Ok(if whole { SegmentHeader::from_bytes(&bytes) } else { None })
}

/// The id that the folder keeps, else that of its first segment that has one, else a new one; and whether it was there.
fn find_id(dir: &Path, files: &[(u64, PathBuf)], mode: Mode) -> io::Result<(LogId, bool)> {
    let text = std::fs::read_to_string(dir.join(ID_FILE)).unwrap_or_default();
    if let Some((id, crc)) = text.trim().split_once(' ')
        && let Ok(id) = LogId::try_from(id.to_owned())
        && crc == format!("{:08x}", crc32c::crc32c(&id.0))
    {
        return Ok((id, true));
    }
    let mut kept = None;
    for (_, path) in files {
        kept = kept.or(read_header(path)?.map(|header| header.id));
    }
    let id = match kept {
        Some(id) => id,
        None => new_id()?,
    };
    if mode == Mode::Repair {
        let text = format!("{id} {:08x}\n", crc32c::crc32c(&id.0));
        replace_file(dir, ID_FILE, text.as_bytes())?;
    }
    Ok((id, kept.is_some()))
}

/// A random id.
///
/// # Errors
/// The system has no randomness to give.
pub fn new_id() -> io::Result<LogId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    Ok(LogId(id))
}
