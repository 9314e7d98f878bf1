//! `alerts`: what fires and what did, and that somebody has seen it.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::route::Call;
use crate::control::alerts::{AlertItem, Kind, Severity, Wanted};
use crate::flow::time::DAY_MS;

/// What `state` may be.
pub const STATES: &[&str] = &["all", "firing"];
/// What `type` may be: the names of all kinds.
pub const TYPES: &[&str] = &{
    let mut names = [""; Kind::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = Kind::ALL[index].name();
        index += 1;
    }
    names
};

/// Answer of `alerts`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alerts {
    /// The newest first.
    pub items: Vec<AlertItem>,
    /// Number of alerts before `limit`.
    pub total: u64,
}

/// Lists alerts.
///
/// # Errors
/// 400 for a parameter, 403 for another reseller than the token's.
pub fn list(call: Call) -> Result<Response, ApiError> {
    let params = &call.params;
    let asked = params.uuid("reseller_id")?;
    let days = i64::try_from(params.whole("days")?.unwrap_or_default()).unwrap_or(i64::MAX);
    let wanted = Wanted {
        severity: params.word("severity")?.and_then(Severity::from_name),
        since_ms: call.endpoint.collector.now_ms().saturating_sub(days.saturating_mul(DAY_MS)),
        reseller_id: call.access.reseller.or(asked),
        subscriber_id: params.uuid("subscriber_id")?,
        kind: params.word("type")?.and_then(|name| Kind::ALL.into_iter().find(|kind| kind.name() == name)),
        active: params.word("state")? == Some("firing"),
    };
    if asked.is_some() && asked != wanted.reseller_id {
        return Err(ApiError::forbidden("the token is limited to another reseller"));
    }
    let limit = params.whole("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let all = call.endpoint.collector.alerts().map(|board| board.list(&wanted)).unwrap_or_default();
    let items = all.iter().take(limit).map(AlertItem::new).collect();
    Ok(super::json(&Alerts { items, total: all.len() as u64 }))
}

/// Notes that somebody has seen an alert.
///
/// # Errors
/// 404 when there is no such alert, 503 when it cannot be saved.
pub fn acknowledge(call: Call) -> Result<Response, ApiError> {
    let Some(id) = call.params.whole("id")? else {
        return Err(ApiError::parameter("id", "id is needed", "the number of an alert"));
    };
    let collector = &call.endpoint.collector;
    let none = || ApiError::new(StatusCode::NOT_FOUND, format!("there is no alert {id}"));
    let board = collector.alerts().ok_or_else(none)?;
    let unsaved = |e: crate::control::state::StateError| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string());
    let alert = board.acknowledge(id, call.access.reseller, &call.access.name, collector.now_ms()).map_err(unsaved)?;
    alert.map(|alert| super::json(&AlertItem::new(&alert))).ok_or_else(none)
}
