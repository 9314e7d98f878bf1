use std::path::PathBuf;

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
    /// Whether the two directions of a conversation are looked for (`bidirectional`, `rtt_ms`).
    pub pairing: bool,
    /// Conversations remembered while waiting for their other direction; the oldest go first. At 24 bytes each.
    pub pairing_entries: usize,
}

/// Conversations remembered by default: 24 MiB at [`super::pairing::ENTRY_BYTES`].
pub const PAIRING_ENTRIES: usize = 1 << 20;

impl Default for Config {
    fn default() -> Self {
        Self {
            geoip: "geoip".into(),
            subscribers: None,
            sites: None,
            networks: None,
            ports: None,
            pairing: true,
            pairing_entries: PAIRING_ENTRIES,
        }
    }
}
