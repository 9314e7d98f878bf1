//! Flows that are booked one by one: they reach into many buckets, or into ones beyond the first few.

use super::buckets::{Buckets, Step};
use super::rollup::{Block, Keyed};
use super::share::Share;
use super::sums::Amount;
use crate::flow::Measures;

/// How many flows ahead their sums are fetched into the cache: a flow has several.
const FLOWS_AHEAD: usize = 12;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scattered {
    /// Index of its key: its row in the block, but for passes over a few flows.
    pub(super) key: u32,
    pub(super) row: u32,
    pub(super) share: Share,
}

/// Books flows, and has the memory of those ahead fetched meanwhile.
pub(super) fn book_scattered(
    buckets: &mut Buckets,
    block: &Block<'_>,
    flows: &[Scattered],
    keys: &[Keyed],
    hash_of: impl Fn(u64) -> u64 + Copy,
) {
    let fetch = |buckets: &mut Buckets, flow: &Scattered| buckets.prefetch(&flow.share, keys[flow.key as usize].hash);
    flows.iter().take(FLOWS_AHEAD).for_each(|ahead| fetch(buckets, ahead));
    for (index, flow) in flows.iter().enumerate() {
        flows.get(index + FLOWS_AHEAD).inspect(|ahead| fetch(buckets, ahead));
        book_one(buckets, flow, block.gathered.amounts.of(flow.row as usize), keys[flow.key as usize], hash_of);
    }
}

#[inline]
fn book_one(
    buckets: &mut Buckets,
    Scattered { share, .. }: &Scattered,
    whole: Amount<'_>,
    Keyed { hash, key }: Keyed,
    hash_of: impl Fn(u64) -> u64 + Copy,
) {
    if share.before == 0 {
        return buckets.marked(share.last).sums.add(hash, key, whole, hash_of);
    }
    let (first, last) = (share.first(), share.last);
    let mut add = |number: i64, more: &Measures| {
        // Small flows of long spans have nothing in most buckets.
        if *more != Measures::default() {
            buckets.marked(number).sums.add(hash, key, Amount::of(more), hash_of);
        }
    };
    let whole = whole.measures();
    add(last, &share.amount(last, &whole));
    add(first, &share.amount(first, &whole));
    let middle = Measures { bytes: share.middle_bytes, packets: share.middle_packets, ..Measures::default() };
    if !share.has_steps() {
        (first + 1..last).for_each(|number| add(number, &middle));
    } else if middle != Measures::default() {
        let step = Step { bytes: middle.bytes, packets: middle.packets };
        buckets.step((first + 1, last), (hash, key), step, hash_of);
    }
}
