//! The sums of one rollup between two emissions.

use std::collections::HashMap;
use std::ops::Range;

use super::cells::{Bucket, Buckets, Pool};
use super::layout::{Layout, Unpacker};
use super::share::{Share, Width};
use super::slots::Slots;
use super::talkers::{self, Cuts};
use super::view::{Maps, Names, Pass, pack};
use crate::flow::rollup::Shape;
use crate::flow::{Direction, FlowBatch, Key, Measures, RollupDef, RollupRows};

/// Windows of buckets up to this wide are marked whole; wider ones (a few odd times among many flows) flow by flow.
const WINDOW_MAX: i64 = 128;
/// Keys that are forgotten only together with as many live ones.
const DEAD_KEYS_MIN: usize = 4096;

/// Some consecutive rows of a batch.
pub(super) struct Block<'a> {
    pub(super) batch: &'a FlowBatch,
    pub(super) maps: &'a Maps,
    pub(super) rows: Range<u32>,
    /// Shares for the rollup's width, one a row of `rows`.
    pub(super) shares: &'a [Share],
    pub(super) position: u64,
    pub(super) now_ms: i64,
    /// Whether there is room for new keys.
    pub(super) admit: bool,
    /// While reading again after a crash: what was emitted then.
    pub(super) emitted: Option<&'a Emitted>,
}

/// What had been emitted of one rollup before a crash.
#[derive(Clone, Debug)]
pub(super) struct Emitted {
    pub(super) upto: u64,
    /// By number of bucket.
    pub(super) open: HashMap<i64, u64>,
}

impl Emitted {
    /// Whether the shares of a position in a bucket are in a row already.
    fn contains(&self, position: u64, bucket: i64) -> bool {
        position <= self.open.get(&bucket).copied().unwrap_or(self.upto)
    }
}

/// Rows that one entry of an emission holds; the log refuses entries of more than 2^20.
const ENTRY_ROWS: usize = 1 << 19;

/// Rows on their way out.
#[derive(Debug)]
pub(super) struct Out {
    /// Entries that are full.
    full: Vec<RollupRows>,
    rows: RollupRows,
    empty: RollupRows,
    unpacker: Unpacker,
}

impl Out {
    fn new(def: &RollupDef, layout: &Layout) -> Option<Self> {
        let empty = RollupRows::new(def)?;
        Some(Self { full: Vec::new(), rows: empty.clone(), empty, unpacker: Unpacker::new(layout) })
    }

    /// Rows held.
    pub(super) fn len(&self) -> usize {
        self.full.iter().map(RollupRows::len).sum::<usize>() + self.rows.len()
    }

    /// The entry that is being filled.
    pub(super) fn last(&self) -> &RollupRows {
        &self.rows
    }

    /// Every entry.
    pub(super) fn into_entries(self) -> impl Iterator<Item = RollupRows> {
        self.full.into_iter().chain([self.rows]).filter(|rows| !rows.is_empty())
    }

    fn push<const W: usize>(&mut self, layout: &Layout, names: &Names, key: &[u64; W], start: i64, row: &Row) {
        if self.rows.len() == ENTRY_ROWS {
            self.full.push(std::mem::replace(&mut self.rows, self.empty.clone()));
            self.unpacker = Unpacker::new(layout);
        }
        self.unpacker.push(layout, names, key, &mut self.rows);
        self.rows.push_measures(start, &row.measures);
        self.rows.cut_bytes.extend(row.cut_bytes);
    }
}

/// Sums of a row; `cut_bytes` for `talkers` only.
struct Row {
    measures: Measures,
    cut_bytes: Option<u64>,
}

/// One rollup, whatever the size of its key.
pub(super) trait State: Send {
    /// Books some rows. Gives how many shares found no room for their key.
    fn add(&mut self, block: &Block<'_>, pool: &mut Pool) -> u64;
    /// Moves the first bucket into rows. Gives its number.
    fn drain_first(&mut self, names: &Names, pool: &mut Pool, out: &mut Out) -> Option<i64>;
    /// Forgets keys that nothing is pending for, where it pays.
    fn tidy(&mut self, pool: &mut Pool);
    fn buckets(&self) -> &Buckets;
    /// Bytes held, without pages.
    fn used_bytes(&self) -> usize;
    fn keys(&self) -> usize;
    fn new_out(&self) -> Option<Out>;
}

/// See [`State`]. `W` is the number of words of its key.
pub(super) struct Rollup<const W: usize> {
    def: RollupDef,
    layout: Layout,
    width: Width,
    passes: Vec<Pass>,
    slots: Slots<W>,
    buckets: Buckets,
    /// `talkers`: slots of hosts that are no customers.
    others: usize,
    cuts: Cuts<W>,
    keys: Vec<[u64; W]>,
    hashes: Vec<u32>,
    rows: Vec<u32>,
}

/// The state of a definition.
pub(super) fn state(def: &RollupDef) -> Result<Box<dyn State>, String> {
    let layout = Layout::of(def)?;
    Ok(match layout.words {
        0..=2 => Box::new(Rollup::<2>::new(def, layout)),
        3 => Box::new(Rollup::<3>::new(def, layout)),
        _ => Box::new(Rollup::<{ super::layout::WORDS_MAX }>::new(def, layout)),
    })
}

impl<const W: usize> Rollup<W> {
    fn new(def: &RollupDef, layout: Layout) -> Self {
        let mut passes = vec![Pass::Src];
        if def.by.contains(&Key::Host) {
            passes.push(Pass::Dst);
        } else if def.shape == Shape::PerSubscriber {
            passes.push(Pass::InternalIn);
        }
        Self {
            def: def.clone(),
            layout,
            width: Width::new(def.bucket_ms),
            passes,
            slots: Slots::default(),
            buckets: Buckets::default(),
            others: 0,
            cuts: Cuts::default(),
            keys: Vec::new(),
            hashes: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Marks every bucket that the block's flows cover, before anything is booked.
    fn mark(&mut self, block: &Block<'_>) {
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

    fn choose_rows(&mut self, block: &Block<'_>, pass: Pass) {
        self.rows.clear();
        match pass {
            Pass::Src | Pass::Dst => self.rows.extend(block.rows.clone()),
            Pass::InternalIn => {
                let direction = &block.batch.direction;
                let internal = |row: &u32| direction.value_or_default(*row as usize) == Direction::Internal as u8;
                self.rows.extend(block.rows.clone().filter(internal));
            }
        }
    }

    /// The slot of a key, or of the row for what finds no room.
    fn slot(&mut self, index: usize, admit: bool, refused: &mut u64) -> u32 {
        let key = self.keys[index];
        let known = self.slots.len();
        let slot = match self.slots.resolve(self.hashes[index], &key, admit) {
            Some(slot) => slot,
            None => {
                *refused += 1;
                let other = self.layout.other(&key);
                // Their number is bounded by the platform's own tables (access servers, resellers).
                self.slots.resolve(self.slots.hash(&other), &other, true).unwrap_or_default()
            }
        };
        if self.slots.len() > known && self.layout.customer.is_some() && !Layout::bit(&key, self.layout.customer) {
            self.others += 1;
        }
        slot
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
    fn remap(&mut self, pool: &mut Pool, kept: &[u32], target: &[u32]) {
        self.buckets.each_mut(|_, bucket| {
            let mut cells = Vec::new();
            bucket.take_cells(pool, |_, slot, cell| cells.push((slot, cell)));
            for (slot, cell) in cells {
                bucket.cell(pool, target[slot as usize]).add(&cell);
            }
        });
        self.slots.keep(kept);
        let customer = self.layout.customer;
        self.others = match customer {
            Some(_) => (0..self.slots.len() as u32).filter(|s| !Layout::bit(self.slots.key(*s), customer)).count(),
            None => 0,
        };
    }

    /// Empties a bucket that was taken out; its running sums go on in the next one.
    fn take_measures(&mut self, pool: &mut Pool, number: i64, mut bucket: Bucket) -> Vec<(u32, Measures)> {
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
        cells
    }

    /// `talkers`: folds all but the heaviest hosts that are no customers into their `rest` rows.
    fn fold_others(&mut self, pool: &mut Pool) {
        let Some(fold) = talkers::choose_fold(&self.layout, &mut self.slots, &self.buckets, pool) else { return };
        for (number, rest, cut) in fold.cuts {
            *self.cuts.entry((number, rest)).or_default() += cut;
        }
        self.remap(pool, &fold.kept, &fold.target);
    }
}

impl<const W: usize> State for Rollup<W> {
    fn add(&mut self, block: &Block<'_>, pool: &mut Pool) -> u64 {
        self.mark(block);
        let mut refused = 0;
        for at in 0..self.passes.len() {
            let pass = self.passes[at];
            self.choose_rows(block, pass);
            let mut keys = std::mem::take(&mut self.keys);
            pack(&self.layout, block.batch, block.maps, pass, &self.rows, &mut keys);
            self.keys = keys;
            self.hashes.clear();
            self.hashes.extend(self.keys.iter().map(|key| self.slots.hash(key)));
            for index in 0..self.rows.len() {
                let slot = self.slot(index, block.admit, &mut refused);
                self.book(pool, block, self.rows[index], slot);
            }
        }
        if self.others > talkers::OTHERS_HELD_MAX {
            self.fold_others(pool);
        }
        refused
    }

    fn drain_first(&mut self, names: &Names, pool: &mut Pool, out: &mut Out) -> Option<i64> {
        let (number, bucket) = self.buckets.pop_first()?;
        let cells = self.take_measures(pool, number, bucket);
        let start = number.saturating_mul(self.width.ms());
        let mut push = |key: &[u64; W], measures: Measures, cut_bytes: Option<u64>| {
            out.push(&self.layout, names, key, start, &Row { measures, cut_bytes });
        };
        match self.def.shape {
            Shape::Talkers { others } => {
                let split = talkers::split(&self.layout, &self.slots, others, number, &cells, &mut self.cuts);
                for (slot, measures) in split.hosts {
                    push(self.slots.key(slot), measures, Some(0));
                }
                for (key, (measures, cut_bytes)) in split.rests {
                    push(&key, measures, Some(cut_bytes));
                }
            }
            Shape::Plain | Shape::PerSubscriber => {
                for (slot, measures) in cells {
                    push(self.slots.key(slot), measures, None);
                }
            }
        }
        Some(number)
    }

    fn tidy(&mut self, pool: &mut Pool) {
        if self.buckets.is_empty() {
            self.slots.keep(&[]);
            self.cuts.clear();
            self.others = 0;
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

    fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    fn used_bytes(&self) -> usize {
        self.slots.used_bytes() + self.buckets.used_bytes()
    }

    fn keys(&self) -> usize {
        self.slots.len()
    }

    fn new_out(&self) -> Option<Out> {
        Out::new(&self.def, &self.layout)
    }
}
