//! When sums are emitted, by the wall clock.
//!
//! Each minute, 30 s after it ended, every bucket that has ended by then is emitted with what it got since: for a bucket of
//! one minute its first rows 30 s after its end, later shares as further partials. Every 5 minutes the buckets of wide
//! rollups are emitted that are open still. Buckets that wait longer (flows from the future) are emitted by age. Flows from
//! the past, as from a replayed capture, are in buckets that have ended, so they appear within a minute.

use super::cells::Buckets;
use crate::flow::time::{MINUTE_MS, SECOND_MS};

/// How long after a bucket's end its first rows are emitted.
const DELAY_MS: i64 = 30 * SECOND_MS;
/// How often late shares are emitted.
const LATE_EVERY_MS: i64 = MINUTE_MS;
/// How often open buckets are emitted; rollups with wider buckets have them emitted while open.
const OPEN_EVERY_MS: i64 = 5 * MINUTE_MS;
/// Longest time that sums wait: what has to be read again after a crash. Only buckets in the future wait so long.
const WAIT_MAX_MS: i64 = 10 * MINUTE_MS;
/// Flows after which everything is emitted: bounds what has to be read again after a crash at high rates, and keeps the
/// 32-bit flow counts of cells far from their end.
const FLOWS_MAX: u64 = 1 << 28;
/// Flows between two emissions for lack of memory; new keys beyond the bound go to `other` rows meanwhile. What memory
/// holds is about as many keys, so even a flood of made-up keys gives few rows a flow.
const EARLY_FLOWS_MIN: u64 = 1 << 18;
/// Part of the memory from which wide rollups are emitted early: a row frees a key there.
const PRESSED_PERCENT: usize = 70;
/// Part of the memory from which everything is.
const HARD_PRESSED_PERCENT: usize = 85;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Ended buckets, and those of wide rollups that are open too when it says so.
    Late {
        open_as_well: bool,
    },
    /// Buckets of wide rollups, for lack of memory.
    Wide,
    /// Everything, for lack of memory or after very many flows.
    Everything,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Number of the last minute and five minutes seen.
    ticks: Option<(i64, i64)>,
    /// Flows since all wide rollups were emitted, and since everything was emitted early.
    flows: u64,
    flows_all: u64,
}

impl Schedule {
    /// Takes note of flows added.
    pub(super) fn added(&mut self, flows: u64) {
        self.flows = self.flows.saturating_add(flows);
        self.flows_all = self.flows_all.saturating_add(flows);
    }

    /// What has become due since the last call.
    pub(super) fn due(&mut self, now_ms: i64, held_bytes: usize, bytes_max: usize) -> Due {
        let delayed = now_ms.saturating_sub(DELAY_MS);
        let now = (delayed.div_euclid(LATE_EVERY_MS), delayed.div_euclid(OPEN_EVERY_MS));
        let (late, open) = self.ticks.replace(now).unwrap_or(now);
        let pressed = |percent: usize| held_bytes > bytes_max / 100 * percent;
        if self.flows_all >= FLOWS_MAX || (self.flows_all >= EARLY_FLOWS_MIN && pressed(HARD_PRESSED_PERCENT)) {
            (self.flows, self.flows_all) = (0, 0);
            return Due::Everything;
        }
        if open != now.1 {
            self.flows = 0;
        }
        if late != now.0 {
            return Due::Late { open_as_well: open != now.1 };
        }
        if self.flows >= EARLY_FLOWS_MIN && pressed(PRESSED_PERCENT) {
            self.flows = 0;
            return Due::Wide;
        }
        Due::Nothing
    }

    /// Whether a rollup's buckets are emitted while they are open.
    pub(super) fn is_wide(bucket_ms: i64) -> bool {
        bucket_ms > OPEN_EVERY_MS
    }

    /// Up to which bucket a rollup is emitted when late shares are due.
    pub(super) fn drain_through(
        &self,
        now_ms: i64,
        bucket_ms: i64,
        open_as_well: bool,
        buckets: &Buckets,
    ) -> Option<i64> {
        if open_as_well && Self::is_wide(bucket_ms) {
            return Some(i64::MAX);
        }
        let ended = now_ms.saturating_sub(DELAY_MS).div_euclid(bucket_ms) - 1;
        let aged = buckets.iter().filter(|(_, bucket)| (now_ms - bucket.first_ms).abs() >= WAIT_MAX_MS);
        Some(aged.map(|(number, _)| number).fold(ended, i64::max))
    }
}
