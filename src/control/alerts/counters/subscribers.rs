//! Bytes of each subscriber in the last 24 hours: a ring of 96 buckets of 15 minutes.
//!
//! Cells stand by bucket, then by slot (a subscriber's number), in pages of 64 slots that exist only where somebody was
//! active; a running total a slot makes the sum of the ring free. A bucket that leaves the ring is taken off the totals,
//! and subscribers without traffic give their slot back.

use super::{Map, NONE, PAGE, SLOT, key, take};
use crate::control::state::Change;
use crate::flow::{FlowBatch, Uuid};
use crate::prefetch::prefetch;

/// Buckets of the ring: 24 hours.
const BUCKETS: usize = 96;
/// Slots of a page: 512 bytes, so that a site of a few dozen subscribers takes one page a bucket.
const PAGE_SLOTS: usize = 64;
/// Subscribers that can have a ring at the same time.
const SLOTS_MAX: usize = 1 << 17;
/// Numbers by which subscribers are found without hashing.
const NUMBERS_MAX: usize = 1 << 18;
/// How many slots ahead their sums are fetched into the cache.
const SLOTS_AHEAD: usize = 16;
/// Memory for all of it, bytes.
pub(super) const MEMORY_BYTES_MAX: usize = 62 << 20;
/// Bytes a slot takes apart from its cells: total, owner, and twice its entry of the map by identity.
const SLOT_BYTES: usize = 8 + size_of::<Who>() + 2 * 2 * size_of::<(Uuid, u32)>();
/// Bytes a page takes beside its cells.
const PAGE_OVERHEAD_BYTES: usize = 8;
/// Pages that fit beside the slots and the tables of pages.
const PAGES_MAX: usize =
    (MEMORY_BYTES_MAX - NUMBERS_MAX * 4 - SLOTS_MAX * SLOT_BYTES - BUCKETS * SLOTS_MAX / PAGE_SLOTS * 4)
        / (PAGE_SLOTS * 8 + PAGE_OVERHEAD_BYTES);

type Page = [u64; PAGE_SLOTS];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Who {
    subscriber_id: Uuid,
    reseller_id: Option<Uuid>,
}

/// One subscriber's bytes of the last 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Who.
    pub subscriber_id: Uuid,
    /// The reseller at the latest flow.
    pub reseller_id: Option<Uuid>,
    /// Bytes in, out and internal.
    pub bytes: u64,
}

/// A subscriber of the batch at hand.
#[derive(Clone, Copy, Debug)]
struct InBatch {
    /// [`NONE`] when there is no room for a ring.
    slot: u32,
    /// Code of the reseller at the batch's last flow.
    reseller: u32,
    /// Bytes of the newest bucket and the one before.
    recent: [u64; 2],
}

impl Default for InBatch {
    fn default() -> Self {
        Self { slot: NONE, reseller: 0, recent: [0; 2] }
    }
}

/// All rings.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    slots: Map<Uuid, u32>,
    /// The same by the number that a subscriber has in dictionaries, where known; [`NONE`] where not.
    by_number: Vec<u32>,
    who: Vec<Who>,
    totals: Vec<u64>,
    free_slots: Vec<u32>,
    /// Number of the newest bucket.
    head: i64,
    /// By bucket modulo [`BUCKETS`], then by slot / [`PAGE_SLOTS`]: number of the page plus 1, 0 = none.
    tables: Vec<Vec<u32>>,
    pages: Vec<Page>,
    free_pages: Vec<u32>,
    /// Whether a page is in `dirty_pages`.
    is_dirty: Vec<bool>,
    /// Bucket and index within it.
    dirty_pages: Vec<(i64, u32)>,
    /// Pages that are gone.
    removed_pages: Vec<(i64, u32)>,
    dirty_slots: Vec<u32>,
    /// By code of the batch at hand; code 0 is no subscriber.
    batch: Vec<InBatch>,
    pub(super) untracked_bytes: u64,
}

impl Subscribers {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let tables: usize = self.tables.iter().map(|table| table.len() * 4).sum();
        let numbers = self.by_number.len() * 4;
        self.who.len() * SLOT_BYTES + numbers + tables + self.pages.len() * (size_of::<Page>() + PAGE_OVERHEAD_BYTES)
    }

    /// Takes note of a batch's subscribers and whose they are. Then [`Subscribers::book`] takes its flows,
    /// [`Subscribers::end`] ends it.
    pub(super) fn begin(&mut self, batch: &FlowBatch) {
        self.batch.clear();
        self.batch.resize(batch.subscriber_id.values().len() + 1, InBatch::default());
        for (of, (_, number)) in self.batch[1..].iter_mut().zip(batch.subscriber_id.numbered_values()) {
            of.slot = self.by_number.get(number as usize).copied().unwrap_or(NONE);
            self.who.get(of.slot as usize).inspect(|who| prefetch(*who));
        }
        for (code, (subscriber, number)) in (1..).zip(batch.subscriber_id.numbered_values()) {
            // Slots are given back.
            if self.who.get(self.batch[code].slot as usize).is_none_or(|who| who.subscriber_id != *subscriber) {
                self.batch[code].slot = self.find_slot(*subscriber, number);
            }
        }
        let resellers = &batch.reseller_id;
        for (code, reseller) in batch.subscriber_id.codes().iter().zip(resellers.codes()) {
            self.batch[*code as usize].reseller = *reseller;
        }
        for code in 1..self.batch.len() {
            let InBatch { slot, reseller, .. } = self.batch[code];
            if slot != NONE {
                self.note_reseller(slot, resellers.value(reseller).copied());
            }
        }
    }

    /// Whether a subscriber of the batch at hand has a ring.
    #[inline]
    pub(super) fn has_ring(&self, code: u32) -> bool {
        self.batch[code as usize].slot != NONE
    }

    /// Books bytes of a subscriber of the batch at hand that has a ring. What is of the two newest buckets, nearly all, is
    /// summed first: the rings lie scattered in memory.
    #[inline]
    pub(super) fn book(&mut self, code: u32, bucket: i64, bytes: u64) {
        let of = &mut self.batch[code as usize];
        let age = self.head.saturating_sub(bucket).max(0);
        match of.recent.get_mut(age as usize) {
            Some(sum) => *sum = sum.wrapping_add(bytes),
            None => {
                let slot = of.slot;
                self.add(slot, bucket, bytes);
            }
        }
    }

    /// Books what was summed of the batch at hand.
    pub(super) fn end(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        for (index, of) in batch.iter().enumerate().filter(|(_, of)| of.slot != NONE) {
            batch.get(index + SLOTS_AHEAD).inspect(|ahead| self.prefetch(ahead.slot));
            for (bucket, bytes) in [self.head, self.head - 1].into_iter().zip(of.recent) {
                self.add(of.slot, bucket, bytes);
            }
        }
        self.batch = batch;
    }

    /// Has what is booked of the newest bucket fetched into the cache.
    #[inline]
    fn prefetch(&self, slot: u32) {
        let (slot, head) = (slot as usize, self.head.rem_euclid(BUCKETS as i64) as usize);
        self.totals.get(slot).inspect(|total| prefetch(*total));
        let page = self.tables[head].get(slot / PAGE_SLOTS).and_then(|page| page.checked_sub(1));
        page.and_then(|page| self.pages.get(page as usize)).inspect(|page| prefetch(&page[slot % PAGE_SLOTS]));
    }

    fn find_slot(&mut self, subscriber_id: Uuid, number: u32) -> u32 {
        let slot = self.slot(subscriber_id);
        let number = number as usize;
        if (1..NUMBERS_MAX).contains(&number) {
            if self.by_number.len() <= number {
                self.by_number.resize(number + 1, NONE);
            }
            self.by_number[number] = slot;
        }
        slot
    }

    fn slot(&mut self, subscriber_id: Uuid) -> u32 {
        if let Some(slot) = self.slots.get(&subscriber_id) {
            return *slot;
        }
        let who = Who { subscriber_id, reseller_id: None };
        let slot = match self.free_slots.pop() {
            Some(slot) => {
                self.who[slot as usize] = who;
                slot
            }
            None if self.who.len() < SLOTS_MAX => {
                self.who.push(who);
                self.totals.push(0);
                self.who.len() as u32 - 1
            }
            None => return NONE,
        };
        self.slots.insert(subscriber_id, slot);
        self.dirty_slots.push(slot);
        slot
    }

    fn note_reseller(&mut self, slot: u32, reseller_id: Option<Uuid>) {
        let who = &mut self.who[slot as usize];
        if who.reseller_id != reseller_id {
            who.reseller_id = reseller_id;
            self.dirty_slots.push(slot);
        }
    }

    /// Books bytes. What lies before the ring is no longer of these 24 hours; what lies after now is of now.
    #[inline]
    fn add(&mut self, slot: u32, bucket: i64, bytes: u64) {
        let bucket = bucket.min(self.head);
        if bytes == 0 || bucket <= self.head - BUCKETS as i64 {
            return;
        }
        let index = slot as usize / PAGE_SLOTS;
        let table = &self.tables[bucket.rem_euclid(BUCKETS as i64) as usize];
        let page = match table.get(index) {
            Some(&page) if page != 0 => page - 1,
            _ => match self.add_page(bucket, index) {
                Some(page) => page,
                None => {
                    self.untracked_bytes += bytes;
                    return;
                }
            },
        };
        let cell = &mut self.pages[page as usize][slot as usize % PAGE_SLOTS];
        // Sums of the traffic of a day cannot reach 2^64; forged ones wrap, total and cell alike.
        *cell = cell.wrapping_add(bytes);
        self.totals[slot as usize] = self.totals[slot as usize].wrapping_add(bytes);
        if !self.is_dirty[page as usize] {
            self.is_dirty[page as usize] = true;
            self.dirty_pages.push((bucket, index as u32));
        }
    }

    #[cold]
    fn add_page(&mut self, bucket: i64, index: usize) -> Option<u32> {
        let page = match self.free_pages.pop() {
            Some(page) => page,
            None if self.pages.len() < PAGES_MAX => {
                self.pages.push([0; PAGE_SLOTS]);
                self.is_dirty.push(false);
                self.pages.len() as u32 - 1
            }
            None => return None,
        };
        let table = &mut self.tables[bucket.rem_euclid(BUCKETS as i64) as usize];
        if table.len() <= index {
            table.resize(index + 1, 0);
        }
        table[index] = page + 1;
        Some(page)
    }

    /// Makes this bucket the newest one.
    pub(super) fn advance(&mut self, bucket: i64) {
        if self.shift(bucket) {
            self.free_idle_slots();
        }
    }

    /// Moves the ring on. Gives whether it did.
    fn shift(&mut self, bucket: i64) -> bool {
        if self.tables.is_empty() {
            self.tables.resize(BUCKETS, Vec::new());
            self.head = self.head.max(bucket);
        }
        if bucket <= self.head {
            return false;
        }
        let oldest = self.head - BUCKETS as i64 + 1;
        for gone in oldest..=(bucket - BUCKETS as i64).min(self.head) {
            self.remove_bucket(gone);
        }
        self.head = bucket;
        true
    }

    fn remove_bucket(&mut self, bucket: i64) {
        let table = std::mem::take(&mut self.tables[bucket.rem_euclid(BUCKETS as i64) as usize]);
        for (index, page) in table.into_iter().enumerate().filter(|(_, page)| *page != 0) {
            let page = page - 1;
            let cells = std::mem::replace(&mut self.pages[page as usize], [0; PAGE_SLOTS]);
            let totals = self.totals[index * PAGE_SLOTS..].iter_mut();
            totals.zip(cells).for_each(|(total, cell)| *total = total.wrapping_sub(cell));
            self.free_pages.push(page);
            self.is_dirty[page as usize] = false;
            self.removed_pages.push((bucket, index as u32));
        }
    }

    fn free_idle_slots(&mut self) {
        for (slot, total) in self.totals.iter().enumerate().filter(|(_, total)| **total == 0) {
            let who = std::mem::take(&mut self.who[slot]);
            debug_assert_eq!(*total, 0);
            // A slot that is free already stands for the nil UUID, which no subscriber has.
            if who != Who::default() && self.slots.remove(&who.subscriber_id).is_some() {
                self.free_slots.push(slot as u32);
                self.dirty_slots.push(slot as u32);
            }
        }
    }

    pub(super) fn usage(&self, above_bytes: u64) -> impl Iterator<Item = Usage> + '_ {
        let over = self.totals.iter().enumerate().filter(move |(_, bytes)| **bytes > above_bytes);
        over.map(|(slot, bytes)| {
            let Who { subscriber_id, reseller_id } = self.who[slot];
            Usage { subscriber_id, reseller_id, bytes: *bytes }
        })
    }

    pub(super) fn changes(&mut self, changes: &mut Vec<Change>) {
        let page_key = |(bucket, index): (i64, u32)| key(PAGE, &[&bucket.to_be_bytes(), &index.to_be_bytes()]);
        // First what is gone: a page can have been made anew since.
        changes.extend(self.removed_pages.drain(..).map(|page| (page_key(page), None)));
        for (bucket, index) in self.dirty_pages.drain(..) {
            let table = self.tables.get(bucket.rem_euclid(BUCKETS as i64) as usize);
            let page = table.and_then(|table| table.get(index as usize)).filter(|page| **page != 0);
            // A page that was changed and then left the ring.
            let Some(page) = page.filter(|_| bucket > self.head - BUCKETS as i64) else { continue };
            self.is_dirty[*page as usize - 1] = false;
            let cells: Vec<u8> = self.pages[*page as usize - 1].iter().flat_map(|cell| cell.to_be_bytes()).collect();
            changes.push((page_key((bucket, index)), Some(cells)));
        }
        self.dirty_slots.sort_unstable();
        self.dirty_slots.dedup();
        for slot in self.dirty_slots.drain(..) {
            let who = self.who[slot as usize];
            let value = (who != Who::default()).then(|| {
                let reseller: &[u8] = who.reseller_id.as_ref().map_or(&[], |id| id.as_bytes());
                [who.subscriber_id.as_bytes(), reseller].concat()
            });
            changes.push((key(SLOT, &[&slot.to_be_bytes()]), value));
        }
    }

    pub(super) fn restore_slot(&mut self, key: &[u8], value: &[u8]) {
        let (Some((slot, [])), Some((subscriber, reseller))) = (take::<4>(key), take::<16>(value)) else { return };
        let slot = u32::from_be_bytes(slot);
        if slot as usize >= SLOTS_MAX {
            return;
        }
        while self.who.len() <= slot as usize {
            self.who.push(Who::default());
            self.totals.push(0);
        }
        let reseller_id = take::<16>(reseller).map(|(id, _)| Uuid::from_bytes(id));
        self.who[slot as usize] = Who { subscriber_id: Uuid::from_bytes(subscriber), reseller_id };
        self.slots.insert(Uuid::from_bytes(subscriber), slot);
    }

    /// Pages come after all slots, in the order of their buckets.
    pub(super) fn restore_page(&mut self, key: &[u8], value: &[u8]) {
        let Some((bucket, index)) = take::<8>(key) else { return };
        let (Some((index, [])), true) = (take::<4>(index), value.len() == size_of::<Page>()) else { return };
        let (bucket, index) = (i64::from_be_bytes(bucket), u32::from_be_bytes(index) as usize);
        if index * PAGE_SLOTS >= self.totals.len().next_multiple_of(PAGE_SLOTS) {
            return;
        }
        self.shift(bucket);
        for (offset, cell) in value.chunks_exact(8).enumerate() {
            let bytes = take::<8>(cell).map_or(0, |(cell, _)| u64::from_be_bytes(cell));
            let slot = index * PAGE_SLOTS + offset;
            if slot < self.totals.len() {
                self.add(slot as u32, bucket, bytes);
            }
        }
    }

    /// To be called after the last row of the state store.
    pub(super) fn restored(&mut self) {
        let free = (0..self.who.len()).filter(|slot| self.who[*slot] == Who::default());
        self.free_slots = free.map(|slot| slot as u32).collect();
        self.dirty_slots.clear();
        self.dirty_pages.clear();
        self.is_dirty.fill(false);
    }
}
