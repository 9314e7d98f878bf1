//! Where the export streams stood when the collector last stopped, from the newest records of the log.

use std::collections::HashMap;
use std::io;

use crate::flow::StreamProgress;
use crate::log::Log;
use crate::receive::{Restored, StreamKey};

/// Records looked at. Workers append out of order, but never by more than the slabs that exist; streams that sent nothing
/// in this many records start afresh.
const RECORDS: u64 = 4096;

#[derive(Clone, Copy)]
struct Span {
    first: u32,
    next: u32,
    /// Units that arrived, or were counted as missing before.
    known_units: u32,
}

impl Span {
    fn of(progress: &StreamProgress) -> Self {
        Self {
            first: progress.first_sequence.wrapping_sub(progress.gap),
            next: progress.next_sequence,
            known_units: progress.sequence_units.wrapping_add(progress.gap),
        }
    }

    fn add(&mut self, progress: &StreamProgress) {
        let other = Self::of(progress);
        if (other.first.wrapping_sub(self.first) as i32) < 0 {
            self.first = other.first;
        }
        if (other.next.wrapping_sub(self.next) as i32) > 0 {
            self.next = other.next;
        }
        self.known_units = self.known_units.wrapping_add(other.known_units);
    }

    /// Units between first and next that are in no record: slabs that were in flight when the collector stopped.
    fn missing(&self) -> u32 {
        let missing = self.next.wrapping_sub(self.first).wrapping_sub(self.known_units) as i32;
        missing.max(0) as u32
    }
}

/// Reads the log's newest records. Holes in them are added to what each stream misses next: its first datagram then counts
/// them as lost, once, and the record that holds it says so.
///
/// # Errors
/// The log's files could not be read.
pub fn streams(log: &Log) -> io::Result<Restored> {
    let mut spans: HashMap<StreamKey, Span> = HashMap::new();
    log.streams_after(log.position_before_last(RECORDS), &mut |progress| {
        if !progress.has_sequence {
            return;
        }
        let key = StreamKey {
            exporter: progress.exporter,
            source_port: progress.source_port,
            version: progress.version,
            source_id: progress.source_id,
        };
        spans.entry(key).and_modify(|span| span.add(progress)).or_insert_with(|| Span::of(progress));
    })?;
    Ok(Restored::new(spans.into_iter().map(|(key, span)| (key, span.next.wrapping_sub(span.missing())))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(first: u32, units: u32, gap: u32) -> StreamProgress {
        StreamProgress {
            exporter: "192.0.2.1".parse().unwrap(),
            source_port: 1,
            version: 5,
            source_id: 0,
            has_sequence: true,
            first_sequence: first,
            next_sequence: first.wrapping_add(units),
            sequence_units: units,
            gap,
            datagrams: 1,
            flows: units,
        }
    }

    #[test]
    fn holes_between_records_are_what_was_in_flight() {
        // 10 to 40, a counted gap of 5, 45 to 60; then 60 to 90 in flight and lost; 90 to 100. The numbers wrap on the way.
        let at = |n: u32| n.wrapping_sub(50);
        let mut span = Span::of(&progress(at(10), 30, 0));
        for progress in [progress(at(90), 10, 0), progress(at(45), 15, 5)] {
            span.add(&progress);
        }
        assert_eq!((span.next, span.missing()), (at(100), 30));
    }
}
