//! Tables of flows that have fewer columns than the record: made so by the key `columns`.

use postgres::{GenericClient, Transaction};
use sink_api::SinkError;

use super::{Table, failed, kind_of};
use crate::columns::{flow_columns, flow_fields};
use crate::config::{Config, quote};

/// Adds the columns that the configuration has come to name since the table was made, empty in the rows that are there.
/// Only for a table of ours: another one is refused by its shape.
pub fn widen(tx: &mut Transaction<'_>, config: &Config) -> Result<(), SinkError> {
    let table = Table::flows(config);
    if kind_of(tx, config, &table)?.is_none() {
        return Ok(());
    }
    let found = found(tx, &table)?;
    let missing =
        table.columns.iter().filter(|column| !column.not_null && !found.iter().any(|name| name == column.name));
    let added: Vec<String> =
        missing.map(|column| format!("ADD COLUMN {} {}", quote(column.name), column.sql.type_name())).collect();
    if added.is_empty() {
        return Ok(());
    }
    tracing::info!(table = table.quoted, "adds columns: {}", added.join(", "));
    tx.batch_execute(&format!("ALTER TABLE {} {}", table.quoted, added.join(", "))).map_err(failed)
}

/// What the views read: the table, with nulls for the columns that it does not have.
pub fn with_nulls(tx: &mut Transaction<'_>, config: &Config) -> Result<String, SinkError> {
    let table = Table::flows(config);
    let found = found(tx, &table)?;
    let all = flow_columns(&flow_fields());
    let missing = all.iter().filter(|column| !found.iter().any(|name| name == column.name));
    let nulls: Vec<String> =
        missing.map(|column| format!("NULL::{} AS {}", column.sql.type_name(), quote(column.name))).collect();
    if nulls.is_empty() {
        return Ok(table.quoted);
    }
    Ok(format!("(SELECT t.*, {} FROM {} t)", nulls.join(", "), table.quoted))
}

/// Names of the columns that a table has.
pub fn found(client: &mut impl GenericClient, table: &Table) -> Result<Vec<String>, SinkError> {
    let sql = "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped";
    let rows = client.query(sql, &[&table.quoted]).map_err(failed)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
