//! Finds the two directions of conversations: marks the record that comes later `bidirectional` and gives it `rtt_ms`.
//!
//! The other direction is looked for first within the batch (one slab), then in one sharded table of records that wait for
//! theirs. A pair is used up: both of its records are forgotten, so long conversations, exported in pieces, pair piece by piece.
//! A conversation is known by a keyed 64-bit hash of its ends, alike for both directions: at 1 M flows/s two conversations
//! are taken for one about once in 70,000 years.
//!
//! Per batch: hash all rows, sort them by shard, pair within each shard's rows, then take each shard's lock once.

mod rows;
mod shard;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;

use crate::flow::FlowBatch;
use crate::telemetry::{Counter, Exposition};
use rows::{Keys, Rows};
use shard::{Found, Shard, Waiting};

pub use shard::ENTRY_BYTES;

/// Shards, each with its lock. A power of two: the top bits of the hash choose.
const SHARDS: usize = 64;
const SHARD_SHIFT: u32 = 64 - SHARDS.ilog2();

/// Longest time from the first packet of one direction to that of the other that is taken for a round trip, ms.
const RTT_MAX_MS: u32 = 10_000;

const TCP: u8 = 6;
const SYN: u16 = 0x02;

/// The records that wait for their other direction, shared by all workers.
#[derive(Debug)]
pub struct Pairing {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    keys: Keys,
    in_batch: Counter,
    in_table: Counter,
    evicted: Counter,
}

/// One worker's part, with its scratch memory.
#[derive(Debug)]
pub struct Pairer {
    shared: Arc<Pairing>,
    rows: Rows,
    batch_slots: Vec<u32>,
    /// By row of the batch: 0 = unmarked, else 1 + rtt in ms (0 = none).
    marks: Vec<u32>,
}

impl Pairing {
    /// A table of at most `entries` waiting records, in whole buckets in each shard; memory is taken as it fills.
    pub fn new(entries: usize) -> Self {
        let shard = || CachePadded::new(Mutex::new(Shard::new(entries / SHARDS)));
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            keys: Keys::new(&foldhash::quality::RandomState::default()),
            in_batch: Counter::default(),
            in_table: Counter::default(),
            evicted: Counter::default(),
        }
    }

    /// Bytes that the table has when it is full.
    pub fn bytes_max(&self) -> usize {
        self.lock(0).bytes_max() * SHARDS
    }

    /// Adds its counters to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        let help = "Conversations seen in both directions, by where the earlier record was found.";
        out.counter("netflow_pairing_pairs_total", help, &[("found", "batch")], self.in_batch.get());
        out.counter("netflow_pairing_pairs_total", help, &[("found", "table")], self.in_table.get());
        let help = "Records that made room for newer ones before their other direction came.";
        out.counter("netflow_pairing_evicted_total", help, &[], self.evicted.get());
        let waiting: usize = (0..SHARDS).map(|shard| self.lock(shard).waiting()).sum();
        out.gauge("netflow_pairing_waiting", "Records that wait for their other direction.", &[], waiting as f64);
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pairer {
    /// A worker's part over the shared table.
    pub fn new(shared: Arc<Pairing>) -> Self {
        Self { shared, rows: Rows::default(), batch_slots: Vec::new(), marks: Vec::new() }
    }

    /// Fills `bidirectional` and `rtt_ms` of a batch, whatever they held before.
    pub fn pair(&mut self, batch: &mut FlowBatch) {
        self.rows.load(&self.shared.keys, batch);
        self.marks.clear();
        self.marks.resize(batch.len(), 0);
        let (mut in_batch, mut in_table, mut evicted) = (0, 0, 0);
        // One shard is worked on while the buckets of the next come into the cache. Both are locked then, always in this order.
        let mut before: Option<(MutexGuard<'_, Shard>, Range<usize>)> = None;
        for shard in 0..=SHARDS {
            let next = (shard < SHARDS).then(|| {
                let (rows, first) = self.rows.of_shard(shard);
                in_batch += pair_within(rows, &mut self.batch_slots, &mut self.marks);
                first..first + keep_unpaired(rows)
            });
            let next = next.filter(|left| !left.is_empty()).map(|left| {
                let mut table = self.shared.lock(shard);
                table.fetch(&self.rows.sorted()[left.clone()]);
                (table, left)
            });
            let Some((mut table, left)) = std::mem::replace(&mut before, next) else { continue };
            table.take(&self.rows.sorted()[left], |row, found| match found {
                Found::Pair(earlier) => {
                    in_table += 1;
                    self.marks[row.row as usize] = 1 + rtt_ms(&earlier, row).unwrap_or(0);
                }
                Found::Evicted => evicted += 1,
            });
        }
        self.shared.in_batch.add(in_batch);
        self.shared.in_table.add(in_table);
        self.shared.evicted.add(evicted);
        self.fill(batch, in_batch + in_table > 0);
    }

    fn fill(&self, batch: &mut FlowBatch, any: bool) {
        batch.bidirectional.clear();
        batch.rtt_ms.clear();
        if any {
            let marks = self.marks.iter();
            batch.bidirectional.extend_options(marks.clone().map(|mark| (*mark != 0).then_some(1)));
            batch.rtt_ms.extend_options(marks.map(|mark| mark.checked_sub(1).filter(|rtt| *rtt != 0)));
        } else {
            batch.bidirectional.push_nulls(batch.time.len());
            batch.rtt_ms.push_nulls(batch.time.len());
        }
    }
}

/// Pairs rows of one shard among themselves; those that found their pair are marked as done with. Gives the number of pairs.
fn pair_within(rows: &mut [Waiting], slots: &mut Vec<u32>, marks: &mut [u32]) -> u64 {
    // At most half full; 0 = free, else index + 1 of the latest row waiting with this tag.
    let size = (rows.len() * 2).next_power_of_two();
    slots.clear();
    slots.resize(size, 0);
    let mut pairs = 0;
    for i in 0..rows.len() {
        let row = rows[i];
        let mut at = row.tag as usize & (size - 1);
        // One slot a tag, so that many records of one conversation cost no more than as many conversations.
        loop {
            let Some(other) = slots[at].checked_sub(1).map(|other| other as usize) else {
                slots[at] = i as u32 + 1;
                break;
            };
            if rows[other].tag != row.tag {
                at = (at + 1) & (size - 1);
                continue;
            }
            if rows[other].row == Waiting::PAIRED {
                slots[at] = i as u32 + 1;
            } else if rows[other].is_opposite(&row) {
                marks[row.row as usize] = 1 + rtt_ms(&rows[other], &row).unwrap_or(0);
                (rows[other].row, rows[i].row) = (Waiting::PAIRED, Waiting::PAIRED);
                pairs += 1;
            }
            break;
        }
    }
    pairs
}

/// Moves the rows that found no pair to the front, in the place of the others, without a branch that half of the rows would mispredict;
/// gives how many they are.
fn keep_unpaired(rows: &mut [Waiting]) -> usize {
    let mut left = 0;
    for i in 0..rows.len() {
        let row = rows[i];
        rows[left] = row;
        left += usize::from(row.row != Waiting::PAIRED);
    }
    left
}

/// The time between the first packets of the two directions, where it can be a round trip of the TCP handshake.
fn rtt_ms(earlier: &Waiting, later: &Waiting) -> Option<u32> {
    let handshake = earlier.has_syn() && later.has_syn() && earlier.exporter() == later.exporter();
    let difference = (earlier.start_ms.wrapping_sub(later.start_ms) as i32).unsigned_abs();
    (handshake && difference > 0 && difference <= RTT_MAX_MS).then_some(difference)
}
