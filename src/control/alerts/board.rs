//! Every alert that lasts or is remembered: what fires, what is resolved, what was acknowledged.
//!
//! Invariants: at most one active alert a key; what is on the board is in the state store as soon as anybody is told of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::alert::{Acknowledged, Alert, AlertKey};
use super::evaluate::{Finding, Findings};
use super::kind::{Kind, Severity};
use crate::control::state::{Change, Keep, StateError};
use crate::flow::Uuid;

/// Alerts that are remembered, active ones included; the oldest that are resolved go first.
pub const ALERTS_MAX: usize = 10_000;
/// Conditions that wait for their time to fire.
const PENDING_MAX: usize = 10_000;

/// First bytes of the keys of this module's rows in the state store.
pub(super) const ALERT: u8 = b'A';
pub(super) const NEXT_ID: u8 = b'N';
pub(super) const PENDING: u8 = b'P';

/// What happened to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It began.
    Firing,
    /// It ended.
    Resolved,
    /// Nothing: somebody tries a receiver.
    Test,
}

/// Which alerts are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only of this severity.
    pub severity: Option<Severity>,
    /// Only those that lasted at this time or later, ms since the Unix epoch.
    pub since_ms: i64,
    /// Only of this reseller.
    pub reseller_id: Option<Uuid>,
    /// Only of this subscriber.
    pub subscriber_id: Option<Uuid>,
    /// Only of this type.
    pub kind: Option<Kind>,
    /// Only those that last.
    pub active: bool,
}

/// All alerts. Shared with the endpoint.
#[derive(Debug)]
pub struct Board {
    keep: Keep,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    alerts: BTreeMap<u64, Alert>,
    active: HashMap<AlertKey, u64>,
    /// Since when a condition holds that has to hold longer, ms since the Unix epoch.
    pending: BTreeMap<AlertKey, i64>,
    pending_changed: bool,
    next_id: u64,
    /// Alerts that are not saved as they are now.
    dirty: BTreeSet<u64>,
    fired: BTreeMap<Kind, u64>,
    resolved: BTreeMap<Kind, u64>,
    suppressed: u64,
}

/// Counts of a board, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Alerts that last, by kind and severity.
    pub firing: BTreeMap<(Kind, Severity), u64>,
    /// Alerts that began, by kind.
    pub fired: BTreeMap<Kind, u64>,
    /// Alerts that ended, by kind.
    pub resolved: BTreeMap<Kind, u64>,
    /// Alerts that had no room.
    pub suppressed: u64,
}

impl Board {
    /// A board without alerts over the rows of the state store.
    pub fn new(keep: Keep) -> Self {
        Self { keep, inner: Mutex::default() }
    }

    /// The alerts of the state store.
    ///
    /// # Errors
    /// The store refuses.
    pub fn open(keep: Keep) -> Result<Self, StateError> {
        let board = Self::new(keep.clone());
        keep.each(|key, value| board.restore(key, value))?;
        Ok(board)
    }

    /// Takes a row of the state store back. Rows that are not understood are passed over.
    fn restore(&self, key: &[u8], value: &[u8]) {
        let mut inner = self.lock();
        match key.first() {
            Some(&ALERT) => {
                let Ok(alert) = serde_json::from_slice::<Alert>(value) else { return };
                if alert.is_active() {
                    inner.active.insert(alert.key(), alert.id);
                }
                inner.next_id = inner.next_id.max(alert.id + 1);
                inner.alerts.insert(alert.id, alert);
            }
            Some(&NEXT_ID) => {
                let id = value.try_into().map_or(0, u64::from_be_bytes);
                inner.next_id = inner.next_id.max(id);
            }
            Some(&PENDING) => {
                let pending: Vec<(AlertKey, i64)> = serde_json::from_slice(value).unwrap_or_default();
                inner.pending = pending.into_iter().collect();
            }
            _ => {}
        }
    }

    /// Brings the board up to what was found. Gives what happened; [`Board::changes`] have to be saved before anybody is
    /// told.
    pub fn apply(&self, findings: &Findings, history_ms: i64, now_ms: i64) -> Vec<(Event, Alert)> {
        let mut inner = self.lock();
        let mut events = Vec::new();
        let mut held = HashSet::with_capacity(findings.all.len());
        for finding in &findings.all {
            let key = AlertKey::new(finding.kind, &finding.subject);
            if let Some(fired) = inner.hold(&key, finding, now_ms) {
                events.push((Event::Firing, fired));
            }
            held.insert(key);
        }
        let unknown = |key: &AlertKey| findings.unknown.contains(key) || findings.unknown_kinds.contains(&key.kind);
        let over: Vec<u64> =
            inner.active.iter().filter(|(key, _)| !held.contains(key) && !unknown(key)).map(|(_, id)| *id).collect();
        for id in over {
            if let Some(resolved) = inner.resolve(id, now_ms) {
                events.push((Event::Resolved, resolved));
            }
        }
        let before = inner.pending.len();
        inner.pending.retain(|key, _| held.contains(key) || unknown(key));
        inner.pending_changed |= inner.pending.len() < before;
        inner.forget(history_ms, now_ms);
        events
    }

    /// Everything that changed since the last call, as rows of the state store.
    pub fn changes(&self) -> Vec<Change> {
        let mut inner = self.lock();
        let dirty = std::mem::take(&mut inner.dirty);
        let mut changes: Vec<Change> = dirty.iter().map(|id| inner.row(*id)).collect();
        if std::mem::take(&mut inner.pending_changed) {
            let pending: Vec<_> = inner.pending.iter().collect();
            changes.push((vec![PENDING], serde_json::to_vec(&pending).ok()));
        }
        if !changes.is_empty() {
            changes.push((vec![NEXT_ID], Some(inner.next_id.to_be_bytes().to_vec())));
        }
        changes
    }

    /// The alerts that are asked for, the newest first.
    pub fn list(&self, wanted: &Wanted) -> Vec<Alert> {
        let fits = |alert: &&Alert| {
            wanted.severity.is_none_or(|severity| alert.severity == severity)
                && (alert.is_active() || !wanted.active && alert.resolved_ms >= Some(wanted.since_ms))
                && (wanted.reseller_id.is_none() || wanted.reseller_id == alert.subject.reseller_id)
                && (wanted.subscriber_id.is_none() || wanted.subscriber_id == alert.subject.subscriber_id)
                && wanted.kind.is_none_or(|kind| alert.alert_type == kind)
        };
        self.lock().alerts.values().rev().filter(fits).cloned().collect()
    }

    /// Every alert that lasts.
    pub fn active(&self) -> Vec<Alert> {
        self.list(&Wanted { active: true, ..Wanted::default() })
    }

    /// Notes that somebody has seen an alert. `None` when there is no such alert, or it is not of that reseller. Seen
    /// twice is seen the first time.
    ///
    /// # Errors
    /// The state store refuses.
    pub fn acknowledge(
        &self,
        id: u64,
        reseller: Option<Uuid>,
        by: &str,
        at_ms: i64,
    ) -> Result<Option<Alert>, StateError> {
        let mut inner = self.lock();
        let Some(alert) = inner.alerts.get_mut(&id) else { return Ok(None) };
        if reseller.is_some() && reseller != alert.subject.reseller_id {
            return Ok(None);
        }
        if alert.acknowledged.is_none() {
            let mut seen = alert.clone();
            seen.acknowledged = Some(Acknowledged { by: by.to_owned(), at_ms });
            self.keep.apply(&[(key(id), serde_json::to_vec(&seen).ok())])?;
            *alert = seen;
        }
        let alert = alert.clone();
        // An older row may be on its way into the store.
        inner.dirty.insert(id);
        Ok(Some(alert))
    }

    /// Lets alerts that fit end as soon as their condition does not hold, without waiting for their hold-down.
    pub(super) fn end_hold_down(&self, fits: impl Fn(&Alert) -> bool) {
        let inner = &mut *self.lock();
        for alert in inner.alerts.values_mut().filter(|alert| alert.is_active() && fits(alert)) {
            alert.hold_down_ms = 0;
            inner.dirty.insert(alert.id);
        }
    }

    /// What it counts.
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        let mut counts = Counts {
            fired: inner.fired.clone(),
            resolved: inner.resolved.clone(),
            suppressed: inner.suppressed,
            ..Counts::default()
        };
        for alert in inner.alerts.values().filter(|alert| alert.is_active()) {
            *counts.firing.entry((alert.alert_type, alert.severity)).or_default() += 1;
        }
        counts
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A condition holds. Gives the alert when it fires now.
    fn hold(&mut self, key: &AlertKey, finding: &Finding, now_ms: i64) -> Option<Alert> {
        if let Some(alert) = self.active.get(key).and_then(|id| self.alerts.get_mut(id)) {
            alert.held_ms = now_ms;
            alert.hold_down_ms = finding.terms.hold_down_ms;
            (alert.value, alert.threshold) = (finding.value, finding.terms.threshold);
            (alert.severity, alert.measured) = (finding.terms.severity, finding.measured);
            alert.subject.reseller_id = finding.subject.reseller_id;
            alert.summary.clone_from(&finding.summary);
            self.dirty.insert(alert.id);
            return None;
        }
        if finding.terms.pending_ms > 0 {
            if !self.pending.contains_key(key) && self.pending.len() < PENDING_MAX {
                self.pending.insert(key.clone(), now_ms);
                self.pending_changed = true;
            }
            let since_ms = self.pending.get(key).copied().unwrap_or(now_ms);
            if now_ms - since_ms < finding.terms.pending_ms {
                return None;
            }
        }
        if self.active.len() >= ALERTS_MAX {
            self.suppressed += 1;
            return None;
        }
        self.pending_changed |= self.pending.remove(key).is_some();
        let alert = Alert {
            id: self.next_id,
            alert_type: finding.kind,
            severity: finding.terms.severity,
            subject: finding.subject.clone(),
            value: finding.value,
            threshold: finding.terms.threshold,
            measured: finding.measured,
            summary: finding.summary.clone(),
            fired_ms: now_ms,
            held_ms: now_ms,
            hold_down_ms: finding.terms.hold_down_ms,
            resolved_ms: None,
            acknowledged: None,
        };
        self.next_id += 1;
        *self.fired.entry(finding.kind).or_default() += 1;
        self.active.insert(key.clone(), alert.id);
        self.alerts.insert(alert.id, alert.clone());
        self.dirty.insert(alert.id);
        Some(alert)
    }

    /// A condition holds no longer. Gives the alert when it is resolved now.
    fn resolve(&mut self, id: u64, now_ms: i64) -> Option<Alert> {
        let alert = self.alerts.get_mut(&id)?;
        if now_ms - alert.held_ms < alert.hold_down_ms {
            return None;
        }
        alert.resolved_ms = Some(now_ms);
        self.active.remove(&alert.key());
        *self.resolved.entry(alert.alert_type).or_default() += 1;
        self.dirty.insert(id);
        Some(alert.clone())
    }

    /// The row of an alert; it goes when the alert is gone.
    fn row(&self, id: u64) -> Change {
        (key(id), self.alerts.get(&id).and_then(|alert| serde_json::to_vec(alert).ok()))
    }

    /// Lets alerts go that were resolved long ago, or for which there is no room.
    fn forget(&mut self, history_ms: i64, now_ms: i64) {
        let dirty = &mut self.dirty;
        let mut surplus = self.alerts.len().saturating_sub(ALERTS_MAX);
        self.alerts.retain(|id, alert| {
            let Some(resolved_ms) = alert.resolved_ms else { return true };
            let gone = surplus > 0 || resolved_ms < now_ms - history_ms;
            if gone {
                surplus = surplus.saturating_sub(1);
                dirty.insert(*id);
            }
            !gone
        });
    }
}

fn key(id: u64) -> Vec<u8> {
    [&[ALERT], &id.to_be_bytes()[..]].concat()
}
