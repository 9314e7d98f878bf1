//! Since when each rollup is there: by its name, ms since the Unix epoch.

use std::collections::BTreeMap;

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{Database, State, StateError};
use crate::flow::RollupDef;

/// Name to when flows began to be in it.
const ROLLUPS: TableDefinition<&str, i64> = TableDefinition::new("rollups");

impl State {
    /// Says of each rollup since when it is there: those of a state that knows of none were always there, one that it does not
    /// know begins at `now_ms`.
    ///
    /// # Errors
    /// The database refuses.
    pub fn date_rollups(&self, defs: &mut [RollupDef], now_ms: i64) -> Result<(), StateError> {
        let known = self.database.with(read)?;
        if !known.is_empty() {
            defs.iter_mut().for_each(|def| def.since_ms = known.get(&*def.name).copied().unwrap_or(now_ms));
        }
        Ok(())
    }

    /// Saves since when each rollup is there, and forgets all others.
    ///
    /// # Errors
    /// The database refuses; what was saved before stays.
    pub fn save_rollups(&self, defs: &[RollupDef]) -> Result<(), StateError> {
        self.database.with(|database| write(database, defs))
    }
}

fn read(database: &Database) -> Result<BTreeMap<String, i64>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(ROLLUPS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        Err(e) => return Err(e.into()),
    };
    let mut known = BTreeMap::new();
    for row in table.iter()? {
        let (name, since_ms) = row?;
        known.insert(name.value().to_owned(), since_ms.value());
    }
    Ok(known)
}

fn write(database: &Database, defs: &[RollupDef]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ROLLUPS)?;
        table.retain(|name, _| defs.iter().any(|def| &*def.name == name))?;
        for def in defs {
            table.insert(&*def.name, def.since_ms)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_that_comes_later_begins_then_and_one_that_comes_back_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.redb")).unwrap();
        let start = |more: &[RollupDef], now_ms| {
            let mut defs = [&RollupDef::defaults()[..2], more].concat();
            state.date_rollups(&mut defs, now_ms).unwrap();
            state.save_rollups(&defs).unwrap();
            defs.iter().map(|def| def.since_ms).collect::<Vec<_>>()
        };
        let ports = [RollupDef::usage_ports()];
        assert_eq!(start(&[], 1), [i64::MIN; 2], "of the first start");
        assert_eq!(start(&ports, 2), [i64::MIN, i64::MIN, 2]);
        assert_eq!(start(&ports, 3), [i64::MIN, i64::MIN, 2]);
        assert_eq!(start(&[], 4), [i64::MIN; 2]);
        assert_eq!(start(&ports, 5), [i64::MIN, i64::MIN, 5]);
    }
}
