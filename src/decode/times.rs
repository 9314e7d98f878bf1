//! From the exporter's uptime to absolute times.
//!
//! age = uptime - first or last, as a signed 32-bit wrapping difference in ms; time = clock - age. So a wrap of the uptime
//! (every 49.7 days) between a flow and its export does no harm, and ages up to 24.8 days are told right.

/// Ages below this, ms, are clamped to it: exporters stamp packets a little ahead of the header, never a minute.
pub const AGE_MIN_MS: i32 = -60_000;

/// The clock that a datagram's times count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Header time, or receive time where that is off, ms since the Unix epoch.
    pub now_ms: i64,
    /// Exporter's uptime at that time, ms modulo 2^32.
    pub uptime_ms: u32,
    /// Exporter's clock minus ours, ms.
    pub skew_ms: i64,
    /// Whether the receive time replaced the header's.
    pub replaced: bool,
}

impl Clock {
    /// The clock of a datagram.
    pub fn new(header_ms: i64, uptime_ms: u32, received_at_ms: i64, skew_max_ms: u64) -> Self {
        let skew_ms = header_ms.saturating_sub(received_at_ms);
        let replaced = skew_ms.unsigned_abs() > skew_max_ms;
        Self { now_ms: if replaced { received_at_ms } else { header_ms }, uptime_ms, skew_ms, replaced }
    }

    /// Makes starts and ends absolute, which hold uptimes so far; gives the number of records with a clamped time. A start
    /// so old that 32 bits show it after the end becomes the end.
    pub fn apply(&self, starts: &mut [i64], ends: &mut [i64]) -> u64 {
        let mut clamped = 0u32;
        for (start, end) in starts.iter_mut().zip(ends) {
            let (start_age, end_age) = (self.age(*start), self.age(*end));
            clamped += u32::from((start_age < AGE_MIN_MS) | (end_age < AGE_MIN_MS) | (start_age < end_age));
            let end_age = end_age.max(AGE_MIN_MS);
            *start = self.now_ms.wrapping_sub(i64::from(start_age.max(end_age)));
            *end = self.now_ms.wrapping_sub(i64::from(end_age));
        }
        u64::from(clamped)
    }

    #[inline]
    fn age(&self, uptime_ms: i64) -> i32 {
        self.uptime_ms.wrapping_sub(uptime_ms as u32) as i32
    }
}

/// Whether a flow ends before it starts, both as uptimes.
#[inline]
pub fn ends_before_start(start: i64, end: i64) -> bool {
    ((end as u32).wrapping_sub(start as u32) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK_MS: i64 = 1_700_000_000_000;
    const DAY: u32 = 86_400_000;

    #[test]
    fn uptimes_become_times() {
        // (what, uptime, first, last, start relative to the clock, end relative to the clock, clamped)
        let cases: &[(&str, u32, u32, u32, i64, i64, u64)] = &[
            ("plain", 100_000, 40_000, 90_000, -60_000, -10_000, 0),
            ("uptime wrapped between first and last", 32, u32::MAX - 15, 16, -48, -16, 0),
            ("uptime wrapped after last", 100, u32::MAX - 99, u32::MAX - 49, -200, -150, 0),
            ("first is all ones (softflowd)", 3381, u32::MAX, 2577, -3382, -804, 0),
            ("last slightly above uptime", 100_000, 99_000, 100_005, -1000, 5, 0),
            ("both a minute ahead", 100_000, 160_000, 160_000, 60_000, 60_000, 0),
            ("last more than a minute ahead", 100_000, 100_000, 160_001, 0, 60_000, 1),
            ("24 days long", 25 * DAY, DAY, 25 * DAY, -24 * i64::from(DAY), 0, 0),
            ("24 days long over the wrap", 0, 0u32.wrapping_sub(24 * DAY), 0, -24 * i64::from(DAY), 0, 0),
            ("both 40 days old: beyond what 32 bits tell", 40 * DAY, 0, 0, 60_000, 60_000, 1),
            (
                "ended 24 days ago, began 30 days ago",
                40 * DAY,
                10 * DAY,
                16 * DAY,
                -24 * i64::from(DAY),
                -24 * i64::from(DAY),
                1,
            ),
            ("49 days old is a few hours ahead", 49 * DAY, 0, 0, 60_000, 60_000, 1),
        ];
        for (what, uptime, first, last, start, end, clamped) in cases {
            let clock = Clock::new(CLOCK_MS, *uptime, CLOCK_MS, 600_000);
            let (mut starts, mut ends) = ([i64::from(*first)], [i64::from(*last)]);
            assert_eq!(clock.apply(&mut starts, &mut ends), *clamped, "{what}");
            assert_eq!((starts[0] - CLOCK_MS, ends[0] - CLOCK_MS), (*start, *end), "{what}");
        }
    }

    #[test]
    fn a_clock_far_off_gives_way_to_the_time_of_receipt() {
        let max_ms = 600_000;
        for (header_off_ms, replaced) in
            [(0, false), (600_000, false), (-600_000, false), (600_001, true), (-600_001, true)]
        {
            let clock = Clock::new(CLOCK_MS + header_off_ms, 5, CLOCK_MS, max_ms);
            assert_eq!((clock.replaced, clock.skew_ms), (replaced, header_off_ms));
            assert_eq!(clock.now_ms, if replaced { CLOCK_MS } else { CLOCK_MS + header_off_ms });
        }
        assert!(Clock::new(0, 5, CLOCK_MS, max_ms).replaced, "an exporter without a clock");
    }

    #[test]
    fn end_before_start_is_told_over_the_wrap() {
        for (start, end, absurd) in
            [(5u32, 5u32, false), (5, 4, true), (0xffff_fff0, 16, false), (16, 0xffff_fff0, true), (0, 30 * DAY, true)]
        {
            assert_eq!(ends_before_start(i64::from(start), i64::from(end)), absurd, "{start} {end}");
        }
    }
}
