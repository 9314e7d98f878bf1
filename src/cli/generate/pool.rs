//! A ring of ready-made v5 datagrams, one for each exporter.
//!
//! Sending again only patches them: the header's clock, uptime and sequence, and each record's two times, which are kept
//! relative to the uptime that the datagram last carried. So every flow's age is the same in each round, while the
//! exporter's start (clock minus uptime) never moves, as on a real device. Totals cost nothing while sending: each datagram
//! counts how often it went out.

use super::profile::{Drawn, Profile};
use super::random::Rng;
use crate::flow::Direction;
use crate::wire::{Builder, FlowRecord, Header, V5_HEADER_BYTES, V5_RECORD_BYTES, header_at, record_at};

/// Uptime of an exporter when it sends its first datagram, ms: longer than the longest flow.
const UPTIME_AT_START_MS: u32 = 3_600_000;

/// How an exporter presents itself.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Engine id in the header.
    pub engine_id: u8,
    /// Sampling interval in the header, 0 for none.
    pub sampling: u16,
    /// Sequence number of its first datagram.
    pub start_sequence: u32,
}

/// Bits 14 and 15 of the sampling field: packet interval mode.
const SAMPLING_MODE: u16 = 0x4000;

/// The datagrams of one exporter.
#[derive(Debug)]
pub struct Pool {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    directions: Vec<Direction>,
    identity: Identity,
    sequence: u32,
    next: usize,
    started_ms: Option<i64>,
    cut_records: Vec<(usize, u16)>,
}

#[derive(Debug)]
struct Slot {
    offset: usize,
    count: u16,
    first_record: usize,
    uptime_ms: u32,
    sent: u64,
}

impl Pool {
    /// Makes datagrams of `records` each that hold `flows` flows in all, drawn from the profile for the resellers that
    /// `wanted` accepts.
    pub fn new(
        profile: &Profile,
        mut rng: Rng,
        identity: Identity,
        flows: usize,
        records: usize,
        wanted: impl Fn(u32) -> bool,
    ) -> Self {
        let mut pool = Self {
            bytes: Vec::with_capacity(flows * V5_RECORD_BYTES + flows.div_ceil(records) * V5_HEADER_BYTES),
            slots: Vec::with_capacity(flows.div_ceil(records)),
            directions: Vec::with_capacity(flows),
            identity,
            sequence: identity.start_sequence,
            next: 0,
            started_ms: None,
            cut_records: Vec::new(),
        };
        let mut waiting: Option<Drawn> = None;
        let mut datagram = Vec::with_capacity(records);
        while pool.directions.len() < flows {
            datagram.clear();
            while datagram.len() < records && pool.directions.len() + datagram.len() < flows {
                let drawn = waiting.take().unwrap_or_else(|| {
                    let (first, second) = profile.draw(&mut rng, &wanted);
                    waiting = second;
                    first
                });
                datagram.push(drawn);
            }
            pool.add(&datagram);
        }
        pool
    }

    fn add(&mut self, datagram: &[Drawn]) {
        let offset = self.bytes.len();
        let length = V5_HEADER_BYTES + datagram.len() * V5_RECORD_BYTES;
        self.bytes.resize(offset + length, 0);
        let sampling = if self.identity.sampling == 0 { 0 } else { SAMPLING_MODE | self.identity.sampling };
        let header = Header { version: 5, engine_id: self.identity.engine_id, sampling, ..Header::default() };
        if let Some(mut builder) = Builder::new(&mut self.bytes[offset..], &header) {
            for Drawn { record, .. } in datagram {
                // Ages become times before an uptime of 0; patching moves them to the uptime of the day.
                let first_ms = 0u32.wrapping_sub(record.first_ms);
                let last_ms = 0u32.wrapping_sub(record.last_ms);
                builder.push(&FlowRecord { first_ms, last_ms, ..*record });
            }
            builder.finish();
        }
        let (count, first_record) = (datagram.len() as u16, self.directions.len());
        self.slots.push(Slot { offset, count, first_record, uptime_ms: 0, sent: 0 });
        self.directions.extend(datagram.iter().map(|drawn| drawn.direction));
    }

    /// Patches the next datagrams, at most `datagrams` with at most `flows` flows together, for sending at `now_ms`. The last
    /// one is cut when it holds more. Gives their places; [`Pool::sent`] must follow.
    pub fn prepare(&mut self, now_ms: i64, datagrams: usize, flows: u64, out: &mut Vec<Prepared>) {
        out.clear();
        let started_ms = *self.started_ms.get_or_insert(now_ms);
        let uptime_ms = UPTIME_AT_START_MS.wrapping_add((now_ms - started_ms) as u32);
        let (mut left, mut sequence) = (flows, self.sequence);
        for step in 0..datagrams.min(self.slots.len()) {
            let index = (self.next + step) % self.slots.len();
            let slot = &mut self.slots[index];
            let count = u64::from(slot.count).min(left) as u16;
            if count == 0 {
                break;
            }
            let length = V5_HEADER_BYTES + usize::from(slot.count) * V5_RECORD_BYTES;
            let bytes = &mut self.bytes[slot.offset..slot.offset + length];
            move_times(&mut bytes[V5_HEADER_BYTES..], uptime_ms.wrapping_sub(slot.uptime_ms));
            slot.uptime_ms = uptime_ms;
            patch_header(bytes, count, uptime_ms, now_ms, sequence);
            let length = V5_HEADER_BYTES + usize::from(count) * V5_RECORD_BYTES;
            out.push(Prepared { offset: slot.offset, length, flows: count });
            sequence = sequence.wrapping_add(u32::from(count));
            left -= u64::from(count);
        }
    }

    /// The bytes of a prepared datagram.
    pub fn bytes(&self, prepared: &Prepared) -> &[u8] {
        &self.bytes[prepared.offset..prepared.offset + prepared.length]
    }

    /// Takes note that the first ones of what was prepared went out. The others are prepared again next time.
    pub fn sent(&mut self, prepared: &[Prepared]) {
        for datagram in prepared {
            let slot = &mut self.slots[self.next];
            if datagram.flows == slot.count {
                slot.sent += 1;
            } else {
                self.cut_records.push((self.next, datagram.flows));
            }
            self.sequence = self.sequence.wrapping_add(u32::from(datagram.flows));
            self.next = (self.next + 1) % self.slots.len();
        }
    }

    /// Calls `visit` for each record that went out at least once, with its direction and how often.
    pub fn visit_sent(&self, mut visit: impl FnMut(&FlowRecord, Direction, u64)) {
        for slot in self.slots.iter().filter(|slot| slot.sent > 0) {
            self.visit_slot(slot, slot.count, slot.sent, &mut visit);
        }
        for (index, count) in &self.cut_records {
            self.visit_slot(&self.slots[*index], *count, 1, &mut visit);
        }
    }

    fn visit_slot(&self, slot: &Slot, count: u16, times: u64, visit: &mut impl FnMut(&FlowRecord, Direction, u64)) {
        for i in 0..usize::from(count) {
            let at = slot.offset + V5_HEADER_BYTES + i * V5_RECORD_BYTES;
            if let Some(record) = FlowRecord::parse(5, &self.bytes[at..]) {
                visit(&record, self.directions[slot.first_record + i], times);
            }
        }
    }

    /// Datagrams sent.
    pub fn datagrams_sent(&self) -> u64 {
        self.slots.iter().map(|slot| slot.sent).sum::<u64>() + self.cut_records.len() as u64
    }
}

/// The place of a datagram that is ready to go out.
#[derive(Clone, Copy, Debug)]
pub struct Prepared {
    offset: usize,
    length: usize,
    /// Flows in it.
    pub flows: u16,
}

fn patch_header(bytes: &mut [u8], count: u16, uptime_ms: u32, now_ms: i64, sequence: u32) {
    let secs = now_ms.div_euclid(1000) as u32;
    let nsecs = now_ms.rem_euclid(1000) as u32 * 1_000_000;
    bytes[header_at::COUNT..][..2].copy_from_slice(&count.to_be_bytes());
    let fields = [
        (header_at::SYS_UPTIME, uptime_ms),
        (header_at::UNIX_SECS, secs),
        (header_at::UNIX_NSECS, nsecs),
        (header_at::SEQUENCE, sequence),
    ];
    for (at, value) in fields {
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
}

fn move_times(records: &mut [u8], by_ms: u32) {
    for record in records.chunks_exact_mut(V5_RECORD_BYTES) {
        for at in [record_at::FIRST, record_at::LAST] {
            if let Some(field) = record[at..].first_chunk_mut::<4>() {
                *field = u32::from_be_bytes(*field).wrapping_add(by_ms).to_be_bytes();
            }
        }
    }
}
