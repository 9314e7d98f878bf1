//! When sums are emitted, by the wall clock. What sinks pay for is the number of rows, so a bucket is emitted seldom:
//!
//! - once 30 s after its end, looked at each minute;
//! - with the shares that came later, every 5 minutes. Flows from the past, as from a replayed capture, are in buckets that
//!   have ended, so they appear then;
//! - while it is open, when it is wider than 5 minutes and its rollup is one for readers of tables
//!   ([`RollupDef::while_open`]): every 24th of its width, but not more often than every 5 minutes.
//!
//! Buckets of other rollups that wait longer (flows from the future) are emitted by age. Before its time everything is
//! emitted after very many flows, and the rollups that hold most memory when memory is short. Whoever asks the API has open
//! sums emitted at once.

use crate::flow::RollupDef;
use crate::flow::time::{MINUTE_MS, SECOND_MS};

/// How long after a bucket's end its first rows are emitted.
const DELAY_MS: i64 = 30 * SECOND_MS;
/// How often it is looked whether a bucket has ended.
const TICK_MS: i64 = MINUTE_MS;
/// How often late shares are emitted. Each emission has a row for nearly every key of a bucket, and exporters that report
/// long flows at their end add to the last 15 minutes all the time: each minute, these were 16 rows a key instead of 4.
const LATE_EVERY_MS: i64 = 5 * MINUTE_MS;
/// Least pause between two emissions of an open bucket; only wider ones are emitted while open.
const OPEN_EVERY_MIN_MS: i64 = 5 * MINUTE_MS;
/// Parts of a bucket's width after which it is emitted while open: 12 rows a key and hour, 24 a key and day.
const OPEN_PARTS: i64 = 24;
/// Longest time that sums wait after their bucket might have ended. Only buckets in the future wait so long.
const WAIT_MAX_MS: i64 = 10 * MINUTE_MS;
/// Flows after which everything is emitted: bounds what has to be read again after a crash (seconds), and what of the log
/// is kept for it (1 to 2 GiB).
const FLOWS_MAX: u64 = 1 << 25;
/// Flows between two emissions for lack of memory; new keys beyond the bound go to `other` rows meanwhile. What memory
/// holds is about as many keys, so even a flood of made-up keys gives few rows a flow.
const EARLY_FLOWS_MIN: u64 = 1 << 18;
/// Part of the memory from which the wide rollup that holds most is emitted early, if it holds much: a row frees a key there.
const PRESSED_PERCENT: usize = 75;
/// How much of the memory is much for one rollup.
const MUCH_PERCENT: usize = 25;
/// Part of the memory from which those are that hold most of it.
const HARD_PRESSED_PERCENT: usize = 88;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// What [`Tick::is_due`] says.
    Tick(Tick),
    /// The wide rollup that holds most, for lack of memory.
    Heaviest,
    /// The rollups that hold most, for lack of memory.
    Heavy,
    /// Everything, after very many flows.
    Everything,
}

/// A time at which buckets are looked at. Both times are [`DELAY_MS`] behind the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    before: i64,
    now: i64,
}

impl Tick {
    fn crosses(&self, every_ms: i64) -> bool {
        self.before.div_euclid(every_ms) != self.now.div_euclid(every_ms)
    }

    /// Whether a bucket is due, by its number and the clock when it got its first share.
    pub(super) fn is_due(&self, def: &RollupDef, number: i64, first_ms: i64) -> bool {
        let bucket_ms = def.bucket_ms;
        let end = number.saturating_add(1).saturating_mul(bucket_ms);
        if end <= self.now {
            return end > self.before || self.crosses(LATE_EVERY_MS);
        }
        let waited_ms = (self.now + DELAY_MS - first_ms).abs();
        match (is_wide(bucket_ms), def.while_open) {
            (true, true) => self.crosses(OPEN_EVERY_MIN_MS.max(bucket_ms / OPEN_PARTS)),
            (true, false) => waited_ms >= bucket_ms + WAIT_MAX_MS,
            (false, _) => waited_ms >= WAIT_MAX_MS,
        }
    }
}

/// Whether a rollup's buckets may be emitted while they are open.
pub(super) fn is_wide(bucket_ms: i64) -> bool {
    bucket_ms > OPEN_EVERY_MIN_MS
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Time of the last tick.
    ticked: Option<i64>,
    /// Flows since the last emission for lack of memory, and since everything was emitted.
    flows: u64,
    flows_all: u64,
}

impl Schedule {
    /// Takes note of flows added.
    pub(super) fn added(&mut self, flows: u64) {
        self.flows = self.flows.saturating_add(flows);
        self.flows_all = self.flows_all.saturating_add(flows);
    }

    /// What has become due since the last call, when this much is held, by all rollups and by the wide one that holds most.
    pub(super) fn due(&mut self, now_ms: i64, (held, held_wide): (usize, usize), bytes_max: usize) -> Due {
        let now = now_ms.saturating_sub(DELAY_MS);
        let tick = Tick { before: *self.ticked.get_or_insert(now), now };
        let is_over = |bytes: usize, percent: usize| bytes > bytes_max / 100 * percent;
        let pressed = |percent: usize| self.flows >= EARLY_FLOWS_MIN && is_over(held, percent);
        if self.flows_all >= FLOWS_MAX {
            (self.flows, self.flows_all) = (0, 0);
            return Due::Everything;
        }
        if pressed(HARD_PRESSED_PERCENT) {
            self.flows = 0;
            return Due::Heavy;
        }
        if tick.crosses(TICK_MS) {
            self.ticked = Some(now);
            return Due::Tick(tick);
        }
        if pressed(PRESSED_PERCENT) && is_over(held_wide, MUCH_PERCENT) {
            self.flows = 0;
            return Due::Heaviest;
        }
        Due::Nothing
    }
}
