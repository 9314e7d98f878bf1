//! `sinks`: every sink's state and its part of the ledger.

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::collector::SinkStatus;
use super::super::error::ApiError;
use super::super::route::Call;

/// Answer of `sinks`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sinks {
    /// In the order of the configuration.
    pub items: Vec<SinkItem>,
    /// Number of sinks.
    pub total: u64,
}

/// A sink.
#[derive(Debug, Serialize, ToSchema)]
pub struct SinkItem {
    /// Its status.
    #[serde(flatten)]
    pub status: SinkStatus,
    /// Received flows that stand nowhere else; 0 when the sums close.
    pub unaccounted_flows: i64,
}

impl From<SinkStatus> for SinkItem {
    fn from(status: SinkStatus) -> Self {
        Self { unaccounted_flows: status.unaccounted_flows(), status }
    }
}

/// Answers.
///
/// # Errors
/// None of its own.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let items: Vec<SinkItem> = call.endpoint.collector.sinks().into_iter().map(SinkItem::from).collect();
    let total = items.len() as u64;
    Ok(super::json(&Sinks { items, total }))
}
