use std::collections::BTreeSet;

use super::super::auth::Needs;
use super::super::describe::document;
use super::super::table::ROUTES;
use super::*;

/// Where the document is kept for review; written anew by a test run with `UPDATE_GOLDEN=1`.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/http/openapi.json");

#[test]
fn the_openapi_document_is_the_one_that_was_reviewed() {
    let text = format!("{:#}\n", document());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(GOLDEN).unwrap();
    assert!(text == reviewed, "the API's description changed: look at it, then run this test with UPDATE_GOLDEN=1");
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = document();
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |m| format!("{m} {path}")))
        .collect();
    let routed: BTreeSet<String> =
        ROUTES.iter().map(|r| format!("{} {}", r.method.name().to_lowercase(), r.path)).collect();
    assert_eq!(described, routed);
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.name().to_lowercase()];
        let names: Vec<_> =
            operation["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        assert_eq!(names, route.params.iter().copied().flatten().map(|p| p.name).collect::<Vec<_>>());
        assert_eq!(operation.get("security").is_some(), route.needs != Needs::Nothing, "{}", route.path);
    }
}

#[test]
fn operation_ids_are_unique_and_references_lead_somewhere() {
    let document = document();
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()));
        }
    }
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
}

#[test]
fn answers_have_the_fields_that_the_document_says() {
    let server = TestServer::start();
    let document = document();
    for route in ROUTES.iter().filter(|r| r.path.starts_with("/api/")) {
        let operation = &document["paths"][route.path][route.method.name().to_lowercase()];
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        let required = required_fields(&document, schema);
        if required.is_empty() || route.method != Method::Get {
            continue;
        }
        // The one parameter that a question cannot do without.
        let needs_id = route.params.iter().copied().flatten().any(|param| param.about.ends_with("; needed."));
        let answer = server.ask(route, "", if needs_id { "?id=sink/local/1" } else { "" }).json();
        for field in required {
            assert!(answer.get(&field).is_some(), "{} lacks {field}: {answer}", route.path);
        }
    }
}

/// Names of the fields that a schema requires, through references and `allOf`.
fn required_fields(document: &Value, schema: &Value) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return required_fields(document, &document["components"]["schemas"][name]);
    }
    let texts = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let mut fields: Vec<String> = texts(&schema["required"]).iter().map(|f| f.as_str().unwrap().to_owned()).collect();
    for part in texts(&schema["allOf"]) {
        fields.extend(required_fields(document, &part));
    }
    fields
}

#[test]
fn the_page_names_every_route_and_parameter_and_may_load_nothing() {
    let server = TestServer::start();
    let got = server.get("/");
    assert_eq!((got.status, got.header("content-type")), (200, "text/html; charset=utf-8"));
    for route in ROUTES {
        assert!(got.body.contains(route.path), "{}", route.path);
        for param in route.params.iter().copied().flatten() {
            assert!(got.body.contains(&format!("<code>{}</code>", param.name)), "{}", param.name);
        }
    }
    assert!(!got.body.contains("<script") && !got.body.contains("http://") && !got.body.contains("https://"));
    assert!(got.header("content-security-policy").contains("default-src 'none'"));
    assert_eq!(server.get("/openapi.json").json(), document());
}
