//! The rings in the state store: a row for each page of cells, and one for each slot that says who has it.

use super::super::{PAGE, SLOT, key, take};
use super::{BUCKETS, PAGE_SLOTS, Page, SLOTS_MAX, Subscribers, Who};
use crate::control::state::Change;
use crate::flow::Uuid;

impl Subscribers {
    pub(in super::super) fn changes(&mut self, changes: &mut Vec<Change>) {
        self.settle();
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

    pub(in super::super) fn restore_slot(&mut self, key: &[u8], value: &[u8]) {
        let (Some((slot, [])), Some((subscriber, reseller))) = (take::<4>(key), take::<16>(value)) else { return };
        let slot = u32::from_be_bytes(slot);
        if slot as usize >= SLOTS_MAX {
            return;
        }
        while self.who.len() <= slot as usize {
            self.push(Who::default());
        }
        let reseller_id = take::<16>(reseller).map(|(id, _)| Uuid::from_bytes(id));
        self.who[slot as usize] = Who { subscriber_id: Uuid::from_bytes(subscriber), reseller_id };
        self.slots.insert(Uuid::from_bytes(subscriber), slot);
    }

    /// Pages come after all slots, in the order of their buckets.
    pub(in super::super) fn restore_page(&mut self, key: &[u8], value: &[u8]) {
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
    pub(in super::super) fn restored(&mut self) {
        let free = (0..self.who.len()).filter(|slot| self.who[*slot] == Who::default());
        self.free_slots = free.map(|slot| slot as u32).collect();
        self.dirty_slots.clear();
        self.dirty_pages.clear();
        self.is_dirty.fill(false);
    }
}
