//! One route: who may call it, what it takes, what it answers, and the way of a request through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::auth::{Access, Needs};
use super::endpoint::Endpoint;
use super::error::ApiError;
use super::listener::{Peer, Working};
use super::origin;
use super::params::{Param, Params};
use super::rate::{Caller, FAILED_COST};
use super::schemas::Schemas;

/// Time beyond a question's deadline after which its answer is given up, should a store not mind the deadline.
const GRACE: Duration = Duration::from_secs(5);

/// A route. The router, the description, the OpenAPI document and the tests walk over the table of them.
#[derive(Clone, Copy)]
pub struct Route {
    /// What is done.
    pub method: Method,
    /// Path, with parameters in braces.
    pub path: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The rest of what a caller should know.
    pub about: &'static str,
    /// Who may call it.
    pub needs: Needs,
    /// What holds for a token that is limited to a reseller.
    pub scope: Scope,
    /// What it takes, in groups that routes share.
    pub params: &'static [&'static [Param]],
    /// What its body must be.
    pub body: Option<&'static str>,
    /// What it answers with status 200.
    pub answer: AnswerKind,
    /// Where it runs.
    pub work: Work,
    /// Answers.
    pub handler: fn(Call) -> Result<Response, ApiError>,
}

/// Methods of HTTP that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// What holds for a token that is limited to a reseller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The limit becomes a part of the question's filter.
    Filtered,
    /// It shows nothing that belongs to a reseller.
    Free,
    /// It cannot be limited: 403.
    Refused,
}

/// What a route answers.
#[derive(Clone, Copy)]
pub enum AnswerKind {
    /// JSON; the function adds its types and gives their description.
    Json(fn(&mut Schemas) -> serde_json::Value),
    /// One of these content types.
    Text(&'static [&'static str]),
}

/// Where a route's work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// At once: it never waits.
    Inline,
    /// On a thread that may wait.
    Thread,
    /// The same, when its turn comes: the number of questions at a time is bounded.
    Question,
    /// The same, with turns and time of its own: an export must not keep questions waiting.
    Export,
}

/// One request, checked.
pub struct Call {
    /// What all requests share.
    pub endpoint: Arc<Endpoint>,
    /// Its parameters.
    pub params: Params,
    /// Who asks.
    pub access: Access,
    /// From where.
    pub peer: SocketAddr,
    /// Says that the process works on it.
    pub working: Working,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; empty for GET and DELETE.
    pub body: Bytes,
    /// The body's part of the memory for bodies.
    pub room: Option<OwnedSemaphorePermit>,
    /// Its turn, for routes that work as [`Work::Question`] or [`Work::Export`].
    pub turn: Option<OwnedSemaphorePermit>,
}

impl Route {
    /// Answers a request.
    pub async fn serve(
        &'static self,
        endpoint: Arc<Endpoint>,
        peer: Peer,
        path_params: Vec<(String, String)>,
        request: Request,
    ) -> Response {
        let (counting, started) = (endpoint.clone(), Instant::now());
        let response = match self.answer(endpoint, peer, path_params, request).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
        let (status, took) = (response.status().as_u16(), started.elapsed());
        tracing::debug!(route = self.path, status, ?took, "answered");
        counting.count(self.path, status, took);
        response
    }

    async fn answer(
        &'static self,
        endpoint: Arc<Endpoint>,
        peer: Peer,
        path_params: Vec<(String, String)>,
        request: Request,
    ) -> Result<Response, ApiError> {
        let (head, body) = request.into_parts();
        let tokens = endpoint.tokens.load();
        if tokens.is_empty() {
            origin::check(&endpoint.config, &head.headers)?;
        }
        let access = self.admit(&endpoint, &peer, tokens.access(self.needs, &head.headers))?;
        if self.scope == Scope::Refused && access.reseller.is_some() {
            return Err(ApiError::forbidden("this cannot be limited to one reseller, as the token is"));
        }
        if self.needs == Needs::Admin && self.method == Method::Post {
            tracing::info!("{} asked for by {} from {}", self.path, access.name, peer.addr);
        }
        let mut pairs = path_params;
        pairs.extend(query_pairs(&head.uri)?);
        let params = Params::read(self.params, pairs)?;
        let (body, room) = self.read_body(&endpoint, &head.headers, body).await?;
        let turn = endpoint.turn(self.work).await?;
        let patience = endpoint.patience(self.work) + GRACE;
        let working = peer.work();
        let call = Call { endpoint, params, access, peer: peer.addr, working, headers: head.headers, body, room, turn };
        let handler = self.handler;
        if self.work == Work::Inline {
            return handler(call);
        }
        let work = tokio::task::spawn_blocking(move || handler(call));
        match tokio::time::timeout(patience, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed inside; see the log"))
            }
            Err(_) => Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "no answer within the time allowed")),
        }
    }

    /// Lets those pass who may, and do not ask too much. What never waits may be asked without end.
    fn admit(&self, endpoint: &Endpoint, peer: &Peer, access: Result<Access, ApiError>) -> Result<Access, ApiError> {
        let addr = Caller::of_addr(peer.addr.ip());
        match access {
            Ok(access) if self.work == Work::Inline => Ok(access),
            Ok(access) => {
                endpoint.admit(access.sum.map_or(addr, Caller::Token), 1.0)?;
                Ok(access)
            }
            Err(refused) => {
                endpoint.admit(addr, FAILED_COST)?;
                Err(refused)
            }
        }
    }

    async fn read_body(
        &self,
        endpoint: &Endpoint,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
        if matches!(self.method, Method::Get | Method::Delete) {
            return Ok((Bytes::new(), None));
        }
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let max = endpoint.config.body_bytes_max;
        let too_long = || ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {max} bytes"));
        if announced.is_some_and(|bytes| bytes > max) {
            return Err(too_long());
        }
        let room = endpoint.room(announced).await?;
        let patience = Duration::from_millis(endpoint.config.client_time_max_ms);
        let bytes_max = usize::try_from(max).unwrap_or(usize::MAX);
        match tokio::time::timeout(patience, axum::body::to_bytes(body, bytes_max)).await {
            Ok(Ok(bytes)) => Ok((bytes, Some(room))),
            Ok(Err(error)) if is_too_long(&error) => Err(too_long()),
            Ok(Err(_)) => Err(ApiError::new(StatusCode::BAD_REQUEST, "the body ended early")),
            Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
        }
    }
}

impl Call {
    /// When work on this request that begins now has to end.
    pub fn deadline(&self, work: Work) -> Instant {
        Instant::now() + self.endpoint.patience(work)
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        // The error's type is not part of axum's interface; its text is "length limit exceeded".
        if error.to_string().contains("length limit") {
            return true;
        }
        cause = error.source();
    }
    false
}

fn query_pairs(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map(|query| query.0)
        .map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "the query string is not name=value&name=value in UTF-8"))
}
