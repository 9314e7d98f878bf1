use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::super::alert::Alert;
use super::super::board::Event;
use super::super::receiver_config::ReceiverConfig;
use crate::control::state::{Change, Keep, StateError};
use crate::telemetry::{Counter, Exposition};

/// Notifications that wait for one receiver; the oldest go first.
const WAITING_MAX: usize = 1000;
/// First byte of the keys of the queues' rows in the state store.
const QUEUE: u8 = b'Q';

/// Something that a receiver is to be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// What happened.
    pub event: Event,
    /// To which alert, as it was then.
    pub alert: Alert,
}

impl Notification {
    /// The same however often it is tried.
    pub fn delivery_id(&self) -> String {
        let event = match self.event {
            Event::Firing => "firing",
            Event::Resolved => "resolved",
            Event::Test => "test",
        };
        format!("{}-{event}", self.alert.id)
    }
}

/// What waits for one receiver, and what became of the rest.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: String,
    keep: Keep,
    inner: Mutex<Inner>,
    delivered: Counter,
    failures: Counter,
    dropped: Counter,
}

#[derive(Debug)]
struct Inner {
    config: ReceiverConfig,
    waiting: VecDeque<Notification>,
    /// Not saved yet.
    staged: Vec<Notification>,
    last_error: Option<String>,
}

impl Queue {
    pub(super) fn new(config: ReceiverConfig, keep: Keep, waiting: VecDeque<Notification>) -> Self {
        Self {
            name: config.name.clone(),
            keep,
            inner: Mutex::new(Inner { config, waiting, staged: Vec::new(), last_error: None }),
            delivered: Counter::default(),
            failures: Counter::default(),
            dropped: Counter::default(),
        }
    }

    pub(super) fn stage(&self, events: &[(Event, Alert)], changes: &mut Vec<Change>) {
        let inner = &mut *self.lock();
        for (event, alert) in events.iter().filter(|(_, alert)| inner.config.wants(alert)) {
            let notification = Notification { event: *event, alert: alert.clone() };
            changes.push((key(&self.name, &notification), serde_json::to_vec(&notification).ok()));
            inner.staged.push(notification);
        }
        let surplus = (inner.waiting.len() + inner.staged.len()).saturating_sub(WAITING_MAX);
        for _ in 0..surplus.min(inner.waiting.len()) {
            if let Some(oldest) = inner.waiting.pop_front() {
                changes.push((key(&self.name, &oldest), None));
                self.dropped.add(1);
            }
        }
    }

    /// Gives whether there is anything new.
    pub(super) fn release(&self) -> bool {
        let inner = &mut *self.lock();
        let is_new = !inner.staged.is_empty();
        inner.waiting.extend(inner.staged.drain(..));
        is_new
    }

    /// Whether it is that of a receiver as configured.
    pub(super) fn is(&self, config: &ReceiverConfig) -> bool {
        self.lock().config == *config
    }

    /// Whether an alert is for the receiver.
    pub(super) fn wants(&self, alert: &Alert) -> bool {
        self.lock().config.wants(alert)
    }

    /// Goes on for a receiver that is configured otherwise. What it does not want any more is dropped: it may be somebody
    /// else now. Gives how many those were.
    pub(super) fn reconfigure(&self, config: ReceiverConfig) -> Result<usize, StateError> {
        let wants = |one: &Notification| config.wants(&one.alert);
        let dropped = self.drop_unless(wants);
        self.lock().config = config;
        dropped
    }

    /// Forgets everything. Gives how many that were.
    pub(super) fn drop_all(&self) -> Result<usize, StateError> {
        self.drop_unless(|_| false)
    }

    fn drop_unless(&self, stays: impl Fn(&Notification) -> bool) -> Result<usize, StateError> {
        let mut rows: Vec<Change> = Vec::new();
        self.lock().waiting.retain(|one| {
            let stays = stays(one);
            if !stays {
                rows.push((key(&self.name, one), None));
            }
            stays
        });
        self.dropped.add(rows.len() as u64);
        if rows.is_empty() { Ok(0) } else { self.keep.apply(&rows).map(|()| rows.len()) }
    }

    /// The first that wait.
    pub(super) fn first(&self, max: usize) -> Vec<Notification> {
        self.lock().waiting.iter().take(max).cloned().collect()
    }

    /// These were taken. They may be gone already, when the queue was full.
    pub(super) fn done(&self, taken: &[Notification]) -> Result<(), StateError> {
        let rows: Vec<Change> = taken.iter().map(|one| (key(&self.name, one), None)).collect();
        let mut inner = self.lock();
        inner.waiting.retain(|one| !taken.iter().any(|t| t.alert.id == one.alert.id && t.event == one.event));
        inner.last_error = None;
        drop(inner);
        self.delivered.add(taken.len() as u64);
        if rows.is_empty() { Ok(()) } else { self.keep.apply(&rows) }
    }

    /// Gives whether this is another error than the last one.
    pub(super) fn failed(&self, error: &str) -> bool {
        self.failures.add(1);
        let mut inner = self.lock();
        let is_new = inner.last_error.as_deref() != Some(error);
        inner.last_error = Some(error.to_owned());
        is_new
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        let labels = [("receiver", &*self.name)];
        let mut count = |name, help, counter: &Counter| out.counter(name, help, &labels, counter.get());
        count("netflow_alerts_delivered_total", "Notifications that a receiver took.", &self.delivered);
        count("netflow_alerts_delivery_failures_total", "Tries that a receiver did not take.", &self.failures);
        let help = "Notifications dropped from a full queue, or because the receiver does not want them any more.";
        count("netflow_alerts_dropped_total", help, &self.dropped);
        let waiting = self.lock().waiting.len() as f64;
        out.gauge("netflow_alerts_waiting", "Notifications that wait for a receiver.", &labels, waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every queue by receiver, in the order in which things happened.
pub(super) fn load(keep: &Keep) -> Result<BTreeMap<String, VecDeque<Notification>>, StateError> {
    let mut queues: BTreeMap<String, VecDeque<Notification>> = BTreeMap::new();
    keep.each(|key, value| {
        let Some((&QUEUE, rest)) = key.split_first() else { return };
        let name = rest.split(|byte| *byte == 0).next().and_then(|name| std::str::from_utf8(name).ok());
        if let (Some(name), Ok(notification)) = (name, serde_json::from_slice(value)) {
            queues.entry(name.to_owned()).or_default().push_back(notification);
        }
    })?;
    Ok(queues)
}

/// The key of a notification's row. Names hold no zero byte.
pub(super) fn key(receiver: &str, notification: &Notification) -> Vec<u8> {
    let event = [0, notification.event as u8];
    [&[QUEUE], receiver.as_bytes(), &event[..1], &notification.alert.id.to_be_bytes(), &event[1..]].concat()
}
