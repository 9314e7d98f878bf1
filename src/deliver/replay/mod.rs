//! Bringing set-aside records to their sink again, each exactly once.
//!
//! To the sink they come from a log of their own: the quarantine has a log id, made when it is first replayed, and a plan on disk
//! that gives each record brought a position in that log. So the sink keeps a cursor for them as for any log, in the same
//! step in which it stores them, and its cursor of the collector's log is not touched. A replay that was cut off, even by a
//! crash right after the commit, goes on under the same numbers: what the sink's cursor has passed is stored.
//!
//! Invariants: at most one group is in flight, and the plan names it before it is sent; a position is never given to another
//! record; a record's file goes only after the sink has it; what is refused again stays, and that is in the plan before anything
//! after it is sent. Rows that are refused of a whole record get files of their own before the sink commits the others, and the
//! plan names them before they are written: they stay when the record goes, and go when it stays.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Status;
use super::quarantine::{Fate, Item, Quarantine, Refused, in_quarantine};
use crate::flow::sink::{Entry, Group, NoTail, RefusedRow, SinkContext};
use crate::flow::{Sink, SinkConfig, SinkError};

mod plan;

use plan::Plan;

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
    /// Why rows of the group in flight are refused.
    reasons: Vec<String>,
}

impl<'a> Replay<'a> {
    fn new(parts: &'a Parts<'a>, plan: Plan) -> Self {
        let context = SinkContext { log_id: plan.log, tail: Arc::new(NoTail), ..parts.context.clone() };
        Self { parts, context, plan, replayed: Replayed::default(), reasons: Vec::new() }
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
                    let Parts { quarantine, status, .. } = self.parts;
                    quarantine.take_back(std::slice::from_ref(name), status).map_err(in_quarantine)?;
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
            self.reasons.clear();
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
        self.plan.parts.clear();
        self.plan.save(self.parts.quarantine)
    }

    /// What the sink's cursor has passed is stored.
    fn settle(&mut self, sink: &mut dyn Sink) -> Result<(), SinkError> {
        let cursor = sink.cursor()?.unwrap_or(0);
        self.passed(cursor.saturating_sub(self.plan.before).min(self.plan.files.len() as u64) as usize)
    }

    /// So many records of the plan are stored, but for the rows of them that have files of their own. Such files of the others go:
    /// those records are brought again.
    fn passed(&mut self, records: usize) -> Result<(), SinkError> {
        let quarantine = self.parts.quarantine;
        let mut refused_flows = vec![0; records];
        let before = self.plan.parts.len();
        for (index, name) in &self.plan.parts {
            match refused_flows.get_mut(*index) {
                Some(flows) if self.plan.files[*index].is_some() => {
                    quarantine.settle_part(name).map_err(in_quarantine)?;
                    *flows += quarantine.item(name).map_or(0, |item| item.flows);
                }
                Some(_) => {}
                None => quarantine.withdraw_one(name).map_err(in_quarantine)?,
            }
        }
        self.plan.parts.retain(|(index, _)| *index < records);
        if self.plan.parts.len() < before {
            self.plan.save(quarantine)?;
        }
        (0..records).try_for_each(|index| self.stored(index, refused_flows[index]))?;
        quarantine.note(self.parts.status);
        Ok(())
    }

    /// Writes what is left of the plan: in one group, or one by one; one that is refused alone is dealt with.
    fn write_all(&mut self, sink: &mut dyn Sink, together: bool) -> Result<(), SinkError> {
        loop {
            let entries = self.entries(if together { usize::MAX } else { 1 })?;
            let Some(first) = entries.first().map(|entry| entry.position) else { return Ok(()) };
            let alone = entries.len() == 1;
            let own = self.item(first).is_some_and(|item| item.own);
            let expired_before = sink.counters().expired_flows;
            let mut group = ListGroup { replay: self, entries: entries.into(), given: 0 };
            let written = sink.write(&mut group);
            let given = group.given;
            match written {
                Ok(()) if given == 0 => return Err(SinkError::retry("the sink took nothing")),
                Ok(()) => {
                    let expired = sink.counters().expired_flows.saturating_sub(expired_before);
                    self.replayed.expired_flows += expired;
                    if own {
                        self.parts.status.add_expired(expired);
                    }
                    self.committed(given)?;
                }
                Err(SinkError::Reject(reason)) => {
                    if alone {
                        // Rows of it that were set aside stay with it.
                        self.passed(self.index(first))?;
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

    /// The sink is about to commit records without these rows.
    fn set_aside(&mut self, rows: &[RefusedRow<'_>]) -> Result<(), SinkError> {
        let quarantine = self.parts.quarantine;
        let mut parts = Vec::new();
        for refused in rows {
            let index = self.index(refused.entry.position);
            let Some(name) = self.plan.files.get(index).cloned().flatten() else { continue };
            let (Some(item), Some(head)) = (quarantine.item(&name), quarantine.head(&name).map_err(in_quarantine)?)
            else {
                continue;
            };
            if head.row.is_some() {
                // The file holds this row and nothing else.
                self.refused(index, refused.reason)?;
            } else {
                let part = Refused::from(refused);
                self.reasons.push(part.reason.clone());
                self.plan.parts.push((index, quarantine.part_name(&head, &part)));
                parts.push((head, item, part));
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        self.plan.save(quarantine)?;
        quarantine.keep_parts(&parts).map_err(in_quarantine)
    }

    /// The sink has everything up to and including a position, but for the rows that it set aside.
    fn committed(&mut self, upto: u64) -> Result<(), SinkError> {
        let records = (self.index(upto) + 1).min(self.plan.files.len());
        for reason in std::mem::take(&mut self.reasons) {
            self.replayed.refuse(&reason);
        }
        self.passed(records)?;
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
struct ListGroup<'g, 'a> {
    replay: &'g mut Replay<'a>,
    entries: VecDeque<Entry>,
    /// Position of the last one given; 0 when none was.
    given: u64,
}

impl Group for ListGroup<'_, '_> {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        let entry = self.entries.pop_front();
        self.given = entry.as_ref().map_or(self.given, |entry| entry.position);
        Ok(entry)
    }

    fn set_aside(&mut self, rows: &[RefusedRow<'_>]) -> Result<(), SinkError> {
        self.replay.set_aside(rows)
    }
}
