use sink_api::rollup::RollupDef;
use sink_api::sink::Retention;
use sink_api::time::{DAY_MS, MINUTE_MS};

use crate::layout::Partitioning;
use crate::manifest::State;
use crate::table::FLOWS;

/// How often expired partitions are looked for.
pub(super) const INTERVAL_MS: i64 = MINUTE_MS;

/// A month of retention, in days: the longest month.
const MONTH_DAYS: i64 = 31;

/// Flows that ended before this are not stored: the start of the oldest day that is kept.
pub(super) fn detail_cutoff_ms(retention: Retention, now_ms: i64) -> i64 {
    now_ms.saturating_sub(i64::from(retention.detail_days) * DAY_MS).div_euclid(DAY_MS) * DAY_MS
}

/// The first time that is kept in partitions of a kind: the start of the oldest partition that is.
pub(crate) fn oldest_kept_ms(retention: Retention, by: Partitioning, now_ms: i64) -> i64 {
    match by {
        Partitioning::Day => detail_cutoff_ms(retention, now_ms),
        Partitioning::Month => {
            let oldest = oldest_aggregate_ms(retention, now_ms);
            // The month's start: back over the days that have the same name.
            let mut day = oldest.div_euclid(DAY_MS);
            while by.name((day - 1).saturating_mul(DAY_MS)) == by.name(oldest) && oldest > 0 {
                day -= 1;
            }
            day.saturating_mul(DAY_MS)
        }
    }
}

fn oldest_aggregate_ms(retention: Retention, now_ms: i64) -> i64 {
    now_ms.saturating_sub(i64::from(retention.aggregate_months) * MONTH_DAYS * DAY_MS)
}

/// Paths of files in partitions that lie wholly before what is kept. Tables that are no configured rollup are kept as
/// long as sums.
pub(super) fn expired(state: &State, rollups: &[RollupDef], retention: Retention, now_ms: i64) -> Vec<String> {
    let oldest_day = Partitioning::Day.name(detail_cutoff_ms(retention, now_ms));
    let oldest_aggregate = oldest_aggregate_ms(retention, now_ms);
    let is_old = |table: &str, partition: &str| {
        let by_days =
            table == FLOWS || rollups.iter().any(|d| *d.name == *table && Partitioning::of(d) == Partitioning::Day);
        let oldest = match (by_days, partition.len()) {
            (true, 10) => oldest_day.clone(),
            (_, 10) => Partitioning::Day.name(oldest_aggregate),
            _ => Partitioning::Month.name(oldest_aggregate),
        };
        partition < oldest.as_str()
    };
    state.files.values().filter(|f| is_old(f.table(), f.partition())).map(|f| f.path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::manifest::{Change, DataFile};

    #[test]
    fn whole_partitions_go_by_their_class() {
        let mut state = State::default();
        let paths =
            ["flows/2026-10-22/a", "flows/2026-10-23/a", "traffic/2026-10-01/a", "usage/2025-10/a", "usage/2025-11/a"];
        let file = |path: &str| DataFile { path: path.into(), rows: 1, bytes: 1, min_ms: 0, max_ms: 0, folded: false };
        state.apply(&Change { add: paths.iter().map(|p| Arc::new(file(p))).collect(), ..Change::default() });
        let now = "2026-11-22T12:00:00Z".parse::<jiff_free::Ms>().unwrap().0;
        let gone = expired(&state, &RollupDef::defaults(), Retention::default(), now);
        assert_eq!(gone, ["flows/2026-10-22/a", "traffic/2026-10-01/a", "usage/2025-10/a"]);
    }

    /// A time for tests, without a calendar library: only the one used above.
    mod jiff_free {
        pub struct Ms(pub i64);
        impl std::str::FromStr for Ms {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                (text == "2026-11-22T12:00:00Z").then_some(Self(1_795_348_800_000)).ok_or_else(|| text.to_string())
            }
        }
    }
}
