use std::time::Instant;

use crate::filter::Filter;
use crate::rollup::Key;

/// A half-open range of time, ms since the Unix epoch: `from` belongs to it, `to` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TimeRange {
    pub from: i64,
    pub to: i64,
}

impl TimeRange {
    /// The range made of whole buckets: `from` aligned down, `to` aligned up.
    pub fn aligned(self, bucket_ms: i64) -> Self {
        let down = |ms: i64| ms.div_euclid(bucket_ms) * bucket_ms;
        Self { from: down(self.from), to: down(self.to.saturating_add(bucket_ms - 1)) }
    }

    /// Whether a time lies in it.
    pub fn contains(self, ms: i64) -> bool {
        self.from <= ms && ms < self.to
    }
}

/// Which data may answer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum TierChoice {
    /// The coarsest tier that can answer, detail otherwise.
    #[default]
    Coarsest,
    /// Detail only.
    Detail,
    /// This rollup only.
    Rollup(String),
}

/// By what rows are ordered. Rows that are equal under it are ordered by their keys, so that answers are the same from
/// every store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OrderBy {
    Bytes,
    Packets,
    Flows,
    /// Interval, then keys; ascending.
    Time,
}

/// Order of the answer's rows.
pub type Order = OrderBy;

/// Sums by key and interval.
#[derive(Clone, Debug)]
pub struct Question {
    /// Which time. Detail selects by `time` (flow end); rollups by their buckets.
    pub range: TimeRange,
    /// Which flows. A reseller's scope is a part of it, put there by the caller.
    pub filter: Filter,
    /// Grouping; empty gives one row (for each interval).
    pub by: Vec<Key>,
    /// Width of the time steps in ms, aligned to the Unix epoch; `None` sums over the whole range. Steps without data give
    /// no row.
    pub interval_ms: Option<i64>,
    /// Order of the rows: measures descending, time ascending.
    pub order: Order,
    /// How many rows at the most; `None` gives all (up to the store's bound on groups).
    pub limit: Option<usize>,
    /// Which data may answer.
    pub tier: TierChoice,
    /// When to give up.
    pub deadline: Instant,
}

/// Flow records one by one.
#[derive(Clone, Debug)]
pub struct FlowsQuestion {
    /// Which time, by `time` (flow end).
    pub range: TimeRange,
    /// Which flows.
    pub filter: Filter,
    /// When to give up.
    pub deadline: Instant,
}
