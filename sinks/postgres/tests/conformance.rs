//! The suite that every sink passes, on a real server.

mod server;

use sink_api::conformance::{Options, run};

/// Flows of the data set: `CONFORMANCE_FLOWS` in the environment for another size.
fn flows() -> usize {
    std::env::var("CONFORMANCE_FLOWS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

#[test]
fn answers_are_those_of_the_reference() {
    let Some(server) = server::Server::start() else { return };
    server.database("flows");
    let options = Options { flows: flows(), ..Options::default() };
    let config = server::config(&server.url("flows"));
    let report = run(&config, &options).unwrap_or_else(|failures| panic!("{}", failures.join("\n")));
    assert!(report.questions > 500, "{report:?}");
}
