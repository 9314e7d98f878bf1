//! Records that a store refuses, kept on disk with the reason, a file a refusal ([`file`]). Bounded in bytes and in number:
//! over the bounds the oldest go, counted. Rows of a group are kept before the sink commits it ([`tentative`]).
//!
//! What is there is known without reading the folder: an index is made of it once and kept up. It also knows which records
//! were set aside since the sink was started: those stand in this run's sums of the ledger, the others in those of earlier runs.

mod file;
mod tentative;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Status;
use crate::flow::time::now_ms;
use crate::flow::{LogId, SinkError};

pub(super) use file::Refused;
pub use file::{Head, Kept};

/// Most records kept: bounds the index.
const RECORDS_MAX: usize = 100_000;
/// Memory of one in the index: its name, what is known of it, and its share of the tree.
const INDEX_ITEM_BYTES: u64 = 160;
/// Memory of the index.
pub(super) const INDEX_BYTES_MAX: u64 = RECORDS_MAX as u64 * INDEX_ITEM_BYTES;
/// File of the numbers under which records are replayed.
pub(super) const PLAN: &str = "replay.json";

/// The quarantine of one sink.
#[derive(Debug)]
pub struct Quarantine {
    folder: PathBuf,
    bytes_max: u64,
    log: LogId,
    index: Mutex<Option<Index>>,
    /// Held while records are brought to the sink again, so that none of them is dropped meanwhile.
    replaying: Mutex<()>,
}

/// What is in the folder, by name.
#[derive(Debug, Default)]
struct Index {
    items: BTreeMap<String, Item>,
    totals: Totals,
    /// On disk, and no records yet.
    tentative: BTreeMap<String, Item>,
}

/// What is known of a record without reading its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub position: u64,
    /// Whether the position is one of the log that feeds the sink now.
    pub of_this_log: bool,
    pub flows: u64,
    pub bytes: u64,
    /// Set aside since the sink was started.
    pub own: bool,
}

/// Sums over a quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records.
    pub records: u64,
    /// Flows in them.
    pub flows: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// A record in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name within the quarantine.
    pub name: String,
    /// What is said of it.
    pub head: Head,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Why records are not dropped.
#[derive(Debug)]
pub enum DropError {
    /// A replay goes on.
    Replaying,
    /// An I/O error of the folder.
    Io(io::Error),
}

/// Where a record went that leaves the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The store took so many of its flows.
    Taken(u64),
    /// The log brings it to the sink in its turn.
    Returned,
    /// Nowhere.
    Dropped,
}

/// A quarantine that cannot be read or written: nothing moves until it can.
pub(super) fn in_quarantine(error: io::Error) -> SinkError {
    SinkError::retry(format!("quarantine: {error}"))
}

impl Index {
    fn insert(&mut self, name: String, item: Item) {
        self.remove(&name);
        self.totals.records += 1;
        self.totals.flows += item.flows;
        self.totals.bytes += item.bytes;
        self.items.insert(name, item);
    }

    fn remove(&mut self, name: &str) -> Option<Item> {
        let item = self.items.remove(name)?;
        self.totals.records -= 1;
        self.totals.flows -= item.flows;
        self.totals.bytes -= item.bytes;
        Some(item)
    }
}

impl Quarantine {
    /// The quarantine in a folder, which is made when something is first kept, of a sink that this log feeds.
    pub fn new(folder: &Path, bytes_max: u64, log: LogId) -> Self {
        let folder = folder.to_owned();
        Self { folder, bytes_max, log, index: Mutex::default(), replaying: Mutex::default() }
    }

    /// Sums over what is kept.
    ///
    /// # Errors
    /// An I/O error of the folder.
    pub fn totals(&self) -> io::Result<Totals> {
        self.with_index(|index| index.totals)
    }

    /// Records after one, in the order of their names: by position and row. Files that are not of ours are passed over.
    ///
    /// # Errors
    /// An I/O error of the folder.
    pub fn list(&self, after: Option<&str>, records_max: usize) -> io::Result<Vec<Listed>> {
        let names = self.names(after, records_max)?;
        let listed = names.into_iter().filter_map(|name| {
            // One that goes meanwhile is no longer there.
            let head = file::read_head(&self.path(&name)).ok()?;
            let bytes = self.item(&name).map_or(0, |item| item.bytes);
            Some(Listed { name, head, bytes })
        });
        Ok(listed.collect())
    }

    /// A record by its name; `None` when there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self, name: &str) -> io::Result<Option<Kept>> {
        // Only names of the index become paths.
        if self.with_index(|index| index.items.contains_key(name))? {
            return file::read(&self.path(name)).map(Some);
        }
        Ok(None)
    }

    /// What is said of a record; `None` when there is none.
    pub(super) fn head(&self, name: &str) -> io::Result<Option<Head>> {
        if self.item(name).is_some() {
            return file::read_head(&self.path(name)).map(Some);
        }
        Ok(None)
    }

    /// Bytes on disk of a record by its name; `None` when there is none.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        self.item(name).map(|item| item.bytes)
    }

    /// Drops one record, or all. They are lost.
    ///
    /// # Errors
    /// As [`DropError`] says. Those dropped before the error are gone.
    pub fn drop_records(&self, name: Option<&str>, status: &Status) -> Result<Totals, DropError> {
        let Ok(_nobody_replays) = self.replaying.try_lock() else { return Err(DropError::Replaying) };
        let names = match name {
            Some(name) => vec![name.to_owned()],
            None => self.names(None, usize::MAX).map_err(DropError::Io)?,
        };
        let mut dropped = Totals::default();
        for name in names {
            if let Some(item) = self.remove(&name, Fate::Dropped, status).map_err(DropError::Io)? {
                dropped.records += 1;
                dropped.flows += item.flows;
                dropped.bytes += item.bytes;
            }
        }
        Ok(dropped)
    }

    /// Keeps refusals, counts them, drops the oldest over the bounds.
    pub(super) fn keep(&self, refused: &[Refused], status: &Status) -> io::Result<()> {
        let was_own = |index: &mut Index, name: &str| index.items.get(name).is_some_and(|item| item.own);
        for refused in refused {
            let head = refused.head(self.log, now_ms());
            // What is refused a second time before the sink went past it is counted once.
            let counted = self.with_index(|index| was_own(index, &head.name()))?;
            let (name, item) = self.write(&head, refused, true)?;
            self.with_index(|index| index.insert(name, item))?;
            if !counted {
                status.set_aside_flows.add(refused.flows());
            }
        }
        if refused.is_empty() { Ok(()) } else { self.sync().and_then(|()| self.trim(status)) }
    }

    /// Writes a record's file; gives its name and what is to be known of it.
    fn write(&self, head: &Head, refused: &Refused, own: bool) -> io::Result<(String, Item)> {
        fs::create_dir_all(&self.folder)?;
        let name = head.name();
        let line = serde_json::to_vec(head)?;
        let bytes = file::write(&self.path(&name), &[&line, b"\n", &file::encode(refused)?])?;
        let of_this_log = head.log == self.log;
        Ok((name, Item { position: head.position, of_this_log, flows: head.flows, bytes, own }))
    }

    /// Takes a record out; gives what it was, when it was there.
    pub(super) fn remove(&self, name: &str, fate: Fate, status: &Status) -> io::Result<Option<Item>> {
        let Some(item) = self.with_index(|index| index.remove(name))? else { return Ok(None) };
        if let Err(error) = self.remove_file(name) {
            self.with_index(|index| index.insert(name.to_owned(), item))?;
            return Err(error);
        }
        let own = u64::from(item.own);
        match fate {
            Fate::Taken(flows) => {
                status.replayed_flows.add(flows);
                status.own_replayed_flows.add(own * flows);
            }
            Fate::Returned => status.own_returned_flows.add(own * item.flows),
            Fate::Dropped => {
                status.quarantine_dropped_flows.add(item.flows);
                status.own_dropped_flows.add(own * item.flows);
            }
        }
        self.note(status);
        Ok(Some(item))
    }

    /// Names after one, in their order.
    pub(super) fn names(&self, after: Option<&str>, names_max: usize) -> io::Result<Vec<String>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.with_index(|index| {
            index
                .items
                .range::<str, _>((from, Bound::Unbounded))
                .map(|(name, _)| name.clone())
                .take(names_max)
                .collect()
        })
    }

    /// Records of the log that feeds the sink now that stand after a position, with their positions.
    pub(super) fn after_position(&self, position: u64) -> io::Result<Vec<(String, u64)>> {
        let from = format!("{:020}", position.saturating_add(1));
        self.with_index(|index| {
            let ahead = index.items.range(from..).filter(|(_, item)| item.of_this_log);
            ahead.map(|(name, item)| (name.clone(), item.position)).collect()
        })
    }

    /// What is known of a record.
    pub(super) fn item(&self, name: &str) -> Option<Item> {
        self.with_index(|index| index.items.get(name).copied()).ok().flatten()
    }

    /// Nothing is dropped by hand until this is let go.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        self.replaying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the sums.
    pub(super) fn note(&self, status: &Status) {
        if let Ok(totals) = self.totals() {
            status.quarantine_records.set(totals.records as i64);
            status.quarantine_flows.set(totals.flows as i64);
            status.quarantine_bytes.set(totals.bytes as i64);
        }
    }

    /// A file beside the records, read whole; `None` when there is none.
    pub(super) fn read_beside(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file beside the records, whole or not at all.
    pub(super) fn write_beside(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        file::write(&self.folder.join(name), &[bytes])?;
        self.sync()
    }

    /// Makes the names in the folder durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.folder)?.sync_all()
    }

    fn trim(&self, status: &Status) -> io::Result<()> {
        loop {
            let oldest = self.with_index(|index| {
                let over = index.totals.bytes > self.bytes_max || index.items.len() > RECORDS_MAX;
                over.then(|| index.items.keys().next().cloned()).flatten()
            })?;
            let Some(oldest) = oldest else { break };
            self.remove(&oldest, Fate::Dropped, status)?;
        }
        self.note(status);
        Ok(())
    }

    fn remove_file(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{}", file::EXTENSION))
    }

    fn with_index<T>(&self, work: impl FnOnce(&mut Index) -> T) -> io::Result<T> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *index {
            Some(index) => Ok(work(index)),
            none => Ok(work(none.insert(self.read_folder()?))),
        }
    }

    fn read_folder(&self) -> io::Result<Index> {
        let mut index = Index::default();
        let folder = match fs::read_dir(&self.folder) {
            Ok(folder) => folder,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(index),
            Err(error) => return Err(error),
        };
        for entry in folder {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != file::EXTENSION) {
                continue;
            }
            match file::read_head(&path) {
                Ok(head) if path.file_stem().is_some_and(|stem| stem == &*head.name()) => {
                    let bytes = entry.metadata()?.len();
                    let (of_this_log, flows) = (head.log == self.log, head.flows);
                    let item = Item { position: head.position, of_this_log, flows, bytes, own: false };
                    index.insert(head.name(), item);
                }
                _ => tracing::warn!(file = %path.display(), "not a record of the quarantine; passed over"),
            }
        }
        Ok(index)
    }
}
