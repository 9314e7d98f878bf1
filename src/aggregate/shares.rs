//! Where the flows of a block belong, in the buckets of one width.
//!
//! What is added stands by bucket: a rollup goes through the table of one bucket after another. Flows of long spans, and of
//! buckets beyond the first few, are booked one by one.

use super::share::{Share, Spread, Spreader, Width};
use super::sums::{Amount, Amounts};
use crate::flow::Measures;

/// Buckets that have a list.
const LISTS_MAX: usize = 32;

/// Something that is added to the sums of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Index of the key: the flow's row in the block, but for passes over a few flows.
    pub(super) key: u32,
    /// Index of the amount: a flow's row in the block, or an index beyond those for a part of a flow.
    pub(super) amount: u32,
}

/// What is added to one bucket.
#[derive(Debug, Default)]
pub(super) struct List {
    /// Number of the bucket.
    pub(super) number: i64,
    /// In the order of the flows.
    pub(super) pieces: Vec<Piece>,
}

/// See the module's documentation. Memory is kept from block to block.
#[derive(Debug)]
pub(super) struct Shares {
    width: Width,
    /// Bucket that contains each flow's end, and which of `splits` it is, counted from 1; 0 = whole in that bucket.
    flows: Vec<(i64, u32)>,
    /// Flows that reach into more buckets than one: few.
    splits: Vec<Share>,
    /// First and last bucket of all; the first beyond the last when there are no flows.
    window: (i64, i64),
    /// The first `used` are of this block.
    lists: Vec<List>,
    used: usize,
    /// Flows that are in no list.
    scattered: Vec<Piece>,
}

impl Shares {
    pub(super) fn new(width: Width) -> Self {
        let (flows, splits, lists, scattered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { width, flows, splits, window: (i64::MAX, i64::MIN), lists, used: 0, scattered }
    }

    pub(super) fn width(&self) -> Width {
        self.width
    }

    /// Computes the shares of flows given by start and end, and by what they add: the first of `amounts`, to which the parts of
    /// flows are appended.
    pub(super) fn fill(&mut self, span_max_ms: i64, spans: &[(i64, i64)], amounts: &mut Vec<Measures>) {
        self.flows.clear();
        self.splits.clear();
        self.scattered.clear();
        self.used = 0;
        if let Some(number) = self.of_all(spans) {
            return self.fill_whole(number, spans.len());
        }
        let mut spreader = Spreader::new(self.width, span_max_ms);
        for (row, (start, end)) in spans.iter().enumerate() {
            let amount = &amounts[row];
            match spreader.of(*start, *end, amount.bytes, amount.packets) {
                Spread::Whole(number) => {
                    self.flows.push((number, 0));
                    let piece = Piece { key: row as u32, amount: row as u32 };
                    match self.list(number) {
                        Some(list) => self.lists[list].pieces.push(piece),
                        None => self.scattered.push(piece),
                    }
                }
                Spread::Split(share) => {
                    self.splits.push(share);
                    self.flows.push((share.last, self.splits.len() as u32));
                    self.split(row as u32, &share, amounts);
                }
            }
        }
        self.find_window();
    }

    /// The bucket that holds all flows whole, when one does.
    fn of_all(&self, spans: &[(i64, i64)]) -> Option<i64> {
        let bounds = |(low, high): (i64, i64), (start, end): &(i64, i64)| (low.min(*start).min(*end), high.max(*end));
        let (low, high) = spans.iter().fold(*spans.first()?, bounds);
        let (number, offset) = self.width.bucket_of(high);
        (low >= high.saturating_sub(offset)).then_some(number)
    }

    fn fill_whole(&mut self, number: i64, flows: usize) {
        self.flows.resize(flows, (number, 0));
        self.window = (number, number);
        if let Some(list) = self.list(number) {
            self.lists[list].pieces.extend((0..flows as u32).map(|row| Piece { key: row, amount: row }));
        }
    }

    fn find_window(&mut self) {
        let listed = self.lists().iter().map(|list| (list.number, list.number));
        let scattered = self.scattered.iter().map(|piece| {
            let (last, split) = self.of(piece.amount as usize);
            (split.map_or(last, Share::first), last)
        });
        let wider = |(first, last): (i64, i64), (from, upto)| (first.min(from), last.max(upto));
        self.window = listed.chain(scattered).fold((i64::MAX, i64::MIN), wider);
    }

    /// Index of a bucket's list, when there is one or one to begin.
    #[inline]
    fn list(&mut self, number: i64) -> Option<usize> {
        let known = self.lists[..self.used].iter().position(|list| list.number == number);
        known.or_else(|| self.begin_list(number))
    }

    #[cold]
    fn begin_list(&mut self, number: i64) -> Option<usize> {
        if self.used == LISTS_MAX {
            return None;
        }
        if self.used == self.lists.len() {
            self.lists.push(List::default());
        }
        let list = &mut self.lists[self.used];
        list.number = number;
        list.pieces.clear();
        self.used += 1;
        Some(self.used - 1)
    }

    /// Puts the parts of a flow into the lists of their buckets.
    fn split(&mut self, row: u32, share: &Share, amounts: &mut Vec<Measures>) {
        if share.has_steps() || !(share.first()..=share.last).all(|number| self.list(number).is_some()) {
            return self.scattered.push(Piece { key: row, amount: row });
        }
        let whole = amounts[row as usize];
        for number in share.first()..=share.last {
            let amount = share.amount(number, &whole);
            if let Some(list) = self.list(number).filter(|_| amount != Measures::default()) {
                self.lists[list].pieces.push(Piece { key: row, amount: amounts.len() as u32 });
                amounts.push(amount);
            }
        }
    }

    /// What is added bucket by bucket.
    pub(super) fn lists(&self) -> &[List] {
        &self.lists[..self.used]
    }

    /// Flows that are in no list; see [`Shares::of`].
    pub(super) fn scattered(&self) -> &[Piece] {
        &self.scattered
    }

    /// First and last bucket of all.
    pub(super) fn window(&self) -> (i64, i64) {
        self.window
    }

    /// Number of the bucket that contains a flow's end, and its shares when there are more buckets.
    #[inline]
    pub(super) fn of(&self, flow: usize) -> (i64, Option<&Share>) {
        let (last, split) = self.flows[flow];
        (last, (split > 0).then(|| &self.splits[split as usize - 1]))
    }

    /// Gives what a flow adds to each of its buckets; buckets that get nothing are left out.
    #[inline]
    pub(super) fn each(&self, flow: usize, amounts: &Amounts, mut add: impl FnMut(i64, Amount<'_>)) {
        let (last, split) = self.of(flow);
        let Some(share) = split else { return add(last, amounts.of(flow)) };
        for number in share.first()..=last {
            let amount = share.amount(number, amounts.of(flow).measures);
            if amount != Measures::default() {
                add(number, Amount::of(&amount));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::time::MINUTE_MS;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SPAN_MAX_MS: i64 = 60 * MINUTE_MS;

    proptest! {
        #[test]
        fn lists_and_flows_one_by_one_give_the_same(
            flows in prop::collection::vec((0i64..200 * MINUTE_MS, 0i64..61 * MINUTE_MS, 0u64..5000), 0..300),
            width in prop::sample::select(vec![MINUTE_MS, 5 * MINUTE_MS, 60 * MINUTE_MS]),
        ) {
            let spans: Vec<(i64, i64)> = flows.iter().map(|(start, span, _)| (*start, start + span)).collect();
            let of = |bytes: &u64| Measures { bytes: *bytes, packets: bytes / 700, flows: 1, ..Measures::default() };
            let (mut shares, mut amounts) = (Shares::new(Width::new(width)), Amounts::default());
            for _ in 0..2 {
                amounts.fill(|measures| {
                    *measures = flows.iter().map(|(.., bytes)| of(bytes)).collect();
                    shares.fill(SPAN_MAX_MS, &spans, measures);
                });
            }
            let mut want: BTreeMap<(i64, u32), Measures> = BTreeMap::new();
            for row in 0..flows.len() {
                shares.each(row, &amounts, |number, amount| {
                    assert!(want.insert((number, row as u32), *amount.measures).is_none());
                });
            }
            let mut got: BTreeMap<(i64, u32), Measures> = BTreeMap::new();
            for list in shares.lists() {
                for piece in &list.pieces {
                    let amount = *amounts.of(piece.amount as usize).measures;
                    prop_assert!(got.insert((list.number, piece.key), amount).is_none());
                }
            }
            for piece in shares.scattered() {
                prop_assert_eq!(piece.key, piece.amount);
                shares.each(piece.amount as usize, &amounts, |number, amount| {
                    assert!(got.insert((number, piece.key), *amount.measures).is_none());
                });
            }
            prop_assert_eq!(got, want);
        }
    }
}
