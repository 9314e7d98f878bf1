//! Bytes of each subscriber in the last 24 hours: a ring of 96 buckets of 15 minutes.
//!
//! Cells stand by bucket, then by slot (a subscriber's number), in pages of 64 slots that exist only where somebody was
//! active; a running total a slot makes the sum of the ring free. A bucket that leaves the ring is taken off the totals,
//! and subscribers without traffic give their slot back.
//!
//! What is of the two newest buckets, nearly all, is summed in one place a slot until it is wanted in the ring: when the ring
//! moves on or is saved. A flow thereby touches one cache line.

mod keep;

use super::{Map, NONE};
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
/// How many rows ahead what is booked is fetched into the cache.
const ROWS_AHEAD: usize = 16;
/// Memory for all of it, bytes.
pub(super) const MEMORY_BYTES_MAX: usize = 62 << 20;
/// Bytes a slot takes apart from its cells: total, recent sums, owner, and twice its entry of the map by identity.
const SLOT_BYTES: usize = 8 + size_of::<Recent>() + size_of::<Who>() + 2 * 2 * size_of::<(Uuid, u32)>();
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

/// What a slot got since the ring was last brought up to date.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    /// Bytes of the newest bucket and the one before.
    bytes: [u64; 2],
    /// The number in dictionaries of the reseller that `who` names; 0 = not known.
    reseller: u32,
}

/// Stands for the number of no reseller.
const NO_RESELLER: u32 = u32::MAX;

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
    /// By slot.
    recent: Vec<Recent>,
    /// By code of the batch at hand: the subscriber's slot, [`NONE`] when there is no room for a ring, and the reseller's number.
    batch: Vec<u32>,
    resellers: Vec<u32>,
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

    /// Takes note of a batch's subscribers and resellers; then [`Subscribers::book`] takes its flows.
    pub(super) fn begin(&mut self, batch: &FlowBatch) {
        self.batch.clear();
        self.batch.push(NONE);
        for (subscriber, number) in batch.subscriber_id.numbered_values() {
            let known = self.by_number.get(number as usize).copied().filter(|slot| *slot != NONE);
            let slot = known.unwrap_or_else(|| self.find_slot(*subscriber, number));
            self.batch.push(slot);
        }
        self.resellers.clear();
        self.resellers.push(NO_RESELLER);
        self.resellers.extend(batch.reseller_id.numbered_values().map(|(_, number)| number));
    }

    /// The slot of a subscriber of the batch at hand; none when there is no room for a ring.
    #[inline]
    pub(super) fn slot_of(&self, code: u32) -> Option<u32> {
        Some(self.batch[code as usize]).filter(|slot| *slot != NONE)
    }

    /// Takes note of whose subscriber a slot is at a row of the batch at hand. Has what is booked of a later row fetched into the
    /// cache.
    #[inline]
    pub(super) fn note(&mut self, slot: u32, batch: &FlowBatch, row: usize) {
        let ahead = batch.subscriber_id.codes().get(row + ROWS_AHEAD).and_then(|code| self.slot_of(*code));
        ahead.inspect(|slot| prefetch(&self.recent[*slot as usize]));
        let reseller = batch.reseller_id.codes()[row];
        let (recent, number) = (&mut self.recent[slot as usize], self.resellers[reseller as usize]);
        if number == 0 || number != recent.reseller {
            recent.reseller = number;
            self.note_reseller(slot, batch.reseller_id.value(reseller).copied());
        }
    }

    /// Books bytes of a slot.
    #[inline]
    pub(super) fn book(&mut self, slot: u32, bucket: i64, bytes: u64) {
        let age = self.head.saturating_sub(bucket).max(0);
        match self.recent[slot as usize].bytes.get_mut(age as usize) {
            Some(sum) => *sum = sum.wrapping_add(bytes),
            None => self.add(slot, bucket, bytes),
        }
    }

    /// Brings the ring up to date.
    fn settle(&mut self) {
        for slot in 0..self.recent.len() {
            let bytes = std::mem::take(&mut self.recent[slot].bytes);
            for (bucket, bytes) in [self.head, self.head - 1].into_iter().zip(bytes) {
                self.add(slot as u32, bucket, bytes);
            }
        }
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
                self.recent[slot as usize] = Recent::default();
                slot
            }
            None if self.who.len() < SLOTS_MAX => {
                self.push(who);
                self.who.len() as u32 - 1
            }
            None => return NONE,
        };
        self.slots.insert(subscriber_id, slot);
        self.dirty_slots.push(slot);
        slot
    }

    fn push(&mut self, who: Who) {
        self.who.push(who);
        self.totals.push(0);
        self.recent.push(Recent::default());
    }

    #[cold]
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
        if bucket > self.head {
            self.settle();
        }
        if self.shift(bucket) {
            self.free_idle_slots();
        }
    }

    /// Moves the ring on, which is up to date. Gives whether it did.
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
        // What they stand for may change.
        self.by_number.clear();
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
        let recent = self.recent.iter().map(|Recent { bytes: [newest, before], .. }| newest.wrapping_add(*before));
        let all = self.totals.iter().zip(recent).map(|(total, recent)| total.wrapping_add(recent));
        self.who.iter().zip(all).filter(move |(_, bytes)| *bytes > above_bytes).map(|(who, bytes)| {
            let Who { subscriber_id, reseller_id } = *who;
            Usage { subscriber_id, reseller_id, bytes }
        })
    }
}
