//! Writing: a group, or as much of it as one transaction should hold, is one transaction, cursor included; or, on several
//! connections, one transaction a part, each with the range of positions that it holds, and the cursor after all of them. What
//! comes next is pulled while the server works.

mod commit;
mod fold;
mod folds;
mod order;
mod parts;
mod place;
mod pulled;
mod reject;
mod summaries;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::time::Duration;

use postgres::Client;
use sink_api::sink::{Group, RefusedRow, SinkCounters};
use sink_api::time::DAY_MS;
use sink_api::{Field, LogId, Sink, SinkContext, SinkError};

use crate::config::Config;
use crate::connect::{connect, sink_error};
use crate::debug_log::DebugLog;
use crate::schema::{self, Layout, Partitions, Prepared, Table};
use commit::{Buffers, commit};
use folds::Folds;
use parts::Ranges;
use place::{Mark, Place};
use pulled::{Intake, Pulled};
use summaries::Summaries;

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
    folds: Folds,
    next_retain_ms: i64,
    expired_flows: u64,
}

/// A connection with what rows are encoded into, kept between groups.
struct Connection {
    client: Client,
    buffers: Buffers,
}

impl Connection {
    fn new(config: &Config) -> Result<Self, SinkError> {
        Ok(Self { client: session(config)?, buffers: Buffers::default() })
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
        let client = &mut connections[0].client;
        let stored = Ranges::read(client, &place)?;
        let folds = Folds::read(client, config, &context.rollups, &place, (context.clock)())?;
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
            folds,
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

    fn intake(&self) -> Intake<'_> {
        let Self { config, tables, stored, .. } = self;
        Intake { config, tables, stored, now_ms: (self.context.clock)() }
    }

    /// Stores what was pulled, and pulls what comes next meanwhile where there may be more.
    fn commit_and_pull(
        &mut self,
        pulled: &mut Pulled,
        last: u64,
        group: &mut dyn Group,
    ) -> (Result<(), SinkError>, Result<Pulled, SinkError>) {
        let now_ms = (self.context.clock)();
        let Self { config, tables, stored, place, connections, .. } = self;
        if !pulled.is_full {
            return (commit_all(connections, tables, place, pulled, last), Ok(Pulled::default()));
        }
        let intake = Intake { config, tables, stored, now_ms };
        std::thread::scope(|scope| {
            let committing = scope.spawn(|| commit_all(connections, tables, place, pulled, last));
            let next = intake.pull(group);
            (committing.join().unwrap_or_else(|panic| resume_unwind(panic)), next)
        })
    }
}

/// Stores what was pulled, on several connections where that is worth it. What is left in `pulled` after an error of
/// kind `Reject` is not stored.
fn commit_all(
    connections: &mut [Connection],
    tables: &Tables,
    place: &Place,
    pulled: &mut Pulled,
    last: u64,
) -> Result<(), SinkError> {
    if connections.len() > 1 {
        parts::commit(connections, tables, place, pulled)?;
    }
    commit(&mut connections[0], tables, place, pulled, Mark::UpTo(last))
}

impl Sink for PostgresSink {
    fn cursor(&mut self) -> Result<Option<u64>, SinkError> {
        let sql = "SELECT position FROM netflow.cursors WHERE target = $1 AND log_id = $2::text::uuid";
        let (client, place) = (&mut self.connections[0].client, &self.place);
        let row = client.query_opt(sql, &[&place.target, &place.log_id]).map_err(|e| sink_error("cursor", &e))?;
        Ok(row.map(|row| row.get::<_, i64>(0) as u64))
    }

    fn write(&mut self, group: &mut dyn Group) -> Result<(), SinkError> {
        let mut pulled = self.intake().pull(group)?;
        // One transaction, or one on each connection, after the other: each moves the cursor to where it ends.
        while let Some(last) = pulled.last {
            self.make_room(&pulled)?;
            if self.tables.flows.by_subscriber {
                self.summaries.note(&pulled.flows);
            }
            let (client, now_ms) = (&mut self.connections[0].client, (self.context.clock)());
            self.folds.note(client, &self.place, &pulled.sums, now_ms)?;
            let (outcome, next) = self.commit_and_pull(&mut pulled, last, group);
            match outcome {
                Err(SinkError::Reject(reason)) => self.commit_others(&mut pulled, last, group, reason)?,
                other => other?,
            }
            self.stored.forget_up_to(last);
            self.expired_flows += pulled.expired;
            pulled = next?;
        }
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), SinkError> {
        let (client, now_ms) = (&mut self.connections[0].client, (self.context.clock)());
        self.debug_log.write(client, &self.context)?;
        self.summaries.run(client, &self.config, self.layout, &self.tables.flows, now_ms)?;
        self.folds.run(client, &self.config, &self.place, now_ms)?;
        let has_policies = self.layout == Layout::Hypertables { policies: true };
        if now_ms < self.next_retain_ms || has_policies || self.folds.is_running() {
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
