use std::time::Duration;

/// First pause after an error.
const FIRST: Duration = Duration::from_millis(200);
/// Longest pause between tries.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses between tries: exponential with jitter, so that several sinks on one server do not come back in step.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Forgets earlier failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure: between half and all of 200 ms, 400 ms, ... 30 s, or what the server asked for
    /// when that is longer (bounded to ten minutes).
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let jittered = full / 2 + full.mul_f64(random_fraction() / 2.0);
        asked.map_or(jittered, |asked| jittered.max(asked.min(Duration::from_secs(600))))
    }
}

/// A number in 0..1; without randomness from the system simply the middle.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_obey_the_server() {
        let mut backoff = Backoff::default();
        assert!(backoff.next(None) <= FIRST);
        for _ in 0..20 {
            backoff.next(None);
        }
        let pause = backoff.next(None);
        assert!(pause >= LONGEST / 2 && pause <= LONGEST);
        assert_eq!(backoff.next(Some(Duration::from_secs(90))), Duration::from_secs(90));
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }
}
