//! `config` and `reload`: what the operator looks at and does.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::error::ApiError;
use super::super::route::Call;

/// The configuration in force, without secrets.
///
/// # Errors
/// None.
pub fn config(call: Call) -> Result<Response, ApiError> {
    Ok(super::json(&call.endpoint.collector.config()))
}

/// Reads the configuration again.
///
/// # Errors
/// 422 with every problem; then nothing was changed.
pub fn reload(call: Call) -> Result<Response, ApiError> {
    match call.endpoint.collector.reload() {
        Ok(reloaded) => Ok(super::json(&reloaded)),
        Err(problems) => {
            let text = "the configuration has problems; nothing was changed";
            let mut error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, text);
            error.body.problems = problems;
            Err(error)
        }
    }
}
