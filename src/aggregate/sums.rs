//! The sums of one bucket by key: compact cells, and the few sums that outgrow them.

use std::collections::HashMap;

use super::table::Table;
use crate::flow::Measures;

const BYTES_BITS: u32 = 40;
const BYTES_MAX: u64 = (1 << BYTES_BITS) - 1;
const PACKETS_MAX: u64 = (1 << (64 - BYTES_BITS)) - 1;
const COUNT_BITS: u32 = 16;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const RTT_SUM_MAX: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

/// Sums in 16 bytes: what a key gets between two emissions nearly always fits.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Packets above bytes.
    amount: u64,
    /// Sum of round trips above their number above flows.
    counts: u64,
}

impl Cell {
    fn measures(self) -> Measures {
        Measures {
            bytes: self.amount & BYTES_MAX,
            packets: self.amount >> BYTES_BITS,
            flows: self.counts & COUNT_MAX,
            rtt_count: self.counts >> COUNT_BITS & COUNT_MAX,
            rtt_ms_sum: self.counts >> (2 * COUNT_BITS),
        }
    }

    /// Adds, or gives false and stays as it is when the result does not fit.
    #[inline]
    fn add(&mut self, more: &Measures) -> bool {
        let (bytes, packets) = (self.amount & BYTES_MAX, self.amount >> BYTES_BITS);
        let room = more.bytes <= BYTES_MAX - bytes
            && more.packets <= PACKETS_MAX - packets
            && more.flows <= COUNT_MAX - (self.counts & COUNT_MAX)
            && more.rtt_count <= COUNT_MAX - (self.counts >> COUNT_BITS & COUNT_MAX)
            && more.rtt_ms_sum <= RTT_SUM_MAX - (self.counts >> (2 * COUNT_BITS));
        if room {
            self.amount += more.packets << BYTES_BITS | more.bytes;
            self.counts += more.rtt_ms_sum << (2 * COUNT_BITS) | more.rtt_count << COUNT_BITS | more.flows;
        }
        room
    }
}

/// See the module's documentation. Sums wrap at 64 bits.
#[derive(Debug, Default)]
pub(super) struct Sums {
    cells: Table<Cell>,
    /// What outgrew a cell, to be added to it.
    wide: HashMap<u64, Measures, foldhash::fast::RandomState>,
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
    pub(super) fn add_known(&mut self, hash: u64, key: u64, more: &Measures) -> bool {
        let Some(cell) = self.cells.get(hash, key) else { return false };
        if !cell.add(more) {
            Self::widen(&mut self.wide, key, cell, more);
        }
        true
    }

    /// Adds to a key, made when it is not there.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, key: u64, more: &Measures, hash_of: impl Fn(u64) -> u64) {
        let cell = self.cells.entry(hash, key, hash_of);
        if !cell.add(more) {
            Self::widen(&mut self.wide, key, cell, more);
        }
    }

    #[cold]
    fn widen(
        wide: &mut HashMap<u64, Measures, foldhash::fast::RandomState>,
        key: u64,
        cell: &mut Cell,
        more: &Measures,
    ) {
        let sum = wide.entry(key).or_default();
        add_wrapping(sum, &std::mem::take(cell).measures());
        add_wrapping(sum, more);
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
        let bytes = prop_oneof![0u64..5000, Just(BYTES_MAX), Just(BYTES_MAX + 1), any::<u64>()];
        let packets = prop_oneof![0u64..50, Just(PACKETS_MAX), any::<u64>()];
        let count = || prop_oneof![0u64..3, Just(COUNT_MAX - 1), any::<u64>()];
        (bytes, packets, count(), count(), prop_oneof![0u64..100, Just(RTT_SUM_MAX)]).prop_map(
            |(bytes, packets, flows, rtt_count, rtt_ms_sum)| Measures { bytes, packets, flows, rtt_ms_sum, rtt_count },
        )
    }

    proptest! {
        #[test]
        fn sums_are_exact_whatever_their_size(adds in prop::collection::vec((1u64..5, any_measures()), 0..60)) {
            let (mut sums, mut want) = (Sums::default(), BTreeMap::<u64, Measures>::new());
            for (key, more) in &adds {
                sums.add(hash_of(*key), *key, more, hash_of);
                add_wrapping(want.entry(*key).or_default(), more);
            }
            prop_assert_eq!(sums.iter().collect::<BTreeMap<_, _>>(), want);
        }
    }
}
