//! The suite that every sink passes, on a real server.

mod server;

use sink_api::conformance::{Options, run};
use sink_influxdb::Config;

/// Flows of the data set: `CONFORMANCE_FLOWS` in the environment for another size. The time goes into some 500 questions, each of
/// which the server answers by looking at every point of its range: 350 CPU seconds with 100,000 flows.
fn flows() -> usize {
    std::env::var("CONFORMANCE_FLOWS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

fn passes(config: &Config, options: &Options) {
    // Each series has an iterator in each shard: all days of the data set in one.
    let config = &Config { shard_days: Some(60), ..config.clone() };
    let report = run(config, options).unwrap_or_else(|failures| panic!("{}", failures.join("\n")));
    let least = if options.detail { 500 } else { 100 };
    assert!(report.questions > least, "{report:?}");
}

#[test]
fn answers_are_those_of_the_reference() {
    let Some(server) = server::Server::start() else { return };
    passes(&server.config(), &Options { flows: flows(), ..Options::default() });
}

#[test]
fn rollups_alone_answer_what_they_can_with_few_subscribers_as_tags() {
    let Some(server) = server::Server::start() else { return };
    let config = Config { detail: false, tags_max: 7, gzip: false, ..server.config() };
    passes(&config, &Options { flows: flows() / 2, detail: false, ..Options::default() });
}

#[test]
fn answers_of_version_2_are_those_of_the_reference() {
    let Some(config) = server::v2_config(&format!("conformance-{}", std::process::id())) else { return };
    passes(&config, &Options { flows: flows(), ..Options::default() });
}
