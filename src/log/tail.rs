//! Reading without a cursor: for stores that answer about what is not committed yet, for crash accounting, and for tools on
//! the folder of a log that may be open elsewhere.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::codec::{self, PayloadKind};
use super::consumer::{Consumer, lag_of};
use super::counters::{ConsumerSnapshot, Snapshot};
use super::record::seed;
use super::recover::{Mode, find};
use super::segment::{Segment, SegmentReader, Step, segment_after};
use super::state::{LossReason, State};
use super::{Log, lock};
use crate::flow::sink::LogTail;
use crate::flow::{Entry, LogId, StreamProgress};

impl LogTail for Log {
    /// Memory first, files for what is older. Sees records that are not durable yet.
    fn read_after(&self, position: u64, visit: &mut dyn FnMut(&Entry) -> bool) -> io::Result<()> {
        let end = self.end();
        let mut reader = Consumer::new(self.shared.clone(), None, false, position, None);
        while reader.position() < end {
            match reader.next(Duration::ZERO) {
                Ok(Some(entry)) if entry.position <= end => {
                    let more = visit(&entry);
                    self.recycle(entry.record);
                    if !more {
                        break;
                    }
                }
                Ok(_) => break,
                Err(error) => return Err(io::Error::new(error.error.kind(), error)),
            }
        }
        Ok(())
    }
}

impl Log {
    /// Calls `visit` for the stream progress of each batch in the files after a position, oldest first, with the batch's
    /// position: what the collector needs at its start to see what a crash took.
    ///
    /// # Errors
    /// A file could not be read.
    pub fn streams_after(&self, position: u64, visit: &mut dyn FnMut(u64, &StreamProgress)) -> io::Result<()> {
        let segments = self.shared.state().segments.clone();
        walk(&segments, self.shared.seed, position, &mut |kind, position, payload| {
            if kind == PayloadKind::Flows
                && let Ok(streams) = codec::decode_streams(payload)
            {
                streams.iter().for_each(|progress| visit(position, progress));
            }
            true
        })
    }

    /// The position after which the newest `records` records stand: how far back [`Log::streams_after`] should look.
    pub fn position_before_last(&self, records: u64) -> u64 {
        self.end().saturating_sub(records)
    }

    /// The log at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let degraded = lock(&self.shared.writer).degraded;
        let state = self.shared.state();
        let now_ms = self.shared.now_ms();
        let oldest = state.segments.front().map(|s| s.header.created_ms);
        Snapshot {
            end: state.end,
            durable_upto: state.durable,
            flows_total: state.flows_total,
            segments: state.segments.len() as u64,
            stored_bytes: state.stored_bytes(),
            memory_records: state.ring.len() as u64,
            memory_bytes: state.ring.bytes() as u64,
            oldest_age_ms: oldest.map_or(0, |ms| now_ms.saturating_sub(ms).max(0) as u64),
            degraded,
            consumers: consumers(&state, now_ms),
        }
    }
}

fn consumers(state: &State, now_ms: i64) -> Vec<ConsumerSnapshot> {
    let by_reason = |counts: [u64; 3]| LossReason::ALL.iter().map(|r| r.name()).zip(counts).collect();
    let snapshot = |(name, mark): (&String, &super::state::Mark)| ConsumerSnapshot {
        name: name.clone(),
        position: mark.place.position,
        lag: lag_of(state, mark.place, now_ms),
        lost_records: by_reason(mark.lost.records),
        lost_flows: by_reason(mark.lost.flows),
    };
    state.consumers.iter().map(snapshot).collect()
}

/// A log's folder, read only: for queries on a data folder without the collector.
#[derive(Debug)]
pub struct OfflineLog {
    id: LogId,
    segments: VecDeque<Segment>,
}

impl OfflineLog {
    /// Looks through a log's folder as it is now; changes nothing there.
    ///
    /// # Errors
    /// The folder or a file in it cannot be read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let found = find(dir, Mode::Inspect)?;
        Ok(Self { id: found.id, segments: found.segments })
    }

    /// The log's identity.
    pub fn id(&self) -> LogId {
        self.id
    }
}

impl LogTail for OfflineLog {
    fn read_after(&self, position: u64, visit: &mut dyn FnMut(&Entry) -> bool) -> io::Result<()> {
        walk(&self.segments, seed(self.id), position, &mut |kind, position, payload| match codec::decode(kind, payload)
        {
            Ok(record) => visit(&Entry { position, record }),
            Err(_) => true,
        })
    }
}

fn walk(
    segments: &VecDeque<Segment>,
    seed: u32,
    position: u64,
    visit: &mut dyn FnMut(PayloadKind, u64, &[u8]) -> bool,
) -> io::Result<()> {
    let mut at = position;
    let first = segment_after(segments, position).map_or(u64::MAX, |s| s.serial);
    for segment in segments.iter().filter(|s| s.serial >= first) {
        let file = match File::open(&segment.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let mut reader = SegmentReader::new(file, segment.offset_before(position), seed);
        loop {
            match reader.step(segment.bytes)? {
                Step::End => break,
                Step::Damage { .. } => {}
                Step::Record(_, header) if header.position <= at => {}
                Step::Record(_, header) => {
                    at = header.position;
                    if !visit(header.kind, header.position, reader.payload()) {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}
