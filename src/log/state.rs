//! What the log knows about itself: the ring, the segments, the consumers. Behind one lock that is held for moments, never
//! while a file is read, written or fsynced.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::cursors::Place;
use super::ring::{Ring, Slot};
use super::segment::Segment;
use super::writer::Placed;
use crate::flow::Record;

/// Ranges of lost positions whose reason is remembered; the oldest are forgotten first.
const LOSSES_MAX: usize = 1024;

/// Why a consumer did not get records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// The log was full and the oldest went.
    Full,
    /// The disk took no more, and the memory ring overflowed before the consumer came.
    Unstored,
    /// Damaged or missing files.
    Damaged,
}

impl LossReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Full, Self::Unstored, Self::Damaged];

    /// Its name as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Unstored => "unstored",
            Self::Damaged => "damaged",
        }
    }
}

/// What a consumer did not get, by reason in the order of [`LossReason::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Records.
    pub records: [u64; 3],
    /// Flows.
    pub flows: [u64; 3],
}

/// A consumer as the log sees it.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    /// How far it has come.
    pub place: Place,
    /// What it did not get, since the start.
    pub lost: Lost,
}

/// See the module.
#[derive(Debug, Default)]
pub struct State {
    /// Recent records.
    pub ring: Ring,
    /// Files by position.
    pub segments: VecDeque<Segment>,
    /// Position of the last record.
    pub end: u64,
    /// Flows in all records.
    pub flows_total: u64,
    /// Position up to which everything is durable, as far as it will ever be.
    pub durable: u64,
    /// Consumers by name.
    pub consumers: BTreeMap<String, Mark>,
    /// Ranges `(after, before)` of positions that were never given.
    pub jumps: Vec<(u64, u64)>,
    /// Ranges `first..=last` of positions that are lost for whoever has not read them, with the reason.
    pub losses: VecDeque<(u64, u64, LossReason)>,
    /// Position up to which records went because the log was full, now or before the last restart.
    pub dropped_upto: u64,
    /// Damage that has been counted: (segment's serial, offset).
    pub damage_seen: HashSet<(u64, u64)>,
    /// A cursor has moved since the file of cursors was written.
    pub cursors_moved: bool,
    /// No more appends.
    pub closed: bool,
}

impl State {
    /// Bytes of all segments.
    pub fn stored_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    /// The position up to which every consumer has come; 0 when there is none.
    pub fn consumed(&self) -> u64 {
        self.consumers.values().map(|mark| mark.place.position).min().unwrap_or(0)
    }

    /// Notes where a record was written.
    pub fn note_placed(&mut self, placed: Placed, position: u64, flows_after: u64, record_bytes: u64) {
        if let Some(begun) = placed.begun {
            self.segments.push_back(begun);
        }
        if let Some(segment) = self.segments.back_mut().filter(|s| s.serial == placed.serial) {
            segment.add(position, flows_after, placed.offset, record_bytes);
        }
    }

    /// Adds the newest record.
    pub fn push(&mut self, slot: Slot) {
        self.end = slot.entry.position;
        self.flows_total = slot.flows_after();
        self.ring.push(slot);
    }

    /// The last position given before a position that was given.
    pub fn previous_of(&self, position: u64) -> u64 {
        let jump = self.jumps.iter().find(|(_, before)| *before == position);
        jump.map_or(position.saturating_sub(1), |(after, _)| *after)
    }

    /// The place before the oldest record that is kept.
    pub fn oldest(&self) -> Place {
        match (self.segments.front(), self.ring.after(0)) {
            (Some(s), _) => Place { position: s.header.previous, flows: s.header.flows_before },
            (None, Some(slot)) => Place { position: self.previous_of(slot.entry.position), flows: slot.flows_before },
            (None, None) => self.newest(),
        }
    }

    /// The place of the newest record.
    pub fn newest(&self) -> Place {
        Place { position: self.end, flows: self.flows_total }
    }

    /// Takes out of the ring what nobody waits for, and more when it is too large. The newest record stays.
    pub fn trim(&mut self, bytes_max: u64) -> Vec<Record> {
        let done = self.consumed().min(self.durable);
        let mut out = Vec::new();
        while self.ring.len() > 1 {
            let Some(front) = self.ring.front_position() else { break };
            if front > done && self.ring.bytes() as u64 <= bytes_max {
                break;
            }
            self.note_unstored_front();
            out.extend(self.ring.pop());
        }
        out
    }

    fn note_unstored_front(&mut self) {
        let Some(slot) = self.ring.after(0).filter(|slot| !slot.stored) else { return };
        let position = slot.entry.position;
        self.note_loss(position, position, LossReason::Unstored);
    }

    /// Remembers why the positions from `first` to `last` cannot be had any more.
    pub fn note_loss(&mut self, first: u64, last: u64, reason: LossReason) {
        if let Some(newest) = self.losses.back_mut().filter(|(_, end, r)| *r == reason && first <= end + 1) {
            newest.1 = newest.1.max(last);
            return;
        }
        if self.losses.len() == LOSSES_MAX {
            self.losses.pop_front();
        }
        self.losses.push_back((first, last, reason));
    }

    /// Why the positions after `after` and before `before` are missing.
    pub fn reason_of(&self, after: u64, before: u64) -> LossReason {
        let overlap = self.losses.iter().find(|(first, last, _)| *first < before && *last > after);
        match overlap {
            Some((_, _, reason)) => *reason,
            None if after < self.dropped_upto => LossReason::Full,
            None => LossReason::Damaged,
        }
    }

    /// Positions after `after` and before `before` that were given to a record.
    pub fn given_between(&self, after: u64, before: u64) -> u64 {
        let never: u64 = self.jumps.iter().map(|(a, b)| (before.min(*b)).saturating_sub(after.max(*a) + 1)).sum();
        before.saturating_sub(after + 1).saturating_sub(never)
    }

    /// Takes the oldest segment off, because the log is full. `None` when there is only the newest.
    pub fn drop_oldest_segment(&mut self) -> Option<Segment> {
        if self.segments.len() < 2 {
            return None;
        }
        let segment = self.segments.pop_front()?;
        self.note_loss(segment.header.previous + 1, segment.last, LossReason::Full);
        self.dropped_upto = segment.last;
        self.cursors_moved = true;
        Some(segment)
    }

    /// Takes off the segments that every consumer has dealt with. The newest stays: it knows where the log ends.
    pub fn release_segments(&mut self, consumed: u64) -> Vec<Segment> {
        let mut released = Vec::new();
        while self.segments.len() > 1 && self.segments.front().is_some_and(|s| s.last <= consumed) {
            released.extend(self.segments.pop_front());
        }
        released
    }
}
