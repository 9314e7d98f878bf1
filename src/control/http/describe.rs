//! The API's description, made from the table of routes: a page for people and an OpenAPI document for programs.

use std::fmt::Write;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::answers::leases::LeaseRow;
use super::auth::Needs;
use super::error::{ApiError, ErrorBody};
use super::params::{Param, ParamKind};
use super::route::{AnswerKind, Call, Method, Route, Work};
use super::schemas::Schemas;
use super::table::{LEASE_PATH, LEASES_PATH, ROUTES};

/// The page at `/`.
///
/// # Errors
/// None.
pub fn page(_: Call) -> Result<Response, ApiError> {
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html()).into_response())
}

/// The document at `/openapi.json`.
///
/// # Errors
/// None.
pub fn openapi(_: Call) -> Result<Response, ApiError> {
    Ok(axum::Json(document()).into_response())
}

/// The OpenAPI document.
pub fn document() -> Value {
    let mut schemas = Schemas::default();
    let error = schemas.add::<ErrorBody>();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut schemas, &error);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.name().to_ascii_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "rgz-netflow",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Questions about stored flows, state of the collector. Ranges of time are half-open. Answers may gain fields.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas.types,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(route: &Route, schemas: &mut Schemas, error: &Value) -> Value {
    let fails = |description: &str| json!({ "description": description, "content": { "application/json": { "schema": error } } });
    let mut responses = Map::new();
    responses.insert("200".into(), json!({ "description": route.summary, "content": content(route, schemas) }));
    responses.insert("400".into(), fails("A parameter is wrong; the body names it and what is allowed."));
    if route.needs != Needs::Nothing {
        responses.insert("401".into(), fails("A token is needed."));
        responses.insert("403".into(), fails("The token may not do this."));
    }
    if route.params.iter().copied().flatten().any(|param| matches!(param.name, "id" | "sink")) {
        responses.insert("404".into(), fails("There is nothing of that number or name."));
    }
    if route.work != Work::Inline {
        responses.insert("429".into(), fails("Too many requests by this token or address; see Retry-After."));
    }
    if route.path.starts_with("/api/") {
        responses.insert("503".into(), fails("The store is down, or there is too much to do; see Retry-After."));
        responses.insert("504".into(), fails("Not answered within the time allowed."));
        responses.insert("501".into(), fails("The store cannot answer this; the body says why and the remedy."));
    }
    if matches!(route.method, Method::Post | Method::Put) {
        responses.insert("413".into(), fails("The body is too long."));
        responses.insert("422".into(), fails("What was sent or read has problems; nothing was changed."));
    }
    let parameters: Vec<_> = route.params.iter().copied().flatten().map(parameter).collect();
    let id = route.path.trim_start_matches("/api/v1/netflow/").replace(['/', '{', '}', '.'], "_");
    let mut operation = json!({
        "operationId": format!("{}_{}", route.method.name().to_ascii_lowercase(), id.trim_matches('_')),
        "summary": route.summary,
        "description": format!("{} Needs {}.", route.about, route.needs.text()).trim_start(),
        "parameters": parameters,
        "responses": responses,
    });
    if route.needs != Needs::Nothing {
        operation["security"] = json!([{ "token": [] }]);
    }
    if let Some(body) = route.body {
        operation["requestBody"] = json!({ "description": body, "content": request_content(route, schemas) });
    }
    operation
}

/// Types of bodies that are sent; what is not listed is bytes.
fn request_content(route: &Route, schemas: &mut Schemas) -> Value {
    match (route.method, route.path) {
        (Method::Put, LEASE_PATH) => json!({ "application/json": { "schema": schemas.add::<LeaseRow>() } }),
        (Method::Post, LEASES_PATH) => {
            let row = schemas.add::<LeaseRow>();
            json!({
                "application/json": { "schema": { "type": "array", "items": row } },
                "application/x-ndjson": { "schema": { "type": "string" } },
            })
        }
        _ => json!({ "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } }),
    }
}

fn content(route: &Route, schemas: &mut Schemas) -> Value {
    match route.answer {
        AnswerKind::Json(schema) => json!({ "application/json": { "schema": schema(schemas) } }),
        AnswerKind::Text(types) => {
            let types = types.iter().map(|t| ((*t).to_owned(), json!({ "schema": { "type": "string" } })));
            Value::Object(types.collect())
        }
    }
}

fn parameter(param: &Param) -> Value {
    let in_path = matches!(param.kind, ParamKind::PathUuid | ParamKind::PathIp);
    let mut schema = match param.kind {
        ParamKind::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        ParamKind::Uuid | ParamKind::PathUuid => json!({ "type": "string", "format": "uuid" }),
        ParamKind::Month => json!({ "type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$" }),
        ParamKind::OneOf(words) => json!({ "type": "string", "enum": words }),
        _ => json!({ "type": "string" }),
    };
    if let Some(default) = param.default {
        let number = matches!(param.kind, ParamKind::Whole { .. }).then(|| default.parse::<u64>().ok()).flatten();
        schema["default"] = number.map_or_else(|| json!(default), |n| json!(n));
    }
    json!({
        "name": param.name,
        "in": if in_path { "path" } else { "query" },
        "required": in_path,
        "description": format!("{} Allowed: {}.", param.about, param.kind.allowed()),
        "schema": schema,
    })
}

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c2430;background:#fff}\
h2{font:600 15px/1.4 ui-monospace,monospace;margin:2rem 0 .2rem;overflow-wrap:anywhere}p{margin:.2rem 0}\
code{font:13px ui-monospace,monospace}table{border-collapse:collapse;margin:.5rem 0}\
td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #dde3ea}\
small{color:#5a6675}@media(prefers-color-scheme:dark){body{background:#14181d;color:#dbe2ea}td,th{border-color:#303a45}small{color:#93a1b0}a{color:#7db4ff}}";

fn html() -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>rgz-netflow</title><style>{STYLE}</style><h1>rgz-netflow {}</h1>\
         <p>Ranges of time are half-open. Errors are JSON: <code>{{error, parameter, allowed}}</code>. \
         Tokens go in the header <code>Authorization: Bearer TOKEN</code>. For programs: \
         <a href=/openapi.json>/openapi.json</a>.</p>",
        env!("CARGO_PKG_VERSION"),
    );
    for route in ROUTES {
        section(&mut out, route);
    }
    out.push_str("</html>\n");
    out
}

fn section(out: &mut String, route: &Route) {
    let path = escape(route.path);
    // A route that takes no path parameter and only reads can be followed.
    let shown = match route.method {
        Method::Get if !path.contains('{') => format!("<a href='{path}'>{path}</a>"),
        _ => path,
    };
    let _ = write!(
        out,
        "<h2>{} {shown}</h2><p>{}. {} <small>Needs {}.</small></p>",
        route.method.name(),
        escape(route.summary),
        escape(route.about),
        route.needs.text(),
    );
    if let Some(body) = route.body {
        let _ = write!(out, "<p>Body: {}.</p>", escape(body));
    }
    if route.params.is_empty() {
        return;
    }
    out.push_str("<table>");
    for param in route.params.iter().copied().flatten() {
        let default = param.default.map_or(String::new(), |d| format!(" Default <code>{}</code>.", escape(d)));
        let _ = write!(
            out,
            "<tr><td><code>{}</code><td>{}{default} <small>Allowed: {}.</small>",
            param.name,
            escape(param.about),
            escape(&param.kind.allowed()),
        );
    }
    out.push_str("</table>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;").replace('"', "&quot;")
}
