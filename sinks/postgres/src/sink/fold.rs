//! One bucket of a rollup, folded: the rows of each key become one.

use sink_api::SinkError;
use sink_api::time::rfc3339;

use crate::columns::{CUT_BYTES, SUMS};
use crate::config::{Config, literal, quote};
use crate::connect::{connect, sink_error};
use crate::schema::{self, Table};

/// A large bucket takes as long as it takes, since nothing waits for it, and TimescaleDB may unpack all of it.
const UNBOUNDED: &str = "SET statement_timeout = 0; SELECT set_config(name, '0', false) FROM pg_settings \
                         WHERE name = 'timescaledb.max_tuples_decompressed_per_dml_transaction'";

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

/// Folds a bucket by one statement on a connection of its own. Whoever reads meanwhile sees the rows from before or those from
/// after, which have the same sums; rows that come meanwhile stay beside them.
pub(super) fn fold(config: &Config, table: &Table, bucket_ms: i64) -> Result<Folded, SinkError> {
    let failed = |e: postgres::Error| sink_error("fold", &e);
    let mut client = connect(config)?;
    client.batch_execute(UNBOUNDED).map_err(failed)?;
    if schema::found(&mut client, table)?.len() != table.columns.len() {
        return Ok(Folded::OwnColumns);
    }
    let mut tx = client.transaction().map_err(failed)?;
    let name = format!("rgz-netflow fold {} {bucket_ms}", table.quoted);
    let lock = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))";
    if !tx.query_one(lock, &[&name]).map_err(failed)?.get::<_, bool>(0) {
        return Ok(Folded::Busy);
    }
    let row = tx.query_one(&statement(table, bucket_ms), &[]).map_err(failed)?;
    tx.commit().map_err(failed)?;
    let count = |column| row.get::<_, i64>(column).unsigned_abs();
    Ok(Folded::Rows { before: count(0), after: count(1) })
}

fn is_sum(column: &str) -> bool {
    SUMS.contains(&column) || column == CUT_BYTES
}

/// Takes the rows out and writes one for each key, by subscriber where there is one: so one subscriber's rows of a bucket stand
/// together. What is summed is exactly what was taken out, also where a server rewrites rows in order to take them out
/// (those of a columnar chunk).
fn statement(table: &Table, bucket_ms: i64) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| quote(column.name)).collect();
    let chosen = table.columns.iter().zip(&names).map(|(column, name)| match is_sum(column.name) {
        true => format!("sum({name})::bigint"),
        false => name.clone(),
    });
    let keys = table.columns.iter().zip(&names).filter(|(column, _)| !is_sum(column.name)).map(|(_, name)| &**name);
    let order = if table.has("subscriber_id") { " ORDER BY subscriber_id" } else { "" };
    format!(
        "WITH old AS (DELETE FROM {table} WHERE {time} = timestamptz {bucket} RETURNING {all}), \
         new AS (INSERT INTO {table} ({all}) SELECT {chosen} FROM old GROUP BY {keys}{order} RETURNING 1) \
         SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM new)",
        table = table.quoted,
        time = table.time,
        bucket = literal(&rfc3339(bucket_ms)),
        all = names.join(", "),
        chosen = chosen.collect::<Vec<_>>().join(", "),
        keys = keys.collect::<Vec<_>>().join(", "),
    )
}
