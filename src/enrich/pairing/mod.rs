//! Finds the two directions of conversations: marks the record that comes later `bidirectional` and gives it `rtt_ms`.
//!
//! The other direction is looked for first within the batch (one slab), then in one sharded table of records that wait for
//! theirs. A pair is used up: both of its records are forgotten, so long conversations, exported in pieces, pair piece by piece.
//! A conversation is known by a keyed 64-bit hash of its ends, alike for both directions: at 1 M flows/s two conversations
//! are taken for one about once in 70,000 years.
//!
//! Per batch: hash all rows, sort them by shard, pair within each shard's rows, then take each shard's lock once.

mod shard;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_utils::CachePadded;

use crate::flow::{Addr, FlowBatch};
use crate::telemetry::{Counter, Exposition};
use shard::{Found, Shard, Waiting};

pub use shard::ENTRY_BYTES;

/// Shards, each with its lock. A power of two: the top bits of the hash choose.
const SHARDS: usize = 64;
const SHARD_SHIFT: u32 = 64 - SHARDS.ilog2();

/// Longest time from the first packet of one direction to that of the other that is taken for a round trip, ms.
const RTT_MAX_MS: u64 = 10_000;

const TCP: u8 = 6;
const SYN: u16 = 0x02;

/// The records that wait for their other direction, shared by all workers.
#[derive(Debug)]
pub struct Pairing {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    /// Key of the hash, random a process: nobody can make two conversations collide on purpose.
    keys: [u64; 3],
    in_batch: Counter,
    in_table: Counter,
    evicted: Counter,
}

/// One worker's part, with its scratch memory.
#[derive(Debug)]
pub struct Pairer {
    shared: Arc<Pairing>,
    rows: Vec<Waiting>,
    /// The rows ordered by shard, those of one shard in the batch's order.
    sorted: Vec<Waiting>,
    batch_slots: Vec<u32>,
    /// By row of the batch: 0 = unmarked, else 1 + rtt in ms (0 = none).
    marks: Vec<u32>,
    exporters: Vec<u32>,
}

impl Pairing {
    /// A table of at most `entries` waiting records, in whole buckets of 8 in each shard; memory is taken as it fills.
    pub fn new(entries: usize) -> Self {
        let random = foldhash::quality::RandomState::default();
        let shard = || CachePadded::new(Mutex::new(Shard::new(entries / SHARDS)));
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            // Odd, so that no factor of the products below is ever 0 for all ends.
            keys: [0u64, 1, 2].map(|i| random.hash_one(i) | 1),
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

    fn lock(&self, shard: usize) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hash of a conversation and whether this is the direction from its lower end. 0 is never a hash.
    #[inline]
    fn tag(&self, src: Addr, dst: Addr, src_port: u16, dst_port: u16, protocol: u8) -> (u64, bool) {
        let forward = (src, src_port) <= (dst, dst_port);
        let (low, high, low_port, high_port) =
            if forward { (src, dst, src_port, dst_port) } else { (dst, src, dst_port, src_port) };
        let ports = u64::from(low_port) << 24 | u64::from(high_port) << 8 | u64::from(protocol);
        let ends = match (low.as_v4(), high.as_v4()) {
            (Some(low), Some(high)) => u64::from(low) << 32 | u64::from(high),
            _ => {
                let fold_addr = |addr: Addr, key| fold((addr.0 >> 64) as u64 ^ key, addr.0 as u64 ^ self.keys[2]);
                fold(fold_addr(low, self.keys[0]) ^ self.keys[1], fold_addr(high, self.keys[1]) ^ self.keys[0])
            }
        };
        let hash = fold(ends ^ self.keys[0], ports ^ self.keys[1]);
        (fold(hash ^ self.keys[2], self.keys[0] ^ ends).max(1), forward)
    }
}

/// Both halves of the product, mixed: the step of wyhash and foldhash.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Pairer {
    /// A worker's part over the shared table.
    pub fn new(shared: Arc<Pairing>) -> Self {
        Self {
            shared,
            rows: Vec::new(),
            sorted: Vec::new(),
            batch_slots: Vec::new(),
            marks: Vec::new(),
            exporters: Vec::new(),
        }
    }

    /// Fills `bidirectional` and `rtt_ms` of a batch, whatever they held before.
    pub fn pair(&mut self, batch: &mut FlowBatch) {
        self.hash_rows(batch);
        let bounds = self.sort_by_shard();
        self.marks.clear();
        self.marks.resize(batch.len(), 0);
        let (mut in_batch, mut in_table, mut evicted) = (0, 0, 0);
        for shard in 0..SHARDS {
            let rows = &mut self.sorted[bounds[shard]..bounds[shard + 1]];
            if rows.is_empty() {
                continue;
            }
            in_batch += pair_within(rows, &mut self.batch_slots, &mut self.marks);
            let mut table = self.shared.lock(shard);
            for block in rows.chunks_mut(shard::BLOCK) {
                table.take(block, |row, found| match found {
                    Found::Pair(earlier) => {
                        in_table += 1;
                        self.marks[row.row as usize] = 1 + rtt_ms(&earlier, row).unwrap_or(0);
                    }
                    Found::Evicted => evicted += 1,
                });
            }
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

    fn hash_rows(&mut self, batch: &FlowBatch) {
        self.exporters.clear();
        let hash = |addr: &Addr| fold(addr.0 as u64 ^ self.shared.keys[0], (addr.0 >> 64) as u64 ^ self.shared.keys[1]);
        self.exporters.push(0);
        self.exporters.extend(batch.exporter_ip.values().iter().map(|addr| hash(addr) as u32));
        self.rows.clear();
        let exporters = batch.exporter_ip.codes();
        let shared = &self.shared;
        let both = (batch.src_ip.all_v4(), batch.dst_ip.all_v4());
        self.rows.extend((0..batch.len()).map(|row| {
            let protocol = batch.protocol.value_or_default(row);
            let (src_port, dst_port) = match protocol {
                6 | 17 | 33 | 132 | 136 => (batch.src_port.value_or_default(row), batch.dst_port.value_or_default(row)),
                // ICMP carries type and code here, which differ between the directions.
                _ => (0, 0),
            };
            let (src, dst) = match both {
                (Some(src), Some(dst)) => (Addr::v4(src[row]), Addr::v4(dst[row])),
                _ => (batch.src_ip.get(row).unwrap_or_default(), batch.dst_ip.get(row).unwrap_or_default()),
            };
            let (tag, forward) = shared.tag(src, dst, src_port, dst_port, protocol);
            let syn = protocol == TCP && batch.tcp_flags.value_or_default(row) & SYN != 0;
            Waiting {
                // A conversation with itself has no other direction.
                tag: if (src, src_port) == (dst, dst_port) { 0 } else { tag },
                start_ms: batch.flow_start.value_or_default(row),
                seen_s: (batch.received_at.value_or_default(row) / 1000) as u32,
                who: Waiting::who(self.exporters[exporters[row] as usize], forward, syn),
                row: row as u32,
            }
        }));
    }

    /// Counting sort; leaves out rows without a tag. Gives where each shard's rows begin, and the end.
    fn sort_by_shard(&mut self) -> [usize; SHARDS + 1] {
        let mut bounds = [0; SHARDS + 1];
        for row in self.rows.iter().filter(|row| row.tag != 0) {
            bounds[(row.tag >> SHARD_SHIFT) as usize + 1] += 1;
        }
        for shard in 0..SHARDS {
            bounds[shard + 1] += bounds[shard];
        }
        let mut next = bounds;
        self.sorted.clear();
        self.sorted.resize(bounds[SHARDS], Waiting::default());
        for row in self.rows.iter().filter(|row| row.tag != 0) {
            let at = &mut next[(row.tag >> SHARD_SHIFT) as usize];
            self.sorted[*at] = *row;
            *at += 1;
        }
        bounds
    }
}

/// Pairs rows of one shard among themselves; those that found their pair lose their tag. Gives the number of pairs.
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

/// The time between the first packets of the two directions, where it can be a round trip of the TCP handshake.
fn rtt_ms(earlier: &Waiting, later: &Waiting) -> Option<u32> {
    let handshake = earlier.has_syn() && later.has_syn() && earlier.exporter() == later.exporter();
    let difference = earlier.start_ms.abs_diff(later.start_ms);
    (handshake && difference > 0 && difference <= RTT_MAX_MS).then_some(difference as u32)
}
