//! `health`: for container engines, which ask by running a command.

use std::time::Duration;

use super::Failure;
use super::client::local_url;
use crate::control::config::Settings;

/// How long the collector may take to answer.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Asks `/healthz` of the collector that runs with this configuration on this machine.
///
/// # Errors
/// It does not answer, or says that it is not well.
pub fn run(settings: &Settings) -> Result<(), Failure> {
    let url = format!("{}/healthz", local_url(settings)?);
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIME_MAX)).build().into();
    agent.get(&url).call().map_err(|e| Failure::new(format!("{url}: {e}")))?;
    println!("ok");
    Ok(())
}
