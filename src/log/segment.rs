//! One file of the log: what is known about it in memory, and reading it past any damage.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::record::{
    MARK, MARK_OFFSET, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, checks,
};

/// Distance in bytes between the entries of a segment's index: what a reader that jumps in must walk over at most.
const INDEX_STEP_BYTES: u64 = 1 << 20;
/// Bytes read at once while looking for the next record after damage.
const RESYNC_WINDOW_BYTES: u64 = 256 << 10;

/// What is known about a segment. The list of all of them is a few hundred entries for the largest log.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The number in its file name; grows with each segment.
    pub serial: u64,
    /// Its file.
    pub path: PathBuf,
    /// Its header; rebuilt from its records when that was damaged.
    pub header: SegmentHeader,
    /// Position of its last record; `header.previous` when it has none.
    pub last: u64,
    /// Bytes of it that hold records, header included.
    pub bytes: u64,
    /// Flows of the log up to its end.
    pub flows_after: u64,
    /// Records in it.
    pub records: u64,
    /// Some of its records: (position, offset).
    index: Vec<(u64, u64)>,
}

impl Segment {
    /// A segment without records.
    pub fn new(serial: u64, path: PathBuf, header: SegmentHeader) -> Self {
        Self {
            serial,
            path,
            header,
            last: header.previous,
            bytes: SEGMENT_HEADER_BYTES as u64,
            flows_after: header.flows_before,
            records: 0,
            index: Vec::new(),
        }
    }

    /// Notes a record that stands at an offset.
    pub fn add(&mut self, position: u64, flows_after: u64, offset: u64, record_bytes: u64) {
        if self.index.last().is_none_or(|(_, at)| offset >= at + INDEX_STEP_BYTES) {
            self.index.push((position, offset));
        }
        self.last = position;
        self.flows_after = flows_after;
        self.records += 1;
        self.bytes = offset + record_bytes;
    }

    /// An offset at or before the first record after a position.
    pub fn offset_before(&self, position: u64) -> u64 {
        let known = self.index.partition_point(|(at, _)| *at <= position.saturating_add(1));
        known.checked_sub(1).map_or(SEGMENT_HEADER_BYTES as u64, |i| self.index[i].1)
    }

    /// Bytes of it that come after a position, estimated by records.
    pub fn bytes_after(&self, position: u64) -> u64 {
        if position <= self.header.previous || self.records == 0 {
            return self.bytes;
        }
        let after = self.last.saturating_sub(position).min(self.records);
        (u128::from(self.bytes) * u128::from(after) / u128::from(self.records)) as u64
    }
}

/// The segment that holds the first record after a position, if any does.
pub fn segment_after(segments: &VecDeque<Segment>, position: u64) -> Option<&Segment> {
    segments.get(segments.partition_point(|s| s.last <= position))
}

/// What a reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A record that checks, at an offset.
    Record(u64, RecordHeader),
    /// Bytes that are no record, from an offset on; the reader stands behind them.
    Damage {
        /// Where they begin.
        from: u64,
        /// How many.
        bytes: u64,
        /// Whether they go on to the end of the file.
        to_end: bool,
    },
    /// No more.
    End,
}

/// Reads the records of one file in order.
#[derive(Debug)]
pub struct SegmentReader {
    file: File,
    offset: u64,
    seed: u32,
    record: Vec<u8>,
}

impl SegmentReader {
    /// A reader that starts at an offset, which should be that of a record.
    pub fn new(file: File, offset: u64, seed: u32) -> Self {
        Self { file, offset: offset.max(SEGMENT_HEADER_BYTES as u64), seed, record: Vec::new() }
    }

    /// The payload of the record found last.
    pub fn payload(&self) -> &[u8] {
        self.record.get(RECORD_HEADER_BYTES..).unwrap_or_default()
    }

    /// Goes back to a record found before.
    pub fn go_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Passes over the next record by its header alone, unchecked, when the header is plausible.
    ///
    /// # Errors
    /// The system's.
    pub fn skim(&mut self, end: u64) -> io::Result<Option<(u64, RecordHeader)>> {
        let at = self.offset;
        let Some(header) = self.header_at(at, end)? else { return Ok(None) };
        self.offset = at + header.record_bytes();
        Ok(Some((at, header)))
    }

    /// The next record, or the damage before it. `end` is where the file's records end.
    ///
    /// # Errors
    /// The system's.
    pub fn step(&mut self, end: u64) -> io::Result<Step> {
        let from = self.offset;
        if from >= end {
            return Ok(Step::End);
        }
        if let Some(header) = self.record_at(from, end)? {
            self.offset = from + header.record_bytes();
            return Ok(Step::Record(from, header));
        }
        let next = self.resync(from + 1, end)?;
        self.offset = next.unwrap_or(end);
        Ok(Step::Damage { from, bytes: self.offset - from, to_end: next.is_none() })
    }

    fn header_at(&self, at: u64, end: u64) -> io::Result<Option<RecordHeader>> {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        if at + RECORD_HEADER_BYTES as u64 > end || !read_full(&self.file, &mut bytes, at)? {
            return Ok(None);
        }
        Ok(RecordHeader::from_bytes(&bytes).filter(|header| header.record_bytes() <= end - at))
    }

    fn record_at(&mut self, at: u64, end: u64) -> io::Result<Option<RecordHeader>> {
        let Some(header) = self.header_at(at, end)? else { return Ok(None) };
        self.record.resize(header.record_bytes() as usize, 0);
        let whole = read_full(&self.file, &mut self.record, at)?;
        Ok((whole && checks(&self.record, &header, self.seed)).then_some(header))
    }

    /// The first offset from `from` on at which a record checks.
    fn resync(&mut self, from: u64, end: u64) -> io::Result<Option<u64>> {
        let mut window = Vec::new();
        let mut at = from;
        while at + RECORD_HEADER_BYTES as u64 <= end {
            // Windows overlap by a header, so that a mark across their border is seen whole in the next one.
            let len = (end - at).min(RESYNC_WINDOW_BYTES);
            window.resize(len as usize, 0);
            if !read_full(&self.file, &mut window, at)? {
                return Ok(None);
            }
            let starts = window.len() - RECORD_HEADER_BYTES + 1;
            for start in 0..starts {
                if window[start + MARK_OFFSET..start + MARK_OFFSET + 3] == MARK
                    && self.record_at(at + start as u64, end)?.is_some()
                {
                    return Ok(Some(at + start as u64));
                }
            }
            at += starts as u64;
        }
        Ok(None)
    }
}

/// Reads a whole buffer; false when the file ends before.
pub fn read_full(file: &File, bytes: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
