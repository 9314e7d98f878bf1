//! `quarantine`: what was set aside, bringing it to its sink again, and dropping it.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::error::{ApiError, RETRY_AFTER_S};
use super::super::held::{HeldBy, HeldError, HeldWanted};
use super::super::route::Call;

/// What `by` may be.
pub const BY: &[&str] = &["all", "sink", "decode"];

impl From<HeldError> for ApiError {
    fn from(error: HeldError) -> Self {
        match error {
            HeldError::Unknown(text) => Self::new(StatusCode::NOT_FOUND, text),
            HeldError::Busy(text) => Self::busy(text, RETRY_AFTER_S),
            HeldError::Failed(text) => Self::new(StatusCode::SERVICE_UNAVAILABLE, text),
        }
    }
}

/// Lists what was set aside.
///
/// # Errors
/// 404 for a sink that is not there, 503 when a folder cannot be read.
pub fn list(call: Call) -> Result<Response, ApiError> {
    let params = &call.params;
    let wanted = HeldWanted {
        by: match params.word("by")? {
            Some("sink") => Some(HeldBy::Sink),
            Some("decode") => Some(HeldBy::Decode),
            _ => None,
        },
        sink: params.text("sink"),
        after: params.text("after"),
        records_max: params.whole("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or_default(),
    };
    Ok(super::json(&call.endpoint.collector.held(&wanted)?))
}

/// Shows one record with its rows.
///
/// # Errors
/// 404 when there is none, 503 when it cannot be read.
pub fn record(call: Call) -> Result<Response, ApiError> {
    let Some(id) = call.params.text("id") else {
        return Err(ApiError::parameter("id", "id is needed", "the id of a record in the list"));
    };
    let rows_max = call.params.whole("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or_default();
    Ok(super::json(&call.endpoint.collector.held_record(id, rows_max)?))
}

/// Brings what a sink refused to it again.
///
/// # Errors
/// 404 for a sink or a record that is not there, 503 when the sink takes no data now.
pub fn replay(call: Call) -> Result<Response, ApiError> {
    let (sink, id) = which(&call)?;
    Ok(super::json(&call.endpoint.collector.replay_held(sink, id, call.params.text("after"))?))
}

/// Drops what a sink refused.
///
/// # Errors
/// As for [`replay`].
pub fn drop_records(call: Call) -> Result<Response, ApiError> {
    let (sink, id) = which(&call)?;
    Ok(super::json(&call.endpoint.collector.drop_held(sink, id)?))
}

/// The sink, and the record when it is one. All of every sink is never meant.
fn which(call: &Call) -> Result<(&str, Option<&str>), ApiError> {
    match (call.params.text("sink"), call.params.text("id")) {
        (Some(sink), None) => Ok((sink, None)),
        (None, Some(id)) => match sink_of(id) {
            Some(sink) => Ok((sink, Some(id))),
            None => Err(ApiError::new(StatusCode::NOT_FOUND, format!("no sink has a record {id} in quarantine"))),
        },
        _ => Err(ApiError::parameter(
            "sink",
            "one of sink and id is needed",
            "the name of a sink, or the id of a record",
        )),
    }
}

/// The sink in an id, which is `sink/NAME/RECORD`.
fn sink_of(id: &str) -> Option<&str> {
    id.strip_prefix("sink/")?.rsplit_once('/').map(|(sink, _)| sink)
}
