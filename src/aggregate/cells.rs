//! Where sums stand between two emissions: pages of cells, and the buckets that own them.
//!
//! A bucket holds one cell a slot (a slot is a key, see `slots`), in pages that exist only where something was booked. The
//! shares in the middle of a flow's span are steps: `+m` at the second bucket, `-m` at the last. The value of a cell is what
//! was booked into it plus the running sum of the steps of its slot up to and including this bucket; so buckets are drained
//! in ascending order, and draining one hands its running sum to the next. All sums wrap.

use std::collections::BTreeMap;

use super::slots::prefetch;

/// Slots a page holds. Small, so that a late bucket with few keys costs little; 32 cells are 1.5 KiB.
pub(super) const PAGE_SLOTS: usize = 32;
/// Pages a chunk of the pool holds: memory grows by 384 KiB and is never copied.
const CHUNK_PAGES: usize = 256;
const NO_PAGE: u32 = u32::MAX;
/// Entries of the direct-mapped cache from bucket number to bucket; above the 60 buckets a span can cover.
const CACHE: usize = 128;

/// Sums of one key in one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) bytes: u64,
    pub(super) packets: u64,
    /// From this bucket on, each bucket gets this much more.
    pub(super) step_bytes: u64,
    pub(super) step_packets: u64,
    pub(super) rtt_ms_sum: u64,
    pub(super) flows: u32,
    pub(super) rtt_count: u32,
}

impl Cell {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another cell to this one.
    pub(super) fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.packets = self.packets.wrapping_add(other.packets);
        self.step_bytes = self.step_bytes.wrapping_add(other.step_bytes);
        self.step_packets = self.step_packets.wrapping_add(other.step_packets);
        self.rtt_ms_sum = self.rtt_ms_sum.wrapping_add(other.rtt_ms_sum);
        self.flows = self.flows.wrapping_add(other.flows);
        self.rtt_count = self.rtt_count.wrapping_add(other.rtt_count);
    }
}

type Page = [Cell; PAGE_SLOTS];

/// All pages of all rollups.
#[derive(Debug, Default)]
pub(super) struct Pool {
    chunks: Vec<Box<[Page]>>,
    free: Vec<u32>,
    used: usize,
}

impl Pool {
    /// Bytes of the pages in use.
    pub(super) fn used_bytes(&self) -> usize {
        self.used * size_of::<Page>()
    }

    fn take(&mut self) -> u32 {
        self.used += 1;
        if let Some(page) = self.free.pop() {
            return page;
        }
        let first = (self.chunks.len() * CHUNK_PAGES) as u32;
        self.chunks.push(vec![[Cell::default(); PAGE_SLOTS]; CHUNK_PAGES].into_boxed_slice());
        self.free.extend((first + 1..first + CHUNK_PAGES as u32).rev());
        first
    }

    /// Takes a page back. It must be zeroed by then.
    fn give(&mut self, page: u32) {
        self.used -= 1;
        self.free.push(page);
    }

    #[inline]
    fn page(&mut self, page: u32) -> &mut Page {
        &mut self.chunks[page as usize / CHUNK_PAGES][page as usize % CHUNK_PAGES]
    }
}

/// One bucket that may hold sums not emitted yet.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Log position of the first share it may hold.
    pub(super) first_position: u64,
    /// Wall clock when it got it, ms since the Unix epoch.
    pub(super) first_ms: i64,
    pages: Vec<u32>,
}

impl Bucket {
    /// The slot's cell, made when there is none.
    #[inline]
    pub(super) fn cell<'a>(&mut self, pool: &'a mut Pool, slot: u32) -> &'a mut Cell {
        let index = slot as usize / PAGE_SLOTS;
        let page = match self.pages.get(index) {
            Some(&page) if page != NO_PAGE => page,
            _ => self.add_page(pool, index),
        };
        &mut pool.page(page)[slot as usize % PAGE_SLOTS]
    }

    /// Has the slot's cell fetched, when there is one.
    #[inline]
    pub(super) fn prefetch(&self, pool: &Pool, slot: u32) {
        if let Some(&page) = self.pages.get(slot as usize / PAGE_SLOTS)
            && page != NO_PAGE
        {
            let page = page as usize;
            prefetch(&pool.chunks[page / CHUNK_PAGES][page % CHUNK_PAGES][slot as usize % PAGE_SLOTS]);
        }
    }

    #[cold]
    fn add_page(&mut self, pool: &mut Pool, index: usize) -> u32 {
        if index >= self.pages.len() {
            self.pages.resize(index + 1, NO_PAGE);
        }
        self.pages[index] = pool.take();
        self.pages[index]
    }

    /// Takes every cell out, in ascending order of slots, and gives the pages back.
    pub(super) fn take_cells(&mut self, pool: &mut Pool, mut visit: impl FnMut(&mut Pool, u32, Cell)) {
        for (index, page) in std::mem::take(&mut self.pages).into_iter().enumerate() {
            if page == NO_PAGE {
                continue;
            }
            let cells = std::mem::replace(pool.page(page), [Cell::default(); PAGE_SLOTS]);
            pool.give(page);
            for (offset, cell) in cells.into_iter().enumerate() {
                if !cell.is_empty() {
                    visit(pool, (index * PAGE_SLOTS + offset) as u32, cell);
                }
            }
        }
    }

    /// Reads every cell that is not empty.
    pub(super) fn each_cell(&self, pool: &mut Pool, mut visit: impl FnMut(u32, &Cell)) {
        for (index, page) in self.pages.iter().enumerate().filter(|(_, page)| **page != NO_PAGE) {
            for (offset, cell) in pool.page(*page).iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
                visit((index * PAGE_SLOTS + offset) as u32, cell);
            }
        }
    }
}

/// The buckets of one rollup, by number (start divided by width).
#[derive(Debug)]
pub(super) struct Buckets {
    slab: Vec<Bucket>,
    free: Vec<u32>,
    by_number: BTreeMap<i64, u32>,
    cache: [(i64, u32); CACHE],
}

/// A cache entry that no bucket number matches at its place: the index of `i64::MIN` is 0, and entry 0 holds 1.
const NO_ENTRY: [(i64, u32); CACHE] = {
    let mut entries = [(i64::MIN, 0); CACHE];
    entries[0] = (1, 0);
    entries
};

impl Default for Buckets {
    fn default() -> Self {
        Self { slab: Vec::new(), free: Vec::new(), by_number: BTreeMap::new(), cache: NO_ENTRY }
    }
}

impl Buckets {
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// Bytes of the buckets themselves, without the pages of cells.
    pub(super) fn used_bytes(&self) -> usize {
        self.slab.len() * size_of::<Bucket>() + self.by_number.len() * 2 * size_of::<(i64, u32)>()
    }

    /// Makes sure that a bucket is there. Call it for every bucket of a span before booking the flow.
    pub(super) fn mark(&mut self, number: i64, position: u64, now_ms: i64) {
        if self.by_number.contains_key(&number) {
            return;
        }
        let bucket = Bucket { first_position: position, first_ms: now_ms, pages: Vec::new() };
        let id = match self.free.pop() {
            Some(id) => {
                self.slab[id as usize] = bucket;
                id
            }
            None => {
                self.slab.push(bucket);
                self.slab.len() as u32 - 1
            }
        };
        self.by_number.insert(number, id);
    }

    /// A bucket that was marked.
    #[inline]
    pub(super) fn marked(&mut self, number: i64) -> &mut Bucket {
        let entry = &mut self.cache[number as usize % CACHE];
        if entry.0 != number {
            // A number that was not marked cannot happen; it would book into some other bucket, which keeps the sums whole.
            *entry = (number, self.by_number.get(&number).copied().unwrap_or_default());
        }
        &mut self.slab[entry.1 as usize]
    }

    /// Every bucket with its number, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Bucket)> {
        self.by_number.iter().map(|(number, id)| (*number, &self.slab[*id as usize]))
    }

    /// The first bucket's number.
    pub(super) fn first(&self) -> Option<i64> {
        self.by_number.first_key_value().map(|(number, _)| *number)
    }

    /// Takes the first bucket out.
    pub(super) fn pop_first(&mut self) -> Option<(i64, Bucket)> {
        let (number, id) = self.by_number.pop_first()?;
        self.cache = NO_ENTRY;
        self.free.push(id);
        let emptied = Bucket { first_position: 0, first_ms: 0, pages: Vec::new() };
        Some((number, std::mem::replace(&mut self.slab[id as usize], emptied)))
    }

    /// Every bucket for changing, ascending.
    pub(super) fn each_mut(&mut self, mut visit: impl FnMut(i64, &mut Bucket)) {
        for (number, id) in &self.by_number {
            visit(*number, &mut self.slab[*id as usize]);
        }
    }
}
