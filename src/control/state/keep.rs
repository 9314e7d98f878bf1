//! Rows that one part of the process keeps: bytes to bytes, changed in steps that happen wholly or not at all.

use std::sync::Arc;

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::StateError;
use super::shared::Shared;

/// What the alerts keep.
const ALERTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("alerts");

/// A row's key with its new value, or `None` when the row goes.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// The rows of the alerts: counters, cursor, alerts, what waits to be delivered. Clones are of one database.
#[derive(Clone, Debug)]
pub struct Keep {
    database: Arc<Shared>,
}

impl Keep {
    pub(super) fn new(database: Arc<Shared>) -> Self {
        Self { database }
    }

    /// Reads every row, in the order of the keys.
    ///
    /// # Errors
    /// The database refuses.
    pub fn each(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), StateError> {
        self.database.with(|database| {
            let transaction = database.begin_read()?;
            let table = match transaction.open_table(ALERTS) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            for row in table.iter()? {
                let (key, value) = row?;
                visit(key.value(), value.value());
            }
            Ok(())
        })
    }

    /// Makes all changes, in their order, in one step that is durable afterwards.
    ///
    /// # Errors
    /// The database refuses; then nothing was changed.
    pub fn apply(&self, changes: &[Change]) -> Result<(), StateError> {
        self.database.with(|database| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(ALERTS)?;
                for (key, value) in changes {
                    match value {
                        Some(value) => drop(table.insert(&key[..], &value[..])?),
                        None => drop(table.remove(&key[..])?),
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }
}
