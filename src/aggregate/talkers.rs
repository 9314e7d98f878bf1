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
use super::rollup::{Block, KEYS_AHEAD, KeyHash, Keyed, key_of, numbers_of};
use super::shares::Piece;
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
    /// Of the block's rows; those that have no key stand for nothing.
    keys: Vec<Keyed>,
    hosts: Vec<Host>,
    /// What the bucket at hand gets of customers, and of other hosts.
    customers: Vec<Piece>,
    strangers: Vec<Piece>,
}

/// Which kind of host a row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    /// None that has a key.
    None,
    Customer,
    Stranger,
}

impl Talkers {
    pub(super) fn new(others: usize) -> Self {
        Self { others, keys: Vec::new(), hosts: Vec::new(), customers: Vec::new(), strangers: Vec::new() }
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
        let mut refused = 0;
        for pass in [Pass::Src, Pass::Dst] {
            refused += self.find_keys(block, owners, pass, names, buckets, hash);
            if block.is_free() {
                self.book_lists(block, buckets, hash);
                for flow in block.shares.scattered() {
                    refused += self.book_one(block, flow.row as usize, buckets, hash);
                }
            } else {
                for row in 0..block.rows.len() {
                    refused += self.book_one(block, row, buckets, hash);
                }
            }
        }
        refused
    }

    /// Books what is in lists.
    fn book_lists(&mut self, block: &Block<'_>, buckets: &mut Buckets, hash: &KeyHash) {
        let (amounts, hash_of) = (&block.gathered.amounts, |key| hash.of(key));
        for list in block.shares.lists() {
            self.customers.clear();
            self.strangers.clear();
            let pieces = list.rows.iter().map(|row| Piece::from(*row)).chain(list.parts.iter().copied());
            pieces.for_each(|piece| match self.hosts[piece.key as usize] {
                Host::Customer => self.customers.push(piece),
                Host::Stranger => self.strangers.push(piece),
                Host::None => {}
            });
            let Bucket { sums, others, .. } = buckets.marked(list.number);
            sums.add_pieces(&self.customers, &self.keys, amounts, hash_of);
            if !self.strangers.is_empty() {
                let others = others.get_or_insert_default();
                for (index, piece) in self.strangers.iter().enumerate() {
                    let ahead = self.strangers.get(index + KEYS_AHEAD);
                    ahead.inspect(|ahead| others.prefetch(self.keys[ahead.key as usize].hash));
                    others.add(self.keys[piece.key as usize], amounts.of(piece.amount as usize), hash_of);
                }
            }
        }
    }

    /// Books a flow bucket by bucket: without new customers when there is no room, without what was emitted before a crash.
    /// Gives how many shares found no room.
    fn book_one(&self, block: &Block<'_>, row: usize, buckets: &mut Buckets, hash: &KeyHash) -> u64 {
        let hash_of = |key| hash.of(key);
        let (keyed, host) = (self.keys[row], self.hosts[row]);
        let mut refused = 0;
        block.each(row, |number, amount| {
            if host == Host::None || block.is_emitted(number) {
                return;
            }
            let Bucket { sums, others, .. } = buckets.marked(number);
            if host == Host::Stranger {
                others.get_or_insert_default().add(keyed, amount, hash_of);
            } else if block.admit {
                sums.add(keyed.hash, keyed.key, amount, hash_of);
            } else if !sums.add_known(keyed.hash, keyed.key, amount) {
                refused += 1;
                others.get_or_insert_default().overflow(numbers_of(keyed.key).0, amount.measures);
            }
        });
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
        let (start, direction) = (block.rows.start as usize, &block.batch.direction);
        let is_customer = |row: usize| pass.host_is_customer(direction.value_or_default(row));
        self.keys.clear();
        self.hosts.clear();
        if let Some(v4) = v4
            && owners.iter().all(|owner| owner & REFUSED == 0)
        {
            // All have a key.
            self.keys.extend(owners.iter().zip(&v4[start..]).map(|(owner, host)| {
                let key = key_of(owner << OWNER_SHIFT | side, *host);
                Keyed { hash: hash.of(key), key }
            }));
            let kind = |row| if is_customer(row) { Host::Customer } else { Host::Stranger };
            self.hosts.extend((start..start + owners.len()).map(kind));
            return 0;
        }
        let mut refused = 0;
        for (at, owner) in owners.iter().enumerate() {
            let row = start + at;
            let first = (owner & !REFUSED) << OWNER_SHIFT | side;
            let is_customer = is_customer(row);
            let key = match v4.map_or_else(|| hosts.get(row), |v4| Some(Addr::v4(v4[row]))) {
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
            let found = match key {
                Ok(key) if owner & REFUSED == 0 => Some(Keyed { hash: hash.of(key), key }),
                Ok(_) | Err(NoKey::NoRoom) => {
                    refused += 1;
                    book_without_key(buckets, block, at, |others, amount| others.overflow(first, amount));
                    None
                }
                Err(NoKey::NoAddress) => {
                    book_without_key(buckets, block, at, |others, amount| others.add_rest(first, amount));
                    None
                }
                Err(NoKey::Unknown(hash)) => {
                    book_without_key(buckets, block, at, |others, amount| others.lose_unknown(hash, first, amount));
                    None
                }
            };
            self.hosts.push(match found {
                None => Host::None,
                Some(_) if is_customer => Host::Customer,
                Some(_) => Host::Stranger,
            });
            self.keys.push(found.unwrap_or(Keyed { hash: 0, key: 0 }));
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
    block.each(at, |number, amount| {
        if !block.is_emitted(number) {
            book(buckets.marked(number).others.get_or_insert_default(), amount.measures);
        }
    });
}

fn host_of(first: u32, second: u32, names: &Names) -> Option<Addr> {
    if first & IS_WIDE == 0 { Some(Addr::v4(second)) } else { names.hosts.value(second).copied() }
}
