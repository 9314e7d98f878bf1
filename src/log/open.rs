//! Opening a log.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use super::config::{Config, Durability};
use super::counters::Counters;
use super::cursors::{Cursors, Place};
use super::disk::{Disk, System};
use super::record::seed;
use super::recover::{Damage, Found, Mode, find, new_id};
use super::ring::Ring;
use super::state::{Mark, State};
use super::writer::Writer;
use super::{Log, Shared};
use crate::flow::{Clock, FlowBatch, time};

/// Name of the file whose lock says that a process has the log.
const LOCK_FILE: &str = "lock";

/// Given each batch that nobody needs any more.
pub type Recycle = Arc<dyn Fn(FlowBatch) + Send + Sync>;

/// What the log is given by its owner.
#[derive(Clone)]
pub struct Options {
    /// The clock.
    pub clock: Clock,
    /// Where batches go that nobody needs any more.
    pub recycle: Recycle,
    pub(super) disk: Arc<dyn Disk>,
}

impl Default for Options {
    /// The system's clock; batches are freed.
    fn default() -> Self {
        Self { clock: Arc::new(time::now_ms), recycle: Arc::new(drop), disk: Arc::new(System) }
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the log in {0} is in use by another process")]
    InUse(PathBuf),
    /// The system's error.
    #[error("the log in {dir}: {error}")]
    Io {
        /// Its folder.
        dir: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

impl Log {
    /// Opens the log, makes it when there is none, mends what a crash left.
    ///
    /// # Errors
    /// The folder cannot be made, read or written, or another process uses it.
    pub fn open(config: Config, options: Options) -> Result<Self, OpenError> {
        let dir = config.dir.clone();
        let io = |error| OpenError::Io { dir: dir.clone(), error };
        let (found, folder_lock) = match config.durability {
            Durability::Memory => {
                let id = new_id().map_err(io)?;
                (
                    Found { id, known: false, segments: [].into(), next: 1, next_serial: 1, damage: Damage::default() },
                    None,
                )
            }
            Durability::Always => {
                std::fs::create_dir_all(&dir).map_err(io)?;
                let lock = lock_folder(&dir)?;
                (find(&dir, Mode::Repair).map_err(io)?, Some(lock))
            }
        };
        let (wake, woken) = crossbeam_channel::bounded(1);
        let shared = Arc::new(shared(config, options, found, wake));
        // Once there, the file can be overwritten even on a full disk.
        shared.keep_cursors();
        let flusher = std::thread::Builder::new()
            .name("log-flush".into())
            .spawn({
                let shared = shared.clone();
                move || shared.run_flusher(&woken)
            })
            .map_err(io)?;
        Ok(Self { shared, flusher: Mutex::new(Some(flusher)), folder_lock: Mutex::new(folder_lock) })
    }
}

fn shared(config: Config, options: Options, found: Found, wake: crossbeam_channel::Sender<()>) -> Shared {
    let cursors = match config.durability {
        Durability::Always => Cursors::load(&config.dir, found.id),
        Durability::Memory => Ok(None),
    };
    let (cursors, cursors_lost) = match cursors {
        Ok(cursors) => (cursors, false),
        Err(error) => {
            tracing::warn!(error, "log: the cursors could not be read; consumers start at the oldest record");
            (None, true)
        }
    };
    let mut writer = Writer::new(
        options.disk.clone(),
        config.dir.clone(),
        found.id,
        config.segment_bytes_in_force(),
        found.next_serial,
    );
    let counters = Counters::default();
    count_damage(&counters, &found.damage);
    let (id, now_ms) = (found.id, (options.clock)());
    let state = first_state(found, cursors, now_ms, &mut writer);
    Shared {
        config,
        id,
        seed: seed(id),
        disk: options.disk,
        clock: options.clock,
        recycle: options.recycle,
        flush: Mutex::new(()),
        writer: Mutex::new(writer),
        state: Mutex::new(state),
        changed: Condvar::new(),
        wake,
        counters,
        cursors_lost,
        buffers: Mutex::new(Vec::new()),
    }
}

/// Positions that a run may give for each second that it takes, as a power of two: more records than any machine appends.
const POSITIONS_A_SECOND_BITS: u32 = 20;

/// The first position of a run that begins now, in a log that was there before. It is above all that were ever given, also those
/// that only a store knows: a crash took the log's end, or the folder is an older one, brought back. At such positions the store
/// would take what comes for what it has.
pub(super) fn first_position(now_ms: i64) -> u64 {
    // Until 2106, when positions are still below 2^53.
    (now_ms / 1000).clamp(0, i64::from(u32::MAX)).unsigned_abs() << POSITIONS_A_SECOND_BITS
}

/// What segments and cursors say together; sets the writer's numbers.
fn first_state(found: Found, cursors: Option<Cursors>, now_ms: i64, writer: &mut Writer) -> State {
    let mut next = found.next;
    let mut end = found.segments.back().map(|s| s.last);
    let mut flows_total = found.segments.back().map(|s| s.flows_after);
    let dropped_upto = cursors.as_ref().map_or(0, |cursors| cursors.dropped_upto);
    let mut consumers = std::collections::BTreeMap::new();
    if let Some(cursors) = cursors {
        let hints = cursors.consumers.values().map(|place| place.position.saturating_add(1));
        next = hints.fold(next.max(cursors.next_position), u64::max);
        end = end.or(Some(cursors.end.min(next - 1)));
        flows_total = flows_total.or(Some(cursors.flows_total));
        for (name, Place { position, flows }) in cursors.consumers {
            // What a crash took from the log's end was counted in flows then; it is not counted any more.
            let place = Place { position, flows: flows.min(flows_total.unwrap_or(flows)) };
            consumers.insert(name, Mark { place, ..Mark::default() });
        }
    }
    let (end, flows_total) = (end.unwrap_or(next - 1), flows_total.unwrap_or(0));
    if found.known {
        next = next.max(first_position(now_ms));
    }
    let mut jumps: Vec<_> = found.segments.iter().map(|s| (s.header.previous, s.header.first)).collect();
    // A segment without records stands at the end; what comes next may leave out more than it did.
    jumps.retain(|(after, _)| *after != end);
    jumps.push((end, next));
    jumps.retain(|(after, before)| *before > after + 1);
    (writer.next, writer.end, writer.flows_total) = (next, end, flows_total);
    State {
        ring: Ring::new(end),
        segments: found.segments,
        end,
        flows_total,
        durable: end,
        consumers,
        jumps,
        dropped_upto,
        damage_seen: found.damage.places,
        cursors_moved: true,
        ..State::default()
    }
}

fn count_damage(counters: &Counters, damage: &Damage) {
    counters.torn_bytes.add(damage.torn_bytes);
    counters.corrupt_bytes.add(damage.corrupt_bytes);
    counters.refused_files.add(damage.refused_files);
    if damage.torn_bytes > 0 {
        tracing::warn!(bytes = damage.torn_bytes, "log: cut off an unfinished end");
    }
    if damage.corrupt_bytes > 0 {
        tracing::error!(bytes = damage.corrupt_bytes, "log: passed over damaged bytes");
    }
}

fn lock_folder(dir: &std::path::Path) -> Result<File, OpenError> {
    let io = |error| OpenError::Io { dir: dir.to_owned(), error };
    let file = File::options().write(true).create(true).truncate(false).open(dir.join(LOCK_FILE)).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}
