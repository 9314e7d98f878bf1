//! Indexes: few, since each costs when rows are written. Chosen by measurement; the README has the figures.
//!
//! Every table has a BRIN on its time, which costs next to nothing; that of `flows` holds the subscriber as well, since flows
//! are written by subscriber: one subscriber's stand in a page or two of each group. A BRIN finds only what was summarised,
//! which [`summarise`] does as rows come. Rollups by subscriber have a B-tree.

use std::collections::BTreeSet;

use postgres::{Client, Transaction};
use sink_api::SinkError;
use sink_api::time::DAY_MS;

use super::{Layout, Table, failed, partitions};
use crate::config::{Config, literal};

/// Pages that an entry of the index by time stands for.
const PAGES_BY_TIME: u32 = 32;

/// Pages that an entry of the index by time and subscriber stands for. A question about one subscriber reads every entry and
/// a range or two of each group: with fewer pages entries cost more, with more pages rows do.
const PAGES_BY_SUBSCRIBER: u32 = 4;

/// How long a table that something else works on is waited for, before ranges are summarised next time.
const LOCK_TIMEOUT: &str = "2s";

/// Makes the indexes of a new table.
pub fn make(tx: &mut Transaction<'_>, table: &Table) -> Result<(), SinkError> {
    tx.batch_execute(&brin(table)).map_err(failed)?;
    if table.is_rollup() && table.has("subscriber_id") {
        tx.batch_execute(&format!("CREATE INDEX ON {} (subscriber_id, {})", table.quoted, table.time))
            .map_err(failed)?;
    }
    Ok(())
}

fn brin(table: &Table) -> String {
    let (columns, pages) =
        if table.by_subscriber { ("time, subscriber_id", PAGES_BY_SUBSCRIBER) } else { (table.time, PAGES_BY_TIME) };
    format!("CREATE INDEX ON {} USING brin ({columns}) WITH (pages_per_range = {pages})", table.quoted)
}

/// Gives a table of flows from before the index that it would be made with, and drops the one by time alone: the planner
/// would take it instead. All partitions are read once meanwhile, which the log says.
pub fn migrate(tx: &mut Transaction<'_>, config: &Config, table: &Table) -> Result<(), SinkError> {
    if !table.by_subscriber {
        return Ok(());
    }
    let sql = "SELECT c.relname::text, (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_attribute a \
               WHERE a.attrelid = c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
               JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'brin' AND i.indrelid = $1::text::regclass";
    let rows = tx.query(sql, &[&table.quoted]).map_err(failed)?;
    let found: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    if found.iter().any(|(_, columns)| columns == "time, subscriber_id") {
        return Ok(());
    }
    tracing::info!(
        table = table.quoted,
        "makes an index by time and subscriber: all of the table is read, flows wait in the log"
    );
    tx.batch_execute(&format!("SET LOCAL statement_timeout = 0; {}", brin(table))).map_err(failed)?;
    // The name that the server gave ours.
    let ours = format!("{}_time_idx", table.name);
    if found.contains(&(ours.clone(), "time".to_owned())) {
        tx.batch_execute(&format!("DROP INDEX {}", config.quoted(&ours))).map_err(failed)?;
    }
    tracing::info!(table = table.quoted, "the index by time and subscriber is made");
    Ok(())
}

/// Has the ranges summarised that were written since: until then every question reads them. `days` are the starts of the
/// days of the rows.
///
/// # Errors
/// Of the connection. What the server refuses is tried again at the next call.
pub fn summarise(
    client: &mut Client,
    config: &Config,
    layout: Layout,
    table: &Table,
    days: &BTreeSet<i64>,
) -> Result<(), SinkError> {
    let list = |item: &dyn Fn(i64) -> String| days.iter().map(|day| item(*day)).collect::<Vec<_>>().join(", ");
    let parts = match layout {
        Layout::Native => {
            let name = |day| literal(&config.quoted(&partitions::name(table, day)));
            format!("SELECT to_regclass(name) FROM unnest(ARRAY[{}]) AS name", list(&name))
        }
        Layout::Hypertables { .. } => {
            let day = |day| format!("timestamptz {}", literal(&sink_api::time::rfc3339(day)));
            format!(
                "SELECT format('%I.%I', chunk_schema, chunk_name)::regclass FROM timescaledb_information.chunks \
                 WHERE hypertable_schema = {} AND hypertable_name = {} AND EXISTS (SELECT FROM unnest(ARRAY[{}]) AS day \
                 WHERE range_start < day + interval '{DAY_MS} milliseconds' AND range_end > day)",
                literal(&config.schema),
                literal(&table.name),
                list(&day)
            )
        }
    };
    let sql = format!(
        "SET lock_timeout = '{LOCK_TIMEOUT}'; SELECT brin_summarize_new_values(i.indexrelid) FROM pg_index i \
         JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam \
         WHERE m.amname = 'brin' AND i.indrelid IN ({parts}); RESET lock_timeout"
    );
    match client.batch_execute(&sql) {
        Err(error) if error.as_db_error().is_some() => {
            tracing::warn!(table = table.quoted, %error, "ranges of the index by subscriber are not summarised yet");
            client.batch_execute("RESET lock_timeout").map_err(failed)
        }
        other => other.map_err(failed),
    }
}
