//! The suite that every sink passes, on a real server.

mod server;

use sink_api::conformance::{Options, run};
use sink_influxdb::Config;

/// Flows of the data set: `CONFORMANCE_FLOWS` in the environment for another size. Nearly each point of this data set is a
/// series of its own, the worst that there is for InfluxDB.
fn flows() -> usize {
    std::env::var("CONFORMANCE_FLOWS").ok().and_then(|n| n.parse().ok()).unwrap_or(800)
}

fn passes(config: &Config, options: &Options) {
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
