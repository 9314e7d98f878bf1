//! The answers, a file a route or two. Each is a plain type whose fields are the shape that the API promises, and a function from
//! a [`super::route::Call`].

pub mod alerts;
pub mod bandwidth_trend;
pub mod basis;
pub mod completeness;
pub mod exporters;
pub mod flows_csv;
pub mod health;
pub mod ingest;
pub mod leases;
pub mod ledger;
pub mod metrics;
pub mod operate;
pub mod protocol_breakdown;
pub mod quarantine;
pub mod query;
pub mod reports;
pub mod sinks;
pub mod top_talkers;
pub mod usage;

use axum::response::{IntoResponse, Response};

/// A value as a JSON answer.
fn json(value: &impl serde::Serialize) -> Response {
    axum::Json(value).into_response()
}
