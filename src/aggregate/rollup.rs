//! The sums of one rollup between two emissions.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use super::buckets::{Bucket, Buckets, Step};
use super::combos::REFUSED;
use super::groups::Groups;
use super::layout::{Layout, Second};
use super::out::Out;
use super::share::{Share, Width};
use super::shares::{Piece, Shares};
use super::sums::{Amount, Amounts};
use super::talkers::Talkers;
use super::view::{Names, Pass};
use crate::flow::rollup::Shape;
use crate::flow::time::HOUR_MS;
use crate::flow::{FlowBatch, Measures, RollupDef};

/// Buckets that are a whole number of these get what flows bring by this width: rollups of an hour and of a day share the work.
const UNIT_MAX_MS: i64 = HOUR_MS;
/// How many keys ahead their sums are fetched into the cache.
pub(super) const KEYS_AHEAD: usize = 24;
/// Windows of buckets up to this wide are marked whole; wider ones (a few odd times among many flows) flow by flow.
const WINDOW_MAX: i64 = 128;

/// Some consecutive rows of a batch.
pub(super) struct Block<'a> {
    pub(super) batch: &'a FlowBatch,
    pub(super) rows: std::ops::Range<u32>,
    /// What each flow adds, one a row of `rows`, then what parts of flows do.
    pub(super) amounts: &'a Amounts,
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
    /// What the pass at hand adds one by one.
    pieces: Vec<Piece>,
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
        let (keys, pieces) = (Vec::new(), Vec::new());
        Ok(Self { def: def.clone(), layout, buckets, hash, unit, units, first, kind, keys, pieces })
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
            self.pieces.clear();
            match pass {
                Pass::InternalIn => {
                    let rows = (0..).zip(groups.internal_rows.iter().map(|row| row - block.rows.start));
                    self.pieces.extend(rows.map(|(key, amount)| Piece { key, amount }));
                }
                _ if block.is_free() => {
                    self.book_lists(block);
                    self.pieces.extend(block.shares.scattered());
                }
                _ => self.pieces.extend((0..block.rows.len() as u32).map(|row| Piece { key: row, amount: row })),
            }
            if block.is_free() {
                self.book_pieces(block);
            } else {
                refused += self.book_carefully(block, (self.first, second), groups);
            }
        }
        refused
    }

    /// Books what is in lists, into buckets of one unit each.
    fn book_lists(&mut self, block: &Block<'_>) {
        for list in block.shares.lists() {
            let sums = &mut self.buckets.marked(list.number).sums;
            sums.add_pieces(&list.pieces, &self.keys, block.amounts, |key| self.hash.of(key));
        }
    }

    /// Books flows one by one into buckets of one unit each, and has the memory of those ahead fetched meanwhile.
    fn book_pieces(&mut self, block: &Block<'_>) {
        let Self { keys, pieces, buckets, hash, .. } = self;
        let hash_of = |key| hash.of(key);
        let fetch = |buckets: &mut Buckets, piece: &Piece| {
            let (last, split) = block.shares.of(piece.amount as usize);
            buckets.prefetch(last, split, keys[piece.key as usize].hash);
        };
        pieces.iter().take(KEYS_AHEAD).for_each(|ahead| fetch(buckets, ahead));
        for (index, piece) in pieces.iter().enumerate() {
            pieces.get(index + KEYS_AHEAD).inspect(|ahead| fetch(buckets, ahead));
            let (keyed, amount) = (keys[piece.key as usize], block.amounts.of(piece.amount as usize));
            let (last, split) = block.shares.of(piece.amount as usize);
            match split {
                None => buckets.marked(last).sums.add(keyed.hash, keyed.key, amount, hash_of),
                Some(share) => book_split(buckets, share, amount.measures, keyed, hash_of),
            }
        }
    }

    /// Books bucket by bucket: without new keys when there is no room, without what was emitted before a crash.
    fn book_carefully(&mut self, block: &Block<'_>, (first, second): (usize, usize), groups: &mut Groups) -> u64 {
        let Self { keys, pieces, buckets, hash, units, .. } = self;
        let hash_of = |key| hash.of(key);
        let mut refused = 0;
        for piece in &*pieces {
            let Keyed { hash: key_hash, key } = keys[piece.key as usize];
            let (one, two) = numbers_of(key);
            let has_room = (one | two) & REFUSED == 0;
            let (one, two) = (one & !REFUSED, two & !REFUSED);
            block.shares.each(piece.amount as usize, block.amounts, |unit, amount| {
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

/// Books a flow that spans several buckets.
#[inline]
fn book_split(
    buckets: &mut Buckets,
    share: &Share,
    amount: &Measures,
    Keyed { hash, key }: Keyed,
    hash_of: impl Fn(u64) -> u64 + Copy,
) {
    let (first, last) = (share.first(), share.last);
    let mut add = |number: i64, more: &Measures| {
        // Small flows of long spans have nothing in most buckets.
        if *more != Measures::default() {
            let bucket: &mut Bucket = buckets.marked(number);
            bucket.sums.add(hash, key, Amount::of(more), hash_of);
        }
    };
    add(last, &share.amount(last, amount));
    add(first, &share.amount(first, amount));
    let middle = Measures { bytes: share.middle_bytes, packets: share.middle_packets, ..Measures::default() };
    if !share.has_steps() {
        (first + 1..last).for_each(|number| add(number, &middle));
    } else if middle != Measures::default() {
        let step = Step { bytes: middle.bytes, packets: middle.packets };
        buckets.step((first + 1, last), (hash, key), step, hash_of);
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
        let (last, split) = block.shares.of(row);
        for number in numbers(split.map_or(last, Share::first), last) {
            if !block.is_emitted(number) {
                buckets.mark(number, block.position, block.now_ms);
            }
        }
    }
}
