//! A static multibit tree over sorted address ranges: 16 bits at the root, then 8 bits a node.
//!
//! A node is a bitmap of its slots whose set bits begin a run of equal slots, and one entry a run. So memory follows the
//! number of runs, not of slots: the root costs 16 KiB plus its entries, another node one cache line plus its entry. An IPv4
//! address takes at most 2 nodes below the root.

mod find;

/// Bit 31 of an entry: the other bits are a node, else a value.
const NODE: u32 = 1 << 31;

/// Values a tree can hold: they share their 32 bits with the node mark.
pub(super) const VALUES_MAX: u32 = NODE;

const ROOT_BITS: u32 = 16;
const NODE_BITS: u32 = 8;
const NODE_SLOTS: u32 = 1 << NODE_BITS;
/// Slots of a [`Word`].
const WORD_SLOTS: u32 = u64::BITS;
/// The root is the first node.
const ROOT_WORDS: u32 = (1 << ROOT_BITS) / WORD_SLOTS;
const NODE_WORDS: u32 = NODE_SLOTS / WORD_SLOTS;

/// Where a run of addresses with one value begins; it ends before the next range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub first: u128,
    pub value: u32,
}

/// 64 slots of a node; four make a node, 1024 the root.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
struct Word {
    /// Bit `n` = a run begins at slot `n`.
    runs: u64,
    /// Index of the entry of this word's first run, less one (wrapping); so entry = `before` + runs up to the slot.
    before: u32,
}

/// The tree of one family. `WIDTH` is the bits of an address.
#[derive(Debug)]
pub(super) struct Tree<const WIDTH: u32> {
    /// The root's, then those of the other nodes.
    words: Vec<Word>,
    entries: Vec<u32>,
}

impl<const WIDTH: u32> Tree<WIDTH> {
    /// Builds from ranges in ascending order, the first of which begins at 0.
    pub fn build(ranges: &[Range]) -> Self {
        let mut tree = Self { words: vec![Word::default(); ROOT_WORDS as usize], entries: Vec::new() };
        let runs = tree.runs(ranges, 0, WIDTH - ROOT_BITS, 1 << ROOT_BITS);
        let mut root = [Word::default(); ROOT_WORDS as usize];
        tree.put_runs(&runs, &mut root);
        tree.words[..root.len()].copy_from_slice(&root);
        tree.words.shrink_to_fit();
        tree.entries.shrink_to_fit();
        tree
    }

    /// Cuts `slots` slots of `2^slot_bits` addresses each into runs of one entry.
    fn runs(&mut self, ranges: &[Range], base: u128, slot_bits: u32, slots: u32) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let (mut slot, mut i) = (0, 0);
        while slot < slots {
            let first = base + (u128::from(slot) << slot_bits);
            let last = first + ((1u128 << slot_bits) - 1);
            while ranges.get(i + 1).is_some_and(|next| next.first <= first) {
                i += 1;
            }
            let next_first = ranges.get(i + 1).map(|next| next.first);
            if next_first.is_none_or(|next| next > last) {
                let entry = ranges[i].value;
                if runs.last().is_none_or(|run| run.1 != entry) {
                    runs.push((slot, entry));
                }
                slot = next_first.map_or(slots, |next| ((next - base) >> slot_bits).min(slots.into()) as u32);
            } else {
                let end = i + ranges[i..].partition_point(|range| range.first <= last);
                let node = self.node(&ranges[i..end], first, slot_bits - NODE_BITS);
                runs.push((slot, node));
                slot += 1;
                i = end - 1;
            }
        }
        runs
    }

    fn node(&mut self, ranges: &[Range], base: u128, slot_bits: u32) -> u32 {
        let runs = self.runs(ranges, base, slot_bits, NODE_SLOTS);
        let mut words = [Word::default(); NODE_WORDS as usize];
        self.put_runs(&runs, &mut words);
        let node = (self.words.len() as u32 - ROOT_WORDS) / NODE_WORDS;
        self.words.extend(words);
        node | NODE
    }

    /// Says in a node's words which runs it has, and appends their entries.
    fn put_runs(&mut self, runs: &[(u32, u32)], words: &mut [Word]) {
        for (slot, _) in runs {
            words[(slot / WORD_SLOTS) as usize].runs |= 1 << (slot % WORD_SLOTS);
        }
        let mut before = (self.entries.len() as u32).wrapping_sub(1);
        for word in words {
            word.before = before;
            before = before.wrapping_add(word.runs.count_ones());
        }
        self.entries.extend(runs.iter().map(|run| run.1));
    }

    /// The entry of a slot of the root.
    #[inline(always)]
    fn top(&self, slot: u32) -> u32 {
        self.entries[self.place(0, slot) as usize]
    }

    /// The entry below a node for one byte of the address.
    #[inline(always)]
    fn step(&self, entry: u32, slot: u32) -> u32 {
        self.entries[self.place(first_word(entry), slot) as usize]
    }

    /// Where the entry of a slot stands, for the node whose words begin at `word`.
    #[inline(always)]
    fn place(&self, word: u32, slot: u32) -> u32 {
        let word = &self.words[(word + slot / WORD_SLOTS) as usize];
        word.before.wrapping_add((word.runs << (WORD_SLOTS - 1 - slot % WORD_SLOTS)).count_ones())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of::<Word>() * self.words.capacity() + 4 * self.entries.capacity()
    }
}

/// Where the words of a node begin.
#[inline(always)]
fn first_word(entry: u32) -> u32 {
    ROOT_WORDS + (entry & !NODE) * NODE_WORDS
}

impl Tree<32> {
    /// The value of an address.
    #[inline]
    pub fn get(&self, addr: u32) -> u32 {
        let mut entry = self.top(addr >> 16);
        if entry & NODE != 0 {
            entry = self.step(entry, (addr >> 8) & 0xff);
            if entry & NODE != 0 {
                entry = self.step(entry, addr & 0xff);
            }
        }
        entry
    }
}

impl Tree<128> {
    /// The value of an address.
    #[inline]
    pub fn get(&self, addr: u128) -> u32 {
        let mut entry = self.top((addr >> 112) as u32);
        let mut shift = 112;
        while entry & NODE != 0 {
            shift -= NODE_BITS;
            entry = self.step(entry, (addr >> shift) as u32 & 0xff);
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expected(ranges: &[Range], addr: u128) -> u32 {
        ranges[ranges.partition_point(|range| range.first <= addr) - 1].value
    }

    fn check(starts: Vec<(u128, u32)>, width: u32) -> Vec<Range> {
        let mut ranges = vec![Range { first: 0, value: 9 }];
        let mask = if width == 128 { u128::MAX } else { (1 << width) - 1 };
        ranges.extend(starts.into_iter().map(|(first, value)| Range { first: first & mask, value }));
        ranges.sort_by_key(|range| range.first);
        ranges.dedup_by_key(|range| range.first);
        ranges
    }

    proptest! {
        #[test]
        fn every_address_has_the_value_of_its_range(starts in prop::collection::vec((any::<u128>(), 0u32..4), 0..40),
            near in prop::collection::vec((0u128..2000, 0u32..4), 0..40)) {
            let starts: Vec<_> = starts.into_iter().chain(near).collect();
            let wide = check(starts.clone(), 128);
            let tree: Tree<128> = Tree::build(&wide);
            for at in wide.iter().flat_map(|range| [range.first, range.first.wrapping_sub(1), range.first.wrapping_add(1)]) {
                prop_assert_eq!(tree.get(at), expected(&wide, at));
            }
            let narrow = check(starts, 32);
            let tree: Tree<32> = Tree::build(&narrow);
            for at in narrow.iter().map(|range| range.first as u32).flat_map(|at| [at, at.wrapping_sub(1), at.wrapping_add(1)]) {
                prop_assert_eq!(tree.get(at), expected(&narrow, at.into()));
            }
            let addrs: Vec<u32> = narrow.iter().chain(&wide).map(|range| range.first as u32).collect();
            let mut found = vec![7];
            tree.find_all(&addrs, &mut found);
            prop_assert_eq!(&found[1..], addrs.iter().map(|addr| tree.get(*addr)).collect::<Vec<_>>());
        }
    }
}
