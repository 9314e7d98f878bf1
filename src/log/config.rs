//! What `[log]` in the configuration says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Configuration of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the log; made when it is missing.
    pub dir: PathBuf,
    /// What is promised about records that were accepted.
    pub durability: Durability,
    /// Pause between fsyncs of what was appended, ms; with `always` also the most that a crash takes. They come sooner when
    /// half of `memory_bytes_max` waits for one.
    #[serde(rename = "fsync_interval", with = "crate::telemetry::units::duration_ms")]
    pub fsync_interval_ms: u64,
    /// Bytes that the files may take together.
    #[serde(with = "crate::telemetry::units::bytes")]
    pub bytes_max: u64,
    /// What happens when they do.
    pub when_full: WhenFull,
    /// Bytes of recent records kept in memory, so that consumers that keep up never read a file. With `memory` this is the
    /// whole log.
    #[serde(with = "crate::telemetry::units::bytes")]
    pub memory_bytes_max: u64,
    /// Bytes at which a file is closed and the next one begun. At most an eighth of `bytes_max` is used.
    #[serde(with = "crate::telemetry::units::bytes")]
    pub segment_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("data/log"),
            durability: Durability::Always,
            fsync_interval_ms: 1000,
            bytes_max: 8 << 30,
            when_full: WhenFull::DropOldest,
            memory_bytes_max: 64 << 20,
            segment_bytes: 64 << 20,
        }
    }
}

impl Config {
    /// The size of a segment in force: so small that dropping the oldest one frees a small part of `bytes_max`.
    pub(super) fn segment_bytes_in_force(&self) -> u64 {
        self.segment_bytes.min(self.bytes_max / 8)
    }

    /// Memory that the log may use, in bytes: recent records, and one buffer for encoding a worker.
    pub const fn memory_budget_bytes(&self) -> u64 {
        self.memory_bytes_max
    }
}

/// What is promised about records that were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// On disk within `fsync_interval`; sinks see only what is.
    Always,
    /// A bounded ring in memory, no files: at most once, a stop or crash takes what was not delivered.
    Memory,
}

/// What happens when the log is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The oldest records go; only the consumer that is behind misses them, and that is counted.
    DropOldest,
    /// New flows are refused and counted.
    DropNewest,
    /// Whoever appends flows waits until a consumer has made room.
    Block,
}
