//! Beginnings and ends of alerts on their way into the log, from which the sinks take them.
//!
//! Each gets there exactly once: it is saved with its alert, put into the log, and forgotten when the alerts' own consumer
//! meets it there. What a crash left here is looked for in the rest of the log first, and put there only if it is not found.

use std::collections::BTreeMap;

use super::alert::Alert;
use super::board::Event;
use crate::control::state::Change;
use crate::flow::{Addr, AlertEvent, AlertRow};

/// Rows that wait at most; the oldest go first.
const WAITING_MAX: usize = 10_000;
/// First byte of the keys of this module's rows in the state store.
pub(super) const OUTBOX: u8 = b'L';

/// By number of the alert and what happened.
type RowKey = (u64, AlertEvent);

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: BTreeMap<RowKey, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    row: AlertRow,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not saved with its alert yet.
    Staged,
    /// Saved, and not in the log as far as is known.
    Saved,
    /// In the log.
    Logged,
}

impl Outbox {
    /// Notes what happened: rows to be saved together with the alerts.
    pub fn stage(&mut self, events: &[(Event, Alert)], changes: &mut Vec<Change>) {
        for (event, alert) in events {
            let Some(row) = row(*event, alert) else { continue };
            changes.push((key(&row), serde_json::to_vec(&row).ok()));
            self.waiting.insert((row.alert_id, row.event), Waiting { row, state: State::Staged });
        }
        while self.waiting.len() > WAITING_MAX {
            let Some((_, oldest)) = self.waiting.pop_first() else { break };
            changes.push((key(&oldest.row), None));
        }
    }

    /// Takes a row of the state store back. Rows that are not understood are passed over.
    pub fn restore(&mut self, value: &[u8]) {
        if let Ok(row) = serde_json::from_slice::<AlertRow>(value) {
            self.waiting.insert((row.alert_id, row.event), Waiting { row, state: State::Saved });
        }
    }

    /// Everything that was staged is saved.
    pub fn saved(&mut self) {
        self.change(State::Staged, State::Saved);
    }

    /// What is to be put into the log, in the order of the alerts' numbers.
    pub fn due(&self) -> Vec<AlertRow> {
        let due = self.waiting.values().filter(|one| one.state == State::Saved);
        due.map(|one| one.row.clone()).collect()
    }

    /// What was due is in the log.
    pub fn logged(&mut self) {
        self.change(State::Saved, State::Logged);
    }

    /// These stand in the log.
    pub fn confirm(&mut self, rows: &[AlertRow], changes: &mut Vec<Change>) {
        for row in rows {
            // Another collector's number, or another life's, is another row.
            let key_of = (row.alert_id, row.event);
            if self.waiting.get(&key_of).is_some_and(|one| one.row == *row) {
                self.waiting.remove(&key_of);
                changes.push((key(row), None));
            }
        }
    }

    fn change(&mut self, from: State, to: State) {
        self.waiting.values_mut().filter(|one| one.state == from).for_each(|one| one.state = to);
    }
}

fn key(row: &AlertRow) -> Vec<u8> {
    [&[OUTBOX], &row.alert_id.to_be_bytes()[..], &[row.event as u8]].concat()
}

fn row(event: Event, alert: &Alert) -> Option<AlertRow> {
    let (event, time_ms) = match event {
        Event::Firing => (AlertEvent::Firing, alert.fired_ms),
        Event::Resolved => (AlertEvent::Resolved, alert.resolved_ms?),
        Event::Test => return None,
    };
    let addr = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Addr>().ok());
    let subject = &alert.subject;
    Some(AlertRow {
        time_ms,
        event,
        alert_id: alert.id,
        alert_type: alert.alert_type.name().to_owned(),
        severity: alert.severity.name().to_owned(),
        subscriber_id: subject.subscriber_id,
        reseller_id: subject.reseller_id,
        nas_id: subject.nas_id.clone(),
        site: subject.site.clone(),
        host: addr(&subject.host),
        exporter_ip: addr(&subject.exporter),
        name: subject.name.clone(),
        value: alert.value,
        threshold: alert.threshold,
        bytes: alert.measured.bytes,
        connections: alert.measured.connections,
        unique_destinations: alert.measured.unique_destinations,
        summary: alert.summary.clone(),
        fired_at_ms: alert.fired_ms,
        resolved_at_ms: alert.resolved_ms,
    })
}
