//! What is configured for single exporters, ready for the hot path.

use std::collections::HashMap;
use std::sync::Arc;

use super::config::{Config, ExporterConfig};
use crate::flow::Addr;

/// The configuration as the decoders use it. Replaced as a whole on reload.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// See [`Config::clock_skew_max_ms`].
    pub clock_skew_max_ms: u64,
    exporters: HashMap<Addr, Arc<Rule>>,
}

/// What holds for one exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    sampling_default: Option<u32>,
    sampling_override: Option<u32>,
    count_input_if: Vec<u32>,
    count_output_if: Vec<u32>,
}

/// Where a sampling rate came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Configured, or given by the export: 1 in this many.
    Known(u32),
    /// Neither: taken as 1.
    Unknown,
}

impl Rules {
    /// From the configuration.
    pub fn new(config: &Config) -> Self {
        let exporters =
            config.exporters.iter().map(|exporter| (Addr::from(exporter.address), Arc::new(Rule::new(exporter))));
        Self { clock_skew_max_ms: config.clock_skew_max_ms, exporters: exporters.collect() }
    }

    /// What holds for an exporter, if anything was configured.
    pub fn of(&self, exporter: Addr) -> Option<&Arc<Rule>> {
        if self.exporters.is_empty() { None } else { self.exporters.get(&exporter) }
    }
}

impl Rule {
    fn new(config: &ExporterConfig) -> Self {
        Self {
            sampling_default: config.sampling_default,
            sampling_override: config.sampling_override,
            count_input_if: config.count_input_if.clone(),
            count_output_if: config.count_output_if.clone(),
        }
    }

    /// Whether some records are second views of others.
    pub fn leaves_out_second_views(&self) -> bool {
        !self.count_input_if.is_empty() || !self.count_output_if.is_empty()
    }

    /// Whether a record counts, by the interfaces it passed.
    pub fn counts(&self, input_if: u32, output_if: u32) -> bool {
        self.count_input_if.contains(&input_if) || self.count_output_if.contains(&output_if)
    }
}

/// The sampling rate in force, given what is configured and the interval in the export (0 = none).
pub fn sampling_rate(rule: Option<&Rule>, exported: u32) -> Rate {
    let exported = (exported > 0).then_some(exported);
    match rule.map_or(exported, |rule| rule.sampling_override.or(exported).or(rule.sampling_default)) {
        Some(rate) => Rate::Known(rate),
        None => Rate::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_override_wins_over_the_export_and_that_over_the_default() {
        let rule = |default, over| Rule { sampling_default: default, sampling_override: over, ..Rule::default() };
        for (rule, exported, want) in [
            (None, 0, Rate::Unknown),
            (None, 100, Rate::Known(100)),
            (Some(rule(Some(7), None)), 0, Rate::Known(7)),
            (Some(rule(Some(7), None)), 100, Rate::Known(100)),
            (Some(rule(Some(7), Some(9))), 100, Rate::Known(9)),
            (Some(rule(None, None)), 0, Rate::Unknown),
        ] {
            assert_eq!(sampling_rate(rule.as_ref(), exported), want);
        }
    }

    #[test]
    fn a_record_counts_by_either_interface() {
        let rule = Rule { count_input_if: vec![1], count_output_if: vec![2, 3], ..Rule::default() };
        assert!(rule.leaves_out_second_views() && !Rule::default().leaves_out_second_views());
        let counted: Vec<_> = [(1, 9), (9, 3), (9, 9), (2, 1)].map(|(i, o)| rule.counts(i, o)).into();
        assert_eq!(counted, [true, true, false, false]);
    }
}
