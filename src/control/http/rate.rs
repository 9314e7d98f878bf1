//! How many requests a caller may make: a bucket of tokens for each token that is known, and for each address that shows none.
//!
//! A program that has run wild must not take the processor from receiving, and guessing tokens must not be quick. What never waits
//! (health, the description) is not limited, so that a supervisor is never told that the process is ill because somebody
//! else asks too much.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Requests that may come at once, as a multiple of those in a second: a page of panels, a pause of a scraper.
const BURST_S: f64 = 10.0;
/// Callers with a bucket of their own, about 100 bytes each; more share one, so that spoofed or rotating addresses fill no memory.
const CALLERS_MAX: usize = 10_000;
/// What a request without a known token costs.
pub const FAILED_COST: f64 = 20.0;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Whoever holds a token, by the token's SHA-256.
    Token([u8; 32]),
    /// An IPv4 address, or the /64 of an IPv6 one.
    Addr(IpAddr),
    /// Those beyond [`CALLERS_MAX`].
    Others,
}

impl Caller {
    /// The caller of an address.
    pub fn of_addr(addr: IpAddr) -> Self {
        Self::Addr(match addr.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            v4 => v4,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// The buckets.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    buckets: Mutex<HashMap<Caller, Bucket>>,
    refused: AtomicU64,
}

impl Rate {
    /// Buckets that fill with so many requests a second; 0 limits nothing.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), buckets: Mutex::default(), refused: AtomicU64::new(0) }
    }

    /// Takes the cost of a request from its caller's bucket.
    ///
    /// # Errors
    /// There is not enough: seconds until there is.
    pub fn take(&self, caller: Caller, cost: f64, now: Instant) -> Result<(), u64> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let full = (self.per_second * BURST_S).max(FAILED_COST);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = self.place(&mut buckets, caller, full, now);
        let bucket = buckets.entry(caller).or_insert(Bucket { left: full, at: now });
        let since = now.saturating_duration_since(bucket.at);
        *bucket = Bucket { left: full.min(bucket.left + since.as_secs_f64() * self.per_second), at: now };
        if bucket.left >= cost {
            bucket.left -= cost;
            return Ok(());
        }
        self.refused.fetch_add(1, Relaxed);
        Err(((cost - bucket.left) / self.per_second).ceil().max(1.0) as u64)
    }

    /// Requests refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// The bucket to use. Where there is no room for one more, those that are full again go: they say nothing.
    fn place(&self, buckets: &mut HashMap<Caller, Bucket>, caller: Caller, full: f64, now: Instant) -> Caller {
        if buckets.contains_key(&caller) || buckets.len() < CALLERS_MAX {
            return caller;
        }
        let fills = Duration::from_secs_f64(full / self.per_second);
        buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < fills);
        if buckets.len() < CALLERS_MAX { caller } else { Caller::Others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u32) -> Caller {
        Caller::of_addr(IpAddr::from(n.to_be_bytes()))
    }

    #[test]
    fn a_burst_passes_then_the_rate_and_each_caller_has_its_own() {
        let (rate, start) = (Rate::new(10), Instant::now());
        assert!((0..100).all(|_| rate.take(addr(1), 1.0, start).is_ok()));
        assert_eq!(rate.take(addr(1), 1.0, start), Err(1));
        assert!(rate.take(addr(2), 1.0, start).is_ok());
        assert!(rate.take(Caller::Token([1; 32]), 1.0, start).is_ok());
        let later = start + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| rate.take(addr(1), 1.0, later).is_ok()).count(), 5);
        assert_eq!(rate.take(addr(1), FAILED_COST, later), Err(2));
        // However long it rests, it has no more than one burst.
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| rate.take(addr(1), 1.0, much_later).is_ok()).count(), 100);
        assert!((0..10_000).all(|_| Rate::new(0).take(addr(1), 1.0, start).is_ok()));
    }

    #[test]
    fn one_network_of_ipv6_is_one_caller_and_a_mapped_address_is_ipv4() {
        let of = |text: &str| Caller::of_addr(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn a_hundred_thousand_addresses_fill_no_memory_and_lock_nobody_known_out() {
        let (rate, start) = (Rate::new(1), Instant::now());
        let known = Caller::Token([7; 32]);
        assert!(rate.take(known, 1.0, start).is_ok());
        for n in 0..100_000 {
            let _ = rate.take(addr(n), 1.0, start);
        }
        assert!(rate.buckets.lock().unwrap().len() <= CALLERS_MAX + 1);
        assert!(rate.take(known, 1.0, start).is_ok());
        assert!(rate.take(addr(99_999), 1.0, start).is_err(), "it shares a bucket");
        // Those that rest make room.
        assert!(rate.take(addr(99_999), 1.0, start + Duration::from_secs(60)).is_ok());
    }
}
