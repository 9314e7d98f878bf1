use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Header clocks further off than this are replaced by the receive time.
const CLOCK_SKEW_MAX_MS_DEFAULT: u64 = 10 * 60 * 1000;
/// Workers at most: more than any machine this runs on has cores.
pub const WORKERS_MAX: usize = 256;

/// `[decode]`: how records become flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Threads that decode, enrich and log; 0 = one per core. Changing it needs a restart.
    pub workers: usize,
    /// A header clock further off than this from ours is replaced by the time of receipt.
    #[serde(rename = "clock_skew_max", with = "crate::telemetry::units::duration_ms")]
    pub clock_skew_max_ms: u64,
    /// Exporters that need rules of their own.
    #[serde(rename = "exporter")]
    pub exporters: Vec<ExporterConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self { workers: 0, clock_skew_max_ms: CLOCK_SKEW_MAX_MS_DEFAULT, exporters: Vec::new() }
    }
}

/// `[[decode.exporter]]`: rules for one exporter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExporterConfig {
    /// Its address.
    pub address: IpAddr,
    /// 1 in N packets was seen, where the export gives no rate.
    #[serde(default)]
    pub sampling_default: Option<u32>,
    /// 1 in N packets was seen, whatever the export says.
    #[serde(default)]
    pub sampling_override: Option<u32>,
    /// For exporters that report a flow twice (ingress and egress accounting): a record counts when it came in by one of
    /// these interfaces or went out by one of `count_output_if`. Both empty = every record counts.
    #[serde(default)]
    pub count_input_if: Vec<u32>,
    /// See `count_input_if`.
    #[serde(default)]
    pub count_output_if: Vec<u32>,
}

impl Config {
    /// Workers in force.
    pub fn workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX),
            n => n,
        }
    }

    /// What is wrong with the values, as (key, problem). Empty when all is well.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.workers > WORKERS_MAX {
            let text = format!("{} is too many; allowed are 0 (one per core) to {WORKERS_MAX}", self.workers);
            problems.push(("workers", text));
        }
        for (i, exporter) in self.exporters.iter().enumerate() {
            if self.exporters[..i].iter().any(|other| other.address == exporter.address) {
                problems.push(("exporter", format!("{} stands there twice", exporter.address)));
            }
            if exporter.sampling_default == Some(0) || exporter.sampling_override == Some(0) {
                let text = format!("{}: a sampling rate of 0; allowed is 1 (no sampling) or more", exporter.address);
                problems.push(("exporter", text));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_problems_name_their_key() {
        assert_eq!(Config::default().problems(), []);
        let exporter = ExporterConfig {
            address: IpAddr::from([10, 0, 0, 1]),
            sampling_default: Some(0),
            sampling_override: None,
            count_input_if: vec![],
            count_output_if: vec![],
        };
        let bad = Config { workers: 1000, exporters: vec![exporter.clone(), exporter], ..Config::default() };
        let keys: Vec<_> = bad.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["workers", "exporter", "exporter", "exporter"]);
    }
}
