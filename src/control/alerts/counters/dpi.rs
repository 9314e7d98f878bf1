//! Applications and categories that are watched for: who used them, and when they were seen last.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::alert::Subject;
use super::{DPI, Map, key};
use crate::control::state::Change;
use crate::flow::FlowBatch;
use crate::flow::column::{Dict, Text};

/// How long after its latest flow was received something counts as seen, ms: exporters send every 15 minutes.
pub const DPI_WINDOW_MS: i64 = 16 * 60_000;
/// Pairs of name and subscriber that are remembered.
const SEEN_MAX: usize = 2048;
/// Bytes of one.
const SEEN_BYTES: usize = 512;
/// Memory for all of it, bytes.
pub(super) const MEMORY_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(SEEN_MAX * SEEN_BYTES <= MEMORY_BYTES_MAX);

/// Something that was watched for and seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Its name and who used it.
    pub subject: Subject,
    /// Bytes since it was first seen.
    pub bytes: u64,
    /// Flows since it was first seen.
    pub flows: u64,
    /// When its latest flow was received, ms since the Unix epoch.
    pub last_ms: i64,
}

#[derive(Debug, Default)]
pub(super) struct Dpi {
    /// In lower case.
    watched: Vec<String>,
    seen: Map<Subject, Seen>,
    dirty: BTreeSet<Subject>,
    /// By codes of name, subscriber and reseller in a batch.
    sums: Map<(u32, u32, u32), Sum>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    bytes: u64,
    flows: u64,
    last_ms: i64,
}

impl Dpi {
    pub(super) fn watch(&mut self, names: &[String]) {
        self.watched = names.iter().map(|name| name.to_lowercase()).collect();
        // What is watched for no longer is nothing to be told of.
        let (watched, dirty) = (&self.watched, &mut self.dirty);
        self.seen.retain(|subject, _| {
            let name = subject.name.as_deref().unwrap_or_default().to_lowercase();
            let kept = watched.contains(&name);
            if !kept {
                dirty.insert(subject.clone());
            }
            kept
        });
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.seen.len() * SEEN_BYTES
    }

    pub(super) fn advance(&mut self, now_ms: i64) {
        let dirty = &mut self.dirty;
        self.seen.retain(|subject, seen| {
            let kept = seen.last_ms > now_ms - DPI_WINDOW_MS;
            if !kept {
                dirty.insert(subject.clone());
            }
            kept
        });
    }

    pub(super) fn add(&mut self, batch: &FlowBatch) {
        if self.watched.is_empty() {
            return;
        }
        for column in [&batch.app, &batch.app_category] {
            // Names are compared once a batch; most batches hold nothing that is watched for.
            let matches: Vec<bool> = column.values().iter().map(|name| self.is_watched(name)).collect();
            if matches.contains(&true) {
                self.add_rows(batch, column, &matches);
            }
        }
    }

    fn is_watched(&self, name: &Text) -> bool {
        self.watched.iter().any(|watched| name.to_lowercase() == *watched)
    }

    fn add_rows(&mut self, batch: &FlowBatch, column: &Dict<Text>, matches: &[bool]) {
        // Summed by codes first: names and subscribers are looked up once a batch.
        self.sums.clear();
        let (subscribers, resellers) = (batch.subscriber_id.codes(), batch.reseller_id.codes());
        for (row, code) in column.codes().iter().enumerate() {
            if *code != 0 && matches.get(*code as usize - 1).copied().unwrap_or(false) {
                let sum = self.sums.entry((*code, subscribers[row], resellers[row])).or_default();
                sum.bytes = sum.bytes.wrapping_add(batch.bytes.value_or_default(row));
                sum.flows += 1;
                sum.last_ms = sum.last_ms.max(batch.received_at.value_or_default(row));
            }
        }
        for ((name, subscriber, reseller), sum) in self.sums.drain() {
            let subject = Subject {
                subscriber_id: batch.subscriber_id.value(subscriber).copied(),
                reseller_id: batch.reseller_id.value(reseller).copied(),
                name: column.value(name).map(ToString::to_string),
                ..Subject::default()
            };
            if !self.seen.contains_key(&subject) && self.seen.len() >= SEEN_MAX {
                continue;
            }
            let fresh = || Seen { subject: subject.clone(), bytes: 0, flows: 0, last_ms: 0 };
            let seen = self.seen.entry(subject.clone()).or_insert_with(fresh);
            seen.bytes = seen.bytes.wrapping_add(sum.bytes);
            seen.flows += sum.flows;
            seen.last_ms = seen.last_ms.max(sum.last_ms);
            self.dirty.insert(subject);
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Seen> {
        self.seen.values()
    }

    pub(super) fn changes(&mut self, changes: &mut Vec<Change>) {
        for subject in std::mem::take(&mut self.dirty) {
            let name = serde_json::to_vec(&subject).unwrap_or_default();
            let value = self.seen.get(&subject).and_then(|seen| serde_json::to_vec(seen).ok());
            changes.push((key(DPI, &[&name]), value));
        }
    }

    pub(super) fn restore(&mut self, value: &[u8]) {
        if let Ok(seen) = serde_json::from_slice::<Seen>(value)
            && self.seen.len() < SEEN_MAX
        {
            self.seen.insert(seen.subject.clone(), seen);
        }
    }
}
