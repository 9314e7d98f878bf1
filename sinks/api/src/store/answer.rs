use super::TimeRange;
use crate::rollup::Measures;
use crate::value::Value;

/// Which data answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The flow records.
    Detail,
    /// The rollup of this name.
    Rollup(String),
}

impl Tier {
    /// Its name in answers: `flows`, or the rollup's name.
    pub fn name(&self) -> &str {
        match self {
            Tier::Detail => "flows",
            Tier::Rollup(name) => name,
        }
    }
}

impl serde::Serialize for Tier {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How flows were assigned to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Bytes and packets spread over the buckets of the flow's span.
    ProRated,
    /// The whole flow at its end.
    FlowEnd,
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerRow {
    /// Start of the interval, when the question has one.
    pub interval: Option<i64>,
    /// Values in the order of the question's `by`.
    pub keys: Vec<Value>,
    /// The sums.
    pub measures: Measures,
}

/// Answer to a [`super::Question`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// The rows, ordered and limited.
    pub rows: Vec<AnswerRow>,
    /// Rows there were before the limit.
    pub total_rows: u64,
    /// Sums over everything that matched.
    pub matched: Measures,
    /// The range that was used, after alignment.
    pub range: TimeRange,
    /// Which data answered.
    pub tier: Tier,
    /// How flows were assigned to time.
    pub basis: Basis,
    /// Whether the rows are exact: false when a top list leaves out hosts that were cut.
    pub exact: bool,
    /// When not exact: the most bytes by which a row can be too small.
    pub error_bytes_max: u64,
    /// When the range begins before what the tier still holds: the first time it holds, ms since the Unix epoch.
    pub expired_before: Option<i64>,
}

/// What [`super::FlowStore::flows`] went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowsSummary {
    /// Rows that matched and were visited.
    pub rows: u64,
    /// When the range begins before the detail still held: the first time it holds.
    pub expired_before: Option<i64>,
}
