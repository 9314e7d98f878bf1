//! Leases: who has an address now. Hundreds of thousands, changing all day, so they are no part of the compiled table but a
//! sharded exact-match map that is changed in place.
//!
//! An address keeps a short list of validity intervals, newest first, so that a flow that arrives late still goes to who had
//! the address at the flow's end. Intervals of one address never overlap.

mod history;
mod shard;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::table::Holder;
use crate::flow::Addr;
pub(super) use history::History;
pub use history::INTERVALS_MAX;
use shard::{ENTRY_BYTES_MAX, Entry, Shard, hash_of};

/// Shards, each with its lock. A power of two.
const SHARDS: usize = 32;

/// Addresses that are looked up together, see [`LeasesRead::find_all`].
pub(super) const LOOKED_UP_TOGETHER: usize = 64;

/// Addresses at most: stops a push that makes up addresses.
pub const ADDRESSES_MAX: usize = 1 << 20;

/// Bytes at most, when so many addresses have as many intervals as are kept.
pub const MEMORY_BYTES_MAX: usize = ADDRESSES_MAX * (ENTRY_BYTES_MAX + (INTERVALS_MAX + 1) * size_of::<Lease>());

/// An address is someone's during an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who, and from when until when.
    pub holder: Holder,
    /// MAC address of the customer's device, 48 bits; 0 = not stated. Only listed.
    pub mac: u64,
}

impl Lease {
    fn is_empty(&self) -> bool {
        self.holder.from_ms >= self.holder.to_ms
    }

    fn between(&self, from_ms: i64, to_ms: i64) -> Self {
        Self { holder: Holder { from_ms, to_ms, ..self.holder }, ..*self }
    }

    fn is_of_the_same(&self, other: &Self) -> bool {
        self.between(0, 0) == other.between(0, 0)
    }
}

/// Reads a MAC address: six bytes in hex with `:`, `-` or nothing between them, or Cisco's `aabb.ccdd.eeff`.
pub fn parse_mac(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    let is_hex = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(&digits, 16).ok()).flatten()
}

/// The map is full: [`ADDRESSES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {ADDRESSES_MAX} addresses with leases")]
pub struct TooManyLeases;

/// The map.
#[derive(Debug, Default)]
pub struct Leases {
    shards: [RwLock<Shard>; SHARDS],
    addresses: AtomicUsize,
}

impl Leases {
    /// An address is someone's during an interval. The interval of the address that holds its begin ends there; others lose
    /// what they share with it. An empty interval changes nothing.
    ///
    /// # Errors
    /// When the address is new and the map is full.
    pub fn put(&self, addr: Addr, lease: Lease) -> Result<(), TooManyLeases> {
        if lease.is_empty() {
            return Ok(());
        }
        let hash = hash_of(addr);
        let mut shard = self.shard(hash).write().unwrap_or_else(PoisonError::into_inner);
        match shard.find_mut(hash, addr) {
            Some(Entry { history, .. }) => history.insert(lease),
            None => {
                if self.addresses.load(Relaxed) >= ADDRESSES_MAX {
                    return Err(TooManyLeases);
                }
                shard.insert(hash, Entry { addr, history: History::new(lease) });
                self.addresses.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    /// Nobody has the address from a time on. Gives whether anybody had it then or later.
    pub fn end(&self, addr: Addr, at_ms: i64) -> bool {
        let hash = hash_of(addr);
        let mut shard = self.shard(hash).write().unwrap_or_else(PoisonError::into_inner);
        let Some(Entry { history, .. }) = shard.find_mut(hash, addr) else { return false };
        let (ended, empty) = history.end(at_ms);
        if empty {
            shard.remove(hash, addr);
            self.addresses.fetch_sub(1, Relaxed);
        }
        ended
    }

    /// Forgets intervals that ended before a time. Gives the addresses that lost some.
    pub fn forget_before(&self, time_ms: i64) -> Vec<Addr> {
        let mut changed = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let mut gone = Vec::new();
            for Entry { addr, history } in shard.iter_mut() {
                let (forgotten, empty) = history.forget_before(time_ms);
                changed.extend(forgotten.then_some(*addr));
                gone.extend(empty.then_some(*addr));
            }
            gone.iter().for_each(|addr| shard.remove(hash_of(*addr), *addr));
            self.addresses.fetch_sub(gone.len(), Relaxed);
        }
        changed
    }

    /// Who has the address at a time.
    pub fn get(&self, addr: Addr, time_ms: i64) -> Option<Lease> {
        let hash = hash_of(addr);
        let shard = self.shard(hash).read().unwrap_or_else(PoisonError::into_inner);
        shard.find(hash, addr)?.history.at(time_ms).copied()
    }

    /// Every interval of an address, newest first.
    pub fn of(&self, addr: Addr) -> Vec<Lease> {
        let hash = hash_of(addr);
        let shard = self.shard(hash).read().unwrap_or_else(PoisonError::into_inner);
        shard.find(hash, addr).map_or_else(Vec::new, |entry| entry.history.iter().copied().collect())
    }

    /// The first `limit` addresses after one that have an interval that is wanted, in ascending order, each with its wanted
    /// intervals, newest first; and how many such addresses there are in all. Holds one shard's lock at a time, and no
    /// more than `limit` addresses in memory.
    pub fn page(
        &self,
        after: Option<Addr>,
        limit: usize,
        wanted: impl Fn(&Lease) -> bool,
    ) -> (BTreeMap<Addr, Vec<Lease>>, usize) {
        let (mut page, mut total) = (BTreeMap::new(), 0);
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            for Entry { addr, history } in shard.iter().filter(|entry| entry.history.iter().any(&wanted)) {
                total += 1;
                let is_full = page.len() >= limit && page.last_key_value().is_some_and(|(last, _)| last < addr);
                if is_full || after.is_some_and(|after| *addr <= after) {
                    continue;
                }
                page.insert(*addr, history.iter().copied().filter(&wanted).collect());
                if page.len() > limit {
                    page.pop_last();
                }
            }
        }
        (page, total)
    }

    /// All shards locked for reading, for a run of probes. Changes wait meanwhile, so it is not held for long.
    pub fn read(&self) -> LeasesRead<'_> {
        LeasesRead { shards: self.shards.each_ref().map(|s| s.read().unwrap_or_else(PoisonError::into_inner)) }
    }

    /// Addresses held.
    pub fn len(&self) -> usize {
        self.addresses.load(Relaxed)
    }

    /// Whether there are no leases: then nothing is probed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[shard_of(hash)]
    }
}

/// A run of probes, see [`Leases::read`].
#[derive(Debug)]
pub struct LeasesRead<'a> {
    shards: [RwLockReadGuard<'a, Shard>; SHARDS],
}

impl LeasesRead<'_> {
    /// Who had the address when.
    pub(super) fn find(&self, addr: Addr) -> Option<&History> {
        let hash = hash_of(addr);
        self.shard(hash).find(hash, addr).map(|entry| &entry.history)
    }

    /// As [`LeasesRead::find`] for many addresses, which takes a fraction of the time of one by one: what is known of them lies
    /// scattered, and comes into the cache at the same time. No more than the first [`LOOKED_UP_TOGETHER`] are looked up.
    pub(super) fn find_all(&self, addrs: &[Addr]) -> [Option<&History>; LOOKED_UP_TOGETHER] {
        let mut hashes = [0; LOOKED_UP_TOGETHER];
        for (hash, addr) in hashes.iter_mut().zip(addrs) {
            *hash = hash_of(*addr);
            self.shard(*hash).prefetch(*hash);
        }
        let mut guesses = [None; LOOKED_UP_TOGETHER];
        for ((guess, hash), _) in guesses.iter_mut().zip(hashes).zip(addrs) {
            *guess = self.shard(hash).guess(hash);
        }
        let mut found = [None; LOOKED_UP_TOGETHER];
        for (((found, guess), hash), addr) in found.iter_mut().zip(guesses).zip(hashes).zip(addrs) {
            let entry = guess.filter(|guess| guess.addr == *addr);
            // A guess that is wrong is as rare as two addresses whose hashes agree in 32 bits.
            let entry = entry.or_else(|| guess.and_then(|_| self.shard(hash).find(hash, *addr)));
            *found = entry.map(|entry| &entry.history);
        }
        found
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[shard_of(hash)]
    }
}

/// By bits of the hash that the shards themselves do not use.
#[inline]
fn shard_of(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(subscriber: u32, from_ms: i64, to_ms: i64) -> Lease {
        Lease { holder: Holder { from_ms, to_ms, subscriber, reseller: 0, nas: 0, site: 0 }, mac: 0 }
    }

    #[test]
    fn an_address_that_changes_hands_answers_for_every_time() {
        let leases = Leases::default();
        let addr: Addr = "10.1.2.3".parse().unwrap();
        let who = |at| leases.get(addr, at).map(|lease| lease.holder.subscriber);
        leases.put(addr, lease(1, 1000, i64::MAX)).unwrap();
        leases.put(addr, lease(2, 5000, i64::MAX)).unwrap();
        leases.put(addr, lease(3, 5000, 5000)).unwrap();
        assert_eq!([999, 1000, 4999, 5000, 9_000_000].map(who), [None, Some(1), Some(1), Some(2), Some(2)]);
        let at_4999 = |history: &History| history.at(4999).map(|lease| lease.holder.subscriber);
        assert_eq!(leases.read().find(addr).and_then(at_4999), Some(1));
        assert!(leases.end(addr, 7000));
        assert_eq!([6999, 7000].map(who), [Some(2), None]);
        assert!(!leases.end(addr, 7000));
        assert_eq!((leases.len(), leases.of(addr).len()), (1, 2));
        assert_eq!(leases.forget_before(6000), [addr]);
        assert_eq!([4999, 5000].map(who), [None, Some(2)]);
        assert_eq!((leases.forget_before(7001), leases.len()), (vec![addr], 0));
        assert_eq!(leases.forget_before(7001), []);
    }

    #[test]
    fn pages_follow_each_other_in_the_order_of_addresses() {
        let leases = Leases::default();
        for i in 0..1000 {
            leases.put(Addr::v4(0x0a00_0000 + i * 7 % 1000), lease(i % 2, 0, 10)).unwrap();
        }
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let (page, total) = leases.page(after, 64, |lease| lease.holder.subscriber == 1);
            assert!(total == 500 && page.len() <= 64);
            let Some((last, _)) = page.last_key_value() else { break };
            after = Some(*last);
            seen.extend(page.into_keys());
        }
        assert!(seen.len() == 500 && seen.is_sorted_by(|a, b| a < b));
        assert_eq!(leases.page(None, 0, |_| true).0.len(), 0);
    }

    #[test]
    fn a_change_among_100_000_leases_takes_under_a_ms() {
        let leases = Leases::default();
        (0..100_000).for_each(|i| leases.put(Addr::v4(i), lease(1, 0, i64::MAX)).unwrap());
        let mut took: Vec<_> = (0..1000)
            .map(|i| {
                let begun = std::time::Instant::now();
                leases.put(Addr::v4(i * 97), lease(2, 5, i64::MAX)).unwrap();
                begun.elapsed()
            })
            .collect();
        took.sort_unstable();
        assert!(took[took.len() / 2] < std::time::Duration::from_millis(1), "{:?}", took[took.len() / 2]);
    }
}
