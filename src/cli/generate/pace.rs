//! The pace: how many flows are due at a time.

use std::time::Duration;

/// Longest sleep between two looks at the clock, so that bursts stay short.
const TICK: Duration = Duration::from_micros(500);
/// After a stall, the missed flows follow at this many times the rate, not all at once: a burst would overflow the
/// receiver's buffer and measure the scheduler instead of the collector.
const CATCH_UP: f64 = 2.0;

/// Tokens for flows, by the time since the start.
#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    step_max: Duration,
    spent: u64,
    looked_at: Duration,
    allowance: f64,
}

impl Pace {
    /// Flows per second, and how many leave together; a rate of 0 sends as fast as possible.
    pub fn new(per_second: u64, together: u64) -> Self {
        // A slow pace sleeps for as long as one datagram takes; that is no stall.
        let own = Duration::try_from_secs_f64(together as f64 / per_second as f64).unwrap_or_default();
        Self {
            per_second: per_second as f64,
            step_max: own.max(TICK * 4),
            spent: 0,
            looked_at: Duration::ZERO,
            allowance: 0.0,
        }
    }

    /// Flows that may go out now, `elapsed` after the start.
    pub fn due(&mut self, elapsed: Duration) -> u64 {
        if self.per_second == 0.0 {
            return u64::MAX;
        }
        let since = elapsed.saturating_sub(self.looked_at).min(self.step_max);
        self.looked_at = elapsed;
        let owed = elapsed.as_secs_f64() * self.per_second - self.spent as f64;
        self.allowance = (self.allowance + since.as_secs_f64() * self.per_second * CATCH_UP).min(owed.max(0.0));
        self.allowance as u64
    }

    /// Takes note that flows went out.
    pub fn spend(&mut self, flows: u64) {
        self.spent += flows;
        self.allowance = (self.allowance - flows as f64).max(0.0);
    }

    /// How long to sleep until `flows` may be due, at most a tick for high rates.
    pub fn sleep(&self, elapsed: Duration, flows: u64) -> Duration {
        let at = (self.spent + flows) as f64 / self.per_second.max(f64::MIN_POSITIVE);
        let until = Duration::try_from_secs_f64(at).unwrap_or(TICK).saturating_sub(elapsed);
        // Low rates sleep until their datagram is due, yet wake often enough to see an interruption.
        const WAKE: Duration = Duration::from_millis(100);
        until.clamp(TICK / 5, WAKE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_exactly_in_the_long_run() {
        let mut pace = Pace::new(1_000_000, 30);
        for ms in 1..=1000 {
            let due = pace.due(Duration::from_millis(ms));
            pace.spend(due - due % 30);
        }
        assert!((999_900..=1_000_000).contains(&pace.spent), "{}", pace.spent);
    }

    #[test]
    fn a_stall_is_made_good_without_a_burst() {
        let mut pace = Pace::new(1_000_000, 30);
        let burst = pace.due(Duration::from_millis(100));
        assert!(burst <= 4000, "{burst}");
        pace.spend(burst);
        for ms in 101..=300 {
            let due = pace.due(Duration::from_millis(ms));
            assert!(due <= 2000, "{due}");
            pace.spend(due);
        }
        assert!((299_000..=300_000).contains(&pace.spent), "{}", pace.spent);
    }

    #[test]
    fn rate_zero_has_no_limit() {
        assert_eq!(Pace::new(0, 30).due(Duration::ZERO), u64::MAX);
    }

    #[test]
    fn slow_rates_sleep_until_a_datagram_is_due() {
        let mut pace = Pace::new(1000, 30);
        assert_eq!(pace.sleep(Duration::ZERO, 30), Duration::from_millis(30));
        assert!(pace.sleep(Duration::from_secs(1), 30) <= TICK);
        assert_eq!(pace.due(Duration::from_millis(30)), 30);
    }
}
