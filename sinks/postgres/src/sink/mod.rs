//! Writing: one group, one transaction, cursor included; or, on several connections, one transaction a part of the group, each
//! with the range of positions that it holds, and the cursor after all of them.

mod order;
mod parts;
mod pulled;
mod reject;
mod summaries;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use postgres::{Client, Transaction};
use sink_api::sink::{Group, RefusedRow, SinkCounters};
use sink_api::time::DAY_MS;
use sink_api::{Field, FlowBatch, LogId, Sink, SinkContext, SinkError, Uuid};

use crate::alerts;
use crate::config::Config;
use crate::connect::{chain, connect, sink_error};
use crate::debug_log::DebugLog;
use crate::encode::{HEADER, ROWS, RowOf, Rows, TRAILER};
use crate::schema::{self, Layout, Partitions, Prepared, Table};
use parts::Ranges;
use pulled::{FlowRows, Pulled};
use summaries::Summaries;

/// Bytes that are encoded before they are handed to the connection: measured best between 64 and 256 KiB.
const PIECE_BYTES: usize = 256 * 1024;

/// How far in the future a row's time may lie; what is beyond would make partitions that never end.
const FUTURE_MS_MAX: i64 = 2 * DAY_MS;

/// Pause between two runs of the retention job.
const RETAIN_EVERY_MS: i64 = 10 * 60 * 1000;

/// An open sink.
pub struct PostgresSink {
    config: Config,
    context: SinkContext,
    place: Place,
    /// The first writes groups that are not divided, moves the cursor, and keeps house.
    connections: Vec<Connection>,
    layout: Layout,
    partitions: Partitions,
    tables: Tables,
    /// Positions above the cursor that are stored already.
    stored: Ranges,
    debug_log: DebugLog,
    summaries: Summaries,
    next_retain_ms: i64,
    expired_flows: u64,
}

/// A connection with its encoding buffer, kept between groups.
struct Connection {
    client: Client,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(config: &Config) -> Result<Self, SinkError> {
        Ok(Self { client: session(config)?, buffer: Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4) })
    }
}

/// Where rows go.
struct Tables {
    flows: Table,
    fields: Vec<Field>,
    rollups: BTreeMap<String, Table>,
    alerts: Option<Table>,
    log_id: LogId,
}

/// What a transaction says about positions.
#[derive(Clone, Copy)]
enum Mark {
    /// Everything up to here is stored.
    UpTo(u64),
    /// These, both included, are stored.
    Range(u64, u64),
}

/// Which log's cursor of which place.
struct Place {
    target: String,
    log_id: String,
}

impl Place {
    fn of(config: &Config, context: &SinkContext) -> Self {
        Self { target: config.target(), log_id: Uuid::from_bytes(context.log_id.0).to_string() }
    }

    /// Ends what earlier connections of this log have under way here, so that what is read next is all there will be: a
    /// COMMIT that reached the server before its connection was lost may still be done after we are connected again.
    fn fence(&self, client: &mut Client) -> Result<(), SinkError> {
        let failed = |e: postgres::Error| sink_error("fence", &e);
        let ours = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 \
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                    AND (classid::bigint << 32) | objid::bigint = hashtextextended($1, 0) AND pid <> pg_backend_pid()";
        client.query(ours, &[&self.lock_name()]).map_err(failed)?;
        let mut tx = client.transaction().map_err(failed)?;
        tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&self.lock_name()]).map_err(failed)?;
        tx.commit().map_err(failed)
    }

    /// Held, shared, by every transaction that writes.
    fn hold(&self, tx: &mut Transaction<'_>) -> Result<(), SinkError> {
        let sql = "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))";
        tx.execute(sql, &[&self.lock_name()]).map(drop).map_err(|e| sink_error("fence", &e))
    }

    fn lock_name(&self) -> String {
        format!("rgz-netflow {} {}", self.target, self.log_id)
    }

    fn mark(&self, tx: &mut Transaction<'_>, mark: Mark) -> Result<(), SinkError> {
        let failed = |e: postgres::Error| sink_error("cursor", &e);
        match mark {
            Mark::UpTo(last) => {
                let upsert = "INSERT INTO netflow.cursors (target, log_id, position) VALUES ($1, $2::text::uuid, $3) \
                              ON CONFLICT (target, log_id) DO UPDATE SET position = excluded.position, updated_at = now()";
                tx.execute(upsert, &[&self.target, &self.log_id, &(last as i64)]).map_err(failed)?;
                let done =
                    "DELETE FROM netflow.cursor_ranges WHERE target = $1 AND log_id = $2::text::uuid AND last <= $3";
                tx.execute(done, &[&self.target, &self.log_id, &(last as i64)]).map_err(failed)?;
            }
            Mark::Range(first, last) => {
                let insert = "INSERT INTO netflow.cursor_ranges (target, log_id, first, last) \
                              VALUES ($1, $2::text::uuid, $3, $4)";
                tx.execute(insert, &[&self.target, &self.log_id, &(first as i64), &(last as i64)]).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// A connection for writing.
fn session(config: &Config) -> Result<Client, SinkError> {
    let mut client = connect(config)?;
    let timeout_ms = config.statement_timeout.as_millis();
    let settings = format!("SET statement_timeout = {timeout_ms}; SET timezone = 'UTC'");
    client.batch_execute(&settings).map_err(|e| sink_error("connect", &e))?;
    Ok(client)
}

impl PostgresSink {
    /// Connects, makes what is missing.
    ///
    /// # Errors
    /// As the contract says.
    pub fn open(config: &Config, context: &SinkContext) -> Result<Self, SinkError> {
        let mut first = Connection::new(config)?;
        let place = Place::of(config, context);
        place.fence(&mut first.client)?;
        let Prepared { layout, alerts } = schema::prepare(&mut first.client, config, &context.rollups)?;
        let debug_log = DebugLog::open(&mut first.client, config.debug_log_rows, context)?;
        let rollups = context.rollups.iter().map(|def| (def.name.to_string(), Table::rollup(config, def)));
        let (flows, fields, rollups) = (Table::flows(config), config.columns.clone(), rollups.collect());
        let tables = Tables { flows, fields, rollups, alerts, log_id: context.log_id };
        let mut connections = vec![first];
        for _ in 1..config.connections {
            connections.push(Connection::new(config)?);
        }
        let stored = Ranges::read(&mut connections[0].client, &place)?;
        Ok(Self {
            config: config.clone(),
            context: context.clone(),
            place,
            connections,
            layout,
            partitions: Partitions::default(),
            tables,
            stored,
            debug_log,
            summaries: Summaries::default(),
            next_retain_ms: i64::MIN,
            expired_flows: 0,
        })
    }

    /// Makes the partitions that the rows need.
    fn make_room(&mut self, pulled: &Pulled) -> Result<(), SinkError> {
        if self.layout != Layout::Native {
            return Ok(());
        }
        let (client, config) = (&mut self.connections[0].client, &self.config);
        let times = pulled.flows.iter().flat_map(|part| {
            let times = part.batch.time.values();
            part.rows.iter().map(move |row| times[*row as usize])
        });
        self.partitions.ensure(client, config, &self.tables.flows, times)?;
        for sums in &pulled.sums {
            if let Some(table) = self.tables.rollups.get(&*sums.rollup().rollup) {
                let times = sums.rows.iter().map(|row| sums.rollup().bucket[*row as usize]);
                self.partitions.ensure(client, config, table, times)?;
            }
        }
        if let Some(table) = &self.tables.alerts {
            let times = pulled.alerts.iter().flat_map(|alerts| alerts.rows.iter().map(|row| row.time_ms));
            self.partitions.ensure(client, config, table, times)?;
        }
        Ok(())
    }

    /// Sets the rows aside that the server refuses, and stores the others.
    fn commit_others(
        &mut self,
        pulled: &mut Pulled,
        last: u64,
        group: &mut dyn Group,
        reason: String,
    ) -> Result<(), SinkError> {
        let rejected = reject::find(&self.config, &self.tables, &pulled.flows)?;
        if rejected.is_empty() {
            // It is a rollup's row that is refused: those are not ours to drop.
            return Err(SinkError::Reject(reason));
        }
        for (batch, row, _) in &rejected {
            pulled.flows[*batch as usize].rows.retain(|kept| kept != row);
        }
        // A failed COPY leaves its connection unusable.
        for connection in &mut self.connections {
            *connection = Connection::new(&self.config)?;
        }
        let refused = rejected.iter().map(|(batch, row, reason)| {
            let entry = &pulled.flows[*batch as usize].entry;
            RefusedRow { entry, row: *row as usize, reason }
        });
        group.set_aside(&refused.collect::<Vec<_>>())?;
        commit(&mut self.connections[0], &self.tables, &self.place, pulled, Mark::UpTo(last))
    }

    /// Stores what was pulled, on several connections where that is worth it. What is left in `pulled` after an error of
    /// kind `Reject` is not stored.
    fn commit_all(&mut self, pulled: &mut Pulled, last: u64) -> Result<(), SinkError> {
        if self.connections.len() > 1 {
            parts::commit(&mut self.connections, &self.tables, &self.place, pulled)?;
        }
        commit(&mut self.connections[0], &self.tables, &self.place, pulled, Mark::UpTo(last))
    }
}

/// One transaction: rows of every table, and what it says about positions.
fn commit(
    connection: &mut Connection,
    tables: &Tables,
    place: &Place,
    pulled: &Pulled,
    mark: Mark,
) -> Result<(), SinkError> {
    let buffer = &mut connection.buffer;
    let mut tx = connection.client.transaction().map_err(|e| sink_error("begin", &e))?;
    place.hold(&mut tx)?;
    let mut flows = encoder(&pulled.flows, &tables.fields);
    let by_subscriber = tables.flows.by_subscriber;
    let rows = if by_subscriber { order::by_subscriber(&pulled.flows) } else { order::as_they_came(&pulled.flows) };
    copy(&mut tx, &tables.flows, &mut flows, &rows, buffer)?;
    for (name, table) in &tables.rollups {
        let has_cut = table.has("cut_bytes");
        let of_table = || pulled.sums.iter().filter(|sums| *sums.rollup().rollup == **name);
        let sums: Vec<_> = of_table().map(|sums| sums.rollup()).collect();
        let rows = (0..).zip(of_table()).flat_map(|(index, sums)| sums.rows.iter().map(move |row| (index, *row)));
        copy(&mut tx, table, &mut Rows::of_rollup(&sums, has_cut), &rows.collect::<Vec<_>>(), buffer)?;
    }
    if let Some(table) = &tables.alerts {
        copy_alerts(&mut tx, table, pulled, tables.log_id)?;
    }
    place.mark(&mut tx, mark)?;
    tx.commit().map_err(|e| sink_error("commit", &e))
}

/// What writes the rows of a group.
fn encoder<'a>(flows: &'a [FlowRows], fields: &[Field]) -> Rows<'a> {
    let batches: Vec<&FlowBatch> = flows.iter().map(FlowRows::batch).collect();
    Rows::of_flows(&batches, fields)
}

/// Sends rows into a table by one COPY; no rows, no COPY.
fn copy(
    tx: &mut Transaction<'_>,
    table: &Table,
    encoder: &mut Rows<'_>,
    rows: &[RowOf],
    buffer: &mut Vec<u8>,
) -> Result<(), SinkError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut writer = tx.copy_in(&table.copy()).map_err(|e| sink_error(&table.name, &e))?;
    let broken = |error: std::io::Error| copy_error(&table.name, &error);
    buffer.clear();
    buffer.extend_from_slice(HEADER);
    for rows in rows.chunks(ROWS) {
        encoder.write(rows, buffer);
        if buffer.len() >= PIECE_BYTES {
            writer.write_all(buffer).map_err(broken)?;
            buffer.clear();
        }
    }
    buffer.extend_from_slice(TRAILER);
    writer.write_all(buffer).map_err(broken)?;
    writer.finish().map(drop).map_err(|e| sink_error(&table.name, &e))
}

fn copy_alerts(tx: &mut Transaction<'_>, table: &Table, pulled: &Pulled, log: LogId) -> Result<(), SinkError> {
    let mut rows = pulled.alerts.iter().flat_map(|alerts| alerts.rows.iter()).peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let mut writer = tx.copy_in(&table.copy()).map_err(|e| sink_error(&table.name, &e))?;
    let bytes = alerts::copy_bytes(rows, log);
    writer.write_all(&bytes).map_err(|error| copy_error(&table.name, &error))?;
    writer.finish().map(drop).map_err(|e| sink_error(&table.name, &e))
}

/// An error while COPY data were sent: what the server said stands inside it.
fn copy_error(what: &str, error: &std::io::Error) -> SinkError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<postgres::Error>()) {
        Some(error) => sink_error(what, error),
        None => SinkError::retry(format!("{what}: {}", chain(error))),
    }
}

impl Sink for PostgresSink {
    fn cursor(&mut self) -> Result<Option<u64>, SinkError> {
        let sql = "SELECT position FROM netflow.cursors WHERE target = $1 AND log_id = $2::text::uuid";
        let (client, place) = (&mut self.connections[0].client, &self.place);
        let row = client.query_opt(sql, &[&place.target, &place.log_id]).map_err(|e| sink_error("cursor", &e))?;
        Ok(row.map(|row| row.get::<_, i64>(0) as u64))
    }

    fn write(&mut self, group: &mut dyn Group) -> Result<(), SinkError> {
        let mut pulled = self.pull(group)?;
        let Some(last) = pulled.last else { return Ok(()) };
        self.make_room(&pulled)?;
        if self.tables.flows.by_subscriber {
            self.summaries.note(&pulled.flows);
        }
        match self.commit_all(&mut pulled, last) {
            Err(SinkError::Reject(reason)) => self.commit_others(&mut pulled, last, group, reason)?,
            other => other?,
        }
        self.stored.forget_up_to(last);
        self.expired_flows += pulled.expired;
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), SinkError> {
        let (client, now_ms) = (&mut self.connections[0].client, (self.context.clock)());
        self.debug_log.write(client, &self.context)?;
        self.summaries.run(client, &self.config, self.layout, &self.tables.flows, now_ms)?;
        if now_ms < self.next_retain_ms || self.layout == (Layout::Hypertables { policies: true }) {
            return Ok(());
        }
        let mut tables: Vec<Table> = self.tables.rollups.values().cloned().collect();
        tables.push(self.tables.flows.clone());
        tables.extend(self.tables.alerts.clone());
        if schema::retain(client, &self.config, self.layout, &tables, now_ms)? > 0 {
            self.partitions = Partitions::default();
        }
        self.next_retain_ms = now_ms.saturating_add(RETAIN_EVERY_MS);
        Ok(())
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), SinkError> {
        let closed = self.connections.into_iter().map(|connection| connection.client.close());
        closed.fold(Ok(()), Result::and).map_err(|e| sink_error("close", &e))
    }

    fn counters(&self) -> SinkCounters {
        SinkCounters { expired_flows: self.expired_flows, stored_bytes: None }
    }
}
