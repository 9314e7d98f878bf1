//! Looking through a log's folder without changing it, for `check`.

use std::io;
use std::path::Path;

use super::codec;
use super::recover::{Mode, find};
use super::segment::{SegmentReader, Step};
use crate::flow::LogId;

/// What is in a log's folder.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The log's identity.
    pub id: LogId,
    /// Segments.
    pub segments: u64,
    /// Records that check and can be decoded.
    pub records: u64,
    /// Flows in them.
    pub flows: u64,
    /// Bytes of the segments.
    pub bytes: u64,
    /// Position of the oldest record, 0 when there is none.
    pub first: u64,
    /// Position of the newest record, 0 when there is none.
    pub last: u64,
    /// Bytes at the end that are an unfinished record. Normal after a crash, and while the log is open.
    pub torn_bytes: u64,
    /// Bytes in the middle that are no records.
    pub corrupt_bytes: u64,
    /// Records that check but cannot be decoded.
    pub undecodable_records: u64,
    /// Files that are no segments of this log.
    pub refused_files: u64,
}

impl Report {
    /// Whether nothing is damaged. An unfinished end is no damage.
    pub fn is_sound(&self) -> bool {
        self.corrupt_bytes == 0 && self.undecodable_records == 0 && self.refused_files == 0
    }
}

/// Reads every record of a log.
///
/// # Errors
/// The folder or a file in it cannot be read.
pub fn verify(dir: &Path) -> io::Result<Report> {
    let found = find(dir, Mode::Inspect)?;
    let mut report = Report {
        id: found.id,
        segments: found.segments.len() as u64,
        records: 0,
        flows: 0,
        bytes: found.segments.iter().map(|s| s.bytes).sum(),
        first: 0,
        last: 0,
        torn_bytes: found.damage.torn_bytes,
        corrupt_bytes: found.damage.corrupt_bytes,
        undecodable_records: 0,
        refused_files: found.damage.refused_files,
    };
    let seed = super::record::seed(found.id);
    for segment in &found.segments {
        let mut reader = SegmentReader::new(std::fs::File::open(&segment.path)?, 0, seed);
        loop {
            match reader.step(segment.bytes)? {
                Step::End => break,
                Step::Damage { .. } => {}
                Step::Record(_, header) => {
                    if codec::decode(header.kind, reader.payload()).is_err() {
                        report.undecodable_records += 1;
                        continue;
                    }
                    report.records += 1;
                    report.flows += u64::from(header.flows);
                    report.first = if report.first == 0 { header.position } else { report.first };
                    report.last = header.position;
                }
            }
        }
    }
    Ok(report)
}
