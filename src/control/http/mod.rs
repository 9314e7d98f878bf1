//! The admin endpoint: questions about stored flows, state of the collector, metrics and health checks.
//!
//! [`table::ROUTES`] is the one list of what there is. A request goes through [`route::Route::serve`]: origin, token, scope,
//! parameters, body, then its handler, on a thread that may wait and, for questions, when its turn comes. A token's reseller becomes a
//! part of every question's filter; routes that cannot be limited so refuse such tokens.

pub mod answers;
pub mod auth;
mod collector;
mod config;
mod describe;
mod endpoint;
mod error;
mod held;
mod listener;
mod origin;
mod params;
mod process;
mod rate;
mod route;
mod schemas;
mod server;
mod table;
#[cfg(test)]
mod tests;
mod times;

pub use answers::completeness::Completeness;
pub use auth::Tokens;
pub use collector::{
    Collector, IngestError, Ingested, Readiness, Rejected, Reloaded, SinkState, SinkStatus, Site, SocketStatus,
};
pub use config::{Config, OPEN_TO_EVERYONE, Role, TokenConfig};
pub use describe::document;
pub use endpoint::Endpoint;
pub use error::{ApiError, ErrorBody};
pub use held::{HeldBy, HeldDropped, HeldError, HeldItem, HeldPage, HeldRecord, HeldReplayed, HeldWanted};
pub use params::{Param, ParamKind, Params, question_keys};
pub use route::{AnswerKind, Call, Method, Route, Scope, Work};
pub use schemas::Schemas;
pub use server::{Server, metrics_router, router};
pub use table::ROUTES;
