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
use super::rollup::{Block, KeyHash, Keyed, key_of, numbers_of};
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
    /// By row of the block: the customer's key, and the other host's; key 0 = none.
    customers: Vec<Keyed>,
    strangers: Vec<Keyed>,
    /// Second hosts of a kind: destinations of internal flows and of those in transit.
    seconds: Vec<Second>,
}

/// A host of a flow whose other host is of the same kind.
#[derive(Clone, Copy, Debug)]
struct Second {
    row: u32,
    keyed: Keyed,
    is_customer: bool,
}

/// How many second hosts ahead their sums are fetched into the cache.
const SECONDS_AHEAD: usize = 12;

/// What stands for no host.
const NO_HOST: Keyed = Keyed { hash: 0, key: 0 };

impl Talkers {
    pub(super) fn new(others: usize) -> Self {
        Self { others, customers: Vec::new(), strangers: Vec::new(), seconds: Vec::new() }
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
        let mut refused = self.find_keys(block, owners, names, buckets, hash);
        refused += self.book_seconds(block, buckets, hash_of);
        let mut book_row = |row: u32, keyed: Keyed, is_customer: bool| {
            if keyed.key != 0 {
                refused += book_one(block, row, keyed, is_customer, buckets, hash_of);
            }
        };
        let mut book_both = |row: u32| {
            book_row(row, self.customers[row as usize], true);
            book_row(row, self.strangers[row as usize], false);
        };
        if !block.is_free() {
            (0..block.rows.len() as u32).for_each(book_both);
            return refused;
        }
        block.shares.scattered().iter().for_each(|flow| book_both(flow.row));
        for list in block.shares.lists() {
            let (amounts, bucket) = (&block.gathered.amounts, buckets.marked(list.number));
            bucket.sums.add_pieces(&list.rows, &self.customers, amounts, hash_of);
            bucket.sums.add_pieces(&list.parts, &self.customers, amounts, hash_of);
            let others = bucket.others.get_or_insert_default();
            others.add_pieces(&list.rows, &self.strangers, amounts, hash_of);
            others.add_pieces(&list.parts, &self.strangers, amounts, hash_of);
        }
        refused
    }

    /// Books the second hosts, and has the memory of those ahead fetched meanwhile. Gives how many shares found no room.
    fn book_seconds(&self, block: &Block<'_>, buckets: &mut Buckets, hash_of: impl Fn(u64) -> u64 + Copy) -> u64 {
        let mut refused = 0;
        for (index, Second { row, keyed, is_customer }) in self.seconds.iter().enumerate() {
            // Only then every bucket is marked.
            if block.is_free()
                && let Some(ahead) = self.seconds.get(index + SECONDS_AHEAD)
            {
                let last = block.gathered.share_of(ahead.row as usize, block.shares.width()).last;
                let Bucket { sums, others, .. } = buckets.marked(last);
                match (ahead.is_customer, others) {
                    (true, _) => sums.prefetch(ahead.keyed.hash),
                    (false, Some(others)) => others.prefetch(ahead.keyed.hash),
                    (false, None) => {}
                }
            }
            refused += book_one(block, *row, *keyed, *is_customer, buckets, hash_of);
        }
        refused
    }

    /// Finds the keys of a block's rows. Books at once what has no key. Gives how many found no room for it.
    fn find_keys(
        &mut self,
        block: &Block<'_>,
        owners: &[u32],
        names: &mut Names,
        buckets: &mut Buckets,
        hash: &KeyHash,
    ) -> u64 {
        self.customers.clear();
        self.strangers.clear();
        self.seconds.clear();
        let batch = block.batch;
        let rows = block.rows.start as usize..block.rows.end as usize;
        if let (Some(src), Some(dst)) = (batch.src_ip.all_v4(), batch.dst_ip.all_v4())
            && let Some(directions) = batch.direction.values().get(rows.clone())
            && owners.iter().all(|owner| owner & REFUSED == 0)
        {
            self.find_v4_keys(owners, directions, &src[rows.clone()], &dst[rows], hash);
            return 0;
        }
        self.customers.resize(owners.len(), NO_HOST);
        self.strangers.resize(owners.len(), NO_HOST);
        let mut refused = 0;
        for pass in [Pass::Src, Pass::Dst] {
            refused += self.find_any_keys(block, owners, pass, names, buckets, hash);
        }
        refused
    }

    /// Finds keys where all hosts are IPv4 hosts and have one.
    fn find_v4_keys(&mut self, owners: &[u32], directions: &[u8], src: &[u32], dst: &[u32], hash: &KeyHash) {
        let hosts = owners.iter().zip(directions).zip(src.iter().zip(dst));
        // A flow nearly always has one host of each kind. Which is which nobody can foresee: no branch asks.
        let keys = hosts.map(|((owner, direction), (src, dst))| {
            let src = key_of(owner << OWNER_SHIFT, *src);
            let dst = key_of(owner << OWNER_SHIFT | IS_DST, *dst);
            if Pass::Src.host_is_customer(*direction) { (src, dst) } else { (dst, src) }
        });
        let keyed = |key: u64| Keyed { hash: hash.of(key), key };
        self.customers.extend(keys.clone().map(|(customer, _)| keyed(customer)));
        self.strangers.extend(keys.map(|(_, stranger)| keyed(stranger)));
        for (row, direction) in directions.iter().enumerate() {
            let is_customer = Pass::Src.host_is_customer(*direction);
            if is_customer == Pass::Dst.host_is_customer(*direction) {
                // The destination stands where hosts of the other kind do.
                let other = if is_customer { &mut self.strangers } else { &mut self.customers };
                let keyed = std::mem::replace(&mut other[row], NO_HOST);
                self.seconds.push(Second { row: row as u32, keyed, is_customer });
            }
        }
    }

    /// Finds the keys of sources or of destinations, of whatever kind.
    fn find_any_keys(
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
        for (at, owner) in owners.iter().enumerate() {
            let row = block.rows.start as usize + at;
            let first = (owner & !REFUSED) << OWNER_SHIFT | side;
            let is_customer = pass.host_is_customer(block.batch.direction.value_or_default(row));
            let key = match hosts.get(row) {
                Some(host) => match host.as_v4() {
                    Some(bits) => Ok(key_of(first, bits)),
                    None => {
                        let last = block.gathered.share_of(at, block.shares.width()).last;
                        // While reading again after a crash, only buckets that are not in rows already are marked.
                        let bucket = block.emitted.is_none().then(|| &*buckets.marked(last));
                        key_of_wide(host, first, bucket, is_customer, names, hash)
                    }
                },
                None => Err(NoKey::NoAddress),
            };
            match key {
                Ok(key) if owner & REFUSED == 0 => {
                    self.take(at as u32, Keyed { hash: hash.of(key), key }, is_customer);
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

    /// Takes note of a row's host.
    fn take(&mut self, row: u32, keyed: Keyed, is_customer: bool) {
        let hosts = if is_customer { &mut self.customers } else { &mut self.strangers };
        match &mut hosts[row as usize] {
            host if host.key == 0 => *host = keyed,
            _ => self.seconds.push(Second { row, keyed, is_customer }),
        }
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

/// Books a host bucket by bucket: without new customers when there is no room, without what was emitted before a crash.
/// Gives how many shares found no room.
fn book_one(
    block: &Block<'_>,
    row: u32,
    keyed: Keyed,
    is_customer: bool,
    buckets: &mut Buckets,
    hash_of: impl Fn(u64) -> u64 + Copy,
) -> u64 {
    let mut refused = 0;
    block.each(row as usize, |number, amount| {
        if block.is_emitted(number) {
            return;
        }
        let Bucket { sums, others, .. } = buckets.marked(number);
        if !is_customer {
            others.get_or_insert_default().add(keyed, amount, hash_of);
        } else if block.admit {
            sums.add(keyed.hash, keyed.key, amount, hash_of);
        } else if !sums.add_known(keyed.hash, keyed.key, amount) {
            refused += 1;
            others.get_or_insert_default().overflow(numbers_of(keyed.key).0, &amount.measures());
        }
    });
    refused
}

fn book_without_key(buckets: &mut Buckets, block: &Block<'_>, at: usize, mut book: impl FnMut(&mut Others, &Measures)) {
    block.each(at, |number, amount| {
        if !block.is_emitted(number) {
            book(buckets.marked(number).others.get_or_insert_default(), &amount.measures());
        }
    });
}

fn host_of(first: u32, second: u32, names: &Names) -> Option<Addr> {
    if first & IS_WIDE == 0 { Some(Addr::v4(second)) } else { names.hosts.value(second).copied() }
}
