//! Keys and their sums: the slots and buckets of one rollup, or of a part of it.

use super::cells::{Buckets, Pool};
use super::layout::Layout;
use super::rollup::{Block, Emitted};
use super::share::Share;
use super::slots::Slots;
use super::view::{Pass, pack};
use crate::flow::Measures;

/// Windows of buckets up to this wide are marked whole; wider ones (a few odd times among many flows) flow by flow.
const WINDOW_MAX: i64 = 128;
/// Keys that are forgotten only together with as many live ones.
const DEAD_KEYS_MIN: usize = 4096;

/// See the module's documentation.
pub(super) struct Table<const W: usize> {
    pub(super) slots: Slots<W>,
    pub(super) buckets: Buckets,
    keys: Vec<[u64; W]>,
    hashes: Vec<u32>,
    /// Slots of the packed keys.
    found: Vec<u32>,
}

impl<const W: usize> Default for Table<W> {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            buckets: Buckets::default(),
            keys: Vec::new(),
            hashes: Vec::new(),
            found: Vec::new(),
        }
    }
}

impl<const W: usize> Table<W> {
    /// Books some rows of a marked block. Gives how many found no room for their key.
    pub(super) fn add(&mut self, layout: &Layout, block: &Block<'_>, pass: Pass, rows: &[u32], pool: &mut Pool) -> u64 {
        let mut refused = 0;
        pack(layout, block.batch, block.maps, pass, rows, &mut self.keys);
        self.find_slots(layout, block, rows, pool, &mut refused);
        for (index, row) in rows.iter().enumerate() {
            self.book(pool, block, *row, self.found[index]);
        }
        refused
    }

    /// Bytes held, without pages.
    pub(super) fn used_bytes(&self) -> usize {
        self.slots.used_bytes() + self.buckets.used_bytes()
    }

    /// Marks every bucket that the block's flows cover, before anything is booked.
    pub(super) fn mark(&mut self, block: &Block<'_>) {
        let first = block.shares.iter().map(Share::first).min().unwrap_or_default();
        let last = block.shares.iter().map(|share| share.last).max().unwrap_or_default();
        if last - first < WINDOW_MAX && block.emitted.is_none() {
            for number in first..=last {
                self.buckets.mark(number, block.position, block.now_ms);
            }
            return;
        }
        for share in block.shares {
            for number in share.first()..=share.last {
                if block.emitted.is_none_or(|emitted| !emitted.contains(block.position, number)) {
                    self.buckets.mark(number, block.position, block.now_ms);
                }
            }
        }
    }

    /// The slot of a key, or of the row for what finds no room.
    fn slot(&mut self, layout: &Layout, index: usize, admit: bool, refused: &mut u64) -> u32 {
        let key = self.keys[index];
        if let Some(slot) = self.slots.resolve(self.hashes[index], &key, admit) {
            return slot;
        }
        *refused += 1;
        let other = layout.other(&key);
        // Their number is bounded by the platform's own tables (access servers, resellers).
        self.slots.resolve(self.slots.hash(&other), &other, true).unwrap_or_default()
    }

    /// Finds the slots of all packed keys, in steps each of which has the next one's memory fetched.
    fn find_slots(&mut self, layout: &Layout, block: &Block<'_>, rows: &[u32], pool: &Pool, refused: &mut u64) {
        self.hashes.clear();
        self.hashes.extend(self.keys.iter().map(|key| {
            let hash = self.slots.hash(key);
            self.slots.prefetch_index(hash);
            hash
        }));
        self.hashes.iter().for_each(|hash| self.slots.prefetch_key(*hash));
        self.found.clear();
        for (index, row) in rows.iter().enumerate() {
            let slot = self.slot(layout, index, block.admit, refused);
            self.found.push(slot);
            let share = &block.shares[(row - block.rows.start) as usize];
            if block.emitted.is_none() {
                self.buckets.marked(share.last).prefetch(pool, slot);
                if share.before > 0 {
                    self.buckets.marked(share.first()).prefetch(pool, slot);
                }
                if share.before > 1 {
                    self.buckets.marked(share.first() + 1).prefetch(pool, slot);
                }
            }
        }
    }

    fn book(&mut self, pool: &mut Pool, block: &Block<'_>, row: u32, slot: u32) {
        let share = &block.shares[(row - block.rows.start) as usize];
        let rtt_ms = block.batch.rtt_ms.get(row as usize);
        if let Some(emitted) = block.emitted {
            return self.book_again(pool, emitted, block.position, share, slot, rtt_ms);
        }
        let last = self.buckets.marked(share.last).cell(pool, slot);
        last.bytes = last.bytes.wrapping_add(share.rest_bytes);
        last.packets = last.packets.wrapping_add(share.rest_packets);
        last.flows = last.flows.wrapping_add(1);
        if let Some(rtt_ms) = rtt_ms {
            last.rtt_ms_sum += u64::from(rtt_ms);
            last.rtt_count = last.rtt_count.wrapping_add(1);
        }
        if share.before == 0 {
            return;
        }
        if share.before > 1 {
            last.step_bytes = last.step_bytes.wrapping_sub(share.middle_bytes);
            last.step_packets = last.step_packets.wrapping_sub(share.middle_packets);
            let second = self.buckets.marked(share.first() + 1).cell(pool, slot);
            second.step_bytes = second.step_bytes.wrapping_add(share.middle_bytes);
            second.step_packets = second.step_packets.wrapping_add(share.middle_packets);
        }
        let first = self.buckets.marked(share.first()).cell(pool, slot);
        first.bytes = first.bytes.wrapping_add(share.first_bytes);
        first.packets = first.packets.wrapping_add(share.first_packets);
    }

    /// Books bucket by bucket, leaving out what was emitted before a crash.
    fn book_again(
        &mut self,
        pool: &mut Pool,
        emitted: &Emitted,
        position: u64,
        share: &Share,
        slot: u32,
        rtt_ms: Option<u32>,
    ) {
        for number in (share.first()..=share.last).filter(|number| !emitted.contains(position, *number)) {
            let (bytes, packets) = share.at(number);
            let cell = self.buckets.marked(number).cell(pool, slot);
            cell.bytes = cell.bytes.wrapping_add(bytes);
            cell.packets = cell.packets.wrapping_add(packets);
            if number == share.last {
                cell.flows = cell.flows.wrapping_add(1);
                cell.rtt_ms_sum += u64::from(rtt_ms.unwrap_or_default());
                cell.rtt_count = cell.rtt_count.wrapping_add(u32::from(rtt_ms.is_some()));
            }
        }
    }

    /// Moves every cell to the slot that `target` names (the new number of its key, or of the key it is folded into) and
    /// keeps only the keys of `kept`.
    pub(super) fn remap(&mut self, pool: &mut Pool, kept: &[u32], target: &[u32]) {
        self.buckets.each_mut(|_, bucket| {
            let mut cells = Vec::new();
            bucket.take_cells(pool, |_, slot, cell| cells.push((slot, cell)));
            for (slot, cell) in cells {
                bucket.cell(pool, target[slot as usize]).add(&cell);
            }
        });
        self.slots.keep(kept);
    }

    /// Takes the first bucket out: its number and its sums by slot. Its running sums go on in the next one.
    pub(super) fn take_first(&mut self, pool: &mut Pool) -> Option<(i64, Vec<(u32, Measures)>)> {
        let (number, mut bucket) = self.buckets.pop_first()?;
        let buckets = &mut self.buckets;
        let (position, first_ms) = (bucket.first_position, bucket.first_ms);
        let mut cells = Vec::new();
        let mut carries = false;
        bucket.take_cells(pool, |pool, slot, cell| {
            if (cell.step_bytes, cell.step_packets) != (0, 0) {
                if !carries {
                    // A span with a step here reaches into the next bucket, which is marked then; this only makes it sure.
                    buckets.mark(number + 1, position, first_ms);
                    carries = true;
                }
                let next = buckets.marked(number + 1).cell(pool, slot);
                next.step_bytes = next.step_bytes.wrapping_add(cell.step_bytes);
                next.step_packets = next.step_packets.wrapping_add(cell.step_packets);
            }
            let measures = Measures {
                bytes: cell.bytes.wrapping_add(cell.step_bytes),
                packets: cell.packets.wrapping_add(cell.step_packets),
                flows: u64::from(cell.flows),
                rtt_ms_sum: cell.rtt_ms_sum,
                rtt_count: u64::from(cell.rtt_count),
            };
            if measures != Measures::default() {
                cells.push((slot, measures));
            }
        });
        Some((number, cells))
    }

    /// Forgets keys that nothing is pending for, where it pays.
    pub(super) fn tidy(&mut self, pool: &mut Pool) {
        if self.buckets.is_empty() {
            self.slots.keep(&[]);
            return;
        }
        if self.slots.len() < DEAD_KEYS_MIN {
            return;
        }
        let mut live = vec![false; self.slots.len()];
        for (_, bucket) in self.buckets.iter() {
            bucket.each_cell(pool, |slot, _| live[slot as usize] = true);
        }
        let kept: Vec<u32> = (0..live.len() as u32).filter(|slot| live[*slot as usize]).collect();
        if kept.len() * 2 < live.len() {
            let mut target = vec![0; live.len()];
            for (new, old) in kept.iter().enumerate() {
                target[*old as usize] = new as u32;
            }
            self.remap(pool, &kept, &target);
        }
    }
}
