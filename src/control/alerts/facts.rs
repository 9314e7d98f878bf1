//! What the alerts have to know of the rest of the process at an evaluation; the application gathers it.

use crate::enrich::SiteInfo;

/// The process at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Every exporter ever heard.
    pub exporters: Vec<ExporterFact>,
    /// Every sink.
    pub sinks: Vec<SinkFact>,
    /// Every database of countries and AS numbers.
    pub databases: Vec<DatabaseFact>,
    /// Bytes that the log takes on disk.
    pub log_bytes: u64,
    /// Bytes that it may take; 0 = it has no files.
    pub log_bytes_max: u64,
    /// Every site.
    pub sites: Vec<SiteInfo>,
}

/// An exporter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExporterFact {
    /// Its address.
    pub address: String,
    /// When its latest datagram came, over all runs, ms since the Unix epoch.
    pub last_seen_ms: i64,
    /// Whether it was heard in this run.
    pub heard: bool,
    /// Its flows in the log, of this run.
    pub held_flows: u64,
    /// Its flows that never arrived or were dropped, of this run.
    pub lost_flows: u64,
}

/// A sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkFact {
    /// Its name.
    pub name: String,
    /// Age of the oldest record that it has not stored, ms.
    pub lag_ms: u64,
}

/// A database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseFact {
    /// Its file's name.
    pub name: String,
    /// When it was built, ms since the Unix epoch.
    pub built_ms: i64,
}
