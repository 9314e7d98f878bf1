//! `talkers`: customer hosts are kept exactly; of the other hosts the heaviest are kept, and the remainder goes into `rest`
//! rows without host.
//!
//! There is one `rest` row for each (nas_id, reseller_id, role) of a bucket, so that filters on these stay answerable. Its
//! `cut_bytes` bounds what any one host lost to it. Other hosts come by the million (scans, spoofed sources, one key for each
//! reseller whose customers a host serves), so a bucket holds few of them ([`super::others`]). Once they were more, a host
//! is let in only when what it may have lost exceeds a threshold, which grows each time that they become too many again.
//! What hosts lost stands in a table by hash, which never says too little: it bounds the cut.
//! Customers that found no room for their key go to the `rest` row as well; which of them is the largest is not known, so
//! their whole sum counts as cut.

use super::buckets::{Bucket, Buckets};
use super::combos::REFUSED;
use super::others::Others;
use super::out::Out;
use super::rollup::{Block, KEYS_AHEAD, KeyHash, key_of, numbers_of};
use super::share::Share;
use super::view::{Names, Pass};
use crate::flow::rollup::Role;
use crate::flow::{Addr, Measures};

/// First part of a key: number of the owner (nas_id, reseller_id), then these.
const OWNER_SHIFT: u32 = 2;
/// The host is the destination.
pub(super) const IS_DST: u32 = 2;
/// The second part of the key is the number of an IPv6 address instead of an IPv4 address.
pub(super) const IS_WIDE: u32 = 1;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Talkers {
    /// How many hosts that are no customers have rows at each emission, for each role.
    others: usize,
    /// Keys of customers in the block, with their hashes and rows.
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
            for (index, (key, key_hash, row)) in self.customers.iter().enumerate() {
                fetch_ahead(&self.customers, index, block, buckets, |bucket, hash| bucket.sums.prefetch(hash));
                block.shares.each(*row as usize, block.amount(*row as usize), |number, amount| {
                    if block.is_emitted(number) {
                        return;
                    }
                    let bucket = buckets.marked(number);
                    if block.admit {
                        bucket.sums.add(*key_hash, *key, amount, hash_of);
                    } else if !bucket.sums.add_known(*key_hash, *key, amount) {
                        refused += 1;
                        bucket.others.get_or_insert_default().overflow(numbers_of(*key).0, amount.measures);
                    }
                });
            }
            for (index, (key, key_hash, row)) in self.strangers.iter().enumerate() {
                fetch_ahead(&self.strangers, index, block, buckets, Bucket::prefetch_other);
                block.shares.each(*row as usize, block.amount(*row as usize), |number, amount| {
                    if !block.is_emitted(number) {
                        let others = buckets.marked(number).others.get_or_insert_default();
                        others.add(*key_hash, *key, amount, hash_of);
                    }
                });
            }
        }
        refused
    }

    /// Finds the keys of a pass. Books at once what has no key.
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
        let v4 = hosts.all_v4();
        let side = if pass == Pass::Dst { IS_DST } else { 0 };
        let mut refused = 0;
        self.customers.clear();
        self.strangers.clear();
        for (at, owner) in owners.iter().enumerate() {
            let row = block.rows.start as usize + at;
            let first = (owner & !REFUSED) << OWNER_SHIFT | side;
            let is_customer = pass.host_is_customer(block.batch.direction.value_or_default(row));
            let key = match v4.map_or_else(|| hosts.get(row), |v4| Some(Addr::v4(v4[row]))) {
                Some(host) => match host.as_v4() {
                    Some(bits) => Ok(key_of(first, bits)),
                    None => {
                        let (last, _) = block.shares.of(at);
                        // While reading again after a crash, only buckets that are not in rows already are marked.
                        let bucket = block.emitted.is_none().then(|| &*buckets.marked(last));
                        key_of_wide(host, first, bucket, is_customer, names, hash)
                    }
                },
                None => Err(NoKey::NoAddress),
            };
            match key {
                Ok(key) if owner & REFUSED == 0 => {
                    let key_hash = hash.of(key);
                    let hosts = if is_customer { &mut self.customers } else { &mut self.strangers };
                    hosts.push((key, key_hash, at as u32));
                }
                Ok(_) | Err(NoKey::NoRoom) => {
                    refused += 1;
                    book_without_key(buckets, block, at, |others, amount| others.overflow(first, amount));
                }
                Err(NoKey::NoAddress) => {
                    book_without_key(buckets, block, at, |others, amount| others.add_rest(first, amount));
                }
                Err(NoKey::Unknown(hash)) => {
                    book_without_key(buckets, block, at, |others, amount| others.lose_unknown(hash, first, amount));
                }
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
        let mut push = |first: u32, second: Option<u32>, sum: &Measures, cut: u64| {
            let host = second.and_then(|second| host_of(first, second, names));
            let role = if first & IS_DST == 0 { Role::Src } else { Role::Dst };
            out.push_host(names, owner(first >> OWNER_SHIFT), (host, role as u8), start, (sum, cut));
        };
        for (key, sum) in bucket.sums.iter().filter(|(_, sum)| *sum != Measures::default()) {
            let (first, second) = numbers_of(key);
            push(first, Some(second), &sum, 0);
        }
        if let Some(others) = bucket.others {
            others.each_row(self.others, push);
        }
    }
}

/// Has what a host some places ahead adds to fetched into the cache.
#[inline]
fn fetch_ahead(
    hosts: &[(u64, u64, u32)],
    index: usize,
    block: &Block<'_>,
    buckets: &mut Buckets,
    fetch: impl Fn(&Bucket, u64),
) {
    // While reading again after a crash, only buckets that are not in rows already are marked.
    if block.emitted.is_none()
        && let Some((_, hash, row)) = hosts.get(index + KEYS_AHEAD)
    {
        let (last, split) = block.shares.of(*row as usize);
        (split.map_or(last, Share::first)..=last).for_each(|number| fetch(buckets.marked(number), *hash));
    }
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

fn book_without_key(buckets: &mut Buckets, block: &Block<'_>, at: usize, mut book: impl FnMut(&mut Others, &Measures)) {
    block.shares.each(at, block.amount(at), |number, amount| {
        if !block.is_emitted(number) {
            book(buckets.marked(number).others.get_or_insert_default(), amount.measures);
        }
    });
}

fn host_of(first: u32, second: u32, names: &Names) -> Option<Addr> {
    if first & IS_WIDE == 0 { Some(Addr::v4(second)) } else { names.hosts.value(second).copied() }
}
