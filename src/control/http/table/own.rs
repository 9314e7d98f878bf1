//! About the process itself, and the description.

use crate::control::http::answers::{health, metrics};
use crate::control::http::auth::Needs;
use crate::control::http::collector::Readiness;
use crate::control::http::describe;
use crate::control::http::route::{AnswerKind, Method, Route, Scope, Work};

/// Its rows.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: Method::Get,
        path: "/metrics",
        summary: "Counters and gauges for Prometheus",
        about: "Text format 0.0.4, or OpenMetrics where Accept prefers it. On a port of its own it needs no token.",
        needs: Needs::Read,
        scope: Scope::Refused,
        params: &[],
        body: None,
        answer: AnswerKind::Text(&["text/plain", "application/openmetrics-text"]),
        work: Work::Thread,
        handler: metrics::answer,
    },
    Route {
        method: Method::Get,
        path: "/healthz",
        summary: "The process runs",
        about: "",
        needs: Needs::Nothing,
        scope: Scope::Free,
        params: &[],
        body: None,
        answer: AnswerKind::Text(&["text/plain"]),
        work: Work::Inline,
        handler: health::healthz,
    },
    Route {
        method: Method::Get,
        path: "/readyz",
        summary: "Whether it receives, stores and can answer",
        about: "503 with the same body when it does not.",
        needs: Needs::Read,
        scope: Scope::Free,
        params: &[],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<Readiness>()),
        work: Work::Thread,
        handler: health::readyz,
    },
    Route {
        method: Method::Get,
        path: "/",
        summary: "This description, as a page",
        about: "It says nothing about this collector, so it needs no token.",
        needs: Needs::Nothing,
        scope: Scope::Free,
        params: &[],
        body: None,
        answer: AnswerKind::Text(&["text/html"]),
        work: Work::Inline,
        handler: describe::page,
    },
    Route {
        method: Method::Get,
        path: "/openapi.json",
        summary: "This description, as OpenAPI 3.1",
        about: "It says nothing about this collector, so it needs no token.",
        needs: Needs::Nothing,
        scope: Scope::Free,
        params: &[],
        body: None,
        answer: AnswerKind::Json(|_| serde_json::json!({ "type": "object" })),
        work: Work::Inline,
        handler: describe::openapi,
    },
];
