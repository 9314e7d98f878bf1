//! An exact-match map of addresses, made to be asked for many at a time.
//!
//! Open addressing with linear probing over slots of 8 bytes, at most half of them taken; what is known of the addresses lies
//! apart, dense. Where a look-up begins follows from the hash alone, so that both can be fetched ahead, which the maps of
//! libraries do not offer. The aggregator's table is of another kind: its keys have 64 bits and are never taken out.

use std::hash::BuildHasher;

use super::History;
use crate::flow::Addr;
use crate::prefetch::prefetch;

type Hasher = foldhash::fast::FixedState;

/// Slots at first. A power of two, as any number of slots.
const SLOTS_MIN: usize = 16;

/// An address and who has it: one line of the cache, as a look-up is little but the wait for it.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    pub addr: Addr,
    pub history: History,
}

const _: () = assert!(size_of::<Entry>() == 64);

/// Where an entry is; free while the number is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The low half of the address's hash: where its search begins, and a first test before the entry is read.
    tag: u32,
    /// Of the entry, from 1 on.
    number: u32,
}

/// Bytes that an entry takes at most: the list of entries grows to twice its length, and slots are a quarter taken then.
pub(super) const ENTRY_BYTES_MAX: usize = 2 * size_of::<Entry>() + 4 * size_of::<Slot>();

/// The map.
#[derive(Debug, Default)]
pub(super) struct Shard {
    slots: Vec<Slot>,
    entries: Vec<Entry>,
}

/// The hash under which an address is held. The map uses its low half.
#[inline]
pub(super) fn hash_of(addr: Addr) -> u64 {
    Hasher::default().hash_one(addr)
}

impl Shard {
    /// Has the slot where the search for a hash begins fetched into the cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.slots.get(self.home(hash as u32)).inspect(|slot| prefetch(*slot));
    }

    /// What an address of this hash most likely has, or nothing if there is none; not read, but fetched into the cache.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<&Entry> {
        let place = self.search(hash as u32, |_| true)?;
        self.entry_at(place).inspect(|entry| prefetch(*entry))
    }

    /// What an address has.
    #[inline]
    pub fn find(&self, hash: u64, addr: Addr) -> Option<&Entry> {
        self.entry_at(self.place_of(hash, addr)?)
    }

    /// As [`Shard::find`], to be changed.
    pub fn find_mut(&mut self, hash: u64, addr: Addr) -> Option<&mut Entry> {
        let place = self.place_of(hash, addr)?;
        self.entries.get_mut(index_at(&self.slots, place))
    }

    /// Adds an address that is not held.
    pub fn insert(&mut self, hash: u64, entry: Entry) {
        if 2 * (self.entries.len() + 1) > self.slots.len() {
            let slots = vec![Slot::default(); SLOTS_MIN.max(2 * self.slots.len())];
            let taken = std::mem::replace(&mut self.slots, slots).into_iter().filter(|slot| slot.number != 0);
            taken.for_each(|slot| self.take(slot));
        }
        self.entries.push(entry);
        self.take(Slot { tag: hash as u32, number: self.entries.len() as u32 });
    }

    /// Removes an address, if it is held.
    pub fn remove(&mut self, hash: u64, addr: Addr) {
        let Some(place) = self.place_of(hash, addr) else { return };
        let removed = index_at(&self.slots, place);
        self.free(place);
        self.entries.swap_remove(removed);
        // The last entry has come to where the removed one was.
        let last = self.entries.len() as u32 + 1;
        let moved = self.entries.get(removed).map(|entry| hash_of(entry.addr) as u32);
        if let Some(place) = moved.and_then(|tag| self.search(tag, |number| number == last)) {
            self.slots[place].number = removed as u32 + 1;
        }
    }

    /// All entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// As [`Shard::iter`], to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    /// The first place where an address of a tag may be.
    #[inline]
    fn home(&self, tag: u32) -> usize {
        tag as usize & self.slots.len().wrapping_sub(1)
    }

    /// The first place with this tag and a number that is wanted.
    #[inline]
    fn search(&self, tag: u32, is_wanted: impl Fn(u32) -> bool) -> Option<usize> {
        let mut place = self.home(tag);
        loop {
            let slot = self.slots.get(place)?;
            if slot.tag == tag && slot.number != 0 && is_wanted(slot.number) {
                return Some(place);
            }
            if slot.number == 0 {
                return None;
            }
            place = self.after(place);
        }
    }

    #[inline]
    fn place_of(&self, hash: u64, addr: Addr) -> Option<usize> {
        self.search(hash as u32, |number| self.entries.get(number as usize - 1).is_some_and(|entry| entry.addr == addr))
    }

    #[inline]
    fn entry_at(&self, place: usize) -> Option<&Entry> {
        self.entries.get(index_at(&self.slots, place))
    }

    #[inline]
    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.slots.len() - 1)
    }

    /// Puts a slot into the first free place from its home on; half of them are free.
    fn take(&mut self, slot: Slot) {
        let mut place = self.home(slot.tag);
        while self.slots[place].number != 0 {
            place = self.after(place);
        }
        self.slots[place] = slot;
    }

    /// Frees a place. What was put behind it because it was taken moves up, so that a search may end at the first free place.
    fn free(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut place = self.after(gap);
        while self.slots[place].number != 0 {
            let from_home = place.wrapping_sub(self.home(self.slots[place].tag)) & mask;
            if from_home >= place.wrapping_sub(gap) & mask {
                self.slots[gap] = self.slots[place];
                gap = place;
            }
            place = self.after(place);
        }
        self.slots[gap] = Slot::default();
    }
}

/// The index of the entry of a taken place.
#[inline]
fn index_at(slots: &[Slot], place: usize) -> usize {
    slots[place].number as usize - 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::enrich::leases::Lease;
    use crate::enrich::table::Holder;

    fn entry(addr: Addr, subscriber: u32) -> Entry {
        let holder = Holder { from_ms: 0, to_ms: 1, subscriber, reseller: 0, nas: 0, site: 0 };
        Entry { addr, history: History::new(Lease { holder, mac: 0 }) }
    }

    fn subscriber(entry: &Entry) -> Option<u32> {
        entry.history.at(0).map(|lease| lease.holder.subscriber)
    }

    proptest! {
        /// Against a map of the standard library; few addresses, so that neighbours in the slots come and go.
        #[test]
        fn holds_what_was_put_in_and_not_taken_out(steps in prop::collection::vec((0u32..60, any::<bool>()), 1..300)) {
            let (mut shard, mut want) = (Shard::default(), BTreeMap::new());
            for (i, (addr, puts)) in (0u32..).zip(steps) {
                let (addr, hash) = (Addr::v4(addr), hash_of(Addr::v4(addr)));
                if !puts {
                    shard.remove(hash, addr);
                    want.remove(&addr);
                } else if want.insert(addr, i).is_none() {
                    shard.insert(hash, entry(addr, i));
                } else {
                    *shard.find_mut(hash, addr).expect("it was put in") = entry(addr, i);
                }
                for addr in (0..60).map(Addr::v4) {
                    let hash = hash_of(addr);
                    prop_assert_eq!(shard.find(hash, addr).and_then(subscriber), want.get(&addr).copied());
                    prop_assert_eq!(shard.guess(hash).map(|entry| entry.addr), want.get(&addr).map(|_| addr));
                }
                prop_assert_eq!(shard.iter().count(), want.len());
            }
        }
    }

    #[test]
    fn addresses_of_one_tag_are_told_apart() {
        let mut by_tag: BTreeMap<u32, Vec<Addr>> = BTreeMap::new();
        (0..400_000).map(Addr::v4).for_each(|addr| by_tag.entry(hash_of(addr) as u32).or_default().push(addr));
        let alike: Vec<_> = by_tag.into_values().filter(|addrs| addrs.len() > 1).collect();
        assert!(!alike.is_empty());
        let mut shard = Shard::default();
        for (i, addr) in (0..).zip(alike.iter().flatten()) {
            shard.insert(hash_of(*addr), entry(*addr, i));
        }
        for addrs in &alike {
            shard.remove(hash_of(addrs[0]), addrs[0]);
            assert!(shard.find(hash_of(addrs[0]), addrs[0]).is_none());
            assert_eq!(shard.find(hash_of(addrs[1]), addrs[1]).map(|entry| entry.addr), Some(addrs[1]));
            assert_eq!(shard.guess(hash_of(addrs[0])).map(|entry| entry.addr), Some(addrs[1]));
        }
    }
}
