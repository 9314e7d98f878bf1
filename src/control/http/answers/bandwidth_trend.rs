//! `bandwidth-trend`: bytes by direction over time.

use std::collections::BTreeMap;

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::store::{Answer, OrderBy, TimeRange};
use crate::flow::time::rfc3339;
use crate::flow::value::Value;
use crate::flow::{Direction, Field, Key};

use super::super::error::ApiError;
use super::super::params::ParamKind;
use super::super::route::Call;
use super::super::times::parse_interval_ms;
use super::basis::{Ask, Basis};

/// Most steps of one answer: a year by hours fits.
pub const STEPS_MAX: i64 = 10_000;

/// Answer of `bandwidth-trend`.
#[derive(Debug, Serialize, ToSchema)]
pub struct BandwidthTrend {
    /// One item a step, oldest first; steps without traffic are there with 0, steps before what is kept and after now are
    /// not.
    pub items: Vec<Step>,
    /// Number of items.
    pub total: u64,
    /// Width of a step in seconds.
    pub interval_seconds: i64,
    /// What it rests on.
    #[serde(flatten)]
    pub basis: Basis,
}

/// One step of time.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Step {
    /// Its start, RFC 3339; steps are aligned to the Unix epoch.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// Bytes towards the customers.
    pub bytes_in: u64,
    /// Bytes from the customers.
    pub bytes_out: u64,
    /// Bytes between customers.
    pub bytes_internal: u64,
    /// Bytes between others.
    pub bytes_transit: u64,
    /// Packets of all four.
    pub pkts: u64,
    /// Flows of all four.
    pub flows: u64,
}

impl Step {
    fn add(&mut self, row: &crate::flow::store::AnswerRow) {
        let m = &row.measures;
        let bytes = match row.keys.first() {
            Some(Value::Direction(Direction::In)) => &mut self.bytes_in,
            Some(Value::Direction(Direction::Out)) => &mut self.bytes_out,
            Some(Value::Direction(Direction::Internal)) => &mut self.bytes_internal,
            // The second row of an internal flow.
            Some(Value::Direction(Direction::InternalIn)) => return,
            _ => &mut self.bytes_transit,
        };
        *bytes = bytes.saturating_add(m.bytes);
        self.pkts = self.pkts.saturating_add(m.packets);
        self.flows = self.flows.saturating_add(m.flows);
    }
}

/// Answers.
///
/// # Errors
/// Bad parameters, too many steps, and what the store says.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let range = call.range()?;
    let interval_ms = call.params.get("interval", parse_interval_ms)?.unwrap_or(crate::flow::time::HOUR_MS);
    check_steps(range, interval_ms)?;
    let ask = Ask {
        by: vec![Key::Field(Field::Direction)],
        interval_ms: Some(interval_ms),
        order: OrderBy::Time,
        limit: None,
    };
    let (answer, basis) = call.ask(range, call.filter()?, ask)?;
    let items = steps(&answer, interval_ms, call.endpoint.collector.now_ms());
    let total = items.len() as u64;
    Ok(super::json(&BandwidthTrend { items, total, interval_seconds: interval_ms / 1000, basis }))
}

/// Refuses ranges with more steps than [`STEPS_MAX`].
///
/// # Errors
/// 400 that names the interval.
pub fn check_steps(range: TimeRange, interval_ms: i64) -> Result<(), ApiError> {
    let steps = (range.to - range.from) / interval_ms;
    if steps <= STEPS_MAX {
        return Ok(());
    }
    let allowed = format!("{}; at most {STEPS_MAX} steps in the range", ParamKind::Interval.allowed());
    Err(ApiError::parameter("interval", format!("the range has {steps} steps of this interval"), allowed))
}

fn steps(answer: &Answer, interval_ms: i64, now_ms: i64) -> Vec<Step> {
    let start = |ms: i64| ms.div_euclid(interval_ms) * interval_ms;
    let mut steps: BTreeMap<i64, Step> = BTreeMap::new();
    let mut at = start(answer.range.from.max(answer.expired_before.unwrap_or(i64::MIN)));
    let end = answer.range.to.min(now_ms);
    while at < end {
        steps.insert(at, Step::default());
        at += interval_ms;
    }
    for row in &answer.rows {
        if let Some(interval) = row.interval {
            steps.entry(interval).or_default().add(row);
        }
    }
    let stamped = steps.into_iter().map(|(at, step)| Step { timestamp: rfc3339(at), ..step });
    stamped.collect()
}
