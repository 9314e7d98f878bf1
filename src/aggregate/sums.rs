//! The sums of one bucket by key: compact cells, and the few sums that outgrow them.

use std::collections::HashMap;

use super::rollup::{KEYS_AHEAD, Keyed, key_of, numbers_of};
use super::shares::Piece;
use super::table::{Place, Table};
use crate::flow::Measures;

const BYTES_BITS: u32 = 40;
const BYTES_MASK: u64 = (1 << BYTES_BITS) - 1;
const COUNT_BITS: u32 = 16;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// The uppermost bit of each part of a cell: clear in a cell at rest, so that two of them add without touching a neighbour.
const AMOUNT_FULL: u64 = 1 << 63 | 1 << (BYTES_BITS - 1);
const COUNTS_FULL: u64 = 1 << 63 | 1 << (2 * COUNT_BITS - 1) | 1 << (COUNT_BITS - 1);

/// Sums in 16 bytes: what a flow brings, and what a key gets between two emissions, nearly always fits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    /// Packets above bytes.
    amount: u64,
    /// Sum of round trips above their number above flows.
    counts: u64,
}

impl Cell {
    /// What fits no cell.
    const TOO_LARGE: Self = Self { amount: AMOUNT_FULL, counts: COUNTS_FULL };

    /// The cell of some measures, or [`Cell::TOO_LARGE`].
    #[inline]
    pub(super) fn of(m: &Measures) -> Self {
        let beyond = m.bytes >> (BYTES_BITS - 1)
            | m.packets >> (63 - BYTES_BITS)
            | (m.flows | m.rtt_count) >> (COUNT_BITS - 1)
            | m.rtt_ms_sum >> (63 - 2 * COUNT_BITS);
        if beyond == 0 {
            let counts = m.rtt_ms_sum << (2 * COUNT_BITS) | m.rtt_count << COUNT_BITS | m.flows;
            Self { amount: m.packets << BYTES_BITS | m.bytes, counts }
        } else {
            Self::TOO_LARGE
        }
    }

    fn measures(self) -> Measures {
        Measures {
            bytes: self.amount & BYTES_MASK,
            packets: self.amount >> BYTES_BITS,
            flows: self.counts & COUNT_MASK,
            rtt_count: self.counts >> COUNT_BITS & COUNT_MASK,
            rtt_ms_sum: self.counts >> (2 * COUNT_BITS),
        }
    }

    /// Whether a part of it reached its uppermost bit.
    #[inline]
    fn is_full(self) -> bool {
        (self.amount & AMOUNT_FULL) | (self.counts & COUNTS_FULL) != 0
    }

    /// Adds to what is not full. Then it is full when what was added is, or the sum fits no more.
    #[inline]
    fn add(&mut self, more: Self) {
        self.amount += more.amount;
        self.counts += more.counts;
    }

    /// Undoes [`Cell::add`].
    fn take_off(&mut self, more: Self) {
        self.amount -= more.amount;
        self.counts -= more.counts;
    }
}

/// What is added to a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Amount<'a> {
    Small(Cell),
    /// What fits no cell.
    Large(&'a Measures),
}

impl<'a> Amount<'a> {
    #[inline]
    pub(super) fn of(measures: &'a Measures) -> Self {
        let cell = Cell::of(measures);
        if cell.is_full() { Self::Large(measures) } else { Self::Small(cell) }
    }

    #[inline]
    pub(super) fn measures(self) -> Measures {
        match self {
            Self::Small(cell) => cell.measures(),
            Self::Large(measures) => *measures,
        }
    }
}

/// Everything that a block adds: the amounts of its flows, then of parts of flows.
#[derive(Debug, Default)]
pub(super) struct Amounts {
    /// [`Cell::TOO_LARGE`] for what is in `large`.
    cells: Vec<Cell>,
    /// By index, ascending.
    large: Vec<(usize, Measures)>,
}

impl Amounts {
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Forgets what the block before added, and takes what the flows of the next one add.
    pub(super) fn fill(&mut self, flows: impl Iterator<Item = Measures>) {
        self.cells.clear();
        self.large.clear();
        let large = &mut self.large;
        self.cells.extend(flows.enumerate().map(|(index, measures)| cell_of(index, measures, large)));
    }

    /// Adds what a part of a flow adds.
    #[inline]
    pub(super) fn push(&mut self, part: Measures) {
        self.cells.push(cell_of(self.cells.len(), part, &mut self.large));
    }

    #[inline]
    pub(super) fn of(&self, index: usize) -> Amount<'_> {
        let cell = self.cells[index];
        if cell.is_full() { self.large(index) } else { Amount::Small(cell) }
    }

    #[cold]
    fn large(&self, index: usize) -> Amount<'_> {
        let place = self.large.partition_point(|(of, _)| *of < index);
        Amount::Large(&self.large[place].1)
    }
}

/// The cell of an amount. What fits none is noted, by its index.
#[inline]
fn cell_of(index: usize, measures: Measures, large: &mut Vec<(usize, Measures)>) -> Cell {
    let cell = Cell::of(&measures);
    if cell.is_full() {
        large.push((index, measures));
    }
    cell
}

type Wide = HashMap<u64, Measures, foldhash::fast::RandomState>;

/// See the module's documentation. Sums wrap at 64 bits.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    cells: Table<Cell>,
    /// What outgrew a cell, to be added to it.
    wide: Wide,
}

/// Adds to a cell, from which what fills it goes to the wide sums.
#[inline]
fn add(wide: &mut Wide, key: u64, cell: &mut Cell, more: Amount<'_>) {
    match more {
        Amount::Small(more) => {
            cell.add(more);
            if cell.is_full() {
                widen(wide, key, &std::mem::take(cell).measures());
            }
        }
        Amount::Large(measures) => widen(wide, key, measures),
    }
}

#[cold]
fn widen(wide: &mut Wide, key: u64, more: &Measures) {
    add_wrapping(wide.entry(key).or_default(), more);
}

/// Adds without limit.
pub(super) fn add_wrapping(sum: &mut Measures, more: &Measures) {
    sum.bytes = sum.bytes.wrapping_add(more.bytes);
    sum.packets = sum.packets.wrapping_add(more.packets);
    sum.flows = sum.flows.wrapping_add(more.flows);
    sum.rtt_ms_sum = sum.rtt_ms_sum.wrapping_add(more.rtt_ms_sum);
    sum.rtt_count = sum.rtt_count.wrapping_add(more.rtt_count);
}

impl Sums {
    /// Keys held.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Bytes held.
    pub(super) fn used_bytes(&self) -> usize {
        self.cells.used_bytes() + self.wide.capacity() * size_of::<(u64, Measures)>()
    }

    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.cells.prefetch(hash);
    }

    /// Makes room for more keys: see [`Table::reserve`].
    pub(super) fn reserve(&mut self, more: usize, hash_of: impl Fn(u64) -> u64) {
        self.cells.reserve(more, hash_of);
    }

    /// Adds to a key that is there.
    #[inline]
    pub(super) fn add_known(&mut self, hash: u64, key: u64, more: Amount<'_>) -> bool {
        let Some(cell) = self.cells.get(hash, key) else { return false };
        add(&mut self.wide, key, cell, more);
        true
    }

    /// Adds to a key, made when it is not there.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, key: u64, more: Amount<'_>, hash_of: impl Fn(u64) -> u64) {
        add(&mut self.wide, key, self.cells.entry(hash, key, hash_of), more);
    }

    /// Adds pieces to their keys, and has the memory of those ahead fetched meanwhile. Pieces of key 0 are passed over.
    pub(super) fn add_pieces<P: Copy + Into<Piece>>(
        &mut self,
        pieces: &[P],
        keys: &[Keyed],
        amounts: &Amounts,
        hash_of: impl Fn(u64) -> u64 + Copy,
    ) {
        let keyed = |piece: P| keys[piece.into().key as usize];
        let mut places = [Place::default(); KEYS_AHEAD];
        for (place, piece) in places.iter_mut().zip(pieces) {
            *place = self.cells.prefetch(keyed(*piece).hash);
        }
        for (index, piece) in pieces.iter().enumerate() {
            let place = &mut places[index % KEYS_AHEAD];
            let here = *place;
            if let Some(ahead) = pieces.get(index + KEYS_AHEAD) {
                *place = self.cells.prefetch(keyed(*ahead).hash);
            }
            let (Keyed { hash, key }, amount) = (keyed(*piece), (*piece).into().amount as usize);
            if key == 0 {
                continue;
            }
            let cell = self.cells.entry_at(here, hash, key, hash_of);
            let more = amounts.cells[amount];
            cell.add(more);
            if cell.is_full() {
                cell.take_off(more);
                add(&mut self.wide, key, cell, amounts.of(amount));
            }
        }
    }

    fn whole(&self, key: u64, cell: &Cell) -> Measures {
        let mut sum = cell.measures();
        if !self.wide.is_empty()
            && let Some(wide) = self.wide.get(&key)
        {
            add_wrapping(&mut sum, wide);
        }
        sum
    }

    /// Adds other sums of the same keys and hashes.
    pub(super) fn absorb(&mut self, other: Self, hash_of: impl Fn(u64) -> u64 + Copy) {
        if self.cells.is_empty() {
            *self = other;
            return;
        }
        if other.len() > self.len() {
            self.reserve(other.len(), hash_of);
        }
        for (key, more) in other.iter() {
            self.add(hash_of(key), key, Amount::of(&more), hash_of);
        }
    }

    /// Adds other sums by keys whose second part is found from theirs.
    pub(super) fn add_all(
        &mut self,
        other: &Self,
        mut second_of: impl FnMut(u32) -> u32,
        hash_of: impl Fn(u64) -> u64 + Copy,
    ) {
        for (key, more) in other.iter() {
            let (first, second) = numbers_of(key);
            let key = key_of(first, second_of(second));
            self.add(hash_of(key), key, Amount::of(&more), hash_of);
        }
    }

    /// Every key with its sums.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Measures)> {
        self.cells.iter().map(|(key, cell)| (key, self.whole(key, cell)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn hash_of(key: u64) -> u64 {
        key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn any_measures() -> impl Strategy<Value = Measures> {
        // Around what a part of a cell holds at rest, and in all its bits.
        let around = |bits: u32, small: u64| {
            let (half, whole) = (1u64 << (bits - 1), 1u64 << bits);
            prop_oneof![0..small, half - 2..half + 1, whole - 1..whole + 1, any::<u64>()]
        };
        let count = || around(COUNT_BITS, 3);
        (around(BYTES_BITS, 5000), around(64 - BYTES_BITS, 50), count(), count(), around(64 - 2 * COUNT_BITS, 100))
            .prop_map(|(bytes, packets, flows, rtt_count, rtt_ms_sum)| Measures {
                bytes,
                packets,
                flows,
                rtt_ms_sum,
                rtt_count,
            })
    }

    proptest! {
        #[test]
        fn sums_are_exact_whatever_their_size(adds in prop::collection::vec((1u64..5, any_measures()), 0..60)) {
            let (mut sums, mut want) = (Sums::default(), BTreeMap::<u64, Measures>::new());
            for (key, more) in &adds {
                sums.add(hash_of(*key), *key, Amount::of(more), hash_of);
                add_wrapping(want.entry(*key).or_default(), more);
            }
            prop_assert_eq!(sums.iter().collect::<BTreeMap<_, _>>(), want);
        }
    }
}
