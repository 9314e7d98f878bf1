//! `/healthz` and `/readyz`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::super::error::ApiError;
use super::super::route::Call;

/// The process runs and answers.
///
/// # Errors
/// None.
pub fn healthz(_: Call) -> Result<Response, ApiError> {
    Ok("ok\n".into_response())
}

/// Whether it receives, stores and can answer: 200 or 503.
///
/// # Errors
/// None.
pub fn readyz(call: Call) -> Result<Response, ApiError> {
    let readiness = call.endpoint.collector.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, axum::Json(readiness)).into_response())
}
