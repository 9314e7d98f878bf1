//! The log: a segmented append-only log on disk, the single source of truth between the workers and everything that stores
//! or sums.
//!
//! Sinks and the aggregator are consumers with a cursor of their own. Those that keep up are given the very batches that
//! were appended, from memory; the others read files. Invariants:
//!
//! - Positions count records from 1 and only grow: by one a record while it is open, and above every position that was ever given
//!   when it is opened again (`open::first_position`).
//! - A record is in a file before its position is passed on as durable; with durability `always` sinks see no other.
//! - A file is deleted when every consumer's cursor has passed it and the cursors are on disk, or when the log is full.
//! - Whatever a consumer does not get is counted for it, in records and flows, by reason.
//! - A failed fsync is never tried again on the same file: what was not durable is written again, to a new segment.
//!
//! Locks: `flush`, then `writer`, then `state`. The file formats stand in `record`.

mod append;
pub mod codec;
mod config;
mod consumer;
mod counters;
mod cursors;
mod disk;
#[cfg(test)]
mod fixture;
mod flush;
mod open;
mod record;
mod recover;
mod ring;
mod segment;
mod state;
mod tail;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

pub use append::AppendError;
pub use config::{Config, Durability, WhenFull};
pub use consumer::{Consumer, ConsumerOptions, Cursor, ReadError};
pub use counters::{ConsumerSnapshot, Counters, Lag, Snapshot};
pub use open::{OpenError, Options, Recycle};
pub use state::LossReason;
pub use tail::OfflineLog;
pub use verify::{Report, verify};

use crate::flow::{Clock, LogId, Record};
use disk::Disk;
use state::State;
use writer::Writer;

/// A log that is open. Closes itself when dropped; consumers that are still there then get no more.
pub struct Log {
    shared: Arc<Shared>,
    flusher: Mutex<Option<JoinHandle<()>>>,
    /// Held until it is closed, so that no second process writes here.
    folder_lock: Mutex<Option<File>>,
}

struct Shared {
    config: Config,
    id: LogId,
    /// What the CRCs start from.
    seed: u32,
    disk: Arc<dyn Disk>,
    clock: Clock,
    recycle: Recycle,
    flush: Mutex<()>,
    writer: Mutex<Writer>,
    state: Mutex<State>,
    /// Told about new records, new durable positions, room, and the end.
    changed: Condvar,
    /// Wakes the flusher before its time.
    wake: crossbeam_channel::Sender<()>,
    counters: Counters,
    /// The file of cursors could not be read: names that are not known may be those of old consumers.
    cursors_lost: bool,
    /// Encoding buffers not in use.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn is_stored(&self) -> bool {
        self.config.durability == Durability::Always
    }

    fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    /// Gives batches back to the pool where nobody else holds them.
    fn recycle(&self, records: Vec<Record>) {
        for record in records {
            if let Record::Flows(batch) = record
                && let Some(batch) = Arc::into_inner(batch)
            {
                (self.recycle)(batch);
            }
        }
    }
}

impl Log {
    /// The log's identity.
    pub fn id(&self) -> LogId {
        self.shared.id
    }

    /// Whether there are files.
    pub fn durability(&self) -> Durability {
        self.shared.config.durability
    }

    /// Position up to which everything is durable, as far as it will ever be: with durability `memory`, and for what a
    /// failing disk did not take, this goes ahead with the appends.
    pub fn durable_upto(&self) -> u64 {
        self.shared.state().durable
    }

    /// Position of the newest record, 0 when there never was one.
    pub fn end(&self) -> u64 {
        self.shared.state().end
    }

    /// What it counts.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Gives back a record that a consumer is done with; its batch goes to the pool when nobody else holds it.
    pub fn recycle(&self, record: Record) {
        self.shared.recycle(vec![record]);
    }

    /// Makes sure that the next position is above this one. For a sink whose durable cursor lies beyond the log's end although
    /// the log began above all positions (the clock was set back): it would skip what comes at positions it thinks it has.
    pub fn ensure_position_above(&self, position: u64) {
        let mut writer = lock(&self.shared.writer);
        if writer.next > position {
            return;
        }
        writer.seal();
        let mut state = self.shared.state();
        let end = writer.end;
        state.jumps.retain(|(after, _)| *after != end);
        writer.next = position.saturating_add(1);
        state.jumps.push((end, writer.next));
        state.cursors_moved = true;
    }

    /// Drops a consumer: its cursor is forgotten and pins nothing.
    pub fn forget(&self, name: &str) {
        let mut state = self.shared.state();
        if state.consumers.remove(name).is_some() {
            state.cursors_moved = true;
        }
    }

    /// Names of the consumers that have a cursor, whether they are there or not.
    pub fn consumer_names(&self) -> Vec<String> {
        self.shared.state().consumers.keys().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks guard is changed in steps that cannot panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
