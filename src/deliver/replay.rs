//! Bringing set-aside records to their sink again, each exactly once.
//!
//! To the sink they come from a log of their own: the quarantine has a log id, made when it is first replayed, and a plan on disk
//! that gives each record brought a position in that log. So the sink keeps a cursor for them as for any log, in the same
//! step in which it stores them, and its cursor of the collector's log is not touched. A replay that was cut off, even by a
//! crash right after the commit, goes on under the same numbers: what the sink's cursor has passed is stored.
//!
//! Invariants: at most one group is in flight, and the plan names it before it is sent; a position is never given to another
//! record; a record's file goes only after the sink has it; what is refused again stays, and that is in the plan before anything
//! after it is sent.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Status;
use super::quarantine::{Fate, Item, PLAN, Quarantine, Refused};
use crate::flow::sink::{Entry, Group, NoTail, SinkContext};
use crate::flow::{LogId, Sink, SinkConfig, SinkError};

/// Most records of a group; refused, they are tried one by one.
const GROUP_RECORDS_MAX: usize = 64;
/// Bytes of a group: it ends before the record that would go beyond, but holds at least one. A record takes about as much memory
/// as it does on disk.
pub(super) const GROUP_BYTES: u64 = 8 << 20;
/// Time after which a replay ends with the group in flight: the sink takes nothing else meanwhile.
const STRETCH: Duration = Duration::from_secs(5);
/// How long closing the sink may take.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);
/// Most reasons that are told.
const REASONS_MAX: usize = 5;

/// What is to be replayed.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// One record by its name; all when not given.
    pub name: Option<String>,
    /// Only records after this one: [`Replayed::next`] of the replay before.
    pub after: Option<String>,
}

/// What a replay led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Records that the store has taken.
    pub records: u64,
    /// Flows that the store has taken.
    pub flows: u64,
    /// Of these, flows older than the store's retention: it did not keep them.
    pub expired_flows: u64,
    /// Records that the sink had not gone past: it gets them in their turn.
    pub returned_records: u64,
    /// Records that it still refuses; they stay.
    pub refused_records: u64,
    /// Why, the first few.
    pub reasons: Vec<String>,
    /// The record after which the next replay goes on; `None` when nothing is left to try.
    pub next: Option<String>,
    /// Why it ended early.
    pub problem: Option<String>,
}

impl Replayed {
    fn refuse(&mut self, reason: &str) {
        self.refused_records += 1;
        if self.reasons.len() < REASONS_MAX && !self.reasons.iter().any(|r| r == reason) {
            self.reasons.push(reason.to_owned());
        }
    }
}

/// Positions of the records in flight: the first of `files` has `before` + 1. `None`: dealt with.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    log: LogId,
    before: u64,
    files: Vec<Option<String>>,
}

impl Plan {
    fn load(quarantine: &Quarantine) -> io::Result<Option<Self>> {
        Ok(quarantine.read_beside(PLAN)?.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    fn new() -> io::Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self { log: LogId(id), before: 0, files: Vec::new() })
    }

    fn save(&self, quarantine: &Quarantine) -> Result<(), SinkError> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other);
        bytes.and_then(|bytes| quarantine.write_beside(PLAN, &bytes)).map_err(in_quarantine)
    }
}

fn in_quarantine(error: io::Error) -> SinkError {
    SinkError::retry(format!("quarantine: {error}"))
}

/// The sink and its quarantine. Nobody else has the sink open.
pub(super) struct Parts<'a> {
    pub quarantine: &'a Quarantine,
    pub sink: &'a dyn SinkConfig,
    pub context: &'a SinkContext,
    pub status: &'a Status,
}

/// Finishes a replay that was cut off. Without one it does nothing.
///
/// # Errors
/// As for writing to a sink.
pub(super) fn finish(parts: &Parts<'_>) -> Result<(), SinkError> {
    let plan = Plan::load(parts.quarantine).map_err(in_quarantine)?;
    match plan.filter(|plan| !plan.files.is_empty()) {
        Some(plan) => {
            let _held = parts.quarantine.hold();
            Replay::new(parts, plan).work_off()
        }
        None => Ok(()),
    }
}

/// Brings records to the sink again. `give_back` is asked about a position of the collector's log that the sink has not gone past:
/// whether the log brings it anyhow.
pub(super) fn run(parts: &Parts<'_>, wish: &Wish, give_back: &mut dyn FnMut(u64) -> bool) -> Replayed {
    let plan = match Plan::load(parts.quarantine).and_then(|plan| plan.map_or_else(Plan::new, Ok)) {
        Ok(plan) => plan,
        Err(error) => return Replayed { problem: Some(format!("quarantine: {error}")), ..Replayed::default() },
    };
    let mut replay = Replay::new(parts, plan);
    if let Err(error) = replay.bring(wish, give_back) {
        replay.replayed.problem = Some(error.to_string());
    }
    replay.replayed
}

struct Replay<'a> {
    parts: &'a Parts<'a>,
    context: SinkContext,
    plan: Plan,
    replayed: Replayed,
}

impl<'a> Replay<'a> {
    fn new(parts: &'a Parts<'a>, plan: Plan) -> Self {
        let context = SinkContext { log_id: plan.log, tail: Arc::new(NoTail), ..parts.context.clone() };
        Self { parts, context, plan, replayed: Replayed::default() }
    }

    fn bring(&mut self, wish: &Wish, give_back: &mut dyn FnMut(u64) -> bool) -> Result<(), SinkError> {
        let _held = self.parts.quarantine.hold();
        self.work_off()?;
        let began = Instant::now();
        let names = match &wish.name {
            Some(name) => Ok(vec![name.clone()]),
            None => self.parts.quarantine.names(wish.after.as_deref(), usize::MAX),
        };
        let mut names: VecDeque<String> = names.map_err(in_quarantine)?.into();
        while !names.is_empty() {
            self.plan.files = self.next_group(&mut names, give_back)?;
            let last = self.plan.files.last().cloned().flatten();
            self.work_off()?;
            if began.elapsed() >= STRETCH && !names.is_empty() {
                self.replayed.next = last;
                break;
            }
        }
        Ok(())
    }

    /// Names of records for one group: all of this run's sums in the ledger, or none.
    fn next_group(
        &mut self,
        names: &mut VecDeque<String>,
        give_back: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<Option<String>>, SinkError> {
        let (mut group, mut bytes, mut own) = (Vec::new(), 0, None);
        while let Some(name) = names.front() {
            // One that is gone meanwhile needs nothing.
            if let Some(item) = self.parts.quarantine.item(name) {
                if item.of_this_log && give_back(item.position) {
                    self.remove(&name.clone(), Fate::Returned)?;
                    self.replayed.returned_records += 1;
                } else if group.len() >= GROUP_RECORDS_MAX || bytes >= GROUP_BYTES || own.is_some_and(|o| o != item.own)
                {
                    break;
                } else {
                    own = Some(item.own);
                    bytes += item.bytes;
                    group.push(Some(name.clone()));
                }
            }
            names.pop_front();
        }
        Ok(group)
    }

    /// Brings what is in flight to the sink until it has it or has refused it.
    fn work_off(&mut self) -> Result<(), SinkError> {
        if self.plan.files.is_empty() {
            return Ok(());
        }
        self.plan.save(self.parts.quarantine)?;
        let mut together = true;
        while self.plan.files.iter().any(Option::is_some) {
            let mut sink = self.parts.sink.open(&self.context)?;
            self.settle(&mut *sink)?;
            match self.write_all(&mut *sink, together) {
                Ok(()) => sink.close(CLOSE_TIME_MAX)?,
                // After an error the sink is opened anew.
                Err(SinkError::Reject(_)) => together = false,
                Err(error) => return Err(error),
            }
        }
        self.plan.before += self.plan.files.len() as u64;
        self.plan.files.clear();
        self.plan.save(self.parts.quarantine)
    }

    /// What the sink's cursor has passed is stored.
    fn settle(&mut self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        let Some(cursor) = sink.cursor()? else { return Ok(()) };
        let passed = cursor.saturating_sub(self.plan.before).min(self.plan.files.len() as u64) as usize;
        (0..passed).try_for_each(|index| self.stored(index, 0))
    }

    /// Writes what is left of the plan: in one group, or one by one; one that is refused alone is dealt with.
    fn write_all(&mut self, sink: &mut dyn Sink, together: bool) -> Result<(), SinkError> {
        loop {
            let entries = self.entries(if together { usize::MAX } else { 1 })?;
            let Some(first) = entries.first().map(|entry| entry.position) else { return Ok(()) };
            let alone = entries.len() == 1;
            let own = self.item(first).is_some_and(|item| item.own);
            let expired_before = sink.counters().expired_flows;
            let mut group = ListGroup { entries: entries.into(), given: 0, refused: Vec::new() };
            match sink.write(&mut group) {
                Ok(()) if group.given == 0 => return Err(SinkError::retry("the sink took nothing")),
                Ok(()) => {
                    let expired = sink.counters().expired_flows.saturating_sub(expired_before);
                    self.replayed.expired_flows += expired;
                    if own {
                        self.parts.status.add_expired(expired);
                    }
                    self.committed(group.given, group.refused)?;
                }
                Err(SinkError::Reject(reason)) => {
                    if alone {
                        self.refused(self.index(first), &reason)?;
                    }
                    return Err(SinkError::Reject(reason));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The records left, as entries of the quarantine's log. What cannot be read is told and stays.
    fn entries(&mut self, entries_max: usize) -> Result<Vec<Entry>, SinkError> {
        let mut entries = Vec::new();
        for index in 0..self.plan.files.len() {
            let Some(name) = self.plan.files[index].clone().filter(|_| entries.len() < entries_max) else { continue };
            match self.parts.quarantine.read(&name) {
                Ok(Some(kept)) => entries.push(Entry { position: self.position(index), record: kept.record }),
                Ok(None) => self.plan.files[index] = None,
                Err(error) => self.refused(index, &format!("it cannot be read: {error}"))?,
            }
        }
        Ok(entries)
    }

    /// The sink has everything up to and including a position, but for the rows that it set aside.
    fn committed(&mut self, upto: u64, refused: Vec<Refused>) -> Result<(), SinkError> {
        let mut rows_refused = vec![0; self.plan.files.len()];
        for refused in refused {
            let index = self.index(refused.entry.position);
            let Some(name) = self.plan.files.get(index).cloned().flatten() else { continue };
            let (Some(item), Ok(Some(kept))) = (self.parts.quarantine.item(&name), self.parts.quarantine.read(&name))
            else {
                continue;
            };
            if kept.head.row.is_some() {
                // The file holds this row and nothing else.
                self.refused(index, &refused.reason)?;
            } else {
                let kept = self.parts.quarantine.keep_part(&kept.head, item, &refused, self.parts.status);
                kept.map_err(in_quarantine)?;
                rows_refused[index] += refused.flows();
                self.replayed.refuse(&refused.reason);
            }
        }
        let last = self.index(upto).min(self.plan.files.len() - 1);
        (0..=last).try_for_each(|index| self.stored(index, rows_refused[index]))?;
        self.plan.save(self.parts.quarantine)
    }

    /// A record is stored, but for so many of its flows, which have files of their own.
    fn stored(&mut self, index: usize, refused_flows: u64) -> Result<(), SinkError> {
        let Some(name) = self.plan.files[index].take() else { return Ok(()) };
        let Some(item) = self.parts.quarantine.item(&name) else { return Ok(()) };
        let flows = item.flows.saturating_sub(refused_flows);
        self.remove(&name, Fate::Taken(flows))?;
        self.replayed.records += 1;
        self.replayed.flows += flows;
        Ok(())
    }

    /// A record stays in quarantine.
    fn refused(&mut self, index: usize, reason: &str) -> Result<(), SinkError> {
        self.plan.files[index] = None;
        self.replayed.refuse(reason);
        tracing::warn!(sink = %self.context.name, reason, "a record in quarantine is refused again");
        self.plan.save(self.parts.quarantine)
    }

    fn remove(&self, name: &str, fate: Fate) -> Result<(), SinkError> {
        self.parts.quarantine.remove(name, fate, self.parts.status).map(drop).map_err(in_quarantine)
    }

    fn item(&self, position: u64) -> Option<Item> {
        self.parts.quarantine.item(self.plan.files.get(self.index(position))?.as_deref()?)
    }

    fn position(&self, index: usize) -> u64 {
        self.plan.before + 1 + index as u64
    }

    fn index(&self, position: u64) -> usize {
        position.saturating_sub(self.plan.before + 1) as usize
    }
}

/// A group over records at hand.
struct ListGroup {
    entries: VecDeque<Entry>,
    /// Position of the last one given; 0 when none was.
    given: u64,
    refused: Vec<Refused>,
}

impl Group for ListGroup {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        let entry = self.entries.pop_front();
        self.given = entry.as_ref().map_or(self.given, |entry| entry.position);
        Ok(entry)
    }

    fn set_aside(&mut self, entry: &Entry, row: usize, reason: &str) {
        self.refused.push(Refused { entry: entry.clone(), row: Some(row), reason: reason.to_owned() });
    }
}
