//! Hypertables, where the server has TimescaleDB: chunks, columnstore after a day, retention by policy.
//!
//! Names changed with 2.18 (`columnstore` for `compression`); both are spoken. The Apache-licensed build has hypertables but no
//! policies.

use postgres::{Client, Transaction};
use sink_api::SinkError;
use sink_api::rollup::Keep;

use super::{Layout, Table, failed, interval, width_ms};
use crate::config::{Config, literal};

/// Age at which a chunk becomes columnar, in days: late flows seldom come later.
const COLUMNSTORE_AFTER_DAYS: u32 = 1;

/// First version that speaks of `columnstore`.
const COLUMNSTORE_VERSION: (u32, u32) = (2, 18);

/// Whether the extension is there, made when the server offers it and the role may.
pub fn enable(client: &mut Client) -> Result<bool, SinkError> {
    let there = "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'";
    let offered = "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'";
    if !client.query(there, &[]).map_err(failed)?.is_empty() {
        return Ok(true);
    }
    if client.query(offered, &[]).map_err(failed)?.is_empty() {
        tracing::warn!("the server has no TimescaleDB: native partitions and our own retention are used");
        return Ok(false);
    }
    // Ours, if an earlier run made it: the extension brings its own.
    let drop_ours = "DROP FUNCTION IF EXISTS public.time_bucket(interval, timestamptz)";
    let made = client.batch_execute(&format!("BEGIN; {drop_ours}; CREATE EXTENSION timescaledb; COMMIT"));
    if let Err(error) = &made {
        tracing::warn!(%error, "CREATE EXTENSION timescaledb was refused: native partitions are used");
        client.batch_execute("ROLLBACK").map_err(failed)?;
    }
    Ok(made.is_ok())
}

/// Version of the extension that the database has or will be given, and whether its licence allows policies, which is known
/// once the database has it. Where it is not among the server's preloaded libraries it cannot be made: the settings of its
/// loader are missing then.
pub fn offered(client: &mut Client) -> Result<Option<(String, Option<bool>)>, SinkError> {
    let sql = "SELECT coalesce(installed_version, default_version), current_setting('timescaledb.license', true) \
               FROM pg_available_extensions WHERE name = 'timescaledb' \
               AND current_setting('timescaledb.max_background_workers', true) IS NOT NULL";
    let row = client.query_opt(sql, &[]).map_err(failed)?;
    Ok(row.map(|row| {
        let licence: Option<&str> = row.get(1);
        (row.get(0), licence.map(|licence| allows_policies(Some(licence))))
    }))
}

/// Whether a licence, as the server names it, is the one with policies and columnstore.
fn allows_policies(licence: Option<&str>) -> bool {
    licence == Some("timescale")
}

/// What the extension's licence allows.
pub fn layout(tx: &mut Transaction<'_>) -> Result<Layout, SinkError> {
    let row = tx.query_one("SELECT current_setting('timescaledb.license', true)", &[]).map_err(failed)?;
    let licence: Option<String> = row.get(0);
    let policies = allows_policies(licence.as_deref());
    if !policies {
        tracing::warn!(?licence, "TimescaleDB's licence has no policies: chunks are not compressed, retention is ours");
    }
    Ok(Layout::Hypertables { policies })
}

/// Makes a hypertable of a new table.
pub fn hypertable(tx: &mut Transaction<'_>, config: &Config, table: &Table) -> Result<(), SinkError> {
    let hours = chunk_hours(config, table);
    tx.batch_execute(&format!(
        "SELECT create_hypertable({}, {}, chunk_time_interval => INTERVAL '{hours} hours', create_default_indexes => false)",
        literal(&table.quoted),
        literal(table.time),
    ))
    .map_err(failed)
}

fn chunk_hours(config: &Config, table: &Table) -> i64 {
    match table.keep {
        Keep::Detail => config.chunk_interval_hours.into(),
        Keep::Aggregate => width_ms(table.keep) / sink_api::time::HOUR_MS,
    }
}

/// Brings chunk width, columnstore and retention in line with the configuration. A policy that is there with another
/// interval is replaced: `if_not_exists` would keep it.
pub fn policies(client: &mut Client, config: &Config, table: &Table) -> Result<(), SinkError> {
    let name = literal(&table.quoted);
    let width = format!("SELECT set_chunk_time_interval({name}, INTERVAL '{} hours')", chunk_hours(config, table));
    client.batch_execute(&width).map_err(failed)?;
    retention(client, config, table, &name)?;
    if table.keep == Keep::Detail {
        columnstore(client, config, table, &name)?;
    }
    Ok(())
}

fn retention(client: &mut Client, config: &Config, table: &Table, name: &str) -> Result<(), SinkError> {
    let after = interval(table.keep, config);
    let wanted = format!(
        "SELECT count(*) FILTER (WHERE (config->>'drop_after')::interval = INTERVAL {after}), count(*) \
         FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention' \
         AND hypertable_schema = $1 AND hypertable_name = $2"
    );
    let row = client.query_one(&wanted, &[&config.schema, &table.name]).map_err(failed)?;
    let (same, any): (i64, i64) = (row.get(0), row.get(1));
    if any > 0 && same == 0 {
        client.batch_execute(&format!("SELECT remove_retention_policy({name})")).map_err(failed)?;
    }
    if same == 0 {
        client
            .batch_execute(&format!("SELECT add_retention_policy({name}, drop_after => INTERVAL {after})"))
            .map_err(failed)?;
    }
    Ok(())
}

fn columnstore(client: &mut Client, config: &Config, table: &Table, name: &str) -> Result<(), SinkError> {
    let sql = "SELECT 1 FROM timescaledb_information.jobs WHERE proc_name IN ('policy_compression', 'policy_columnstore') \
               AND hypertable_schema = $1 AND hypertable_name = $2";
    if !client.query(sql, &[&config.schema, &table.name]).map_err(failed)?.is_empty() {
        return Ok(());
    }
    let segment = if table.columns.iter().any(|c| c.name == "host") { "role" } else { "nas_id" };
    let segment = if table.columns.iter().any(|c| c.name == segment) { segment } else { "" };
    let order = format!("{} DESC", table.time);
    let after = format!("INTERVAL '{COLUMNSTORE_AFTER_DAYS} days'");
    let statements = if version(client)? >= COLUMNSTORE_VERSION {
        format!(
            "ALTER TABLE {} SET (timescaledb.enable_columnstore, timescaledb.segmentby = '{segment}', \
             timescaledb.orderby = '{order}'); CALL add_columnstore_policy({name}, after => {after})",
            table.quoted
        )
    } else {
        format!(
            "ALTER TABLE {} SET (timescaledb.compress, timescaledb.compress_segmentby = '{segment}', \
             timescaledb.compress_orderby = '{order}'); SELECT add_compression_policy({name}, {after})",
            table.quoted
        )
    };
    // A CALL cannot run together with other statements in one implicit transaction.
    statements.split("; ").try_for_each(|statement| client.batch_execute(statement)).map_err(failed)
}

/// Drops the chunks that end before a time; gives how many. For licences without policies.
pub fn drop_before(client: &mut Client, table: &Table, cutoff_ms: i64) -> Result<u64, SinkError> {
    let (name, cutoff) = (literal(&table.quoted), literal(&sink_api::time::rfc3339(cutoff_ms)));
    let sql = format!("SELECT count(*) FROM drop_chunks({name}, older_than => timestamptz {cutoff})");
    let row = client.query_one(&sql, &[]).map_err(failed)?;
    Ok(row.get::<_, i64>(0) as u64)
}

fn version(client: &mut Client) -> Result<(u32, u32), SinkError> {
    let row =
        client.query_one("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'", &[]).map_err(failed)?;
    let text: String = row.get(0);
    let mut parts = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    Ok((parts.next().unwrap_or(0), parts.next().unwrap_or(0)))
}
