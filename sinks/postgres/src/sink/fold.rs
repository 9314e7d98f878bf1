//! One bucket of a rollup, folded: the rows of each key become one.

use postgres::IsolationLevel;
use sink_api::SinkError;
use sink_api::time::rfc3339;

use crate::columns::{CUT_BYTES, SUMS};
use crate::config::{Config, literal, quote};
use crate::connect::{connect, sink_error};
use crate::schema::{self, Table};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folded {
    /// So many rows became so many.
    Rows { before: u64, after: u64 },
    /// Another collector is at it.
    Busy,
    /// The table has columns that are not the collector's: what stands in them would be lost.
    OwnColumns,
}

/// Folds a bucket in one transaction on a connection of its own. Whoever reads meanwhile sees the rows from before or those from
/// after, which have the same sums; rows that come meanwhile stay beside them.
pub(super) fn fold(config: &Config, table: &Table, bucket_ms: i64) -> Result<Folded, SinkError> {
    let failed = |e: postgres::Error| sink_error("fold", &e);
    let mut client = connect(config)?;
    // A large bucket takes as long as it takes: nothing waits for it.
    client.batch_execute("SET statement_timeout = 0").map_err(failed)?;
    if schema::found(&mut client, table)?.len() != table.columns.len() {
        return Ok(Folded::OwnColumns);
    }
    // Both statements see the same rows. One that another collector folds meanwhile ends this one with an error.
    let mut tx = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().map_err(failed)?;
    let name = format!("rgz-netflow fold {} {bucket_ms}", table.quoted);
    let lock = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))";
    if !tx.query_one(lock, &[&name]).map_err(failed)?.get::<_, bool>(0) {
        return Ok(Folded::Busy);
    }
    let after = tx.execute(&insert(table, bucket_ms), &[]).map_err(failed)?;
    let before = tx.execute(&delete(table, bucket_ms), &[]).map_err(failed)?;
    tx.commit().map_err(failed)?;
    Ok(Folded::Rows { before, after })
}

fn is_sum(column: &str) -> bool {
    SUMS.contains(&column) || column == CUT_BYTES
}

fn condition(table: &Table, bucket_ms: i64) -> String {
    format!("{} = timestamptz {}", table.time, literal(&rfc3339(bucket_ms)))
}

/// Writes a row for each key, by subscriber where there is one: so one subscriber's rows of a bucket stand together.
fn insert(table: &Table, bucket_ms: i64) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| quote(column.name)).collect();
    let chosen = table.columns.iter().zip(&names).map(|(column, name)| match is_sum(column.name) {
        true => format!("sum({name})::bigint"),
        false => name.clone(),
    });
    let keys = table.columns.iter().zip(&names).filter(|(column, _)| !is_sum(column.name)).map(|(_, name)| &**name);
    let order = if table.has("subscriber_id") { " ORDER BY subscriber_id" } else { "" };
    format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {table} WHERE {} GROUP BY {}{order}",
        names.join(", "),
        chosen.collect::<Vec<_>>().join(", "),
        condition(table, bucket_ms),
        keys.collect::<Vec<_>>().join(", "),
        table = table.quoted,
    )
}

/// Removes the rows that were there before.
fn delete(table: &Table, bucket_ms: i64) -> String {
    let condition = condition(table, bucket_ms);
    format!("DELETE FROM {} WHERE {condition} AND xmin <> pg_current_xact_id()::xid", table.quoted)
}
