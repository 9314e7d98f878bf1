//! `v5-ingest`: datagrams by HTTP instead of UDP.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::collector::IngestError;
use super::super::error::ApiError;
use super::super::route::Call;

/// Answers.
///
/// # Errors
/// 503 when the queue is full or the log refuses; 400 for a bad address or an empty body.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let exporter = call.params.ip("exporter")?.unwrap_or(call.peer.ip()).to_canonical();
    if call.body.is_empty() {
        let text = "the body is empty; it must hold NetFlow v5 datagrams back to back";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, text));
    }
    match call.endpoint.collector.ingest(exporter, &call.body) {
        Ok(ingested) => Ok(super::json(&ingested)),
        Err(IngestError::Busy { retry_after_s }) => {
            Err(ApiError::busy("the queue is full; nothing was taken", retry_after_s))
        }
        Err(IngestError::Late) => {
            let text =
                "the datagrams were taken, but are not in the log yet; sending them again would count them twice";
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, text))
        }
        Err(IngestError::Failed(reason)) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
    }
}
