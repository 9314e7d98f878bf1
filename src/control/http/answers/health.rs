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

/// Whether it receives, stores and can answer: 200 or 503. Why it does not is the operator's: a token of one reseller is told
/// what fails only.
///
/// # Errors
/// None.
pub fn readyz(call: Call) -> Result<Response, ApiError> {
    let mut readiness = call.endpoint.collector.readiness();
    if call.access.reseller.is_some() {
        readiness.checks.values_mut().filter(|check| *check != "ok").for_each(|check| *check = "failed".to_owned());
    }
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, axum::Json(readiness)).into_response())
}
