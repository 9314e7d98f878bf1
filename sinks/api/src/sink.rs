//! The contract between the collector and a sink.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::malformed::MalformedLog;
use crate::rollup::{Record, RollupDef};
use crate::store::FlowStore;

/// Identity of a log, random, made with it. Everything a sink remembers about positions is keyed by it, so that a wiped
/// log, or two collectors on one database, can neither skip nor overwrite.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<LogId> for String {
    fn from(id: LogId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for LogId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("log id {text:?} is not 32 hexadecimal digits");
        if text.len() != 32 || !text.is_ascii() {
            return Err(bad());
        }
        let mut id = [0u8; 16];
        for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(Self(id))
    }
}

/// A record of the log with its position. Positions count records from 1, without gaps in a healthy log, and always
/// grow.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Position in the log.
    pub position: u64,
    /// What stands there.
    pub record: Record,
}

/// The clock, injectable in tests: ms since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the log holds after a position: how a store answers about what it has not committed yet.
pub trait LogTail: Send + Sync {
    /// Calls `visit` for each entry after `position`, in order, up to the log's end at the time of the call. Stops when
    /// `visit` gives false.
    ///
    /// # Errors
    /// An I/O error of the log's files.
    fn read_after(&self, position: u64, visit: &mut dyn FnMut(&Entry) -> bool) -> std::io::Result<()>;
}

/// The tail of a log that is elsewhere, or of none: nothing comes after any position.
#[derive(Clone, Copy, Debug)]
pub struct NoTail;

impl LogTail for NoTail {
    fn read_after(&self, _: u64, _: &mut dyn FnMut(&Entry) -> bool) -> std::io::Result<()> {
        Ok(())
    }
}

/// Retention of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days that detail and rollups of class `Keep::Detail` are kept.
    pub detail_days: u32,
    /// Months that rollups of class `Keep::Aggregate` are kept.
    pub aggregate_months: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { detail_days: 30, aggregate_months: 12 }
    }
}

/// What a sink is given when it opens.
#[derive(Clone)]
pub struct SinkContext {
    /// The sink's name in the configuration.
    pub name: String,
    /// The log it is fed from.
    pub log_id: LogId,
    /// The log after the sink's cursor, for stores that answer about it.
    pub tail: Arc<dyn LogTail>,
    /// Rollups that it will receive.
    pub rollups: Arc<Vec<RollupDef>>,
    /// Datagrams that could not be read, for sinks that show them.
    pub malformed: Arc<MalformedLog>,
    /// The clock.
    pub clock: Clock,
}

/// A sink's configuration: its own keys of the `[[sink]]` table, parsed and checked by its kind.
pub trait SinkConfig: Send + Sync + fmt::Debug {
    /// Opens the sink: connects, creates or migrates what is missing. Called on the sink's own thread, again after each
    /// [`SinkError::Retry`] with growing pauses.
    ///
    /// # Errors
    /// `Retry` when it may work later, `Fatal` when a person must act. `Reject` is not used.
    fn open(&self, context: &SinkContext) -> Result<Box<dyn Sink>, SinkError>;

    /// The store over the same place, when it can answer questions. May be called before and beside `open`; must not wait
    /// for a server that is down.
    ///
    /// # Errors
    /// As for [`SinkConfig::open`].
    fn store(&self, context: &SinkContext) -> Result<Option<Arc<dyn FlowStore>>, SinkError>;

    /// Reaches the place without changing anything, for `check`: says what is there, such as the server's version and how
    /// rows will be divided. Nothing to reach, nothing to say.
    ///
    /// # Errors
    /// As for [`SinkConfig::open`].
    fn probe(&self) -> Result<Option<String>, SinkError> {
        Ok(None)
    }

    /// Rollups that its store answers from beside the default ones. They are kept while such a sink is configured, unless the
    /// file defines one of the same name.
    fn rollups(&self) -> Vec<RollupDef> {
        Vec::new()
    }

    /// Folders that must be writable, for `check` and for clear errors at start.
    fn folders(&self) -> Vec<std::path::PathBuf> {
        Vec::new()
    }

    /// Memory that it may use, in bytes, for the budget that `check` prints.
    fn memory_bytes_max(&self) -> u64;

    /// Whether two configurations mean the same sink, so that a reload leaves it alone.
    fn same_as(&self, other: &dyn SinkConfig) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// An open sink. Lives on one thread.
///
/// The deliverer calls [`Sink::cursor`] once after opening, then [`Sink::write`] for one group after another, in order.
/// After any error it drops the sink, pauses, opens it again and asks for the cursor anew; so a commit whose answer was lost
/// is never sent twice.
pub trait Sink: Send {
    /// The last position that is durable here for this log; `None` when this log was never seen.
    ///
    /// # Errors
    /// As for [`Sink::write`].
    fn cursor(&mut self) -> Result<Option<u64>, SinkError>;

    /// Takes every entry that the group gives, and makes all of them and the cursor (the last entry's position) durable in
    /// one step. `Ok` means durable. The group ends by itself after the configured rows or time; a sink may stop pulling
    /// earlier, and what it pulled is then what was committed. A group without entries is possible and commits nothing.
    ///
    /// # Errors
    /// `Retry`: not stored, may work later. `Reject`: the store refuses these data and will again; the deliverer halves
    /// the group, and sets a single record aside that is refused alone. `Fatal`: a person must act.
    fn write(&mut self, group: &mut dyn Group) -> Result<(), SinkError>;

    /// Housekeeping (compaction, retention), called between groups about once a second. Must return soon.
    ///
    /// # Errors
    /// As for [`Sink::write`]; reported, counted, and tried again later.
    fn maintain(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Ends it within the deadline. Everything written was durable before.
    ///
    /// # Errors
    /// What could not be released.
    fn close(self: Box<Self>, deadline: Duration) -> Result<(), SinkError>;

    /// What it counts, for the API and `/metrics`.
    fn counters(&self) -> SinkCounters {
        SinkCounters::default()
    }
}

/// Counts that only the sink itself knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SinkCounters {
    /// Flows older than the retention, not stored.
    pub expired_flows: u64,
    /// Bytes that it holds in its place, where it knows.
    pub stored_bytes: Option<u64>,
}

/// Rows after which a sink that holds a group in memory writes what it has: some ten MB. The settings' `batch_rows` may be more,
/// for stores whose files want it.
pub const GROUP_ROWS_MAX: usize = 200_000;

/// A run of log entries that become durable together.
pub trait Group {
    /// The next entry; waits for one until the group's time is over. `None` ends the group.
    ///
    /// # Errors
    /// An I/O error of the log's files; give it back from [`Sink::write`].
    fn next(&mut self) -> Result<Option<Entry>, SinkError>;

    /// Sets rows aside that the store will never take: on `Ok` they are durable in quarantine, with their reasons. They stay there
    /// when the cursor shows that this write was committed, else they leave it, since the log brings them again. So it is to be
    /// called before what it belongs to is committed, each row of the group that the commit leaves out; without rows it does
    /// nothing. For stores that can tell which row it is; others give [`SinkError::Reject`].
    ///
    /// # Errors
    /// They could not be kept. Nothing may be committed; give it back from [`Sink::write`].
    fn set_aside(&mut self, rows: &[RefusedRow<'_>]) -> Result<(), SinkError>;
}

/// A row that a store refuses.
#[derive(Clone, Copy, Debug)]
pub struct RefusedRow<'a> {
    /// Where it stands.
    pub entry: &'a Entry,
    /// Which it is; of sums counted over all rollups.
    pub row: usize,
    /// Why.
    pub reason: &'a str,
}

/// What went wrong, and what follows from it.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Not stored, may work later. `after` is the server's wish, when it said one.
    #[error("{reason}")]
    Retry {
        /// What happened.
        reason: String,
        /// The pause the server asked for.
        after: Option<Duration>,
    },
    /// The store refuses these data and will again.
    #[error("{0}")]
    Reject(String),
    /// A person must act.
    #[error("{0}")]
    Fatal(String),
}

impl SinkError {
    /// A [`SinkError::Retry`] without a wish for the pause.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry { reason: reason.to_string(), after: None }
    }
}

/// A problem with one key of a `[[sink]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// The key, empty when the problem is not about one.
    pub key: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

/// A sink's configuration, or every problem found in it.
pub type ParsedSink = Result<Box<dyn SinkConfig>, Vec<KeyError>>;
