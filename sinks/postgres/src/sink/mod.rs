//! Writing: one group, one transaction, cursor included.

mod reject;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use postgres::{Client, Transaction};
use sink_api::rollup::{Keep, Record, RollupRows};
use sink_api::sink::{Group, SinkCounters};
use sink_api::time::DAY_MS;
use sink_api::{Entry, Field, FlowBatch, Sink, SinkContext, SinkError, Uuid};

use crate::columns::flow_fields;
use crate::config::Config;
use crate::connect::{chain, connect, sink_error};
use crate::encode::{HEADER, Rows, TRAILER, unstorable};
use crate::schema::{self, Layout, Partitions, Table};

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
    client: Client,
    layout: Layout,
    partitions: Partitions,
    flows: Table,
    fields: Vec<Field>,
    rollups: BTreeMap<String, Table>,
    next_retain_ms: i64,
    expired_flows: u64,
    /// Encoding buffer, kept between groups.
    buffer: Vec<u8>,
}

/// What a group brings.
#[derive(Default)]
struct Pulled {
    flows: Vec<FlowRows>,
    sums: Vec<(Arc<sink_api::RollupSums>, usize, Vec<u32>)>,
    last: Option<u64>,
    expired: u64,
}

/// Flows of one entry, with the rows that are stored.
struct FlowRows {
    entry: Entry,
    batch: Arc<FlowBatch>,
    rows: Vec<u32>,
}

impl FlowRows {
    fn batch(&self) -> &FlowBatch {
        &self.batch
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
        let mut client = session(config)?;
        let layout = schema::prepare(&mut client, config, &context.rollups)?;
        let rollups = context.rollups.iter().map(|def| (def.name.to_string(), Table::rollup(config, def)));
        Ok(Self {
            flows: Table::flows(config),
            fields: flow_fields(),
            rollups: rollups.collect(),
            config: config.clone(),
            context: context.clone(),
            client,
            layout,
            partitions: Partitions::default(),
            next_retain_ms: i64::MIN,
            expired_flows: 0,
            buffer: Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4),
        })
    }

    fn log_id(&self) -> Uuid {
        Uuid::from_bytes(self.context.log_id.0)
    }

    /// Takes all entries of a group: they share their batches with the log, so that costs no copy.
    fn pull(&self, group: &mut dyn Group) -> Result<Pulled, SinkError> {
        let mut pulled = Pulled::default();
        let now_ms = (self.context.clock)();
        while let Some(entry) = group.next()? {
            pulled.last = Some(entry.position);
            match &entry.record {
                Record::Flows(batch) => {
                    let batch = Arc::clone(batch);
                    let rows = self.storable(&entry, &batch, now_ms, group, &mut pulled.expired);
                    pulled.flows.push(FlowRows { entry, batch, rows });
                }
                Record::Sums(sums) => {
                    for (index, rollup) in sums.rows.iter().enumerate() {
                        if let Some(table) = self.rollups.get(&*rollup.rollup) {
                            let kept = self.kept(table.keep, now_ms);
                            let rows =
                                (0..rollup.len() as u32).filter(|row| kept.contains(&rollup.bucket[*row as usize]));
                            pulled.sums.push((Arc::clone(sums), index, rows.collect()));
                        }
                    }
                }
            }
        }
        Ok(pulled)
    }

    /// Times whose rows are stored. Rollups keep the whole bucket in which the retention ends.
    fn kept(&self, keep: Keep, now_ms: i64) -> std::ops::Range<i64> {
        schema::cutoff_ms(&self.config, keep, now_ms).saturating_sub(match keep {
            Keep::Detail => 0,
            Keep::Aggregate => schema::width_ms(keep),
        })..now_ms.saturating_add(FUTURE_MS_MAX)
    }

    fn storable(
        &self,
        entry: &Entry,
        batch: &FlowBatch,
        now_ms: i64,
        group: &mut dyn Group,
        expired: &mut u64,
    ) -> Vec<u32> {
        let kept = self.kept(Keep::Detail, now_ms);
        let mut rows = Vec::with_capacity(batch.len());
        for (row, time) in batch.time.values().iter().enumerate() {
            if !kept.contains(time) {
                *expired += 1;
            } else if let Some(reason) = unstorable(batch, row) {
                group.set_aside(entry, row, reason);
            } else {
                rows.push(row as u32);
            }
        }
        rows
    }

    /// Makes the partitions that the rows need.
    fn make_room(&mut self, pulled: &Pulled) -> Result<(), SinkError> {
        if self.layout != Layout::Native {
            return Ok(());
        }
        let (client, config) = (&mut self.client, &self.config);
        let times = pulled.flows.iter().flat_map(|part| {
            let times = part.batch.time.values();
            part.rows.iter().map(move |row| times[*row as usize])
        });
        self.partitions.ensure(client, config, &self.flows, times)?;
        for (sums, index, rows) in &pulled.sums {
            let rollup = &sums.rows[*index];
            if let Some(table) = self.rollups.get(&*rollup.rollup) {
                let times = rows.iter().map(|row| rollup.bucket[*row as usize]);
                self.partitions.ensure(client, config, table, times)?;
            }
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
        let rejected = reject::find(&self.config, &self.flows, &pulled.flows)?;
        if rejected.is_empty() {
            // It is a rollup's row that is refused: those are not ours to drop.
            return Err(SinkError::Reject(reason));
        }
        for (batch, row, _) in &rejected {
            pulled.flows[*batch].rows.retain(|kept| kept != row);
        }
        self.client = session(&self.config)?;
        self.commit(pulled, last)?;
        for (batch, row, reason) in &rejected {
            group.set_aside(&pulled.flows[*batch].entry, *row as usize, reason);
        }
        Ok(())
    }

    fn commit(&mut self, pulled: &Pulled, last: u64) -> Result<(), SinkError> {
        let log_id = self.log_id();
        let target = self.config.target();
        let mut tx = self.client.transaction().map_err(|e| sink_error("begin", &e))?;
        let flows = pulled.flows.iter().map(|part| (Rows::of_flows(part.batch(), &self.fields), part.rows.as_slice()));
        copy(&mut tx, &self.flows, flows, &mut self.buffer)?;
        for (name, table) in &self.rollups {
            let of_table = pulled.sums.iter().filter_map(|(sums, index, rows)| {
                let rollup: &RollupRows = &sums.rows[*index];
                let has_cut = table.columns.iter().any(|column| column.name == "cut_bytes");
                (*rollup.rollup == **name).then(|| (Rows::of_rollup(rollup, has_cut), rows.as_slice()))
            });
            copy(&mut tx, table, of_table, &mut self.buffer)?;
        }
        let upsert = "INSERT INTO netflow.cursors (target, log_id, position) VALUES ($1, $2::text::uuid, $3) \
                      ON CONFLICT (target, log_id) DO UPDATE SET position = excluded.position, updated_at = now()";
        tx.execute(upsert, &[&target, &log_id.to_string(), &(last as i64)]).map_err(|e| sink_error("cursor", &e))?;
        tx.commit().map_err(|e| sink_error("commit", &e))
    }
}

/// Sends rows into a table by one COPY; no rows, no COPY.
fn copy<'a>(
    tx: &mut Transaction<'_>,
    table: &Table,
    batches: impl Iterator<Item = (Rows<'a>, &'a [u32])>,
    buffer: &mut Vec<u8>,
) -> Result<(), SinkError> {
    let mut batches = batches.filter(|(_, rows)| !rows.is_empty()).peekable();
    if batches.peek().is_none() {
        return Ok(());
    }
    let mut writer = tx.copy_in(&table.copy()).map_err(|e| sink_error(&table.name, &e))?;
    let broken = |error: std::io::Error| copy_error(&table.name, &error);
    buffer.clear();
    buffer.extend_from_slice(HEADER);
    for (encoder, rows) in batches {
        for row in rows {
            encoder.write(*row as usize, buffer);
            if buffer.len() >= PIECE_BYTES {
                writer.write_all(buffer).map_err(broken)?;
                buffer.clear();
            }
        }
    }
    buffer.extend_from_slice(TRAILER);
    writer.write_all(buffer).map_err(broken)?;
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
        let row = self
            .client
            .query_opt(sql, &[&self.config.target(), &self.log_id().to_string()])
            .map_err(|e| sink_error("cursor", &e))?;
        Ok(row.map(|row| row.get::<_, i64>(0) as u64))
    }

    fn write(&mut self, group: &mut dyn Group) -> Result<(), SinkError> {
        let mut pulled = self.pull(group)?;
        let Some(last) = pulled.last else { return Ok(()) };
        self.make_room(&pulled)?;
        match self.commit(&pulled, last) {
            Err(SinkError::Reject(reason)) => self.commit_others(&mut pulled, last, group, reason)?,
            other => other?,
        }
        self.expired_flows += pulled.expired;
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), SinkError> {
        let now_ms = (self.context.clock)();
        if now_ms < self.next_retain_ms || self.layout == (Layout::Hypertables { policies: true }) {
            return Ok(());
        }
        let mut tables: Vec<Table> = self.rollups.values().cloned().collect();
        tables.push(self.flows.clone());
        if schema::retain(&mut self.client, &self.config, self.layout, &tables, now_ms)? > 0 {
            self.partitions = Partitions::default();
        }
        self.next_retain_ms = now_ms.saturating_add(RETAIN_EVERY_MS);
        Ok(())
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), SinkError> {
        self.client.close().map_err(|e| sink_error("close", &e))
    }

    fn counters(&self) -> SinkCounters {
        SinkCounters { expired_flows: self.expired_flows, stored_bytes: None }
    }
}
