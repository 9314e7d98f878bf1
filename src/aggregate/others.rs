//! Hosts of one bucket of `talkers` that are no customers: the heaviest by themselves, the remainder in `rest` rows. See
//! [`super::talkers`].

use std::collections::HashMap;

use super::rollup::{KEYS_AHEAD, Keyed, numbers_of};
use super::shares::Piece;
use super::sums::{Amount, Amounts, Sums, add_wrapping};
use super::talkers::{IS_DST, IS_WIDE};
use crate::flow::Measures;
use crate::prefetch::prefetch;

/// Hosts that are no customers held of one bucket (about 0.3 MiB); the lighter half is folded when there are more.
pub(super) const OTHERS_HELD_MAX: usize = 8192;
/// Bits by hash of the hosts held (8 KiB): 8 for each host; a power of two.
const HELD_BITS: usize = OTHERS_HELD_MAX * 8;
/// Entries of the table of what hosts lost (256 KiB); a power of two.
const LOST_PLACES: usize = 1 << 15;

type ByOwner = HashMap<u32, Measures, foldhash::fast::RandomState>;

/// Sums by owner and role, whose numbers are dense: one look-up touches one place.
#[derive(Debug, Default)]
struct Rests(Vec<Measures>);

impl Rests {
    /// The sum of a key's first part, whatever kind of host it belongs to.
    #[inline]
    fn of(&mut self, first: u32) -> &mut Measures {
        let place = (first >> 1) as usize;
        if place >= self.0.len() {
            self.0.resize(place + 1, Measures::default());
        }
        &mut self.0[place]
    }

    /// Every sum that is not nothing, by its first part.
    fn iter(&self) -> impl Iterator<Item = (u32, &Measures)> {
        let all = (0..).step_by(2).zip(&self.0);
        all.filter(|(_, sum)| **sum != Measures::default())
    }
}

/// Hosts of one bucket that are no customers, and what has no row of its own.
#[derive(Debug, Default)]
pub(super) struct Others {
    hosts: Sums,
    /// By hash: bytes that hosts may have lost to a `rest` row. Empty until there are too many hosts.
    lost: Vec<u64>,
    /// What a host must have lost to be let in.
    threshold: u64,
    /// The most that one host can have lost as a host with a number, and before it had one.
    cut: u64,
    cut_unknown: u64,
    /// One bit by hash: whether some host with this hash is held. Most others are known not to be without a look.
    held: Vec<u64>,
    rests: Rests,
    /// The same for what found no room.
    overflow: ByOwner,
}

impl Others {
    pub(super) fn used_bytes(&self) -> usize {
        let by_owner =
            self.rests.0.capacity() * size_of::<Measures>() + self.overflow.capacity() * size_of::<(u32, Measures)>();
        let by_hash = (self.lost.len() + self.held.len()) * size_of::<u64>();
        size_of::<Self>() + self.hosts.used_bytes() + by_hash + by_owner
    }

    /// Hosts and rows held. Of `rest` rows the places count, which are nearly all taken.
    pub(super) fn keys(&self) -> usize {
        self.hosts.len() + self.rests.0.len() + self.overflow.len()
    }

    /// Adds to a host's sum, or to the `rest` row that it belongs to.
    #[inline]
    pub(super) fn add(&mut self, keyed: Keyed, amount: Amount<'_>, hash_of: impl Fn(u64) -> u64 + Copy) {
        let Keyed { hash, key } = keyed;
        if self.may_hold(hash) && self.hosts.add_known(hash, key, amount) {
            return;
        }
        if self.lets_in(hash) {
            self.hold(hash, key, amount, hash_of);
            if self.hosts.len() > OTHERS_HELD_MAX {
                self.fold(hash_of);
            }
        } else {
            let lost = self.lose(hash, numbers_of(key).0, &amount.measures());
            self.cut = self.cut.max(lost);
        }
    }

    /// Adds pieces to their hosts, and has the memory of those ahead fetched meanwhile. Pieces of key 0 are passed over.
    pub(super) fn add_pieces<P: Copy + Into<Piece>>(
        &mut self,
        pieces: &[P],
        keys: &[Keyed],
        amounts: &Amounts,
        hash_of: impl Fn(u64) -> u64 + Copy,
    ) {
        let keyed = |piece: P| keys[piece.into().key as usize];
        for (index, piece) in pieces.iter().enumerate() {
            pieces.get(index + KEYS_AHEAD).inspect(|ahead| self.prefetch(keyed(**ahead).hash));
            let (keyed, amount) = (keyed(*piece), (*piece).into().amount);
            if keyed.key != 0 {
                self.add(keyed, amounts.of(amount as usize), hash_of);
            }
        }
    }

    /// Has what a host adds to fetched into the cache.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        if self.may_hold(hash) {
            self.hosts.prefetch(hash);
        }
        if let Some(lost) = self.lost.get(hash as usize % LOST_PLACES) {
            prefetch(lost);
        }
    }

    /// Whether a host with this hash may be held.
    #[inline]
    fn may_hold(&self, hash: u64) -> bool {
        let place = hash as usize % HELD_BITS;
        self.held.get(place / 64).is_some_and(|bits| bits >> (place % 64) & 1 != 0)
    }

    fn hold(&mut self, hash: u64, key: u64, amount: Amount<'_>, hash_of: impl Fn(u64) -> u64) {
        self.hosts.add(hash, key, amount, hash_of);
        self.held.resize(HELD_BITS / 64, 0);
        let place = hash as usize % HELD_BITS;
        self.held[place / 64] |= 1 << (place % 64);
    }

    /// Whether a host that is not held is let in.
    #[inline]
    pub(super) fn lets_in(&self, hash: u64) -> bool {
        self.lost.is_empty() || self.lost[hash as usize % LOST_PLACES] >= self.threshold
    }

    /// Books into the `rest` row what belongs to a host with this hash. Gives what it may have lost by now.
    #[inline]
    fn lose(&mut self, hash: u64, first: u32, amount: &Measures) -> u64 {
        if self.lost.is_empty() {
            self.lost = vec![0; LOST_PLACES];
        }
        add_wrapping(self.rests.of(first), amount);
        let lost = &mut self.lost[hash as usize % LOST_PLACES];
        *lost = lost.saturating_add(amount.bytes);
        *lost
    }

    /// Books what belongs to a host with this hash that has no number and is not let in.
    pub(super) fn lose_unknown(&mut self, hash: u64, first: u32, amount: &Measures) {
        let lost = self.lose(hash, first, amount);
        self.cut_unknown = self.cut_unknown.max(lost);
    }

    /// Books what belongs to no host.
    pub(super) fn add_rest(&mut self, first: u32, amount: &Measures) {
        add_wrapping(self.rests.of(first), amount);
    }

    /// Books what found no room.
    #[cold]
    pub(super) fn overflow(&mut self, first: u32, amount: &Measures) {
        add_wrapping(self.overflow.entry(first & !IS_WIDE).or_default(), amount);
    }

    /// Keeps the heavier half of the hosts.
    #[cold]
    fn fold(&mut self, hash_of: impl Fn(u64) -> u64 + Copy) {
        let mut hosts: Vec<(u64, Measures)> = self.hosts.iter().collect();
        let middle = hosts.len() / 2;
        let (_, (_, lightest), folded) =
            hosts.select_nth_unstable_by_key(middle, |(key, sum)| (std::cmp::Reverse(sum.bytes), *key));
        // Doubled, so that hosts that are all alike are not let in and folded again and again.
        self.threshold = self.threshold.saturating_mul(2).max(lightest.bytes);
        for (key, sum) in &*folded {
            let lost = self.lose(hash_of(*key), numbers_of(*key).0, sum);
            self.cut = self.cut.max(lost);
        }
        self.hosts = Sums::default();
        self.held.fill(0);
        for (key, sum) in &hosts[..=middle] {
            self.hold(hash_of(*key), *key, Amount::of(sum), hash_of);
        }
    }

    /// Every row, by the parts of its key, with its sum and `cut_bytes`: the heaviest `most` hosts of each role, and `rest` rows,
    /// which have no second part.
    pub(super) fn each_row(mut self, most: usize, mut row: impl FnMut(u32, Option<u32>, &Measures, u64)) {
        let mut folded_max: HashMap<u32, u64> = HashMap::new();
        for side in [0, IS_DST] {
            let of_side = |(key, _): &(u64, Measures)| numbers_of(*key).0 & IS_DST == side;
            let mut hosts: Vec<(u64, Measures)> = self.hosts.iter().filter(of_side).collect();
            if hosts.len() > most {
                hosts.select_nth_unstable_by_key(most, |(key, sum)| (std::cmp::Reverse(sum.bytes), *key));
                for (key, sum) in hosts.drain(most..) {
                    let rest = numbers_of(key).0 & !IS_WIDE;
                    add_wrapping(self.rests.of(rest), &sum);
                    let max = folded_max.entry(rest).or_default();
                    *max = sum.bytes.max(*max);
                }
            }
            for (key, sum) in &hosts {
                let (first, second) = numbers_of(*key);
                row(first, Some(second), sum, 0);
            }
        }
        let mut rests: HashMap<u32, (Measures, u64)> = HashMap::new();
        for (rest, sum) in self.rests.iter() {
            let folded = folded_max.get(&rest).copied().unwrap_or_default();
            let cut = self.cut.saturating_add(self.cut_unknown).saturating_add(folded);
            rests.insert(rest, (*sum, sum.bytes.min(cut)));
        }
        for (rest, sum) in self.overflow {
            let (all, cut) = rests.entry(rest).or_default();
            add_wrapping(all, &sum);
            *cut = cut.saturating_add(sum.bytes);
        }
        for (rest, (sum, cut)) in rests.into_iter().filter(|(_, (sum, _))| *sum != Measures::default()) {
            row(rest, None, &sum, cut);
        }
    }
}
