//! What the endpoint asks of the rest of the process. The application implements [`Collector`]; nothing here knows a stage.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::held::{HeldDropped, HeldError, HeldPage, HeldRecord, HeldReplayed, HeldWanted};
use crate::control::alerts::Board;
use crate::control::leases::LeaseBook;
use crate::control::state::ExporterState;
use crate::flow::{Addr, FlowStore, RollupDef, Text};
use crate::telemetry::Exposition;
use crate::telemetry::ledger::Ledger;

/// The process, as the endpoint sees it. Called from many threads at once. Apart from [`Collector::ingest`],
/// [`Collector::reload`], [`Collector::emit_open_sums`] and what is about the quarantine nothing here may wait.
pub trait Collector: Send + Sync {
    /// The store of a sink's name; `None` stands for the one that answers by default.
    fn store(&self, name: Option<&str>) -> Option<Arc<dyn FlowStore>>;

    /// Names that [`Collector::store`] knows, the default one first.
    fn store_names(&self) -> Vec<String>;

    /// The loss ledger.
    fn ledger(&self) -> &Ledger;

    /// Adds everything that the stages count to a scrape, the ledger and the sinks included.
    fn expose(&self, out: &mut Exposition);

    /// Every exporter ever heard, with its counts of all runs, this one included. None where nothing is remembered.
    fn exporters_of_all_runs(&self) -> BTreeMap<Addr, ExporterState> {
        BTreeMap::new()
    }

    /// Every site that is known by name.
    fn sites(&self) -> Vec<Site> {
        Vec::new()
    }

    /// Who has which address now; `None` where no flows are received.
    fn leases(&self) -> Option<&LeaseBook> {
        None
    }

    /// Every sink in the order of the configuration.
    fn sinks(&self) -> Vec<SinkStatus>;

    /// The alerts; none where nothing is watched for.
    fn alerts(&self) -> Option<Arc<Board>> {
        None
    }

    /// Takes datagrams back to back as if the exporter had sent them. Returns once they are in the log, as durable as the
    /// log's durability says.
    ///
    /// # Errors
    /// Nothing was taken.
    fn ingest(&self, exporter: IpAddr, body: &[u8]) -> Result<Ingested, IngestError>;

    /// Every socket that receives; none where datagrams come another way.
    fn sockets(&self) -> Vec<SocketStatus> {
        Vec::new()
    }

    /// Whether it receives, stores and can answer.
    fn readiness(&self) -> Readiness;

    /// The rollups that are kept.
    fn rollups(&self) -> Arc<Vec<RollupDef>>;

    /// The configuration in force, secrets masked.
    fn config(&self) -> serde_json::Value;

    /// Reads the configuration again and puts into force what can change while running.
    ///
    /// # Errors
    /// Every problem of the file; then nothing was changed.
    fn reload(&self) -> Result<Reloaded, Vec<String>>;

    /// What was set aside.
    ///
    /// # Errors
    /// A sink that is not there; a folder that cannot be read.
    fn held(&self, _: &HeldWanted<'_>) -> Result<HeldPage, HeldError> {
        Ok(HeldPage::default())
    }

    /// One record that was set aside, with its first rows.
    ///
    /// # Errors
    /// A record that is not there, or cannot be read.
    fn held_record(&self, _id: &str, _rows_max: usize) -> Result<HeldRecord, HeldError> {
        Err(HeldError::nowhere())
    }

    /// Brings what a sink refused to it again: one record, or all, or those after one. Waits for it.
    ///
    /// # Errors
    /// A sink or record that is not there; a sink that takes no data now.
    fn replay_held(&self, _sink: &str, _id: Option<&str>, _after: Option<&str>) -> Result<HeldReplayed, HeldError> {
        Err(HeldError::nowhere())
    }

    /// Drops one record that a sink refused, or all.
    ///
    /// # Errors
    /// As for [`Collector::replay_held`].
    fn drop_held(&self, _sink: &str, _id: Option<&str>) -> Result<HeldDropped, HeldError> {
        Err(HeldError::nowhere())
    }

    /// Asks the aggregator to emit the sums of open buckets and waits for it, for a moment at the most. Called before
    /// questions that reach into the last minutes, at most once a second.
    fn emit_open_sums(&self);

    /// The clock, ms since the Unix epoch.
    fn now_ms(&self) -> i64;
}

/// What became of datagrams. Everything accepted is in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ingested {
    /// Datagrams that were taken.
    pub accepted_datagrams: u64,
    /// Flows in them.
    pub accepted_flows: u64,
    /// Datagrams that were not.
    pub rejected: Vec<Rejected>,
}

/// A datagram that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rejected {
    /// Where it begins in the body, bytes.
    pub offset: u64,
    /// Why not. What follows a datagram whose end cannot be found is rejected with it.
    pub reason: String,
}

/// Why datagrams were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngestError {
    /// The queue is full; worth another try after this many seconds.
    Busy {
        /// Pause in seconds.
        retry_after_s: u64,
    },
    /// They cannot be taken: the log is stopped or failed.
    Failed(String),
    /// They were taken, but are not in the log yet: sending them again would count them twice.
    Late,
}

/// A socket that receives datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct SocketStatus {
    /// The address that it listens on.
    pub address: String,
    /// Its number among the sockets of that address.
    pub index: u64,
    /// Datagrams that it gave.
    pub datagrams: u64,
    /// Datagrams that the kernel dropped because its buffer was full.
    pub kernel_drops: u64,
    /// Size of its buffer as the kernel granted it, bytes.
    pub receive_buffer_bytes: u64,
}

/// A site and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its access server.
    pub nas_id: Text,
    /// Its name.
    pub site: Text,
    /// Committed information rate, bit/s; 0 = not stated.
    pub cir_bps: u64,
}

/// Whether the process is ready, check by check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Readiness {
    /// Whether every check passed.
    pub ready: bool,
    /// What is looked at: `ok`, or what is wrong.
    pub checks: BTreeMap<String, String>,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// Keys whose value differs from the one before.
    pub changed: Vec<String>,
    /// Those whose new value is in force.
    pub applied: Vec<String>,
    /// Those that keep their old value until the next start, each with its reason.
    pub needs_restart: BTreeMap<String, String>,
    /// What else is to be known, a line each.
    pub notes: Vec<String>,
}

/// State of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// Connecting, creating or migrating.
    #[default]
    Opening,
    /// Taking what comes.
    Running,
    /// Waiting before the next try.
    Retrying,
    /// Waits for a person.
    Failed,
    /// Closed.
    Stopped,
}

/// A sink's status and its part of the ledger: `received_flows` = delivered + waiting + set aside + dropped (by reason).
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct SinkStatus {
    /// Name in the configuration.
    pub name: String,
    /// Kind, such as `parquet`.
    pub kind: String,
    /// What it is doing.
    pub state: SinkState,
    /// Whether its store can answer questions.
    pub answers_questions: bool,
    /// Log records behind the log's end.
    pub lag_records: u64,
    /// Flows behind the log's end.
    pub waiting_flows: u64,
    /// Age of the oldest record that waits, s.
    pub lag_seconds: f64,
    /// Flows that the log took for it.
    pub received_flows: u64,
    /// Flows that are durable in the store.
    pub delivered_flows: u64,
    /// Flows set aside in quarantine because the store refuses them.
    pub set_aside_flows: u64,
    /// Flows not stored, by reason.
    pub dropped_flows: BTreeMap<String, u64>,
    /// Tries that failed and were repeated.
    pub retries: u64,
    /// Bytes held in its place, where it knows.
    pub stored_bytes: Option<u64>,
    /// The latest error, with its time in front.
    pub last_error: Option<String>,
}

impl SinkStatus {
    /// Flows that the store will never hold.
    pub fn lost_flows(&self) -> u64 {
        self.set_aside_flows + self.dropped_flows.values().sum::<u64>()
    }

    /// What its sums do not account for; 0 when they close.
    pub fn unaccounted_flows(&self) -> i64 {
        let placed = self.delivered_flows + self.waiting_flows + self.lost_flows();
        self.received_flows as i64 - placed as i64
    }
}
