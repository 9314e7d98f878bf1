//! Tables, made and migrated under an advisory lock.
//!
//! Schema `netflow` holds what the sink itself remembers (`cursors`, `schema_version`) and the views for users of the older
//! collector. The tables of flows and rollups stand in the configured schema. A table that is there already must have the
//! columns that it would be made with; more columns, if they may be null, are left alone.

mod indexes;
mod narrow;
mod partitions;
mod timescale;

use postgres::{Client, Transaction};
use sink_api::rollup::Keep;
use sink_api::{Field, RollupDef, SinkError};

use crate::alerts;
use crate::columns::{BUCKET, ColumnDef, flow_columns, rollup_columns};
use crate::config::{Config, literal, quote};
use crate::connect::sink_error;

pub use indexes::summarise;
pub use narrow::found;
pub use partitions::{Partitions, width_ms};

/// The schema's version; grows when what stands here changes so that an older collector could not go on with it. Indexes and
/// columns that are added do not.
const VERSION: i32 = 1;

/// Key of the advisory lock under which tables and partitions are made, the same for every collector.
pub const LOCK_KEY: i64 = 0x6e65_7466_6c6f_7701;

/// One table of rows.
#[derive(Clone, Debug)]
pub struct Table {
    /// Without schema, unquoted.
    pub name: String,
    /// With schema, quoted.
    pub quoted: String,
    /// Its columns in order.
    pub columns: Vec<ColumnDef>,
    /// By which it is partitioned.
    pub time: &'static str,
    /// Retention class.
    pub keep: Keep,
    /// Whether rows are written by subscriber, and an index finds them so.
    pub by_subscriber: bool,
}

impl Table {
    /// The table of flows.
    pub fn flows(config: &Config) -> Self {
        let (name, quoted) = (config.table.clone(), config.flows_table());
        let by_subscriber = config.columns.contains(&Field::SubscriberId);
        let columns = flow_columns(&config.columns);
        Self { name, quoted, columns, time: "time", keep: Keep::Detail, by_subscriber }
    }

    /// Whether it holds a rollup.
    pub fn is_rollup(&self) -> bool {
        self.time == BUCKET
    }

    /// A rollup's table.
    pub fn rollup(config: &Config, def: &RollupDef) -> Self {
        let name = config.rollup_name(&def.name);
        let (quoted, columns) = (config.quoted(&name), rollup_columns(def));
        Self { name, quoted, columns, time: BUCKET, keep: def.keep, by_subscriber: false }
    }

    /// Whether it has a column of this name.
    pub fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    /// The statement that takes its rows.
    pub fn copy(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| quote(column.name)).collect();
        format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.quoted, names.join(", "))
    }

    fn definition(&self) -> String {
        let column = |column: &ColumnDef| {
            let not_null = if column.not_null { " NOT NULL" } else { "" };
            format!("{} {}{not_null}", quote(column.name), column.sql.type_name())
        };
        self.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }
}

/// How rows are divided by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Native partitions, made and dropped by us.
    Native,
    /// Hypertables. `policies` says whether the licence allows retention policies and the columnstore.
    Hypertables {
        /// Whether background policies may be used.
        policies: bool,
    },
}

/// What was made or found.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// How rows are divided by time.
    pub layout: Layout,
    /// The table of alerts; `None` when another table has its name.
    pub alerts: Option<Table>,
}

/// Makes or migrates everything. Another table that is named like the one of alerts is left alone: then alerts are not stored.
///
/// # Errors
/// `Fatal` when a table of the same name and another shape, or a newer schema, is there.
pub fn prepare(client: &mut Client, config: &Config, rollups: &[RollupDef]) -> Result<Prepared, SinkError> {
    let extension = config.timescale && timescale::enable(client)?;
    let mut tx = client.transaction().map_err(failed)?;
    lock(&mut tx)?;
    let ours = own_tables(&mut tx, config)?;
    if ours {
        narrow::widen(&mut tx, config)?;
    }
    let layout = if extension { timescale::layout(&mut tx)? } else { Layout::Native };
    for table in tables(config, rollups) {
        make(&mut tx, config, &table, layout)?;
    }
    let alerts = alerts_table(&mut tx, config, layout)?;
    time_bucket(&mut tx)?;
    let flows = narrow::with_nulls(&mut tx, config)?;
    tx.batch_execute(&include_str!("views.sql").replace("{flows}", &flows)).map_err(failed)?;
    tx.commit().map_err(failed)?;
    if let Layout::Hypertables { policies: true } = layout {
        for table in tables(config, rollups).iter().chain(&alerts) {
            timescale::policies(client, config, table)?;
        }
    }
    Ok(Prepared { layout, alerts })
}

/// The server's version, and how rows are or will be divided by time.
///
/// # Errors
/// Of the connection.
pub fn describe(client: &mut Client, timescale: bool) -> Result<String, SinkError> {
    let version: String = client.query_one("SHOW server_version", &[]).map_err(failed)?.get(0);
    let divided = match if timescale { timescale::offered(client)? } else { None } {
        Some((extension, Some(true))) => format!("TimescaleDB {extension}: hypertables with policies"),
        Some((extension, None)) => format!("TimescaleDB {extension}, to be made here: hypertables"),
        Some((extension, Some(false))) => {
            format!("TimescaleDB {extension} with the Apache licence: hypertables, retention by the collector")
        }
        None if timescale => "no TimescaleDB: native daily partitions, retention by the collector".to_owned(),
        None => "native daily partitions, retention by the collector".to_owned(),
    };
    Ok(format!("PostgreSQL {version}, {divided}"))
}

/// Every table of flows and rollups.
pub fn tables(config: &Config, rollups: &[RollupDef]) -> Vec<Table> {
    let rollups = rollups.iter().map(|def| Table::rollup(config, def));
    std::iter::once(Table::flows(config)).chain(rollups).collect()
}

/// Takes the lock until the transaction ends.
pub fn lock(tx: &mut Transaction<'_>) -> Result<(), SinkError> {
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK_KEY]).map(drop).map_err(failed)
}

/// Makes what the sink itself remembers; gives whether tables were made here before.
fn own_tables(tx: &mut Transaction<'_>, config: &Config) -> Result<bool, SinkError> {
    tx.batch_execute(include_str!("own.sql")).map_err(failed)?;
    tx.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quote(&config.schema))).map_err(failed)?;
    let target = config.target();
    let row =
        tx.query_opt("SELECT version FROM netflow.schema_version WHERE target = $1", &[&target]).map_err(failed)?;
    match row.map(|row| row.get::<_, i32>(0)) {
        Some(version) if version > VERSION => Err(SinkError::Fatal(format!(
            "the tables of {target} have schema version {version}, made by a newer collector; this one knows {VERSION}"
        ))),
        Some(_) => Ok(true),
        None => {
            let insert = "INSERT INTO netflow.schema_version (target, version) VALUES ($1, $2)";
            tx.execute(insert, &[&target, &VERSION]).map(|_| false).map_err(failed)
        }
    }
}

fn make(tx: &mut Transaction<'_>, config: &Config, table: &Table, layout: Layout) -> Result<(), SinkError> {
    let Some(kind) = kind_of(tx, config, table)? else {
        let partitioned =
            if layout == Layout::Native { format!("PARTITION BY RANGE ({})", table.time) } else { String::new() };
        let create = format!("CREATE TABLE {} ({}) {partitioned}", table.quoted, table.definition());
        tx.batch_execute(&create).map_err(failed)?;
        if layout != Layout::Native {
            timescale::hypertable(tx, config, table)?;
        }
        return indexes::make(tx, table);
    };
    check_shape(tx, config, table)?;
    match (kind.as_str(), layout) {
        ("p", Layout::Native) | ("r", Layout::Hypertables { .. }) => indexes::migrate(tx, config, table),
        ("p", _) => Err(SinkError::Fatal(format!(
            "table {} has native partitions, which cannot become a hypertable: use kind = \"postgres\" or another table",
            table.quoted
        ))),
        _ => Err(SinkError::Fatal(format!(
            "{} is there and is no partitioned table: choose another table",
            table.quoted
        ))),
    }
}

/// The platform whose database this is may have a table of that name: flows go on without alerts then.
fn alerts_table(tx: &mut Transaction<'_>, config: &Config, layout: Layout) -> Result<Option<Table>, SinkError> {
    let table = alerts::table(config);
    let is_there = kind_of(tx, config, &table)?.is_some();
    match make(tx, config, &table, layout) {
        Ok(()) => Ok(Some(table)),
        Err(SinkError::Fatal(reason)) if is_there => {
            tracing::warn!("alerts are not stored: {reason}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// `pg_class.relkind` of the table, when it is there.
fn kind_of(tx: &mut Transaction<'_>, config: &Config, table: &Table) -> Result<Option<String>, SinkError> {
    let sql = "SELECT c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2";
    let row = tx.query_opt(sql, &[&config.schema, &table.name]).map_err(failed)?;
    Ok(row.map(|row| row.get(0)))
}

/// Compares columns by name and type, and names the differences.
fn check_shape(tx: &mut Transaction<'_>, config: &Config, table: &Table) -> Result<(), SinkError> {
    let sql = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull AND NOT a.atthasdef \
               FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = tx.query(sql, &[&config.schema, &table.name]).map_err(failed)?;
    let found: Vec<(String, String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let mut differences = Vec::new();
    for column in &table.columns {
        match found.iter().find(|(name, _, _)| name == column.name) {
            None => differences.push(format!("column {} is missing", column.name)),
            Some((_, sql, _)) if sql != column.sql.type_name() => {
                differences.push(format!("column {} is {sql} instead of {}", column.name, column.sql.type_name()));
            }
            Some(_) => {}
        }
    }
    let required =
        found.iter().filter(|(name, _, required)| *required && !table.columns.iter().any(|c| c.name == name));
    differences.extend(required.map(|(name, _, _)| format!("column {name} must not be null but is never written")));
    if differences.is_empty() {
        return Ok(());
    }
    Err(SinkError::Fatal(format!("table {} has another shape: {}", table.quoted, differences.join(", "))))
}

/// Makes `time_bucket` where no extension brings it, so that queries written for TimescaleDB run.
fn time_bucket(tx: &mut Transaction<'_>) -> Result<(), SinkError> {
    let sql = "SELECT 1 FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proname = 'time_bucket' \
               AND pg_function_is_visible(p.oid) AND n.nspname <> 'netflow'";
    if tx.query(sql, &[]).map_err(failed)?.is_empty() {
        return tx.batch_execute(include_str!("time_bucket.sql")).map_err(failed);
    }
    Ok(())
}

/// Brings retention in line with the clock: drops partitions and chunks that are too old, where no policy does it. Gives
/// how many.
///
/// # Errors
/// As for [`prepare`].
pub fn retain(
    client: &mut Client,
    config: &Config,
    layout: Layout,
    tables: &[Table],
    now_ms: i64,
) -> Result<u64, SinkError> {
    let mut dropped = 0;
    for table in tables {
        let cutoff_ms = cutoff_ms(config, table.keep, now_ms);
        dropped += match layout {
            Layout::Native => partitions::drop_before(client, config, table, cutoff_ms)?,
            Layout::Hypertables { .. } => timescale::drop_before(client, table, cutoff_ms)?,
        };
    }
    Ok(dropped)
}

/// The first time that is kept of a retention class.
pub fn cutoff_ms(config: &Config, keep: Keep, now_ms: i64) -> i64 {
    use jiff::{Span, Timestamp, tz::TimeZone};
    const DAY_MS: i64 = sink_api::time::DAY_MS;
    match keep {
        Keep::Detail => now_ms.saturating_sub(i64::from(config.retention.detail_days) * DAY_MS),
        Keep::Aggregate => {
            let months = config.retention.aggregate_months;
            let calendar = || {
                let now = Timestamp::from_millisecond(now_ms).ok()?.to_zoned(TimeZone::UTC);
                let then = now.checked_sub(Span::new().try_months(months).ok()?).ok()?;
                Some(then.timestamp().as_millisecond())
            };
            calendar().unwrap_or_else(|| now_ms.saturating_sub(i64::from(months) * 31 * DAY_MS))
        }
    }
}

/// An interval of SQL.
fn interval(keep: Keep, config: &Config) -> String {
    match keep {
        Keep::Detail => literal(&format!("{} days", config.retention.detail_days)),
        Keep::Aggregate => literal(&format!("{} months", config.retention.aggregate_months)),
    }
}

fn failed(error: postgres::Error) -> SinkError {
    match sink_error("schema", &error) {
        // Nothing of the collector's data is written here: a refusal is a person's task.
        SinkError::Reject(reason) => SinkError::Fatal(reason),
        other => other,
    }
}
