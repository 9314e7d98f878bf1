//! What an answer with totals rests on, and asking a store.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::filter::Filter;
use crate::flow::store::{Answer, OrderBy, Question, TierChoice, TimeRange};
use crate::flow::time::rfc3339;
use crate::flow::{Field, FlowStore, Key, RollupDef};

use super::super::error::ApiError;
use super::super::route::{Call, Work};
use super::completeness::Completeness;

/// What an answer rests on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Basis {
    /// The time that was summed, half-open, after alignment to the tier's buckets.
    pub range: Range,
    /// Which data answered: `flows` (detail) or a rollup's name.
    pub tier: String,
    /// `pro_rated`: flows are spread over their span; `flow_end`: whole flows at their end.
    #[schema(example = "pro_rated")]
    pub basis: &'static str,
    /// Whether the rows are exact; false when a list leaves out keys that were cut.
    pub exact: bool,
    /// When not exact: the most bytes by which a row can be too small.
    pub error_bytes_max: u64,
    /// The store that answered.
    pub store: String,
    /// Share of the flows sent to the collector that the store holds or will hold, since `completeness_since`; null
    /// before the first flow.
    pub completeness: Option<f64>,
    /// Since when completeness counts: the collector's start.
    pub completeness_since: String,
    /// What else a reader must know, such as that detail has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A half-open range of time, RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Range {
    /// Belongs to it.
    #[schema(format = DateTime)]
    pub from: String,
    /// Does not belong to it.
    #[schema(format = DateTime)]
    pub to: String,
}

impl From<TimeRange> for Range {
    fn from(range: TimeRange) -> Self {
        Self { from: rfc3339(range.from), to: rfc3339(range.to) }
    }
}

/// What a question of the API is made of, beyond what the parameters say.
pub struct Ask {
    /// Grouping.
    pub by: Vec<Key>,
    /// Width of the time steps, ms.
    pub interval_ms: Option<i64>,
    /// Order of the rows.
    pub order: OrderBy,
    /// Most rows.
    pub limit: Option<usize>,
}

impl Call {
    /// The range that the request names.
    ///
    /// # Errors
    /// 400 for a range that is not understood.
    pub fn range(&self) -> Result<TimeRange, ApiError> {
        self.params.range(self.endpoint.collector.now_ms())
    }

    /// Everything that limits the flows: the filter text, the plain parameters, and the token's reseller.
    ///
    /// # Errors
    /// 400 for what is not understood, 403 for another reseller than the token's.
    pub fn filter(&self) -> Result<Filter, ApiError> {
        let mut filter = self.params.filter()?;
        if let Some(text) = self.params.text("filter") {
            let parsed: Filter = text.parse().map_err(|error: crate::flow::filter::ParseError| {
                let mut api = ApiError::parameter("filter", error.to_string(), error.expected.clone());
                api.body.position = Some(error.position);
                api
            })?;
            filter = filter.and(parsed);
        }
        if let Some(own) = self.access.reseller {
            if self.params.uuid("reseller_id")?.is_some_and(|asked| asked != own) {
                return Err(ApiError::forbidden("the token is limited to another reseller"));
            }
            filter = filter.and(Filter::uuid(Field::ResellerId, own));
        }
        Ok(filter)
    }

    /// The tier that the request asks for.
    ///
    /// # Errors
    /// 400 for a name that is no tier.
    pub fn tier(&self) -> Result<TierChoice, ApiError> {
        match self.params.text("tier") {
            None => Ok(TierChoice::Coarsest),
            Some("flows" | "detail") => Ok(TierChoice::Detail),
            Some(name) => {
                let rollups = self.endpoint.collector.rollups();
                if rollups.iter().any(|def| &*def.name == name) {
                    return Ok(TierChoice::Rollup(name.to_owned()));
                }
                let names: Vec<&str> = rollups.iter().map(|def| &*def.name).collect();
                let allowed = format!("one of flows, {}", names.join(", "));
                Err(ApiError::parameter("tier", format!("there is no tier {name:?}"), allowed))
            }
        }
    }

    /// The store that the request asks.
    ///
    /// # Errors
    /// 400 for an unknown name; 501 when no sink answers questions.
    pub fn store(&self) -> Result<Arc<dyn FlowStore>, ApiError> {
        let name = self.params.text("store");
        if let Some(store) = self.endpoint.collector.store(name) {
            return Ok(store);
        }
        let names = self.endpoint.collector.store_names();
        if let (Some(name), false) = (name, names.is_empty()) {
            let allowed = format!("one of {}", names.join(", "));
            return Err(ApiError::parameter("store", format!("there is no store {name:?}"), allowed));
        }
        let mut error =
            ApiError::new(axum::http::StatusCode::NOT_IMPLEMENTED, "no sink of this collector answers questions");
        error.body.remedy =
            Some("configure a sink that does, such as kind = \"parquet\", and name it in [admin] store".into());
        Err(error)
    }

    /// Asks the store about the request's range and filter.
    ///
    /// # Errors
    /// Bad parameters, and what the store says.
    pub fn ask(&self, range: TimeRange, filter: Filter, ask: Ask) -> Result<(Answer, Basis), ApiError> {
        let store = self.store()?;
        self.endpoint.freshen(range);
        let question = Question {
            range,
            filter,
            by: ask.by,
            interval_ms: ask.interval_ms,
            order: ask.order,
            limit: ask.limit,
            tier: self.tier()?,
            deadline: self.deadline(Work::Question),
        };
        let answer = store.ask(&question)?;
        let answer = exact_where_cheap(&*store, question, answer);
        let basis = self.basis(&answer, store.name());
        Ok((answer, basis))
    }

    /// What an answer of this store rests on.
    pub fn basis(&self, answer: &Answer, store: &str) -> Basis {
        let sinks = self.endpoint.collector.sinks();
        let sink = sinks.iter().find(|sink| sink.name == store);
        Basis {
            range: answer.range.into(),
            tier: answer.tier.name().to_owned(),
            basis: match answer.basis {
                crate::flow::store::Basis::ProRated => "pro_rated",
                crate::flow::store::Basis::FlowEnd => "flow_end",
            },
            exact: answer.exact,
            error_bytes_max: answer.error_bytes_max,
            store: store.to_owned(),
            completeness: Completeness::of(self.endpoint.collector.ledger(), sink).ratio(),
            completeness_since: rfc3339(self.endpoint.started_ms),
            note: held_from(answer, &self.endpoint.collector.rollups()),
        }
    }
}

/// Flows up to which a top list that a rollup gives with an error is taken from detail instead: well under a second.
const EXACT_FLOWS_MAX: u64 = 2_000_000;

/// A rollup keeps the heaviest hosts only. Where detail is there and small, it gives the list without an error.
fn exact_where_cheap(store: &dyn FlowStore, question: Question, answer: Answer) -> Answer {
    if answer.exact || question.tier != TierChoice::Coarsest || answer.matched.flows > EXACT_FLOWS_MAX {
        return answer;
    }
    let detail = store.ask(&Question { tier: TierChoice::Detail, ..question });
    // Detail that has expired, or cannot be asked, leaves the rollup's answer, which states its error.
    detail.ok().filter(|detail| detail.expired_before.is_none()).unwrap_or(answer)
}

/// Says that a part of the range has expired, or came before the rollup that answered, when it is so.
pub fn held_from(answer: &Answer, rollups: &[RollupDef]) -> Option<String> {
    let held_from = answer.expired_before.filter(|held| *held > answer.range.from)?;
    let what = match &answer.tier {
        crate::flow::store::Tier::Detail => "detail",
        crate::flow::store::Tier::Rollup(name) => name,
    };
    let at = rfc3339(held_from);
    if rollups.iter().any(|def| &*def.name == what && def.since_ms == held_from) {
        return Some(format!("{what} begins at {at}: flows before are not in this answer"));
    }
    Some(format!("{what} expired on {}: flows before {at} are not in this answer", at.get(..10).unwrap_or(&at)))
}
