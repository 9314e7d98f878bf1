//! Leases in the state database: address to its leases, newest first, as JSON.

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{Database, State, StateError};
use crate::control::leases::LeaseState;
use crate::flow::Addr;

/// Address (IPv4 mapped into IPv6) to a list of [`LeaseState`] as JSON.
const LEASES: TableDefinition<u128, &[u8]> = TableDefinition::new("leases");

/// Leases by address.
type Row = (Addr, Vec<LeaseState>);

impl State {
    /// Every saved lease.
    ///
    /// # Errors
    /// The database refuses.
    pub fn leases(&self) -> Result<Vec<Row>, StateError> {
        self.database.with(read)
    }

    /// Replaces all that is saved of these addresses, in one transaction that is on disk when this returns. An address
    /// without leases is removed.
    ///
    /// # Errors
    /// The database refuses; what was saved before stays.
    pub fn save_leases(&self, rows: impl Iterator<Item = Row>) -> Result<(), StateError> {
        self.database.with(|database| write(database, rows))
    }
}

fn read(database: &Database) -> Result<Vec<Row>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(LEASES) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (addr, json) = row?;
        // A row that a later version wrote differently is passed over rather than stopping the collector.
        if let Ok(leases) = serde_json::from_slice(json.value()) {
            rows.push((Addr(addr.value()), leases));
        }
    }
    Ok(rows)
}

fn write(database: &Database, rows: impl Iterator<Item = Row>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(LEASES)?;
        for (addr, leases) in rows {
            if leases.is_empty() {
                table.remove(addr.0)?;
            } else {
                // A list of plain values is always JSON.
                let json = serde_json::to_vec(&leases).unwrap_or_default();
                table.insert(addr.0, &json[..])?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
