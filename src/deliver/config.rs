use std::path::PathBuf;
use std::time::Duration;

/// How one sink is fed.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The sink's name, also the name of its cursor in the log.
    pub name: String,
    /// Rows after which a group ends.
    pub batch_rows: u64,
    /// Time after its first entry at which a group ends.
    pub flush_interval: Duration,
    /// Where refused records are kept.
    pub quarantine: PathBuf,
    /// Bytes that the quarantine of this sink may take on disk; over it the oldest are dropped, counted.
    pub quarantine_bytes_max: u64,
}
