//! `query`: any question, as the command line asks it.

use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use utoipa::ToSchema;

use crate::flow::rollup::Role;
use crate::flow::store::{AnswerRow, OrderBy};
use crate::flow::time::rfc3339;
use crate::flow::value::Value;
use crate::flow::{Key, Measures};

use super::super::error::ApiError;
use super::super::params::question_keys;
use super::super::route::Call;
use super::super::times::parse_interval_ms;
use super::bandwidth_trend::check_steps;
use super::basis::{Ask, Basis};
use super::protocol_breakdown::Sums;

/// What can be summed.
pub const MEASURES: &[&str] = &["bytes", "packets", "flows", "avg_latency_ms"];
/// What rows can be ordered by.
pub const ORDERS: &[&str] = &["bytes", "packets", "flows", "time"];

/// Answer of `query`.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryAnswer {
    /// One object a row: `timestamp` where an interval was asked for, the keys by their names, the measures by theirs.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<Json>,
    /// Rows there are before the limit.
    pub total: u64,
    /// Sums of everything that matched.
    pub matched: Sums,
    /// What it rests on.
    #[serde(flatten)]
    pub basis: Basis,
}

/// Answers.
///
/// # Errors
/// Bad parameters, and what the store says.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let by = call.params.list("by", |name| question_keys().find(|key| key.name() == name))?;
    let measures = call.params.words("measures")?;
    let range = call.range()?;
    let interval_ms = call.params.get("interval", parse_interval_ms)?;
    if let Some(interval_ms) = interval_ms {
        check_steps(range, interval_ms)?;
    }
    let order = match call.params.word("order")? {
        Some("packets") => OrderBy::Packets,
        Some("flows") => OrderBy::Flows,
        Some("time") => OrderBy::Time,
        None if interval_ms.is_some() => OrderBy::Time,
        _ => OrderBy::Bytes,
    };
    let limit = call.params.whole("limit")?.map(|n| n as usize);
    let ask = Ask { by: by.clone(), interval_ms, order, limit };
    let (answer, basis) = call.ask(range, call.filter()?, ask)?;
    let items = answer.rows.iter().map(|row| item(row, &by, &measures)).collect();
    let matched = (&answer.matched).into();
    Ok(super::json(&QueryAnswer { items, total: answer.total_rows, matched, basis }))
}

fn item(row: &AnswerRow, by: &[Key], measures: &[&'static str]) -> Json {
    let mut item = Map::new();
    if let Some(at) = row.interval {
        item.insert("timestamp".into(), json!(rfc3339(at)));
    }
    for (key, value) in by.iter().zip(&row.keys) {
        item.insert(key.name().into(), key_value(*key, value));
    }
    for measure in measures {
        item.insert((*measure).into(), measure_value(measure, &row.measures));
    }
    Json::Object(item)
}

fn key_value(key: Key, value: &Value) -> Json {
    match (key, value) {
        (Key::Role, Value::Number(n)) if *n == Role::Src as u64 => json!("src"),
        (Key::Role, Value::Number(n)) if *n == Role::Dst as u64 => json!("dst"),
        (_, value) => json!(value),
    }
}

fn measure_value(name: &str, m: &Measures) -> Json {
    match name {
        "bytes" => json!(m.bytes),
        "packets" => json!(m.packets),
        "flows" => json!(m.flows),
        _ => json!(m.avg_latency_ms()),
    }
}
