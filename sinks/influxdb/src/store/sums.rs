//! Sums that the server makes: for questions whose keys and filter are tags.

use sink_api::rollup::{Keep, Key, Measures};
use sink_api::store::group::{GROUPS_MAX, Grouper};
use sink_api::store::plan::{InternalIn, Plan};
use sink_api::store::{Answer, Question, StoreError};
use sink_api::{Direction, Field, Value};

use super::columns::value;
use super::conditions::{Source, exact, no_other, not_internal_in, only_other};
use super::{InfluxStore, in_range};
use crate::read::{Cell, Series};
use crate::schema::{self, FLOWS, FLOWS_BUCKET_MS};

/// How a question is answered by sums of the server.
pub(super) struct Statements {
    sums: String,
    /// Whether rows of subscribers without a tag are read as points besides.
    other: bool,
}

/// The statements, `None` when the server cannot sum what is asked.
pub(super) fn statements(question: &Question, plan: &Plan) -> Option<Statements> {
    let source = plan.rollup.as_ref().map_or(Source::Flows, Source::Rollup);
    let is_tag = |key: &Key| match (&plan.rollup, key) {
        (Some(def), key) => schema::is_tag(&def.name, *key),
        (None, Key::Field(field)) => schema::is_flow_tag(*field),
        (None, _) => false,
    };
    let by_host = plan.rollup.as_ref().is_some_and(|def| def.by.contains(&Key::Host));
    if by_host || !plan.columns.iter().all(is_tag) {
        return None;
    }
    let mut conditions = vec![in_range(plan.range)];
    let whole_seconds = plan.range.aligned(FLOWS_BUCKET_MS) == plan.range;
    if plan.rollup.is_none() && !(whole_seconds && question.interval_ms.is_none_or(|ms| ms % FLOWS_BUCKET_MS == 0)) {
        return None;
    }
    if !question.filter.conjuncts().is_empty() {
        conditions.push(exact(&question.filter, source)?);
    }
    let has_direction = plan.rollup.as_ref().is_some_and(|def| def.by.contains(&Key::Field(Field::Direction)));
    if plan.internal_in == InternalIn::Hidden && has_direction {
        conditions.push(not_internal_in());
    }
    let by_subscriber = plan.columns.contains(&Key::Field(Field::SubscriberId));
    let other = by_subscriber && plan.rollup.as_ref().is_some_and(schema::has_subscriber_tag);
    if other {
        conditions.push(no_other());
    }
    let (from, measures) = match &plan.rollup {
        Some(def) => (crate::place::name(&def.name), ROLLUP_SUMS),
        None => (format!("\"{FLOWS}\""), FLOW_SUMS),
    };
    let sums = format!("SELECT {measures} FROM {from} WHERE {}{}", conditions.join(" AND "), group_by(question, plan));
    Some(Statements { sums, other })
}

const ROLLUP_SUMS: &str = "sum(\"bytes\"), sum(\"packets\"), sum(\"flows\"), sum(\"rtt_ms_sum\"), sum(\"rtt_count\")";
const FLOW_SUMS: &str = "sum(\"bytes\"), sum(\"packets\"), count(\"bytes\"), sum(\"rtt_ms\"), count(\"rtt_ms\")";

fn group_by(question: &Question, plan: &Plan) -> String {
    let mut by: Vec<String> = plan.columns.iter().map(|key| format!("\"{}\"", key.name())).collect();
    if let Some(ms) = question.interval_ms {
        by.push(format!("time({ms}ms)"));
    }
    match (by.is_empty(), question.interval_ms) {
        (true, _) => String::new(),
        (false, None) => format!(" GROUP BY {}", by.join(", ")),
        (false, Some(_)) => format!(" GROUP BY {} fill(none)", by.join(", ")),
    }
}

impl InfluxStore {
    /// Answers by sums of the server.
    pub(super) fn summed(
        &self,
        question: &Question,
        plan: &Plan,
        statements: &Statements,
    ) -> Result<Answer, StoreError> {
        let mut grouper = Grouper::new(&self.name, question, plan, GROUPS_MAX);
        let keep = plan.rollup.as_ref().map_or(Keep::Detail, |def| def.keep);
        self.run(keep, &statements.sums, question.deadline, &mut |series| {
            add(&mut grouper, question, plan, series)?;
            Ok(true)
        })?;
        if let (Some(def), true) = (&plan.rollup, statements.other) {
            self.add_rollup(question, plan, def, Some(&only_other()), &mut grouper)?;
        }
        Ok(grouper.finish(plan.held_from(self.kept_from(keep))))
    }
}

/// Adds the groups of one series.
fn add(grouper: &mut Grouper<'_>, question: &Question, plan: &Plan, series: &Series<'_>) -> Result<(), StoreError> {
    let key = |key: &Key| {
        let text = series.tags.get(key.name()).map_or("", String::as_str);
        value(key.kind(), true, &Cell::Text(text.into()))
    };
    let keys: Vec<Value> = plan.columns.iter().map(key).collect();
    let uncounted = plan.internal_in != InternalIn::Counted && keys.contains(&Value::Direction(Direction::InternalIn));
    for cells in &series.values {
        let cell = |index: usize| cells.get(index).unwrap_or(&Cell::Null);
        let interval = question.interval_ms.and(cell(0).int()).map(|ns| ns.div_euclid(1_000_000));
        let sums = Measures {
            bytes: cell(1).sum(),
            packets: cell(2).sum(),
            flows: cell(3).sum(),
            rtt_ms_sum: cell(4).sum(),
            rtt_count: cell(5).sum(),
        };
        grouper.add_row(interval, &keys, &sums)?;
        if !uncounted {
            grouper.add_matched(&sums, 0);
        }
    }
    Ok(())
}
