//! Configuration of the stage: `[aggregate]` and `[[aggregate.rollup]]`.

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use crate::flow::rollup::{Keep, Shape};
use crate::flow::time::{DAY_MS, HOUR_MS, SECOND_MS};
use crate::flow::{Key, RollupDef};

/// Longest `flow_span_max_ms`: a span covers at most this divided by a bucket's width buckets.
const SPAN_MAX_MS: u64 = HOUR_MS as u64;
/// Narrowest bucket, so that a span covers at most 60 of them.
const BUCKET_MIN_MS: i64 = 60 * SECOND_MS;
/// Least memory that makes sense: some thousand keys.
const MEMORY_MIN_BYTES: u64 = 4 << 20;
/// Rollups that can be defined beside the default ones and those of the sinks.
const OWN_MAX: usize = 27;

/// `[aggregate]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Flows that span more are booked whole at their end, and counted. At most 1 h.
    #[serde(rename = "flow_span_max", with = "crate::telemetry::units::duration_ms")]
    pub flow_span_max_ms: u64,
    /// Memory of keys and sums, over all rollups. The default holds 100,000s of subscribers; when it runs short, the rollup
    /// that holds most is emitted early; new keys beyond it are booked under one `other` row.
    #[serde(rename = "memory_max", with = "crate::telemetry::units::bytes")]
    pub memory_max_bytes: u64,
    /// How many sources `netflow_top_talker_bytes` shows.
    pub top_talkers: usize,
    /// Rollups beside the five that are always there.
    pub rollup: Vec<RollupConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self { flow_span_max_ms: SPAN_MAX_MS, memory_max_bytes: 96 << 20, top_talkers: 10, rollup: Vec::new() }
    }
}

/// `[[aggregate.rollup]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollupConfig {
    /// Its name: table, measurement, folder. Lower case letters, digits and `_`.
    pub name: String,
    /// Width of a bucket, from 1 minute to 1 day, a divisor of a day.
    #[serde(rename = "bucket", with = "crate::telemetry::units::duration_ms")]
    pub bucket_ms: u64,
    /// How long rows are kept.
    #[serde(default)]
    pub keep: KeepConfig,
    /// Columns to group by; `reseller_id` is always among them.
    pub by: Vec<String>,
}

/// Retention class of a rollup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepConfig {
    /// As long as detail.
    Detail,
    /// As long as sums.
    #[default]
    Aggregate,
}

/// A problem with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as in the file: `memory_max`, `rollup[0].by`.
    pub key: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl Config {
    /// The five default rollups, those defined here, and those that sinks want, unless one of the name is defined here.
    ///
    /// # Errors
    /// Every problem found; what sinks want is none.
    pub fn rollups(&self, of_sinks: impl IntoIterator<Item = RollupDef>) -> Result<Vec<RollupDef>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut problem = |key: String, problem: String| problems.push(Problem { key, problem });
        if self.flow_span_max_ms > SPAN_MAX_MS {
            problem("flow_span_max".into(), "more than 1h: allowed is 0s to 1h".into());
        }
        if self.memory_max_bytes < MEMORY_MIN_BYTES {
            problem("memory_max".into(), "less than 4MiB".into());
        }
        let mut defs = RollupDef::defaults();
        for (index, rollup) in self.rollup.iter().enumerate() {
            match rollup.def() {
                Ok(def) if defs.iter().any(|known| known.name == def.name) => {
                    problem(format!("rollup[{index}].name"), format!("{:?} is taken", rollup.name));
                }
                Ok(def) => defs.push(def),
                Err((key, text)) => problem(format!("rollup[{index}].{key}"), text),
            }
        }
        if self.rollup.len() > OWN_MAX {
            problem("rollup".into(), format!("{} are defined; at most {OWN_MAX} can be", self.rollup.len()));
        }
        for def in of_sinks {
            if !defs.iter().any(|known| known.name == def.name) {
                defs.push(def);
            }
        }
        if problems.is_empty() { Ok(defs) } else { Err(problems) }
    }
}

impl RollupConfig {
    fn def(&self) -> Result<RollupDef, (&'static str, String)> {
        let named_well = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let starts_well = self.name.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts_well || !self.name.chars().all(named_well) || self.name.len() > 40 || self.name == "flows" {
            let allowed = "at most 40 lower case letters, digits and `_`, a letter first, not `flows`";
            return Err(("name", format!("{:?} is no name for a rollup: {allowed}", self.name)));
        }
        let bucket_ms = i64::try_from(self.bucket_ms).unwrap_or(i64::MAX);
        if !(BUCKET_MIN_MS..=DAY_MS).contains(&bucket_ms) || DAY_MS % bucket_ms != 0 {
            return Err(("bucket", "allowed is 1m to 1d, dividing a day without remainder".into()));
        }
        let mut by = Vec::new();
        for name in &self.by {
            let key = Key::from_name(name).ok_or_else(|| ("by", format!("{name:?} is no column")))?;
            if by.contains(&key) {
                return Err(("by", format!("{name:?} is named twice")));
            }
            by.push(key);
        }
        if !by.contains(&Key::Field(crate::flow::Field::ResellerId)) {
            return Err(("by", "\"reseller_id\" is missing: a reseller's token must be answerable".into()));
        }
        if by.contains(&Key::Host) != by.contains(&Key::Role) {
            return Err(("by", "\"host\" and \"role\" go together".into()));
        }
        let keep = match self.keep {
            KeepConfig::Detail => Keep::Detail,
            KeepConfig::Aggregate => Keep::Aggregate,
        };
        let (name, shape, while_open, since_ms) = (self.name.as_str().into(), Shape::Plain, true, i64::MIN);
        let def = RollupDef { name, bucket_ms, keep, by, shape, while_open, since_ms };
        Layout::of(&def).map_err(|problem| ("by", problem))?;
        Ok(def)
    }
}
