//! `run`: the collector itself.

use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::app;
use crate::control::config::{Settings, Sources};
use crate::telemetry::logging;

/// How long `run --test` waits for a datagram.
const TEST_WAIT: Duration = Duration::from_secs(60);

/// Options of `run`.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Wait for one datagram, print its records, write the first to the first sink, and end
    #[arg(long)]
    test: bool,
}

/// Runs the collector until it is told to stop.
///
/// # Errors
/// One line that says what cannot be started, and why.
pub fn run(options: &Options, settings: Settings, sources: Sources) -> Result<(), Failure> {
    if options.test {
        return app::once::run(&settings, TEST_WAIT).map_err(Failure::new);
    }
    logging::start(&settings.stages.telemetry).map_err(Failure::new)?;
    app::run(settings, sources).map_err(Failure::new)
}
