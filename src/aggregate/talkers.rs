//! `talkers`: customer hosts are kept exactly; of the other hosts the heaviest are kept, and the remainder goes into `rest`
//! rows without host.
//!
//! There is one `rest` row for each (nas_id, reseller_id, role) of a bucket, so that filters on these stay answerable. Its
//! `cut_bytes` bounds what any one host lost to it. Other hosts come by the million (scans, spoofed sources, one key for each
//! reseller whose customers a host serves), so a bucket holds few of them ([`OTHERS_HELD_MAX`]). Once they were more, a host
//! is let in only when what it may have lost exceeds a threshold, which grows each time that they become too many again.
//! What hosts lost stands in a table by hash, which never says too little: it bounds the cut.
//! Customers that found no room for their key go to the `rest` row as well; which of them is the largest is not known, so
//! their whole sum counts as cut.

use std::collections::HashMap;

use super::buckets::{Bucket, Buckets};
use super::combos::REFUSED;
use super::out::Out;
use super::rollup::{Block, KeyHash, key_of, numbers_of};
use super::share::Share;
use super::sums::{Sums, add_wrapping};
use super::view::{Names, Pass};
use crate::flow::rollup::Role;
use crate::flow::{Addr, Measures};
use crate::prefetch::prefetch;

/// Hosts that are no customers held of one bucket (about 0.3 MiB); the lighter half is folded when there are more.
pub(super) const OTHERS_HELD_MAX: usize = 8192;
/// Entries of the table of what hosts lost (256 KiB); a power of two.
const LOST_PLACES: usize = 1 << 15;

/// First part of a key: number of the owner (nas_id, reseller_id), then these.
const OWNER_SHIFT: u32 = 2;
/// The host is the destination.
const IS_DST: u32 = 2;
/// The second part of the key is the number of an IPv6 address instead of an IPv4 address.
const IS_WIDE: u32 = 1;

type ByOwner = HashMap<u32, Measures, foldhash::fast::RandomState>;

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
    /// By owner and role.
    rests: ByOwner,
    /// The same for what found no room.
    overflow: ByOwner,
}

impl Others {
    pub(super) fn used_bytes(&self) -> usize {
        let by_owner = (self.rests.capacity() + self.overflow.capacity()) * size_of::<(u32, Measures)>();
        size_of::<Self>() + self.hosts.used_bytes() + self.lost.len() * size_of::<u64>() + by_owner
    }

    pub(super) fn keys(&self) -> usize {
        self.hosts.len() + self.rests.len() + self.overflow.len()
    }

    #[inline]
    fn add(&mut self, hash: u64, key: u64, amount: &Measures, hash_of: impl Fn(u64) -> u64 + Copy) {
        if self.hosts.add_known(hash, key, amount) {
            return;
        }
        if self.lets_in(hash) {
            self.hosts.add(hash, key, amount, hash_of);
            if self.hosts.len() > OTHERS_HELD_MAX {
                self.fold(hash_of);
            }
        } else {
            let lost = self.lose(hash, numbers_of(key).0, amount);
            self.cut = self.cut.max(lost);
        }
    }

    /// Has what a host adds to fetched into the cache.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.hosts.prefetch(hash);
        if let Some(lost) = self.lost.get(hash as usize % LOST_PLACES) {
            prefetch(lost);
        }
    }

    /// Whether a host that is not held is let in.
    #[inline]
    fn lets_in(&self, hash: u64) -> bool {
        self.lost.is_empty() || self.lost[hash as usize % LOST_PLACES] >= self.threshold
    }

    /// Books into the `rest` row what belongs to a host with this hash. Gives what it may have lost by now.
    #[inline]
    fn lose(&mut self, hash: u64, first: u32, amount: &Measures) -> u64 {
        if self.lost.is_empty() {
            self.lost = vec![0; LOST_PLACES];
        }
        add_wrapping(self.rests.entry(first & !IS_WIDE).or_default(), amount);
        let lost = &mut self.lost[hash as usize % LOST_PLACES];
        *lost = lost.saturating_add(amount.bytes);
        *lost
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
        for (key, sum) in &hosts[..=middle] {
            self.hosts.add(hash_of(*key), *key, sum, hash_of);
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Talkers {
    /// How many hosts that are no customers have rows at each emission, for each role.
    others: usize,
    /// Keys of customers in the block, with their rows.
    customers: Vec<(u64, u64, u32)>,
    /// The same of other hosts.
    strangers: Vec<(u64, u64, u32)>,
}

impl Talkers {
    pub(super) fn new(others: usize) -> Self {
        Self { others, customers: Vec::new(), strangers: Vec::new() }
    }

    /// Books the rows of a block; `owners` are their numbers. Gives how many shares found no room.
    pub(super) fn add(
        &mut self,
        block: &Block<'_>,
        owners: &[u32],
        names: &mut Names,
        buckets: &mut Buckets,
        hash: &KeyHash,
    ) -> u64 {
        let hash_of = |key| hash.of(key);
        let mut refused = 0;
        for pass in [Pass::Src, Pass::Dst] {
            refused += self.find_keys(block, owners, pass, names, buckets, hash);
            for (key, key_hash, row) in &self.customers {
                block.shares.each(*row as usize, &block.amounts[*row as usize], |number, amount| {
                    if block.is_emitted(number) {
                        return;
                    }
                    let bucket = buckets.marked(number);
                    if block.admit {
                        bucket.sums.add(*key_hash, *key, amount, hash_of);
                    } else if !bucket.sums.add_known(*key_hash, *key, amount) {
                        refused += 1;
                        overflow(bucket, numbers_of(*key).0, amount);
                    }
                });
            }
            for (key, key_hash, row) in &self.strangers {
                block.shares.each(*row as usize, &block.amounts[*row as usize], |number, amount| {
                    if !block.is_emitted(number) {
                        let others = buckets.marked(number).others.get_or_insert_default();
                        others.add(*key_hash, *key, amount, hash_of);
                    }
                });
            }
        }
        refused
    }

    /// Finds the keys of a pass and has their memory fetched. Books at once what has no key.
    fn find_keys(
        &mut self,
        block: &Block<'_>,
        owners: &[u32],
        pass: Pass,
        names: &mut Names,
        buckets: &mut Buckets,
        hash: &KeyHash,
    ) -> u64 {
        let hosts = if pass == Pass::Dst { &block.batch.dst_ip } else { &block.batch.src_ip };
        let side = if pass == Pass::Dst { IS_DST } else { 0 };
        let mut refused = 0;
        self.customers.clear();
        self.strangers.clear();
        for (at, owner) in owners.iter().enumerate() {
            let row = block.rows.start as usize + at;
            let first = (owner & !REFUSED) << OWNER_SHIFT | side;
            let is_customer = pass.host_is_customer(block.batch.direction.value_or_default(row));
            let (last, split) = block.shares.of(at);
            // While reading again after a crash, only buckets that are not in rows already are marked.
            let bucket = block.emitted.is_none().then(|| &*buckets.marked(last));
            let key = match hosts.get(row).map(|host| (host, host.as_v4())) {
                Some((_, Some(bits))) => Ok(key_of(first, bits)),
                Some((host, None)) => key_of_wide(host, first, bucket, is_customer, names, hash),
                None => Err(NoKey::NoAddress),
            };
            match key {
                Ok(key) if owner & REFUSED == 0 => {
                    let key_hash = hash.of(key);
                    let numbers = split.map_or(last, Share::first)..if bucket.is_some() { last + 1 } else { i64::MIN };
                    if is_customer {
                        numbers.for_each(|number| buckets.marked(number).sums.prefetch(key_hash));
                        self.customers.push((key, key_hash, at as u32));
                    } else {
                        numbers.for_each(|number| buckets.marked(number).prefetch_other(key_hash));
                        self.strangers.push((key, key_hash, at as u32));
                    }
                }
                Ok(_) | Err(NoKey::NoRoom) => {
                    refused += 1;
                    book_without_key(buckets, block, at, |bucket, amount| overflow(bucket, first, amount));
                }
                Err(NoKey::NoAddress) => book_without_key(buckets, block, at, |bucket, amount| {
                    let others = bucket.others.get_or_insert_default();
                    add_wrapping(others.rests.entry(first).or_default(), amount);
                }),
                Err(NoKey::Unknown(host_hash)) => book_without_key(buckets, block, at, |bucket, amount| {
                    let others = bucket.others.get_or_insert_default();
                    let lost = others.lose(host_hash, first, amount);
                    others.cut_unknown = others.cut_unknown.max(lost);
                }),
            }
        }
        refused
    }

    /// Moves a bucket into rows; `owner` gives an owner's packed values.
    pub(super) fn drain<'a>(
        &self,
        bucket: Bucket,
        names: &Names,
        owner: impl Fn(u32) -> &'a [u64],
        start: i64,
        out: &mut Out,
    ) {
        let mut push = |key: u64, sum: &Measures| {
            let (first, second) = numbers_of(key);
            out.push_host(names, owner(first >> OWNER_SHIFT), host_of(first, second, names), start, (sum, 0));
        };
        for (key, sum) in bucket.sums.iter().filter(|(_, sum)| *sum != Measures::default()) {
            push(key, &sum);
        }
        let Some(others) = bucket.others else { return };
        let mut folded_max: HashMap<u32, u64> = HashMap::new();
        let mut rests = others.rests;
        for side in [0, IS_DST] {
            let of_side = |(key, _): &(u64, Measures)| numbers_of(*key).0 & IS_DST == side;
            let mut hosts: Vec<(u64, Measures)> = others.hosts.iter().filter(of_side).collect();
            if hosts.len() > self.others {
                hosts.select_nth_unstable_by_key(self.others, |(key, sum)| (std::cmp::Reverse(sum.bytes), *key));
                for (key, sum) in hosts.drain(self.others..) {
                    let rest = numbers_of(key).0 & !IS_WIDE;
                    add_wrapping(rests.entry(rest).or_default(), &sum);
                    let max = folded_max.entry(rest).or_default();
                    *max = sum.bytes.max(*max);
                }
            }
            hosts.iter().for_each(|(key, sum)| push(*key, sum));
        }
        let mut rows: HashMap<u32, (Measures, u64)> = HashMap::new();
        for (rest, sum) in rests {
            let folded = folded_max.get(&rest).copied().unwrap_or_default();
            rows.insert(
                rest,
                (sum, sum.bytes.min(others.cut.saturating_add(others.cut_unknown).saturating_add(folded))),
            );
        }
        for (rest, sum) in others.overflow {
            let (all, cut) = rows.entry(rest).or_default();
            add_wrapping(all, &sum);
            *cut = cut.saturating_add(sum.bytes);
        }
        for (rest, (sum, cut)) in rows.into_iter().filter(|(_, (sum, _))| *sum != Measures::default()) {
            out.push_host(names, owner(rest >> OWNER_SHIFT), (None, role_of(rest)), start, (&sum, cut));
        }
    }
}

#[cold]
fn overflow(bucket: &mut Bucket, first: u32, amount: &Measures) {
    let others = bucket.others.get_or_insert_default();
    add_wrapping(others.overflow.entry(first & !IS_WIDE).or_default(), amount);
}

/// Why a host has no key.
enum NoKey {
    /// Too many addresses are pending.
    NoRoom,
    NoAddress,
    /// It is no customer and too light to be let in; its hash.
    Unknown(u64),
}

/// The key of an IPv6 host. One that is no customer gets a number only when it is let in.
fn key_of_wide(
    host: Addr,
    first: u32,
    bucket: Option<&Bucket>,
    is_customer: bool,
    names: &mut Names,
    hash: &KeyHash,
) -> Result<u64, NoKey> {
    if !is_customer && !names.hosts.contains(&host) {
        let host_hash = hash.of((host.0 >> 64) as u64 ^ hash.of(host.0 as u64 ^ u64::from(first)));
        let others = bucket.and_then(|bucket| bucket.others.as_ref());
        if others.is_some_and(|others| !others.lets_in(host_hash)) {
            return Err(NoKey::Unknown(host_hash));
        }
    }
    match names.hosts.id(&host) {
        0 => Err(NoKey::NoRoom),
        id => Ok(key_of(first | IS_WIDE, id)),
    }
}

fn book_without_key(buckets: &mut Buckets, block: &Block<'_>, at: usize, mut book: impl FnMut(&mut Bucket, &Measures)) {
    block.shares.each(at, &block.amounts[at], |number, amount| {
        if !block.is_emitted(number) {
            book(buckets.marked(number), amount);
        }
    });
}

fn role_of(first: u32) -> u8 {
    (if first & IS_DST == 0 { Role::Src } else { Role::Dst }) as u8
}

fn host_of(first: u32, second: u32, names: &Names) -> (Option<Addr>, u8) {
    let host = if first & IS_WIDE == 0 { Some(Addr::v4(second)) } else { names.hosts.value(second).copied() };
    (host, role_of(first))
}
