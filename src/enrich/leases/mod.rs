//! Leases: who has an address now. Hundreds of thousands, changing all day, so they are no part of the compiled table but a
//! sharded exact-match map that is changed in place.
//!
//! An address keeps a short list of validity intervals, newest first, so that a flow that arrives late still goes to who had
//! the address at the flow's end. Intervals of one address never overlap.

mod history;

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use hashbrown::HashMap;

use super::table::Holder;
use crate::flow::Addr;
use history::History;

/// Shards, each with its lock. A power of two.
const SHARDS: usize = 32;

/// Addresses at most: stops a push that makes up addresses (at about 100 bytes each, 100 MiB).
pub const ADDRESSES_MAX: usize = 1 << 20;

/// The map is full: [`ADDRESSES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {ADDRESSES_MAX} addresses with leases")]
pub struct TooManyLeases;

type Hasher = foldhash::fast::FixedState;
type Shard = HashMap<Addr, History, Hasher>;

/// The map.
#[derive(Debug, Default)]
pub struct Leases {
    shards: [RwLock<Shard>; SHARDS],
    addresses: AtomicUsize,
}

impl Leases {
    /// An address is someone's during an interval. What other intervals of the address share with it, they lose.
    ///
    /// # Errors
    /// When the address is new and the map is full.
    pub fn put(&self, addr: Addr, holder: Holder) -> Result<(), TooManyLeases> {
        let mut shard = self.shard(addr).write().unwrap_or_else(PoisonError::into_inner);
        match shard.get_mut(&addr) {
            Some(history) => history.insert(holder),
            None => {
                if self.addresses.load(Relaxed) >= ADDRESSES_MAX {
                    return Err(TooManyLeases);
                }
                shard.insert(addr, History::new(holder));
                self.addresses.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    /// Nobody has the address from a time on. Gives whether anybody had it then or later.
    pub fn end(&self, addr: Addr, at_ms: i64) -> bool {
        let mut shard = self.shard(addr).write().unwrap_or_else(PoisonError::into_inner);
        let Some(history) = shard.get_mut(&addr) else { return false };
        let (ended, empty) = history.end(at_ms);
        if empty {
            shard.remove(&addr);
            self.addresses.fetch_sub(1, Relaxed);
        }
        ended
    }

    /// Forgets intervals that ended before a time. Gives how many addresses went with them.
    pub fn forget_before(&self, time_ms: i64) -> usize {
        let mut forgotten = 0;
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(|_, history| history.forget_before(time_ms));
            forgotten += before - shard.len();
        }
        self.addresses.fetch_sub(forgotten, Relaxed);
        forgotten
    }

    /// Who has the address at a time.
    pub fn get(&self, addr: Addr, time_ms: i64) -> Option<Holder> {
        self.shard(addr).read().unwrap_or_else(PoisonError::into_inner).get(&addr)?.at(time_ms).copied()
    }

    /// Every interval of every address, for listing and saving. Holds one shard's lock at a time.
    pub fn all(&self) -> Vec<(Addr, Holder)> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.iter().flat_map(|(addr, history)| history.iter().map(|holder| (*addr, *holder))));
        }
        all
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

    fn shard(&self, addr: Addr) -> &RwLock<Shard> {
        &self.shards[shard_of(addr)]
    }
}

/// A run of probes, see [`Leases::read`].
#[derive(Debug)]
pub struct LeasesRead<'a> {
    shards: [RwLockReadGuard<'a, Shard>; SHARDS],
}

impl LeasesRead<'_> {
    /// Who has the address at a time.
    #[inline]
    pub fn get(&self, addr: Addr, time_ms: i64) -> Option<&Holder> {
        self.shards[shard_of(addr)].get(&addr)?.at(time_ms)
    }
}

/// By bits of the hash that the maps themselves do not use for their place (low) nor their tag (top 7).
#[inline]
fn shard_of(addr: Addr) -> usize {
    (Hasher::default().hash_one(addr) >> 48) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(subscriber: u32, from_ms: i64, to_ms: i64) -> Holder {
        Holder { from_ms, to_ms, subscriber, reseller: 0, nas: 0, site: 0 }
    }

    #[test]
    fn an_address_that_changes_hands_answers_for_every_time() {
        let leases = Leases::default();
        let addr: Addr = "10.1.2.3".parse().unwrap();
        let who = |at| leases.get(addr, at).map(|holder| holder.subscriber);
        leases.put(addr, holder(1, 1000, i64::MAX)).unwrap();
        leases.put(addr, holder(2, 5000, i64::MAX)).unwrap();
        assert_eq!([999, 1000, 4999, 5000, 9_000_000].map(who), [None, Some(1), Some(1), Some(2), Some(2)]);
        assert_eq!(leases.read().get(addr, 4999).map(|holder| holder.subscriber), Some(1));
        assert!(leases.end(addr, 7000));
        assert_eq!([6999, 7000].map(who), [Some(2), None]);
        assert!(!leases.end(addr, 7000));
        assert_eq!((leases.len(), leases.all().len()), (1, 2));
        assert_eq!(leases.forget_before(6000), 0);
        assert_eq!([4999, 5000].map(who), [None, Some(2)]);
        assert_eq!((leases.forget_before(7001), leases.len()), (1, 0));
    }
}
