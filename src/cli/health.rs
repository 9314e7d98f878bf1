//! `health`: for container engines, which ask by running a command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::Failure;
use crate::control::config::Settings;

/// How long the collector may take to answer.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Asks `/healthz` of the collector that runs with this configuration on this machine.
///
/// # Errors
/// It does not answer, or says that it is not well.
pub fn run(settings: &Settings) -> Result<(), Failure> {
    let listen = &settings.stages.admin.listen;
    let addr: SocketAddr = listen.parse().map_err(|e| Failure::new(format!("[admin] listen {listen:?}: {e}")))?;
    let url = format!("http://{}/healthz", reachable(addr));
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIME_MAX)).build().into();
    agent.get(&url).call().map_err(|e| Failure::new(format!("{url}: {e}")))?;
    println!("ok");
    Ok(())
}

/// An address to connect to: one that stands for all of the machine's becomes loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
