//! Consumers: each reads the log in order at its own pace, from memory while it keeps up, from files otherwise.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::codec;
use super::counters::Lag;
use super::cursors::Place;
use super::record::RecordHeader;
use super::segment::{SegmentReader, Step, segment_after};
use super::state::{LossReason, State};
use super::{Log, Shared};
use crate::flow::{Entry, Record};

/// Where a consumer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// After this position, whatever the log remembers of the consumer.
    At(u64),
    /// Where the log remembers it, else at the newest record.
    Now,
    /// Where the log remembers it, else at the oldest record.
    Oldest,
}

/// How a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Where it starts.
    pub start: Cursor,
    /// Whether it sees only records that are durable: for all that keep what they read anywhere outside the log.
    pub durable_only: bool,
}

/// A file of the log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the log's file {}: {error}", .path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// The system's error.
    pub error: io::Error,
}

/// Reads the log in order. What it has committed, and no more, is released.
pub struct Consumer {
    shared: Arc<Shared>,
    /// `None` for a reader that has no cursor in the log.
    name: Option<String>,
    durable_only: bool,
    /// Position of the record given last.
    read: u64,
    /// Flows of the log up to there, when known.
    read_flows: Option<u64>,
    /// Records given and not committed.
    pending: VecDeque<Place>,
    file: Option<OpenFile>,
}

struct OpenFile {
    serial: u64,
    path: PathBuf,
    reader: SegmentReader,
}

impl Log {
    /// A consumer by name. Its cursor pins what it has not committed, now and after a restart, until [`Log::forget`].
    pub fn consumer(&self, name: &str, options: ConsumerOptions) -> Consumer {
        let flows = match options.start {
            Cursor::At(position) => self.shared.flows_upto(position),
            _ => None,
        };
        let mut state = self.shared.state();
        let known = state.consumers.get(name).map(|mark| mark.place);
        let fresh = |state: &State| match options.start {
            Cursor::Now if !self.shared.cursors_lost => state.newest(),
            _ => state.oldest(),
        };
        let place = match (options.start, known) {
            (Cursor::At(position), _) => {
                Place { position, flows: flows.or(known.map(|k| k.flows)).unwrap_or(state.flows_total) }
            }
            (_, Some(known)) => known,
            (_, None) => fresh(&state),
        };
        state.consumers.entry(name.to_owned()).or_default().place = place;
        state.cursors_moved = true;
        drop(state);
        let read_flows = if matches!(options.start, Cursor::At(_)) { flows } else { Some(place.flows) };
        Consumer::new(self.shared.clone(), Some(name.to_owned()), options.durable_only, place.position, read_flows)
    }
}

impl Consumer {
    /// Flows of the log before the record to be given next, as far as they are known.
    pub fn flows_before(&self) -> Option<u64> {
        self.read_flows
    }

    pub(super) fn new(
        shared: Arc<Shared>,
        name: Option<String>,
        durable_only: bool,
        read: u64,
        read_flows: Option<u64>,
    ) -> Self {
        Self { shared, name, durable_only, read, read_flows, pending: VecDeque::new(), file: None }
    }

    /// The next record; waits for one. `None` when the time is over or the log was closed.
    ///
    /// # Errors
    /// A file could not be read; the same record is tried again by the next call.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Entry>, ReadError> {
        let deadline = Instant::now() + timeout;
        loop {
            let shared = self.shared.clone();
            let mut state = shared.state();
            let (limit, floor) = (self.limit(&state), state.ring.floor());
            if self.read < limit {
                if self.read < floor {
                    drop(state);
                    if let Some((header, record)) = self.read_file(limit.min(floor))? {
                        return Ok(Some(self.give(&mut shared.state(), header.position, header.flows_before, record)));
                    }
                    state = shared.state();
                    if state.ring.floor() != floor {
                        continue;
                    }
                }
                let slot = state.ring.after(self.read).filter(|slot| slot.entry.position <= limit && floor <= limit);
                if let Some(slot) = slot {
                    self.file = None;
                    let (position, before, record) =
                        (slot.entry.position, slot.flows_before, slot.entry.record.clone());
                    return Ok(Some(self.give(&mut state, position, before, record)));
                }
            }
            let now = Instant::now();
            if state.closed || now >= deadline {
                return Ok(None);
            }
            drop(shared.changed.wait_timeout(state, deadline - now));
        }
    }

    /// Position of the record that was given last.
    pub fn position(&self) -> u64 {
        self.read
    }

    /// The log's end as this consumer may see it: what there is to read now.
    pub fn available_upto(&self) -> u64 {
        self.limit(&self.shared.state())
    }

    /// Goes to after a position, forward or back. What lies before the oldest record is counted as a gap when it is read.
    /// The cursor that pins stays where it was committed.
    pub fn seek(&mut self, position: u64) {
        if position != self.read {
            self.read_flows = self.shared.flows_upto(position);
            self.read = position;
        }
        self.pending.clear();
        self.file = None;
    }

    /// Everything up to and including this position has been dealt with, and may be released. Never goes back. Gives the flows
    /// that were waiting and do so no more.
    pub fn commit(&mut self, position: u64) -> u64 {
        let Some(name) = &self.name else { return 0 };
        let mut flows = None;
        while self.pending.front().is_some_and(|place| place.position <= position) {
            flows = self.pending.pop_front().map(|place| place.flows);
        }
        let flows = flows.or_else(|| self.shared.flows_upto(position));
        let mut state = self.shared.state();
        let (total, mut moved) = (state.flows_total, 0);
        if let Some(mark) = state.consumers.get_mut(name)
            && position > mark.place.position
        {
            let flows = flows.unwrap_or(mark.place.flows).min(total);
            moved = flows.saturating_sub(mark.place.flows);
            mark.place = Place { position, flows };
            state.cursors_moved = true;
        }
        let evicted =
            if self.shared.is_stored() { state.trim(self.shared.config.memory_bytes_max) } else { Vec::new() };
        drop(state);
        self.shared.recycle(evicted);
        moved
    }

    /// What has not been committed.
    pub fn lag(&self) -> Lag {
        let state = self.shared.state();
        let mark = self.name.as_ref().and_then(|name| state.consumers.get(name));
        let place = mark.map_or(Place { position: self.read, flows: self.read_flows.unwrap_or(0) }, |mark| mark.place);
        lag_of(&state, place, self.shared.now_ms())
    }

    fn limit(&self, state: &State) -> u64 {
        if self.durable_only { state.durable.min(state.end) } else { state.end }
    }

    /// Passes a record on and counts what is missing before it.
    fn give(&mut self, state: &mut State, position: u64, flows_before: u64, record: Record) -> Entry {
        let records = state.given_between(self.read, position);
        let flows = self.read_flows.map_or(0, |flows| flows_before.saturating_sub(flows));
        if let Some(name) = &self.name
            && (records > 0 || flows > 0)
        {
            let reason = state.reason_of(self.read, position);
            tracing::warn!(consumer = name, records, flows, reason = reason.name(), "log: records are missing");
            if let Some(mark) = state.consumers.get_mut(name) {
                let index = LossReason::ALL.iter().position(|r| *r == reason).unwrap_or(0);
                mark.lost.records[index] += records;
                mark.lost.flows[index] += flows;
            }
        }
        let flows = flows_before + record.flow_count();
        self.read = position;
        self.read_flows = Some(flows);
        if self.name.is_some() {
            self.pending.push_back(Place { position, flows });
        }
        Entry { position, record }
    }

    /// The next record in the files, up to a position.
    fn read_file(&mut self, upto: u64) -> Result<Option<(RecordHeader, Record)>, ReadError> {
        loop {
            if self.file.is_none() && !self.open_file(None)? {
                return Ok(None);
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            let end = self.shared.state().segments.iter().find(|s| s.serial == file.serial).map(|s| s.bytes);
            let Some(end) = end else {
                // Released, dropped or written again meanwhile.
                self.file = None;
                continue;
            };
            let step = file.reader.step(end).map_err(|error| ReadError { path: file.path.clone(), error })?;
            match step {
                Step::Record(_, header) if header.position <= self.read => {}
                Step::Record(offset, header) if header.position > upto => {
                    file.reader.go_to(offset);
                    return Ok(None);
                }
                Step::Record(_, header) => match codec::decode(header.kind, file.reader.payload()) {
                    Ok(record) => return Ok(Some((header, record))),
                    Err(error) => {
                        self.shared.counters.undecodable_records.add(1);
                        tracing::error!(position = header.position, %error, "log: a record could not be decoded");
                    }
                },
                Step::Damage { from, bytes, .. } => self.shared.note_damage(file.serial, &file.path, from, bytes),
                Step::End => {
                    let serial = file.serial;
                    if !self.open_file(Some(serial))? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Opens the segment after a serial, or the one that holds what comes next. False when there is none.
    fn open_file(&mut self, after_serial: Option<u64>) -> Result<bool, ReadError> {
        loop {
            let state = self.shared.state();
            let segment = match after_serial {
                Some(serial) => state.segments.iter().find(|s| s.serial > serial),
                None => segment_after(&state.segments, self.read),
            };
            let Some(segment) = segment else { return Ok(false) };
            let (serial, path, offset) = (segment.serial, segment.path.clone(), segment.offset_before(self.read));
            drop(state);
            match File::open(&path) {
                Ok(file) => {
                    let reader = SegmentReader::new(file, offset, self.shared.seed);
                    self.file = Some(OpenFile { serial, path, reader });
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.shared.note_missing(serial, &path),
                Err(error) => return Err(ReadError { path, error }),
            }
        }
    }
}

/// What a place has before it.
pub fn lag_of(state: &State, place: Place, now_ms: i64) -> Lag {
    let records = state.given_between(place.position, state.end.saturating_add(1));
    if place.position >= state.end {
        return Lag::default();
    }
    let in_ring = state.ring.after(place.position).filter(|_| place.position >= state.ring.floor());
    let segment = segment_after(&state.segments, place.position);
    let since = in_ring.map(|slot| slot.time_ms).or(segment.map(|s| s.header.created_ms)).unwrap_or(now_ms);
    Lag {
        records,
        flows: state.flows_total.saturating_sub(place.flows),
        bytes: state.segments.iter().filter(|s| s.last > place.position).map(|s| s.bytes_after(place.position)).sum(),
        age_ms: now_ms.saturating_sub(since).max(0) as u64,
    }
}

impl Shared {
    fn note_damage(&self, serial: u64, path: &Path, from: u64, bytes: u64) {
        if self.state().damage_seen.insert((serial, from)) {
            self.counters.corrupt_bytes.add(bytes);
            tracing::error!(file = %path.display(), from, bytes, "log: passed over damaged bytes");
        }
    }

    fn note_missing(&self, serial: u64, path: &Path) {
        let mut state = self.state();
        let before = state.segments.len();
        state.segments.retain(|segment| segment.serial != serial);
        if state.segments.len() < before {
            self.counters.missing_segments.add(1);
            tracing::error!(file = %path.display(), "log: a segment is gone");
        }
    }

    /// Flows of the log up to and including a position, when that can still be told.
    fn flows_upto(&self, position: u64) -> Option<u64> {
        let state = self.state();
        if position == state.end {
            return Some(state.flows_total);
        }
        if let Some(slot) = state.ring.after(position.saturating_sub(1)).filter(|slot| slot.entry.position == position)
        {
            return Some(slot.flows_after());
        }
        if let Some(slot) = state.ring.after(position).filter(|slot| slot.entry.position == position + 1) {
            return Some(slot.flows_before);
        }
        let segment = segment_after(&state.segments, position)?;
        if segment.header.previous == position {
            return Some(segment.header.flows_before);
        }
        let (path, offset, end) =
            (segment.path.clone(), segment.offset_before(position.saturating_sub(1)), segment.bytes);
        drop(state);
        let mut reader = SegmentReader::new(File::open(path).ok()?, offset, self.seed);
        while let Some((_, header)) = reader.skim(end).ok()? {
            if header.position >= position {
                let known = header.position == position || header.position == position + 1;
                let flows = if header.position == position { header.flows_after() } else { header.flows_before };
                return known.then_some(flows);
            }
        }
        None
    }
}
