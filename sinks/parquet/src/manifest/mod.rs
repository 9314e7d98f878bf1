//! The manifest: what the store consists of. A data file exists when the manifest lists it, and not before.
//!
//! `<path>/manifest` is a text file of lines `<crc32c, 8 hex digits> <json>\n`, one [`Change`] each. A change takes effect
//! as a whole once its line is complete. The first line has `reset` set and lists everything; rewriting the file (to a
//! temporary name, synced, renamed) is how it is kept short. A line cut off at the end never happened; a damaged line
//! with good ones after it is an error that a person must look at, because files that it listed would be taken for
//! orphans.
//!
//! One writer (it holds the lock of the folder) and any number of readers, in this process or others, which follow the
//! file as it grows.

mod lines;
mod reader;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sink_api::LogId;

pub use reader::ManifestReader;
pub use writer::{ManifestError, ManifestWriter};

/// Version of the format; a manifest of a newer one is refused.
pub const FORMAT: u32 = 1;

/// Name of the manifest in the store's folder.
pub const FILE_NAME: &str = "manifest";

/// One step from a state to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Format version, in the first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u32>,
    /// Grows by 1 with each change, over rewrites.
    pub seq: u64,
    /// Forget everything before this.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reset: bool,
    /// Positions of logs that are stored with this change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stored: Vec<Stored>,
    /// Files that belong to the store from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Arc<DataFile>>,
    /// Paths of files that no longer do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// A run of log positions that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Which log.
    pub log: LogId,
    /// First position of the run.
    pub from: u64,
    /// Last position of the run: the cursor.
    pub to: u64,
}

/// A data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// `<table>/<partition>/<name>.parquet` under the store's folder.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Smallest `time` (or `bucket`), ms since the Unix epoch.
    pub min_ms: i64,
    /// Largest `time` (or `bucket`).
    pub max_ms: i64,
    /// Whether it was made of all files of a rollup's bucket once that was over: each key stands in it once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub folded: bool,
}

impl DataFile {
    /// The table it belongs to.
    pub fn table(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// The partition it belongs to: a day or a month.
    pub fn partition(&self) -> &str {
        self.path.split('/').nth(1).unwrap_or_default()
    }
}

/// What the store consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Number of the last change.
    pub seq: u64,
    /// Last stored position of each log.
    pub cursors: BTreeMap<LogId, u64>,
    /// Files by path.
    pub files: BTreeMap<String, Arc<DataFile>>,
}

impl State {
    /// Takes a change into account.
    pub fn apply(&mut self, change: &Change) {
        if change.reset {
            *self = State::default();
        }
        self.seq = change.seq;
        for stored in &change.stored {
            self.cursors.insert(stored.log, stored.to);
        }
        for path in &change.remove {
            self.files.remove(path);
        }
        for file in &change.add {
            self.files.insert(file.path.clone(), file.clone());
        }
    }

    /// The change that makes this state out of nothing.
    pub fn as_change(&self) -> Change {
        Change {
            format: Some(FORMAT),
            seq: self.seq,
            reset: true,
            stored: self.cursors.iter().map(|(log, to)| Stored { log: *log, from: 0, to: *to }).collect(),
            add: self.files.values().cloned().collect(),
            remove: Vec::new(),
        }
    }

    /// Files of a table.
    pub fn table<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Arc<DataFile>> + 'a {
        self.files.values().filter(move |f| f.table() == table)
    }
}

/// Where the manifest is.
pub fn path_in(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

fn is_false(value: &bool) -> bool {
    !value
}
