//! What the process itself must remember: one small embedded database in the data folder.
//!
//! The leases (`leases`), the rows of the alerts ([`Keep`]), since when each rollup is there (`rollups`), and the exporters: when
//! each was first and last heard, and its totals over all runs. The counters of the ledger begin at zero with each run; here they
//! are added to what earlier runs counted, every [`SAVE_INTERVAL_MS`] and at the end.

mod keep;
mod leases;
mod rollups;
mod shared;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

pub use self::keep::{Change, Keep};
use self::shared::Shared;
use crate::flow::Addr;
use crate::telemetry::ledger::Ledger;

/// How often the exporters are saved, ms. A crash forgets at most this much of the totals over all runs; the flows
/// themselves are in the log and the sinks.
pub const SAVE_INTERVAL_MS: i64 = 10_000;

/// Address as text to [`ExporterState`] as JSON.
const EXPORTERS: TableDefinition<&str, &[u8]> = TableDefinition::new("exporters");

/// What is remembered of an exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExporterState {
    /// Receive time of its first datagram ever, ms since the Unix epoch.
    pub first_seen_ms: i64,
    /// Receive time of its latest datagram, ms since the Unix epoch.
    pub last_seen_ms: i64,
    /// Version of its latest datagram.
    pub version: i64,
    /// Every counter of its account, summed over all runs.
    pub totals: BTreeMap<String, u64>,
}

/// The state database.
#[derive(Debug)]
pub struct State {
    database: Arc<Shared>,
    /// As it stood when this run began; what this run counts is added to it.
    before: BTreeMap<Addr, ExporterState>,
    saved_at_ms: Mutex<i64>,
}

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database refuses.
    #[error("state database {path}: {reason}")]
    Database {
        /// Its file.
        path: String,
        /// What happened.
        reason: String,
    },
}

impl State {
    /// Opens the database, makes it when there is none.
    ///
    /// # Errors
    /// The file cannot be opened, or is no database of ours.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let database = Arc::new(Shared::open(path)?);
        let before = database.with(read)?;
        Ok(Self { database, before, saved_at_ms: Mutex::new(0) })
    }

    /// The rows of the alerts.
    pub fn alerts(&self) -> Keep {
        Keep::new(self.database.clone())
    }

    /// Whether what was to be saved last was.
    pub fn is_saving(&self) -> bool {
        self.database.is_open()
    }

    /// Every exporter ever heard, this run's counts included.
    pub fn exporters(&self, ledger: &Ledger) -> BTreeMap<Addr, ExporterState> {
        let mut all = self.before.clone();
        for (addr, account) in ledger.accounts() {
            let first_seen_ms = account.first_seen_ms.get();
            if first_seen_ms == 0 {
                continue;
            }
            let state = all.entry(addr).or_default();
            if state.first_seen_ms == 0 {
                state.first_seen_ms = first_seen_ms;
            }
            state.last_seen_ms = account.last_seen_ms.get();
            state.version = account.version.get();
            for (name, count) in account.counters() {
                *state.totals.entry(name.to_owned()).or_default() += count;
            }
        }
        all
    }

    /// Saves the exporters when it is time to, or at once.
    ///
    /// # Errors
    /// The database refuses; what was saved before stays.
    pub fn save(&self, ledger: &Ledger, now_ms: i64, at_once: bool) -> Result<(), StateError> {
        let mut saved_at_ms = self.saved_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if !at_once && now_ms - *saved_at_ms < SAVE_INTERVAL_MS {
            return Ok(());
        }
        *saved_at_ms = now_ms;
        self.database.with(|database| write(database, &self.exporters(ledger)))
    }
}

fn read(database: &Database) -> Result<BTreeMap<Addr, ExporterState>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(EXPORTERS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        Err(e) => return Err(e.into()),
    };
    let mut exporters = BTreeMap::new();
    for row in table.iter()? {
        let (addr, state) = row?;
        // A row that a later version wrote differently is passed over rather than stopping the collector.
        if let (Ok(addr), Ok(state)) = (addr.value().parse(), serde_json::from_slice(state.value())) {
            exporters.insert(addr, state);
        }
    }
    Ok(exporters)
}

fn write(database: &Database, exporters: &BTreeMap<Addr, ExporterState>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(EXPORTERS)?;
        for (addr, state) in exporters {
            let json = serde_json::to_vec(state).unwrap_or_default();
            table.insert(&*addr.to_string(), &json[..])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_go_on_over_runs_and_the_first_hearing_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        for run in 1..=3 {
            let state = State::open(&path).unwrap();
            let ledger = Ledger::default();
            let account = ledger.account("192.0.2.1".parse().unwrap());
            account.first_seen_ms.set(1000 * run);
            account.last_seen_ms.set(1000 * run + 5);
            account.flows.add(7);
            state.save(&ledger, 1, true).unwrap();
            state.save(&ledger, 2, true).unwrap();
            let exporter = &state.exporters(&ledger)[&"192.0.2.1".parse().unwrap()];
            assert_eq!((exporter.first_seen_ms, exporter.last_seen_ms), (1000, 1000 * run + 5));
            assert_eq!(exporter.totals["flows"], 7 * run as u64);
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        std::fs::write(&path, "not a database").unwrap();
        assert!(State::open(&path).unwrap_err().to_string().contains("state.redb"));
    }
}
