//! Appending: encode and sum outside the lock, number and write inside.

use std::sync::MutexGuard;
use std::time::Duration;

use super::codec::{self, PayloadKind};
use super::config::WhenFull;
use super::record::Draft;
use super::ring::Slot;
use super::state::{LossReason, State};
use super::writer::Writer;
use super::{Log, Shared, lock};
use crate::flow::{Entry, Record};

/// How often someone who waits for room looks again, whether told or not.
const ROOM_POLL: Duration = Duration::from_millis(100);
/// Encoding buffers kept for the next record; one for each thread that appends at the same time.
const BUFFERS_MAX: usize = 16;
/// Buffers that grew larger are not kept.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// Why a record was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log is full and its policy is to refuse what is new. Counted.
    #[error("the log is full, and when_full = \"drop_newest\" refuses new flows")]
    Full,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The record could not be read back.
    #[error("not a record that the log can keep: {0}")]
    Invalid(&'static str),
}

/// What a record needs.
#[derive(Clone, Copy)]
struct Need {
    bounded: bool,
    stored_bytes: u64,
    memory_bytes: usize,
}

impl Log {
    /// Appends a record and gives its position. Many threads may do so at once.
    ///
    /// Sums are never refused and never wait: they are small, and without them flows that are counted as summed would be
    /// missing. Flows follow `when_full`.
    ///
    /// # Errors
    /// See [`AppendError`]. A disk that fails is no error: the record stays in memory, and the log is degraded until it can
    /// be written.
    pub fn append(&self, record: Record) -> Result<u64, AppendError> {
        let shared = &*self.shared;
        let now_ms = shared.now_ms();
        let mut draft = if shared.is_stored() { Some(shared.draft(&record, now_ms)?) } else { None };
        let need = Need {
            bounded: PayloadKind::of(&record) == PayloadKind::Flows,
            stored_bytes: draft.as_ref().map_or(0, Draft::record_bytes),
            memory_bytes: codec::memory_bytes(&record),
        };
        let (mut writer, dropped) = match shared.admit(need) {
            Ok(admitted) => admitted,
            Err(error) => {
                if error == AppendError::Full {
                    shared.counters.refused_records.add(1);
                    shared.counters.refused_flows.add(record.flow_count());
                }
                return Err(error);
            }
        };
        let (position, flows_before, previous) = (writer.next, writer.flows_total, writer.end);
        let placed = match &mut draft {
            Some(draft) if !writer.degraded => match writer.write(draft, position, flows_before, previous, now_ms) {
                Ok(placed) => Some(placed),
                Err(error) => {
                    shared.degrade(&mut writer, "write", &error);
                    None
                }
            },
            _ => None,
        };
        let flows = record.flow_count();
        writer.accept(position, flows, need.memory_bytes);
        let slot = Slot {
            entry: Entry { position, record },
            flows_before,
            time_ms: now_ms,
            memory_bytes: need.memory_bytes,
            stored: placed.is_some() || !shared.is_stored(),
        };
        let mut state = shared.state();
        if let Some(placed) = placed {
            state.note_placed(placed, position, flows_before + flows, need.stored_bytes);
            shared.counters.appended_bytes.add(need.stored_bytes);
        }
        state.push(slot);
        if !shared.is_stored() {
            state.durable = position;
        }
        let evicted = if shared.is_stored() { state.trim(shared.config.memory_bytes_max) } else { Vec::new() };
        drop(state);
        let hurry = writer.unsynced_memory_bytes as u64 >= shared.config.memory_bytes_max / 2;
        drop(writer);
        shared.changed.notify_all();
        if hurry {
            shared.wake_flusher();
        }
        shared.counters.appended_records.add(1);
        shared.counters.appended_flows.add(flows);
        shared.recycle(evicted);
        shared.recycle(dropped);
        if let Some(draft) = draft {
            shared.keep_buffer(draft.into_buffer());
        }
        Ok(position)
    }
}

impl Shared {
    /// A record as bytes, without its number.
    pub(super) fn draft(&self, record: &Record, time_ms: i64) -> Result<Draft, AppendError> {
        let mut bytes = Draft::begin(lock(&self.buffers).pop().unwrap_or_default());
        codec::encode(record, &mut bytes).map_err(AppendError::Invalid)?;
        if bytes.len() > super::record::PAYLOAD_BYTES_MAX {
            return Err(AppendError::Invalid("more bytes than a record may have"));
        }
        Ok(Draft::new(bytes, PayloadKind::of(record), record.flow_count() as u32, time_ms, self.seed))
    }

    pub(super) fn keep_buffer(&self, buffer: Vec<u8>) {
        let mut buffers = lock(&self.buffers);
        if buffers.len() < BUFFERS_MAX && buffer.capacity() <= BUFFER_BYTES_MAX {
            buffers.push(buffer);
        }
    }

    pub(super) fn wake_flusher(&self) {
        // A full channel means that it has been woken already.
        let _ = self.wake.try_send(());
    }

    /// Waits for or makes room by the policy; gives the writer, and records that had to go from memory.
    fn admit(&self, need: Need) -> Result<(MutexGuard<'_, Writer>, Vec<Record>), AppendError> {
        let mut dropped = Vec::new();
        loop {
            let mut writer = lock(&self.writer);
            let mut state = self.state();
            if state.closed {
                return Err(AppendError::Closed);
            }
            let fits = if self.is_stored() {
                state.stored_bytes() + need.stored_bytes <= self.config.bytes_max
            } else {
                let bytes_max = self.config.memory_bytes_max.saturating_sub(need.memory_bytes as u64);
                dropped.extend(self.trim_memory(&mut state, bytes_max));
                state.ring.bytes() as u64 <= bytes_max || state.ring.len() == 0
            };
            if fits || !need.bounded {
                drop(state);
                return Ok((writer, dropped));
            }
            match self.config.when_full {
                WhenFull::DropOldest if self.is_stored() => {
                    let Some(oldest) = state.drop_oldest_segment() else {
                        // Only the segment being written: it may go once there is another.
                        writer.seal();
                        drop(state);
                        return Ok((writer, dropped));
                    };
                    drop(state);
                    self.delete(&[oldest]);
                }
                WhenFull::DropOldest => dropped.extend(drop_oldest_record(&mut state)),
                WhenFull::DropNewest => return Err(AppendError::Full),
                WhenFull::Block => {
                    drop(writer);
                    self.wake_flusher();
                    let waited = self.changed.wait_timeout(state, ROOM_POLL);
                    drop(waited);
                }
            }
        }
    }

    /// With durability `memory`: takes out what every consumer has, when room is needed.
    fn trim_memory(&self, state: &mut State, bytes_max: u64) -> Vec<Record> {
        let consumed = state.consumed();
        let mut out = Vec::new();
        while state.ring.bytes() as u64 > bytes_max && state.ring.front_position().is_some_and(|p| p <= consumed) {
            out.extend(state.ring.pop());
        }
        out
    }
}

fn drop_oldest_record(state: &mut State) -> Option<Record> {
    let position = state.ring.front_position()?;
    state.note_loss(position, position, LossReason::Full);
    state.ring.pop()
}
