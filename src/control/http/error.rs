//! Errors as the API answers them: a status and a JSON object that says what, where and what is allowed.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::store::StoreError;

/// Seconds after which a client that was turned away for load may try again.
pub const RETRY_AFTER_S: u64 = 1;

/// An error of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: Box<ErrorBody>,
    /// Seconds after which another try makes sense.
    pub retry_after_s: Option<u64>,
}

/// Body of every answer that is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: String,
    /// Which parameter is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// What is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// Position in the parameter's text, in bytes from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// Name of the store that could not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// All problems, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

impl ApiError {
    /// An error with a status and a sentence.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: Box::new(ErrorBody { error: error.into(), ..ErrorBody::default() }), retry_after_s: None }
    }

    /// A bad parameter: 400.
    pub fn parameter(name: &str, error: impl Into<String>, allowed: impl Into<String>) -> Self {
        let mut this = Self::new(StatusCode::BAD_REQUEST, error);
        this.body.parameter = Some(name.into());
        this.body.allowed = Some(allowed.into());
        this
    }

    /// Turned away for load: 503 with Retry-After.
    pub fn busy(error: impl Into<String>, retry_after_s: u64) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error) }
    }

    /// The caller asks too much: 429 with Retry-After.
    pub fn too_many(retry_after_s: u64) -> Self {
        let text = "too many requests by this token or address ([admin] requests_per_second)";
        Self { retry_after_s: Some(retry_after_s), ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
    }

    /// The token may not do this: 403.
    pub fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        let (status, store, remedy, retry_after_s) = match error {
            StoreError::Unsupported { store, remedy, .. } => (StatusCode::NOT_IMPLEMENTED, store, Some(remedy), None),
            StoreError::Deadline { store } => {
                let remedy = "ask for a shorter range, fewer keys, or a coarser tier".to_owned();
                (StatusCode::GATEWAY_TIMEOUT, store, Some(remedy), None)
            }
            StoreError::Down { store, .. } => (StatusCode::SERVICE_UNAVAILABLE, store, None, Some(RETRY_AFTER_S)),
        };
        let body = ErrorBody { error: text, store: Some(store), remedy, ..ErrorBody::default() };
        Self { status, body: Box::new(body), retry_after_s }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"rgz-netflow\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_errors_keep_their_meaning() {
        let store = || "local".to_owned();
        let cases = [
            (StoreError::Unsupported { store: store(), reason: "r".into(), remedy: "m".into() }, 501),
            (StoreError::Deadline { store: store() }, 504),
            (StoreError::Down { store: store(), reason: "r".into() }, 503),
        ];
        for (error, status) in cases {
            let error = ApiError::from(error);
            assert_eq!(error.status.as_u16(), status);
            assert_eq!(error.body.store.as_deref(), Some("local"));
            assert_eq!(error.retry_after_s.is_some(), status == 503);
        }
    }
}
