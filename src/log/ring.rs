//! Recent records in memory.
//!
//! Invariant: every record with a position above [`Ring::floor`] is in the ring, in order. So a consumer whose cursor is at
//! or above the floor never needs a file.

use std::collections::VecDeque;

use crate::flow::{Entry, Record};

/// A record in memory with what its header says.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Position and content.
    pub entry: Entry,
    /// Flows of the log before it.
    pub flows_before: u64,
    /// When it was appended, ms since the epoch.
    pub time_ms: i64,
    /// Memory it takes.
    pub memory_bytes: usize,
    /// Whether it has been written to a file.
    pub stored: bool,
}

impl Slot {
    /// Flows of the log up to and including it.
    pub fn flows_after(&self) -> u64 {
        self.flows_before.saturating_add(self.entry.record.flow_count())
    }
}

/// Recent records in memory.
#[derive(Debug, Default)]
pub struct Ring {
    slots: VecDeque<Slot>,
    bytes: usize,
    floor: u64,
}

impl Ring {
    /// An empty ring above a position.
    pub fn new(floor: u64) -> Self {
        Self { floor, ..Self::default() }
    }

    /// Memory taken, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records above this position are all here.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The first record after a position, when there is one; it is the next one of the log when the position is at or
    /// above the floor.
    pub fn after(&self, position: u64) -> Option<&Slot> {
        self.slots.get(self.index_after(position))
    }

    /// Every record after a position.
    pub fn iter_after(&self, position: u64) -> impl Iterator<Item = &Slot> {
        self.slots.range(self.index_after(position)..)
    }

    /// Every record, for changing its notes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }

    /// Adds the newest record.
    pub fn push(&mut self, slot: Slot) {
        self.bytes += slot.memory_bytes;
        self.slots.push_back(slot);
    }

    /// Takes the oldest record out.
    pub fn pop(&mut self) -> Option<Record> {
        let slot = self.slots.pop_front()?;
        self.bytes -= slot.memory_bytes;
        self.floor = slot.entry.position;
        Some(slot.entry.record)
    }

    /// The oldest record's position.
    pub fn front_position(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.entry.position)
    }

    /// Records held.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn index_after(&self, position: u64) -> usize {
        self.slots.partition_point(|slot| slot.entry.position <= position)
    }
}
