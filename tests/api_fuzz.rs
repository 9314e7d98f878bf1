//! The API against its own description: schemathesis makes requests from the OpenAPI document, good and bad ones, and every answer must be
//! one that the document allows. Status 500 is allowed nowhere; 501, 503 and 504 where the document says so.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Collector, PROGRAM};

/// What is asserted of every answer.
const CHECKS: &str = "status_code_conformance,content_type_conformance,response_schema_conformance";
/// Requests made up for a route beside those that cover its parameters: with these it is a fixed set, done within a minute.
const CASES: &str = "8";

#[test]
fn every_answer_is_one_that_the_description_allows() {
    // `tests/run` puts it beside the artefacts.
    let target = Path::new(PROGRAM).ancestors().nth(2).unwrap();
    let program = target.join("schemathesis/bin/schemathesis");
    if !program.is_file() {
        println!(
            "skipped: {} is not there (tests/run installs it from PyPI where that can be reached)",
            program.display()
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    collector.generate(&["--count", "500", "--rate", "0"]);
    collector.wait_delivered();
    let output = Command::new(program)
        .arg("run")
        .arg(collector.url("/openapi.json"))
        .args(["--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", CASES])
        .args(["--generation-deterministic", "--continue-on-failure", "--no-color", "--request-timeout", "60"])
        .current_dir(folder.path())
        .env_remove("NETFLOW_TOKEN")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(" passed"), "{text}");
    // It answered all of that and still works.
    assert!(collector.get_text("/readyz").contains("\"ready\":true"));
    collector.stop();
}
