//! Rows put into stored order page by page.
//!
//! Rows in stored order come from all over a row group, which is larger than the processor's caches: to fetch them one by one
//! takes longer than all else. So each value is first put into its page, in the order in which it comes; within the page, which
//! the nearest caches hold, it gets its place when the page is encoded.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::chunk::PAGE_ROWS;

/// Pages that a row's page is told apart by. Groups of more rows are fetched one by one.
const PAGES_MAX: usize = 1 << u8::BITS;

/// Rows of one step of a loop; a page is so many times as many.
const UNROLLED: usize = 8;

/// Where each row goes.
#[derive(Debug)]
pub(super) struct Places {
    /// By row as it comes: its slot. Every slot of all rows is there once; the slots of a page stand together.
    slots: Vec<u32>,
    /// By row in stored order: its slot within its page.
    within: Vec<u16>,
}

impl Places {
    /// Places of rows that are stored in this order, which has every row once. None for too many rows.
    pub(super) fn new(order: &[u32]) -> Option<Self> {
        if order.len() > PAGES_MAX * PAGE_ROWS {
            return None;
        }
        let mut pages = vec![0u8; order.len()];
        for (page, rows) in order.chunks(PAGE_ROWS).enumerate() {
            rows.iter().for_each(|row| pages[*row as usize] = page as u8);
        }
        let mut next: [u32; PAGES_MAX] = std::array::from_fn(|page| (page * PAGE_ROWS) as u32);
        let slot = |page: &u8| {
            let next = &mut next[usize::from(*page)];
            *next += 1;
            *next - 1
        };
        let slots: Vec<u32> = pages.iter().map(slot).collect();
        // Every page has got as many rows as it holds: no slot is given twice, none is left out.
        let filled = |page: usize| (next[page] as usize).checked_sub(page * PAGE_ROWS);
        let whole = order.chunks(PAGE_ROWS).enumerate().all(|(page, rows)| filled(page) == Some(rows.len()));
        let within = order.iter().map(|row| (slots[*row as usize] as usize % PAGE_ROWS) as u16).collect();
        whole.then_some(Self { slots, within })
    }

    /// Values of a page in stored order, from all values in their slots.
    fn page<T: Copy>(&self, values: &[T], rows: Range<usize>) -> Vec<T> {
        let (values, within) = (&values[rows.clone()], &self.within[rows]);
        let Some(values) = values.first_chunk::<PAGE_ROWS>() else {
            return within.iter().map(|slot| values[usize::from(*slot)]).collect();
        };
        let mut page = vec![values[0]; within.len()];
        // A remainder is always within: no value needs a check.
        let groups = page.as_chunks_mut::<UNROLLED>().0.iter_mut().zip(within.as_chunks::<UNROLLED>().0);
        groups.for_each(|(to, slots)| *to = slots.map(|slot| values[usize::from(slot) % PAGE_ROWS]));
        page
    }
}

/// Values of a page in stored order: from their slots, or as they stand where rows come in that order.
pub(super) fn page<'v, T: Copy>(places: Option<&Places>, values: &'v [T], rows: Range<usize>) -> Cow<'v, [T]> {
    match places {
        None => Cow::Borrowed(&values[rows]),
        Some(places) => Cow::Owned(places.page(values, rows)),
    }
}

/// Brings the values of many parts into their slots.
pub(super) struct Bring<'p, T> {
    places: Option<&'p Places>,
    values: Vec<T>,
    rows: usize,
}

impl<'p, T: Copy> Bring<'p, T> {
    /// For `total` rows of all parts.
    pub(super) fn new(places: Option<&'p Places>, total: usize) -> Self {
        let total = places.map_or(total, |places| places.slots.len());
        Self { places, values: Vec::with_capacity(total), rows: 0 }
    }

    /// The next part's values, after `view`.
    pub(super) fn part<V: Copy>(&mut self, values: &[V], view: impl Fn(V) -> T) {
        match self.slots(values.len()) {
            None => self.values.extend(values.iter().map(|value| view(*value))),
            Some((slots, spare)) => {
                let mut put = |slot: u32, value: V| {
                    // SAFETY: slots are below the number of all slots, which `spare` was asked to have.
                    unsafe { spare.get_unchecked_mut(slot as usize) }.write(view(value));
                };
                let (many_slots, slots) = slots.as_chunks::<UNROLLED>();
                let (many_values, values) = values.as_chunks::<UNROLLED>();
                for (slots, values) in many_slots.iter().zip(many_values) {
                    slots.iter().zip(values).for_each(|(slot, value)| put(*slot, *value));
                }
                slots.iter().zip(values).for_each(|(slot, value)| put(*slot, *value));
            }
        }
    }

    /// The next part, in which every row has this value.
    pub(super) fn same(&mut self, value: T, rows: usize) {
        match self.slots(rows) {
            None => self.values.resize(self.values.len() + rows, value),
            Some((slots, spare)) => slots.iter().for_each(|slot| {
                spare[*slot as usize].write(value);
            }),
        }
    }

    /// Slots of the next rows, and all slots.
    fn slots(&mut self, rows: usize) -> Option<(&'p [u32], &mut [MaybeUninit<T>])> {
        let places = self.places?;
        let next = self.rows;
        self.rows += rows;
        let all = &mut self.values.spare_capacity_mut()[..places.slots.len()];
        Some((&places.slots[next..next + rows], all))
    }

    /// All values in their slots.
    pub(super) fn finish(mut self) -> Vec<T> {
        if let Some(places) = self.places {
            assert_eq!(self.rows, places.slots.len(), "parts have as many rows as were ordered");
            // SAFETY: every row has been written to its slot, and every slot is a row's.
            unsafe { self.values.set_len(self.rows) };
        }
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shuffled(rows: usize, seed: u64) -> Vec<u32> {
        let mut random = crate::support::Random(seed);
        let mut order: Vec<u32> = (0..rows as u32).collect();
        (1..rows).for_each(|row| order.swap(row, random.below(row as u64 + 1) as usize));
        order
    }

    fn bring(places: Option<&Places>, values: &[u32], part: usize) -> Vec<u64> {
        let mut bring = Bring::new(places, values.len());
        for (number, part) in values.chunks(part).enumerate() {
            if number % 3 == 0 {
                part.iter().for_each(|value| bring.same(u64::from(*value), 1));
            } else {
                bring.part(part, u64::from);
            }
        }
        let values = bring.finish();
        let pages = (0..values.len()).step_by(PAGE_ROWS).map(|at| at..values.len().min(at + PAGE_ROWS));
        pages.flat_map(|rows| page(places, &values, rows).into_owned()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn rows_come_as_if_fetched_one_by_one(rows in 0usize..3 * PAGE_ROWS, seed in any::<u64>(), part in 1usize..9000) {
            let (order, values) = (shuffled(rows, seed), shuffled(rows, seed ^ 1));
            let places = Places::new(&order).unwrap();
            let want: Vec<u64> = order.iter().map(|row| u64::from(values[*row as usize])).collect();
            prop_assert_eq!(bring(Some(&places), &values, part), want);
            let as_they_come: Vec<u64> = values.iter().map(|value| u64::from(*value)).collect();
            prop_assert_eq!(bring(None, &values, part), as_they_come);
        }
    }

    #[test]
    fn an_order_that_is_not_whole_has_no_places() {
        let mut order = shuffled(PAGE_ROWS + 2, 1);
        order[PAGE_ROWS] = order[PAGE_ROWS + 1];
        assert!(Places::new(&order).is_none());
    }
}
