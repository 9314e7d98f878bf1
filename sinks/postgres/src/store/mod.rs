//! Answers by SQL.

mod ask;
mod flows;
mod pool;
mod raw;
mod sql;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sink_api::rollup::Keep;
use sink_api::sink::Clock;
use sink_api::store::plan::{self, Plan};
use sink_api::store::{Answer, FlowStore, FlowsQuestion, FlowsSummary, Question, StoreError, TierChoice};
use sink_api::{Field, FlowBatch, RollupDef, SinkContext};

use crate::columns::names;
use crate::config::Config;
use crate::schema;
use pool::Pool;

/// The store over the sink's tables. Connects when first asked.
pub struct PostgresStore {
    name: String,
    config: Config,
    rollups: Arc<Vec<RollupDef>>,
    clock: Clock,
    pool: Pool,
}

impl PostgresStore {
    /// The store of a sink.
    pub fn new(config: &Config, context: &SinkContext) -> Self {
        Self {
            name: context.name.clone(),
            config: config.clone(),
            rollups: Arc::clone(&context.rollups),
            clock: Arc::clone(&context.clock),
            pool: Pool::default(),
        }
    }

    /// How a question is answered. One that flows with fewer columns cannot answer goes to the finest rollup that can.
    fn plan(&self, question: &Question) -> Result<Plan, StoreError> {
        let found = plan::plan(&self.name, question, &self.rollups, self.kept_from(Keep::Detail))?;
        if found.rollup.is_some() {
            return Ok(found);
        }
        match (self.has_columns(Plan::needed_fields(question)), &question.tier) {
            (Ok(()), _) => Ok(found),
            (Err(error), TierChoice::Coarsest) => plan::finest(question, &self.rollups).ok_or(error),
            (Err(error), _) => Err(error),
        }
    }

    /// Whether the table of flows is written with all of these columns.
    fn has_columns(&self, needed: impl IntoIterator<Item = Field>) -> Result<(), StoreError> {
        let missing = |field: &Field| !self.config.columns.contains(field);
        let missing: Vec<Field> = needed.into_iter().filter(missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(StoreError::Unsupported {
            store: self.name.clone(),
            reason: format!("flows are stored without {}", names(&missing)),
            remedy: "name it in `columns` of this sink, or leave that key out, for the flows from then on".to_owned(),
        })
    }

    /// Time left, for the server; nothing left is the end.
    fn left(&self, deadline: Instant) -> Result<Duration, StoreError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(StoreError::Deadline { store: self.name.clone() }) } else { Ok(left) }
    }

    /// The first time that is kept.
    fn kept_from(&self, keep: Keep) -> i64 {
        schema::cutoff_ms(&self.config, keep, (self.clock)())
    }

    /// What an error of the server means to who asked.
    fn failed(&self, error: &postgres::Error) -> StoreError {
        match error.code() {
            Some(code) if *code == postgres::error::SqlState::QUERY_CANCELED => {
                StoreError::Deadline { store: self.name.clone() }
            }
            _ => StoreError::Down { store: self.name.clone(), reason: crate::connect::chain(error) },
        }
    }
}

impl FlowStore for PostgresStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, question: &Question) -> Result<Answer, StoreError> {
        self.sums(question)
    }

    fn flows(
        &self,
        question: &FlowsQuestion,
        visit: &mut dyn FnMut(&FlowBatch, &[u32]) -> bool,
    ) -> Result<FlowsSummary, StoreError> {
        self.records(question, visit)
    }
}
