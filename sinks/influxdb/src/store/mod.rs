//! Answers through InfluxQL.
//!
//! Where a question's keys and filter are tags alone, the server sums. Otherwise points are read in pieces, with as much of
//! the filter in the query as the server understands, and summed here in bounded memory. Either way a test that must hold
//! for all rows (such as a reseller's scope) stands in the query.

mod columns;
mod conditions;
mod flows;
mod points;
mod resellers;
mod sums;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use sink_api::rollup::Keep;
use sink_api::sink::Clock;
use sink_api::store::plan::{Plan, finest, plan};
use sink_api::store::{
    Answer, FlowStore, FlowsQuestion, FlowsSummary, Question, StoreError, Tier, TierChoice, TimeRange,
};
use sink_api::{FlowBatch, RollupDef, SinkContext};

use crate::config::Config;
use crate::http::Client;
use crate::read::{self, QueryError, Series};

/// The store over the sink's points. Connects when first asked.
pub struct InfluxStore {
    name: String,
    config: Config,
    rollups: Arc<Vec<RollupDef>>,
    clock: Clock,
    client: OnceLock<Client>,
}

impl InfluxStore {
    /// The store of a sink.
    pub fn new(config: &Config, context: &SinkContext) -> Self {
        Self {
            name: context.name.clone(),
            config: config.clone(),
            rollups: Arc::clone(&context.rollups),
            clock: Arc::clone(&context.clock),
            client: OnceLock::new(),
        }
    }

    fn check(&self, deadline: Instant) -> Result<(), StoreError> {
        if Instant::now() < deadline { Ok(()) } else { Err(StoreError::Deadline { store: self.name.clone() }) }
    }

    /// How a question is answered; without detail the finest rollup that fits takes its place.
    fn plan(&self, question: &Question) -> Result<Plan, StoreError> {
        let found = plan(&self.name, question, &self.rollups, self.kept_from(Keep::Detail))?;
        if self.config.detail || found.tier != Tier::Detail {
            return Ok(found);
        }
        let finest = if question.tier == TierChoice::Coarsest { finest(question, &self.rollups) } else { None };
        finest.ok_or_else(|| self.no_detail("no rollup has these keys and filters over this range"))
    }

    fn no_detail(&self, reason: &str) -> StoreError {
        StoreError::Unsupported {
            store: self.name.clone(),
            reason: format!("{reason}, and this sink stores no flows"),
            remedy: "set detail = true in this sink, add a rollup with these keys, or ask a store that keeps flows"
                .to_owned(),
        }
    }

    fn client(&self) -> Result<&Client, StoreError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(&self.config);
        let client = client.map_err(|e| StoreError::Down { store: self.name.clone(), reason: e.to_string() })?;
        Ok(self.client.get_or_init(|| client))
    }

    fn run(
        &self,
        keep: Keep,
        statement: &str,
        deadline: Instant,
        visit: &mut dyn FnMut(&Series<'_>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        read::run(self.client()?, keep, statement, deadline, visit).map_err(|error| match error {
            QueryError::Deadline => StoreError::Deadline { store: self.name.clone() },
            QueryError::Down(reason) => StoreError::Down { store: self.name.clone(), reason },
            QueryError::Visitor(error) => error,
        })
    }

    /// The first time that is kept.
    fn kept_from(&self, keep: Keep) -> i64 {
        self.config.cutoff_ms(keep, (self.clock)())
    }
}

impl FlowStore for InfluxStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, question: &Question) -> Result<Answer, StoreError> {
        self.check(question.deadline)?;
        let plan = self.plan(question)?;
        match sums::statements(question, &plan) {
            Some(statements) => self.summed(question, &plan, &statements),
            None => self.counted(question, &plan),
        }
    }

    fn flows(
        &self,
        question: &FlowsQuestion,
        visit: &mut dyn FnMut(&FlowBatch, &[u32]) -> bool,
    ) -> Result<FlowsSummary, StoreError> {
        self.check(question.deadline)?;
        if !self.config.detail {
            return Err(self.no_detail("the question is about single flows"));
        }
        self.records(question, visit)
    }
}

/// The condition of a range of timestamps, from times in ms.
fn in_range(range: TimeRange) -> String {
    let ns = |ms: i64| ms.saturating_mul(1_000_000).max(TIME_NS_MIN);
    format!("time >= {} AND time < {}", ns(range.from), ns(range.to))
}

/// The first timestamp that InfluxQL takes.
const TIME_NS_MIN: i64 = i64::MIN + 2;
