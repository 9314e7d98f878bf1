use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Largest datagram that a socket takes unless configured: covers jumbo frames. Longer ones are cut and counted.
const DATAGRAM_BYTES_DEFAULT: u64 = 9216;
/// Receive buffer asked of the kernel: about 0.4 s of 1.5 KB datagrams at 3 M flows/s.
const RECEIVE_BUFFER_BYTES_DEFAULT: u64 = 64 << 20;
/// A slab holds about 10,000 flows of v5: long enough to amortise the queue, short enough for the second-level cache.
const SLAB_BYTES_DEFAULT: u64 = 512 << 10;
/// All slabs together, whether being filled, queued or decoded.
const QUEUE_BYTES_DEFAULT: u64 = 64 << 20;

/// `[receive]`: where exports come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses and UDP ports to listen on; IPv6 in brackets. Changing them needs a restart.
    pub listen: Vec<SocketAddr>,
    /// Export protocols that are accepted; datagrams of others are counted and dropped.
    pub protocols: Vec<Protocol>,
    /// Sockets, each with a thread of its own, per listener; 0 = one per core.
    pub sockets: usize,
    /// Exporters that may send, as prefixes; empty = everybody.
    pub allow: Vec<IpNet>,
    /// Receive buffer asked of the kernel per socket. Where the kernel grants less, a warning names the sysctl.
    #[serde(with = "crate::telemetry::units::bytes")]
    pub receive_buffer_bytes: u64,
    /// Longest datagram taken whole.
    #[serde(with = "crate::telemetry::units::bytes")]
    pub datagram_bytes_max: u64,
    /// Size of the slabs in which datagrams travel to the workers.
    #[serde(with = "crate::telemetry::units::bytes")]
    pub slab_bytes: u64,
    /// Memory of all slabs: this queue, not the kernel's buffer, absorbs bursts.
    #[serde(with = "crate::telemetry::units::bytes")]
    pub queue_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 2055))],
            protocols: Protocol::ALL.to_vec(),
            sockets: 0,
            allow: Vec::new(),
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES_DEFAULT,
            datagram_bytes_max: DATAGRAM_BYTES_DEFAULT,
            slab_bytes: SLAB_BYTES_DEFAULT,
            queue_bytes: QUEUE_BYTES_DEFAULT,
        }
    }
}

/// Smallest `datagram_bytes_max`: below it, exporters' usual 1,464 bytes might be cut.
pub const DATAGRAM_BYTES_MIN: u64 = 2048;
/// Largest UDP payload.
pub const DATAGRAM_BYTES_MAX: u64 = 65_535;
/// Sockets per listener at most: beyond, threads cost more than they bring.
pub const SOCKETS_MAX: usize = 64;
/// Largest slab: offsets within a slab have 32 bits.
pub const SLAB_BYTES_MAX: u64 = 64 << 20;

impl Config {
    /// Sockets per listener in force.
    pub fn sockets_per_listener(&self) -> usize {
        match self.sockets {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(SOCKETS_MAX),
            n => n,
        }
    }

    /// What is wrong with the values, as (key, problem). Empty when all is well.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.listen.is_empty() {
            problems.push(("listen", "no address; allowed is at least one, like \"0.0.0.0:2055\"".to_owned()));
        }
        if let Some(twice) =
            self.listen.iter().enumerate().find(|(i, a)| a.port() != 0 && self.listen[..*i].contains(a))
        {
            problems.push(("listen", format!("{} stands there twice", twice.1)));
        }
        if self.protocols.is_empty() {
            problems.push(("protocols", format!("none; allowed are {}", Protocol::names())));
        }
        if self.sockets > SOCKETS_MAX {
            problems.push((
                "sockets",
                format!("{} is too many; allowed are 0 (one per core) to {SOCKETS_MAX}", self.sockets),
            ));
        }
        if !(DATAGRAM_BYTES_MIN..=DATAGRAM_BYTES_MAX).contains(&self.datagram_bytes_max) {
            let text =
                format!("{}; allowed are {DATAGRAM_BYTES_MIN} to {DATAGRAM_BYTES_MAX} bytes", self.datagram_bytes_max);
            problems.push(("datagram_bytes_max", text));
        }
        if !(self.datagram_bytes_max..=SLAB_BYTES_MAX).contains(&self.slab_bytes) {
            let text = format!(
                "{}; allowed are datagram_bytes_max ({}) to {SLAB_BYTES_MAX} bytes",
                self.slab_bytes, self.datagram_bytes_max
            );
            problems.push(("slab_bytes", text));
        }
        let needed = 2 * (self.sockets_per_listener() * self.listen.len() + 1) as u64;
        if self.queue_bytes / self.slab_bytes.max(1) < needed {
            let text = format!("{} bytes hold less than {needed} slabs, two per socket and two more", self.queue_bytes);
            problems.push(("queue_bytes", text));
        }
        problems
    }
}

/// An export protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// NetFlow version 1.
    #[serde(alias = "1", alias = "netflow1", alias = "netflow-v1")]
    V1,
    /// NetFlow version 5.
    #[serde(alias = "5", alias = "netflow5", alias = "netflow-v5")]
    V5,
    /// NetFlow version 7 (Catalyst switches).
    #[serde(alias = "7", alias = "netflow7", alias = "netflow-v7")]
    V7,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Protocol; 3] = [Self::V1, Self::V5, Self::V7];

    /// The number in the datagram's first two bytes.
    pub const fn version(self) -> u16 {
        match self {
            Self::V1 => 1,
            Self::V5 => 5,
            Self::V7 => 7,
        }
    }

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V5 => "v5",
            Self::V7 => "v7",
        }
    }

    /// The protocol of a name or version number, as environment variables give it. Case does not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        let number = name.trim_start_matches("netflow").trim_start_matches(['-', '_']).trim_start_matches('v');
        Self::ALL.into_iter().find(|p| &p.name()[1..] == number)
    }

    /// All names, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_problems_name_their_key() {
        assert_eq!(Config::default().problems(), []);
        let bad = Config {
            listen: vec![],
            protocols: vec![],
            sockets: 1000,
            datagram_bytes_max: 1,
            slab_bytes: 0,
            ..Config::default()
        };
        let keys: Vec<_> = bad.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["listen", "protocols", "sockets", "datagram_bytes_max", "slab_bytes"]);
    }

    #[test]
    fn protocols_are_known_by_name_and_number() {
        for (name, want) in
            [("v5", Some(Protocol::V5)), ("NetFlow-v7", Some(Protocol::V7)), ("1", Some(Protocol::V1)), ("v6", None)]
        {
            assert_eq!(Protocol::from_name(name), want, "{name}");
        }
    }
}
