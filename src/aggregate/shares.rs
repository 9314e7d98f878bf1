//! Where the flows of a block belong, in the buckets of one width.
//!
//! What is added stands by bucket: a rollup goes through the table of one bucket after another. Flows of long spans, and of
//! buckets beyond the first few, are booked one by one.

use super::scattered::Scattered;
use super::share::{MIDDLES_MAX, Share, Spread, Spreader, Width};
use super::sums::Amounts;
use crate::flow::Measures;

/// Buckets that have a list.
const LISTS_MAX: usize = 32;

/// Something that is added to the sums of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Index of the key: the flow's row in the block.
    pub(super) key: u32,
    /// Index of the amount: a flow's row in the block, or an index beyond those for a part of a flow.
    pub(super) amount: u32,
}

impl From<u32> for Piece {
    /// A whole flow by its row.
    fn from(row: u32) -> Self {
        Self { key: row, amount: row }
    }
}

/// What is added to one bucket, each in the order of the flows.
#[derive(Debug, Default)]
pub(super) struct List {
    /// Number of the bucket.
    pub(super) number: i64,
    /// Rows of the flows that lie wholly in it.
    pub(super) rows: Vec<u32>,
    /// Parts of flows.
    pub(super) parts: Vec<Piece>,
}

/// The flows of a block as shares are computed from them.
#[derive(Clone, Copy)]
pub(super) struct Flows<'a> {
    /// From when to when each is spread, ms since the Unix epoch.
    pub(super) spans: &'a [(i64, i64)],
    /// Longer spans are booked whole at their end.
    pub(super) span_max_ms: i64,
}

impl Flows<'_> {
    /// The shares of one flow.
    #[inline]
    pub(super) fn share(&self, row: usize, width: Width, whole: &Measures) -> Share {
        let (start, end) = self.spans[row];
        Share::of(width, start, end, self.span_max_ms, whole.bytes, whole.packets)
    }
}

/// See the module's documentation. Memory is kept from block to block.
#[derive(Debug)]
pub(super) struct Shares {
    width: Width,
    /// The first `used` are of this block.
    lists: Vec<List>,
    used: usize,
    /// Rows of flows that are whole in no list.
    loose: Vec<u32>,
    /// Flows that are in no list at all.
    scattered: Vec<Scattered>,
}

impl Shares {
    pub(super) fn new(width: Width) -> Self {
        Self { width, lists: Vec::new(), used: 0, loose: Vec::new(), scattered: Vec::new() }
    }

    pub(super) fn width(&self) -> Width {
        self.width
    }

    /// Computes the shares of flows that add the first of `amounts`, to which the parts of flows are appended.
    pub(super) fn fill(&mut self, flows: Flows<'_>, amounts: &mut Amounts) {
        self.clear();
        let mut spreader = Spreader::new(self.width, flows.span_max_ms);
        let (mut number, mut list) = (i64::MIN, None);
        for (row, (start, end)) in flows.spans.iter().enumerate() {
            let (row, amount) = (row as u32, amounts.of(row).measures());
            match spreader.of(*start, *end, amount.bytes, amount.packets) {
                Spread::Whole(own) => {
                    if own != number {
                        (number, list) = (own, self.list(own));
                    }
                    match list {
                        Some(list) => self.lists[list].rows.push(row),
                        None => self.scatter(row, Share::whole(own, amount.bytes, amount.packets)),
                    }
                }
                Spread::Split(share) => self.split(row, &share, amounts),
            }
        }
    }

    /// The same from the shares of narrower buckets, of which each of these is a whole number: what lies in one of those lies
    /// in one of these.
    pub(super) fn fill_from(&mut self, narrow: &Self, flows: Flows<'_>, amounts: &mut Amounts) {
        self.clear();
        let units = self.width.ms() / narrow.width.ms();
        for List { number, rows, .. } in narrow.lists() {
            let number = number.div_euclid(units);
            match self.list(number) {
                Some(list) => self.lists[list].rows.extend_from_slice(rows),
                None => rows.iter().for_each(|row| {
                    let Measures { bytes, packets, .. } = amounts.of(*row as usize).measures();
                    self.scatter(*row, Share::whole(number, bytes, packets));
                }),
            }
        }
        for row in &narrow.loose {
            let share = flows.share(*row as usize, self.width, &amounts.of(*row as usize).measures());
            match self.list(share.last).filter(|_| share.before == 0) {
                Some(list) => self.lists[list].rows.push(*row),
                None => self.split(*row, &share, amounts),
            }
        }
    }

    fn clear(&mut self) {
        self.used = 0;
        self.loose.clear();
        self.scattered.clear();
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
        list.rows.clear();
        list.parts.clear();
        self.used += 1;
        Some(self.used - 1)
    }

    fn scatter(&mut self, row: u32, share: Share) {
        self.loose.push(row);
        self.scattered.push(Scattered { key: row, row, share });
    }

    /// Puts the parts of a flow into the lists of their buckets.
    fn split(&mut self, row: u32, share: &Share, amounts: &mut Amounts) {
        let mut lists = [0; MIDDLES_MAX as usize + 2];
        let numbers = || share.first()..=share.last;
        let mut has_list = |(number, to): (i64, &mut usize)| self.list(number).map(|list| *to = list).is_some();
        if share.has_steps() || !numbers().zip(&mut lists).all(&mut has_list) {
            return self.scatter(row, *share);
        }
        self.loose.push(row);
        let whole = amounts.of(row as usize).measures();
        for (number, list) in numbers().zip(lists) {
            let amount = share.amount(number, &whole);
            if amount != Measures::default() {
                self.lists[list].parts.push(Piece { key: row, amount: amounts.len() as u32 });
                amounts.push(amount);
            }
        }
    }

    /// What is added bucket by bucket.
    pub(super) fn lists(&self) -> &[List] {
        &self.lists[..self.used]
    }

    /// Flows that are in no list.
    pub(super) fn scattered(&self) -> &[Scattered] {
        &self.scattered
    }

    /// First and last bucket of all; the first beyond the last when there are no flows.
    pub(super) fn window(&self) -> (i64, i64) {
        let listed = self.lists().iter().map(|list| (list.number, list.number));
        let scattered = self.scattered.iter().map(|flow| (flow.share.first(), flow.share.last));
        let wider = |(first, last): (i64, i64), (from, upto)| (first.min(from), last.max(upto));
        listed.chain(scattered).fold((i64::MAX, i64::MIN), wider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::time::MINUTE_MS;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Booked = BTreeMap<(i64, u32), Measures>;

    /// What each flow brings to each bucket, by the lists and the flows that are in none.
    fn booked(shares: &Shares, amounts: &Amounts) -> Booked {
        let mut all = Booked::new();
        for list in shares.lists() {
            let pieces = list.rows.iter().map(|row| Piece::from(*row)).chain(list.parts.iter().copied());
            for piece in pieces {
                assert!(all.insert((list.number, piece.key), amounts.of(piece.amount as usize).measures()).is_none());
            }
        }
        for Scattered { key, row, share } in shares.scattered() {
            assert_eq!(key, row);
            share.each(&amounts.of(*row as usize).measures(), |number, amount| {
                assert!(all.insert((number, *row), *amount).is_none());
            });
        }
        all
    }

    proptest! {
        #[test]
        fn lists_and_flows_one_by_one_give_the_same(
            flows in prop::collection::vec((0i64..200 * MINUTE_MS, 0i64..61 * MINUTE_MS, 0u64..5000), 0..300),
            widths in prop::sample::select(vec![(1, 5), (5, 60), (1, 60), (60, 60)]),
        ) {
            let spans: Vec<(i64, i64)> = flows.iter().map(|(start, span, _)| (*start, start + span)).collect();
            let flow = Flows { spans: &spans, span_max_ms: 60 * MINUTE_MS };
            let of = |(.., bytes): &(i64, i64, u64)| {
                Measures { bytes: *bytes, packets: bytes / 700, flows: 1, ..Measures::default() }
            };
            let mut narrow = Shares::new(Width::new(widths.0 * MINUTE_MS));
            let mut wide = Shares::new(Width::new(widths.1 * MINUTE_MS));
            let mut amounts = Amounts::default();
            for _ in 0..2 {
                amounts.fill(flows.iter().map(of));
                narrow.fill(flow, &mut amounts);
                wide.fill_from(&narrow, flow, &mut amounts);
            }
            for shares in [&narrow, &wide] {
                let mut want = Booked::new();
                for row in 0..flows.len() {
                    let whole = amounts.of(row).measures();
                    flow.share(row, shares.width(), &whole).each(&whole, |number, amount| {
                        assert!(want.insert((number, row as u32), *amount).is_none());
                    });
                }
                let (first, last) = shares.window();
                prop_assert!(want.keys().all(|(number, _)| (first..=last).contains(number)));
                prop_assert_eq!(booked(shares, &amounts), want);
            }
        }
    }
}
