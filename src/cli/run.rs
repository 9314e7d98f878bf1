//! `run`: the collector itself.

use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::app;
use crate::control::config::{Settings, Sources};
use crate::telemetry::{logging, units};

/// Options of `run`.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Wait for one datagram, print its records, write the first to the first sink, and end
    #[arg(long)]
    test: bool,
    /// How long --test waits for the datagram
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "test", value_parser = units::parse_duration_ms)]
    wait: u64,
}

/// Runs the collector until it is told to stop; gives whether a test went well.
///
/// # Errors
/// One line that says what cannot be started, and why.
pub fn run(options: &Options, settings: Settings, sources: Sources) -> Result<bool, Failure> {
    if options.test {
        let failed = app::once::run(&settings, Duration::from_millis(options.wait)).map_err(Failure::new)?;
        failed.iter().for_each(|why| eprintln!("rgz-netflow: {why}"));
        return Ok(failed.is_none());
    }
    logging::start(&settings.stages.telemetry).map_err(Failure::new)?;
    app::run(settings, sources).map_err(Failure::new).map(|()| true)
}
