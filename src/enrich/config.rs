use std::path::PathBuf;

use super::sql::SqlConfig;
use crate::telemetry::units;

/// Configuration of the stage: where its knowledge comes from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of MMDB files (country, AS). Files appear, change and go while running. Empty = none.
    pub geoip: PathBuf,
    /// CSV file: prefix, subscriber_id, reseller_id, and if wished nas_id, site, from, to.
    pub subscribers: Option<PathBuf>,
    /// CSV file: nas_id, site, and if wished cir_bps, reseller_id, exporter, interface, engine_id, customer_prefix.
    pub sites: Option<PathBuf>,
    /// CSV file: prefix. The customers' networks; without it RFC 1918, 100.64.0.0/10 and fc00::/7.
    pub networks: Option<PathBuf>,
    /// CSV file: protocol, port, app, and if wished category. Names over the built-in ones.
    pub ports: Option<PathBuf>,
    /// The IEEE's list of vendors of network cards (`oui.csv` or `oui.txt`): names the devices in the list of leases.
    pub oui: Option<PathBuf>,
    /// Events of Suricata (EVE JSON): a file, or `unix_stream:` or `unix_dgram:` with the path of a socket.
    pub dpi: Option<String>,
    /// Memory of what the events said, bytes; the oldest goes first.
    #[serde(rename = "dpi_memory_max", with = "units::bytes")]
    pub dpi_memory_max_bytes: u64,
    /// Queries against a PostgreSQL, in the place of files.
    pub sql: Option<SqlConfig>,
    /// Whether the two directions of a conversation are looked for (`bidirectional`, `rtt_ms`).
    pub pairing: bool,
    /// Conversations remembered while waiting for their other direction; the oldest go first. At 22 bytes each.
    pub pairing_entries: usize,
}

/// Conversations remembered by default: 22 MiB at [`super::pairing::ENTRY_BYTES`].
pub const PAIRING_ENTRIES: usize = 1 << 20;

/// About 90,000 conversations: those of half an hour at 50 new ones a second.
pub const DPI_MEMORY_BYTES: u64 = 16 << 20;

impl Default for Config {
    fn default() -> Self {
        Self {
            geoip: "geoip".into(),
            subscribers: None,
            sites: None,
            networks: None,
            ports: None,
            oui: None,
            dpi: None,
            dpi_memory_max_bytes: DPI_MEMORY_BYTES,
            sql: None,
            pairing: true,
            pairing_entries: PAIRING_ENTRIES,
        }
    }
}

impl Config {
    /// What is wrong with keys that do not go together, or with those of `sql`: each key and the problem.
    pub fn problems(&self) -> Vec<(String, String)> {
        let Some(sql) = &self.sql else { return Vec::new() };
        let mut problems: Vec<_> =
            sql.problems().into_iter().map(|(key, problem)| (format!("sql.{key}"), problem)).collect();
        let both = [
            ("subscribers", self.subscribers.is_some(), &sql.subscribers),
            ("sites", self.sites.is_some(), &sql.sites),
            ("networks", self.networks.is_some(), &sql.networks),
        ];
        for (key, file, query) in both {
            if file && !query.is_empty() {
                problems
                    .push((format!("sql.{key}"), format!("[enrich] {key} names a file as well; one of them must go")));
            }
        }
        problems
    }
}
