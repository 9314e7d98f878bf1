//! The sums of one rollup between two emissions.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use super::buckets::Buckets;
use super::combos::REFUSED;
use super::gathered::Gathered;
use super::groups::Groups;
use super::layout::{Layout, Second};
use super::out::Out;
use super::scattered::{Scattered, book_scattered};
use super::share::Width;
use super::shares::Shares;
use super::sums::Amount;
use super::talkers::Talkers;
use super::view::{Names, Pass};
use crate::flow::rollup::Shape;
use crate::flow::time::HOUR_MS;
use crate::flow::{FlowBatch, Measures, RollupDef};

/// Buckets that are a whole number of these get what flows bring by this width: rollups of an hour and of a day share the work.
const UNIT_MAX_MS: i64 = HOUR_MS;
/// How many keys ahead their sums are fetched into the cache; a power of two.
pub(super) const KEYS_AHEAD: usize = 32;
/// Windows of buckets up to this wide are marked whole; wider ones (a few odd times among many flows) flow by flow.
const WINDOW_MAX: i64 = 128;

/// Some consecutive rows of a batch.
pub(super) struct Block<'a> {
    pub(super) batch: &'a FlowBatch,
    pub(super) rows: std::ops::Range<u32>,
    pub(super) gathered: &'a Gathered,
    /// Shares for the rollup's width.
    pub(super) shares: &'a Shares,
    pub(super) position: u64,
    pub(super) now_ms: i64,
    /// Whether there is room for new keys.
    pub(super) admit: bool,
    /// While reading again after a crash: what was emitted then.
    pub(super) emitted: Option<&'a Emitted>,
}

impl Block<'_> {
    /// Whether there is nothing to be left out or turned away.
    pub(super) fn is_free(&self) -> bool {
        self.admit && self.emitted.is_none()
    }

    /// Gives what a flow, by its row in the block, adds to each of its buckets; buckets that get nothing are left out.
    pub(super) fn each(&self, row: usize, mut add: impl FnMut(i64, Amount<'_>)) {
        let share = self.gathered.share_of(row, self.shares.width());
        let whole = self.gathered.amounts.of(row);
        if share.before == 0 {
            return add(share.last, whole);
        }
        share.each(&whole.measures(), |number, amount| add(number, Amount::of(amount)));
    }

    /// Whether a bucket holds this block's shares already, in a row emitted before a crash.
    pub(super) fn is_emitted(&self, bucket: i64) -> bool {
        self.emitted.is_some_and(|emitted| emitted.contains(self.position, bucket))
    }
}

/// What had been emitted of one rollup before a crash.
#[derive(Clone, Debug)]
pub(super) struct Emitted {
    pub(super) upto: u64,
    /// By number of bucket.
    pub(super) open: HashMap<i64, u64>,
}

impl Emitted {
    /// Whether the shares of a position in a bucket are in a row already.
    fn contains(&self, position: u64, bucket: i64) -> bool {
        position <= self.open.get(&bucket).copied().unwrap_or(self.upto)
    }
}

/// Hashes keys.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyHash(foldhash::fast::RandomState);

impl KeyHash {
    /// Seeded at random: hosts can be chosen by an attacker.
    #[inline]
    pub(super) fn of(&self, key: u64) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(key);
        hasher.finish()
    }
}

/// A key with its hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed {
    pub(super) hash: u64,
    pub(super) key: u64,
}

/// A key of two numbers; the first is never 0, and so the key.
#[inline]
pub(super) fn key_of(first: u32, second: u32) -> u64 {
    u64::from(first) << 32 | u64::from(second)
}

/// The two numbers of a key.
#[inline]
pub(super) fn numbers_of(key: u64) -> (u32, u32) {
    ((key >> 32) as u32, key as u32)
}

/// The second part of the key.
enum Kind {
    /// Index of its group, and how the flows are gone through.
    Plain {
        second: usize,
        passes: Vec<Pass>,
    },
    Talkers(Talkers),
}

/// See the module's documentation.
pub(super) struct Rollup {
    pub(super) def: RollupDef,
    pub(super) layout: Layout,
    pub(super) buckets: Buckets,
    pub(super) hash: KeyHash,
    /// Width that flows are spread over.
    pub(super) unit: Width,
    /// How many of these a bucket is.
    pub(super) units: i64,
    /// Index of the first group.
    pub(super) first: usize,
    kind: Kind,
    /// Of the pass at hand; with bits that say that there was no room, of which the hashes know nothing.
    keys: Vec<Keyed>,
    /// Internal flows as they are booked once more.
    internal: Vec<Scattered>,
}

impl Rollup {
    /// The state of a definition.
    ///
    /// # Errors
    /// As [`Layout::of`].
    pub(super) fn new(def: &RollupDef, groups: &mut Groups) -> Result<Self, String> {
        let layout = Layout::of(def)?;
        let twice = def.shape == Shape::PerSubscriber;
        let first = groups.share(&layout.first, twice);
        let kind = match (&layout.second, def.shape) {
            (Second::Group(group), _) => {
                let mut passes = vec![Pass::Src];
                if group.has_side() {
                    passes.push(Pass::Dst);
                } else if twice {
                    passes.push(Pass::InternalIn);
                }
                Kind::Plain { second: groups.share(group, twice), passes }
            }
            (Second::Host, Shape::Talkers { others }) => Kind::Talkers(Talkers::new(others)),
            (Second::Host, _) => return Err("only talkers are grouped so".into()),
        };
        let (buckets, hash) = (Buckets::default(), KeyHash::default());
        let has_units = matches!(kind, Kind::Plain { .. }) && def.bucket_ms % UNIT_MAX_MS == 0;
        let unit = Width::new(if has_units { UNIT_MAX_MS } else { def.bucket_ms });
        let units = def.bucket_ms / unit.ms();
        let (keys, internal) = (Vec::new(), Vec::new());
        Ok(Self { def: def.clone(), layout, buckets, hash, unit, units, first, kind, keys, internal })
    }

    /// Makes sure that every bucket is there that the block's flows cover.
    pub(super) fn mark(&mut self, block: &Block<'_>) {
        mark(&mut self.buckets, block, self.units);
    }

    /// Books some rows, the buckets of which are marked. Gives how many shares found no room for their key.
    pub(super) fn add(&mut self, block: &Block<'_>, groups: &mut Groups, names: &mut Names) -> u64 {
        let (second, passes) = match &mut self.kind {
            Kind::Plain { second, passes } => (*second, passes),
            Kind::Talkers(talkers) => {
                return talkers.add(block, groups.of(self.first, Pass::Src), names, &mut self.buckets, &self.hash);
            }
        };
        let mut refused = 0;
        for pass in passes.clone() {
            let numbers = groups.of(self.first, pass).iter().zip(groups.of(second, pass));
            self.keys.clear();
            self.keys.extend(numbers.map(|(first, second)| {
                let key = key_of(*first, *second);
                Keyed { hash: self.hash.of(key & !key_of(REFUSED, REFUSED)), key }
            }));
            if !block.is_free() {
                refused += self.book_carefully(block, pass, (self.first, second), groups);
            } else if pass == Pass::InternalIn {
                self.book_internal(block, groups);
            } else {
                self.book_lists(block);
                book_scattered(&mut self.buckets, block, block.shares.scattered(), &self.keys, |key| self.hash.of(key));
            }
        }
        refused
    }

    /// Books what is in lists, into buckets of one unit each.
    fn book_lists(&mut self, block: &Block<'_>) {
        let (amounts, hash_of) = (&block.gathered.amounts, |key| self.hash.of(key));
        for list in block.shares.lists() {
            let sums = &mut self.buckets.marked(list.number).sums;
            sums.add_pieces(&list.rows, &self.keys, amounts, hash_of);
            sums.add_pieces(&list.parts, &self.keys, amounts, hash_of);
        }
    }

    /// Books the internal flows once more: few, so one by one.
    fn book_internal(&mut self, block: &Block<'_>, groups: &Groups) {
        self.internal.clear();
        self.internal.extend((0..).zip(&groups.internal_rows).map(|(key, row)| {
            let row = row - block.rows.start;
            Scattered { key, row, share: block.gathered.share_of(row as usize, block.shares.width()) }
        }));
        book_scattered(&mut self.buckets, block, &self.internal, &self.keys, |key| self.hash.of(key));
    }

    /// Books bucket by bucket: without new keys when there is no room, without what was emitted before a crash.
    fn book_carefully(
        &mut self,
        block: &Block<'_>,
        pass: Pass,
        (first, second): (usize, usize),
        groups: &mut Groups,
    ) -> u64 {
        let Self { keys, buckets, hash, units, .. } = self;
        let hash_of = |key| hash.of(key);
        let mut refused = 0;
        for (index, Keyed { hash: key_hash, key }) in keys.iter().copied().enumerate() {
            let row = match pass {
                Pass::InternalIn => (groups.internal_rows[index] - block.rows.start) as usize,
                Pass::Src | Pass::Dst => index,
            };
            let (one, two) = numbers_of(key);
            let has_room = (one | two) & REFUSED == 0;
            let (one, two) = (one & !REFUSED, two & !REFUSED);
            block.each(row, |unit, amount| {
                let number = unit.div_euclid(*units);
                if block.is_emitted(number) {
                    return;
                }
                let sums = &mut buckets.marked(number).sums;
                if has_room && block.admit {
                    sums.add(key_hash, key, amount, hash_of);
                } else if !(has_room && sums.add_known(key_hash, key, amount)) {
                    refused += 1;
                    let other = key_of(groups.other(first, one), groups.other(second, two));
                    sums.add(hash_of(other), other, amount, hash_of);
                }
            });
        }
        refused
    }

    /// Moves a bucket into rows. Settle before. False when there is no such bucket.
    pub(super) fn drain(&mut self, number: i64, names: &Names, groups: &Groups, out: &mut Out) -> bool {
        let Some(bucket) = self.buckets.take(number) else { return false };
        let start = number.saturating_mul(self.def.bucket_ms);
        match &self.kind {
            Kind::Plain { second, .. } => {
                for (key, measures) in bucket.sums.iter().filter(|(_, measures)| *measures != Measures::default()) {
                    let (one, two) = numbers_of(key);
                    out.push(names, groups.words(self.first, one), groups.words(*second, two), start, &measures);
                }
            }
            Kind::Talkers(talkers) => talkers.drain(bucket, names, |owner| groups.words(self.first, owner), start, out),
        }
        true
    }

    /// Turns steps into sums.
    pub(super) fn settle(&mut self) {
        self.buckets.settle(|key| self.hash.of(key));
    }

    /// Rows on their way out.
    pub(super) fn new_out(&self) -> Option<Out> {
        Out::new(&self.def, &self.layout)
    }

    /// Index of the second group; none for `talkers`.
    pub(super) fn second(&self) -> Option<usize> {
        match &self.kind {
            Kind::Plain { second, .. } => Some(*second),
            Kind::Talkers(_) => None,
        }
    }

    /// How the flows are gone through; none for `talkers`, which have a way of their own.
    pub(super) fn passes(&self) -> Option<&[Pass]> {
        match &self.kind {
            Kind::Plain { passes, .. } => Some(passes),
            Kind::Talkers(_) => None,
        }
    }
}

/// Marks every bucket that the block's flows cover, before anything is booked.
fn mark(buckets: &mut Buckets, block: &Block<'_>, units: i64) {
    let (first, last) = block.shares.window();
    let numbers = |first: i64, last: i64| first.div_euclid(units)..=last.div_euclid(units);
    if last.saturating_sub(first) < WINDOW_MAX && block.emitted.is_none() {
        return numbers(first, last).for_each(|number| buckets.mark(number, block.position, block.now_ms));
    }
    for row in 0..block.rows.len() {
        let share = block.gathered.share_of(row, block.shares.width());
        for number in numbers(share.first(), share.last) {
            if !block.is_emitted(number) {
                buckets.mark(number, block.position, block.now_ms);
            }
        }
    }
}
