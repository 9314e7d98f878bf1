//! Where each consumer stands, kept in one small file that is replaced as a whole.
//!
//! The file holds hints: a sink's own store knows its cursor better. They keep the segments that a consumer still needs
//! from being deleted before it comes back, and they keep positions growing when every segment has been consumed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::{overwrite_file, replace_file};
use crate::flow::LogId;

/// The file's name in the log's folder.
pub const FILE: &str = "cursors.json";
/// Larger files are not ours: a thousand consumers take about 100 kB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A consumer's place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Everything up to and including this position has been dealt with.
    pub position: u64,
    /// Flows of the log up to and including that position.
    pub flows: u64,
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursors {
    /// The log that the positions belong to.
    pub log_id: LogId,
    /// The position that comes next.
    pub next_position: u64,
    /// Position of the newest record.
    pub end: u64,
    /// Flows of the log so far.
    pub flows_total: u64,
    /// Position up to which records went because the log was full.
    #[serde(default)]
    pub dropped_upto: u64,
    /// Each consumer by name.
    pub consumers: BTreeMap<String, Place>,
}

impl Cursors {
    /// Reads the file. `Ok(None)` when there is none, or when it belongs to another log.
    ///
    /// # Errors
    /// Why the file that is there could not be read.
    pub fn load(dir: &Path, id: LogId) -> Result<Option<Self>, String> {
        let path = dir.join(FILE);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
            Ok(meta) if meta.len() > FILE_BYTES_MAX => return Err(format!("{} bytes are too many", meta.len())),
            Ok(_) => {}
        }
        let text = std::fs::read(&path).map_err(|e| e.to_string())?;
        let cursors: Self = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        Ok((cursors.log_id == id).then_some(cursors))
    }

    /// Replaces the file, durably.
    ///
    /// # Errors
    /// The system's; the old file is then still there.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        let content = serde_json::to_vec_pretty(self)?;
        match replace_file(dir, FILE, &content) {
            // Only newer cursors let segments go, and only that makes room. Should a crash come in between, the file cannot
            // be read, and every consumer starts at the oldest record: nothing is lost.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => overwrite_file(dir, FILE, &content),
            replaced => replaced,
        }
    }
}
