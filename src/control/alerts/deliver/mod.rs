//! Bringing alerts to their receivers: a thread and a durable queue for each, so that one that fails delays no other.
//!
//! Invariants: what is in a queue was saved before, together with the alert; it leaves the queue when the receiver has
//! taken it. A crash in between brings it twice, with the same delivery id, never not at all. A queue is bounded: the
//! oldest go, counted. Receivers come, change and go while the others go on: one that changed keeps its queue, one that is
//! gone loses it.

mod alertmanager;
mod mail;
mod queue;
mod thread;
mod web;
mod webhook;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
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
    with_secret(config, base, config.read_secret(base)?)
}

fn with_secret(config: &ReceiverConfig, base: &Path, secret: String) -> Result<Box<dyn Sender>, String> {
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
pub struct Deliveries {
    receivers: RwLock<Vec<ReceiverThread>>,
    board: Arc<Board>,
    keep: Keep,
    clock: Clock,
}

/// Receivers of a new configuration, ready to be put in force. Whatever can be wrong with them has been tried.
pub struct Plan(Vec<Planned>);

impl std::fmt::Debug for Plan {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|planned| &planned.config.name)).finish()
    }
}

struct Planned {
    config: ReceiverConfig,
    secret: String,
    /// `None`: the receiver stays as it is.
    sender: Option<Box<dyn Sender>>,
}

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deliveries").field("receivers", &self.receivers).finish_non_exhaustive()
    }
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
        let (board, keep, clock) = (board.clone(), keep.clone(), clock.clone());
        let deliveries = Self { receivers: RwLock::default(), board, keep, clock };
        let planned = deliveries.plan(configs, base)?.0;
        let mut receivers = Vec::with_capacity(planned.len());
        for planned in planned {
            let name = planned.config.name.clone();
            let waiting = queues.remove(&name).unwrap_or_default();
            receivers.extend(deliveries.begin(planned, waiting).map_err(|e| format!("receiver {name}: {e}"))?);
        }
        let orphans: Vec<Change> =
            queues.iter().flat_map(|(name, waiting)| waiting.iter().map(|one| (queue::key(name, one), None))).collect();
        if !orphans.is_empty() {
            tracing::info!(dropped = orphans.len(), "alerts: queues of receivers that are gone are dropped");
            deliveries.keep.apply(&orphans).map_err(|e| e.to_string())?;
        }
        Ok(Self { receivers: RwLock::new(receivers), ..deliveries })
    }

    /// Tries everything that can be wrong with other receivers, without changing anything.
    ///
    /// # Errors
    /// The first receiver that cannot be, and why.
    pub fn plan(&self, configs: &[ReceiverConfig], base: &Path) -> Result<Plan, String> {
        let running = self.receivers();
        let plan = |config: &ReceiverConfig| -> Result<Planned, String> {
            let failed = |e: String| format!("receiver {}: {e}", config.name);
            let secret = config.read_secret(base).map_err(failed)?;
            let stays = running.iter().any(|receiver| receiver.is(config, &secret));
            let sender = if stays { None } else { Some(with_secret(config, base, secret.clone()).map_err(failed)?) };
            Ok(Planned { config: config.clone(), secret, sender })
        };
        configs.iter().map(plan).collect::<Result<_, _>>().map(Plan)
    }

    /// Puts other receivers in force. Those that changed go on with their queues, but for what they no longer want; queues of
    /// those that are gone are dropped. Gives a line about each thing that somebody may miss.
    pub fn reconfigure(&self, plan: Plan) -> Vec<String> {
        let mut notes = Vec::new();
        let mut receivers = self.receivers.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *receivers);
        for planned in plan.0 {
            let name = planned.config.name.clone();
            match before.iter().position(|receiver| receiver.name() == name) {
                Some(at) => {
                    let receiver = before.swap_remove(at);
                    if let Some(sender) = planned.sender {
                        let dropped = receiver.replace(planned.config, planned.secret, sender);
                        say_dropped(&mut notes, &format!("no longer wanted by the receiver {name}"), dropped);
                    }
                    receivers.push(receiver);
                }
                None => match self.begin(planned, Default::default()) {
                    Ok(receiver) => receivers.extend(receiver),
                    Err(error) => notes.push(format!("the receiver {name} cannot be started: {error}")),
                },
            }
        }
        for gone in before {
            // It is not waited for: what it is about to deliver may be delivered.
            gone.stop();
            say_dropped(&mut notes, &format!("for the receiver {}, which is gone", gone.name()), gone.queue.drop_all());
        }
        notes
    }

    fn begin(
        &self,
        planned: Planned,
        waiting: std::collections::VecDeque<Notification>,
    ) -> std::io::Result<Option<ReceiverThread>> {
        let Planned { config, secret, sender: Some(sender) } = planned else { return Ok(None) };
        let queue = Arc::new(Queue::new(config, self.keep.clone(), waiting));
        ReceiverThread::start(queue, secret, sender, self.board.clone(), self.clock.clone()).map(Some)
    }

    /// Tells every receiver that wants it what happened, once `save` has saved the rows that it is given. They are told when
    /// that failed, too.
    ///
    /// # Errors
    /// As `save`.
    pub(super) fn tell(
        &self,
        events: &[(Event, Alert)],
        save: impl FnOnce(Vec<Change>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        // No receiver comes or goes meanwhile: the rows of one that is gone would stay.
        let receivers = self.receivers();
        let mut changes = Vec::new();
        receivers.iter().for_each(|receiver| receiver.queue.stage(events, &mut changes));
        let saved = save(changes);
        receivers.iter().for_each(ReceiverThread::release);
        saved
    }

    /// Adds all receivers to a scrape.
    pub(super) fn expose(&self, out: &mut Exposition) {
        self.receivers().iter().for_each(|receiver| receiver.queue.expose(out));
    }

    /// Ends the threads; what waits stays in the queues. Gives whether all ended in time.
    pub fn stop(&self, deadline: Instant) -> bool {
        let receivers = self.receivers();
        receivers.iter().for_each(ReceiverThread::stop);
        let ended: Vec<bool> = receivers.iter().map(|receiver| receiver.join(deadline)).collect();
        ended.into_iter().all(|ended| ended)
    }

    /// Notifications that wait for a receiver.
    #[cfg(test)]
    pub(super) fn waiting(&self, name: &str) -> Option<usize> {
        self.receivers()
            .iter()
            .find(|receiver| receiver.name() == name)
            .map(|receiver| receiver.queue.first(usize::MAX).len())
    }

    fn receivers(&self) -> RwLockReadGuard<'_, Vec<ReceiverThread>> {
        self.receivers.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn say_dropped(notes: &mut Vec<String>, whose: &str, dropped: Result<usize, StateError>) {
    match dropped {
        Ok(0) => {}
        Ok(number) => notes.push(format!("alerts: {number} notifications {whose} are dropped")),
        Err(error) => notes.push(format!("alerts: notifications {whose} come back at the next start: {error}")),
    }
}
