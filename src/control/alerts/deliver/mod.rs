//! Bringing alerts to their receivers: a thread and a durable queue for each, so that one that fails delays no other.
//!
//! Invariants: what is in a queue was saved before, together with the alert; it leaves the queue when the receiver has
//! taken it. A crash in between brings it twice, with the same delivery id, never not at all. A queue is bounded: the
//! oldest go, counted.

mod alertmanager;
mod mail;
mod queue;
mod thread;
mod web;
mod webhook;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use queue::Notification;

use self::queue::Queue;
use self::thread::ReceiverThread;
use super::alert::Alert;
use super::board::{Board, Event};
use super::receiver_config::{ReceiverConfig, ReceiverKind};
use crate::control::state::{Change, Keep, StateError};
use crate::flow::Clock;
use crate::telemetry::Exposition;

/// How long one try may take.
const SEND_TIME_MAX: Duration = Duration::from_secs(10);

/// What brings notifications to one receiver.
trait Sender: Send {
    /// Brings the first of the queue, as many as it takes in one go, and what lasts where the receiver has to be
    /// reminded. Gives how many of the queue are done.
    ///
    /// # Errors
    /// The receiver did not take them; all are tried again.
    fn send(&mut self, queue: &[Notification], active: &[Alert], now_ms: i64) -> Result<usize, String>;

    /// How often the receiver has to be reminded of what lasts.
    fn reminder(&self) -> Option<Duration> {
        None
    }
}

fn sender(config: &ReceiverConfig, base: &Path) -> Result<Box<dyn Sender>, String> {
    let secret = config.read_secret(base)?;
    Ok(match config.kind {
        ReceiverKind::Alertmanager => Box::new(alertmanager::Alertmanager::new(&config.url)),
        ReceiverKind::Webhook => Box::new(webhook::Webhook::new(&config.url, secret)),
        ReceiverKind::Mail => Box::new(mail::Mail::new(config, base, secret)?),
    })
}

/// Sends one made-up alert to a receiver, now and without a queue.
///
/// # Errors
/// What went wrong.
pub fn test(config: &ReceiverConfig, base: &Path, alert: Alert, now_ms: i64) -> Result<(), String> {
    let notification = Notification { event: Event::Test, alert };
    sender(config, base)?.send(&[notification], &[], now_ms).map(|_| ())
}

/// All receivers.
#[derive(Debug)]
pub struct Deliveries {
    receivers: Vec<ReceiverThread>,
}

impl Deliveries {
    /// Starts a thread for each receiver; each goes on with what waits in its queue. Queues of receivers that are no longer
    /// configured are dropped.
    ///
    /// # Errors
    /// A secret cannot be read, a thread cannot be started, the state store refuses.
    pub fn start(
        configs: &[ReceiverConfig],
        base: &Path,
        board: &Arc<Board>,
        keep: &Keep,
        clock: &Clock,
    ) -> Result<Self, String> {
        let mut queues = queue::load(keep).map_err(|e: StateError| e.to_string())?;
        let mut receivers = Vec::with_capacity(configs.len());
        for config in configs {
            let failed = |e: &dyn std::fmt::Display| format!("receiver {}: {e}", config.name);
            let sender = sender(config, base).map_err(|e| failed(&e))?;
            let waiting = queues.remove(&config.name).unwrap_or_default();
            let queue = Arc::new(Queue::new(config.clone(), keep.clone(), waiting));
            let thread = ReceiverThread::start(queue, sender, board.clone(), clock.clone()).map_err(|e| failed(&e))?;
            receivers.push(thread);
        }
        let orphans: Vec<Change> =
            queues.iter().flat_map(|(name, waiting)| waiting.iter().map(|one| (queue::key(name, one), None))).collect();
        if !orphans.is_empty() {
            tracing::info!(dropped = orphans.len(), "alerts: queues of receivers that are gone are dropped");
            keep.apply(&orphans).map_err(|e| e.to_string())?;
        }
        Ok(Self { receivers })
    }

    /// Notes what happened for every receiver that wants it: rows to be saved before [`Deliveries::release`].
    pub(super) fn stage(&self, events: &[(Event, Alert)], changes: &mut Vec<Change>) {
        self.receivers.iter().for_each(|receiver| receiver.queue.stage(events, changes));
    }

    /// Lets the receivers have what was staged.
    pub(super) fn release(&self) {
        self.receivers.iter().for_each(ReceiverThread::release);
    }

    /// Adds all receivers to a scrape.
    pub(super) fn expose(&self, out: &mut Exposition) {
        self.receivers.iter().for_each(|receiver| receiver.queue.expose(out));
    }

    /// Ends the threads; what waits stays in the queues. Gives whether all ended in time.
    pub fn stop(&self, deadline: Instant) -> bool {
        self.receivers.iter().for_each(ReceiverThread::stop);
        let ended: Vec<bool> = self.receivers.iter().map(|receiver| receiver.join(deadline)).collect();
        ended.into_iter().all(|ended| ended)
    }
}
