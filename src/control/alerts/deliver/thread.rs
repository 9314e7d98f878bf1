use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender as Wake, TrySendError, bounded};

use super::super::board::Board;
use super::super::receiver_config::ReceiverConfig;
use super::Sender;
use super::queue::Queue;
use crate::control::state::StateError;
use crate::flow::Clock;

/// First pause after a failure; doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Longest sleep when there is nothing to do.
const IDLE: Duration = Duration::from_secs(60);
/// Notifications shown to a sender at once.
const BATCH_MAX: usize = 100;

/// A sender that takes the place of the one in use before the next try.
type NextSender = Arc<Mutex<Option<Box<dyn Sender>>>>;

/// One receiver's thread.
pub(super) struct ReceiverThread {
    pub(super) queue: Arc<Queue>,
    /// What the sender was made with; of a file it may be another next time.
    secret: Mutex<String>,
    next_sender: NextSender,
    wake: Wake<()>,
    stopping: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for ReceiverThread {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiverThread").field("name", &self.queue.name).finish_non_exhaustive()
    }
}

impl ReceiverThread {
    pub(super) fn start(
        queue: Arc<Queue>,
        secret: String,
        sender: Box<dyn Sender>,
        board: Arc<Board>,
        clock: Clock,
    ) -> io::Result<Self> {
        let (wake, woken) = bounded(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let next_sender = NextSender::default();
        let mut run = Run {
            queue: queue.clone(),
            sender,
            next_sender: next_sender.clone(),
            board,
            clock,
            woken,
            stopping: stopping.clone(),
        };
        let thread = std::thread::Builder::new().name("alert-receiver".into()).spawn(move || run.run())?;
        let (secret, thread) = (Mutex::new(secret), Mutex::new(Some(thread)));
        Ok(Self { queue, secret, next_sender, wake, stopping, thread })
    }

    /// The receiver's name.
    pub(super) fn name(&self) -> &str {
        &self.queue.name
    }

    /// Whether it runs as configured.
    pub(super) fn is(&self, config: &ReceiverConfig, secret: &str) -> bool {
        self.queue.is(config) && *self.secret.lock().unwrap_or_else(PoisonError::into_inner) == secret
    }

    /// Goes on with another sender, at once. Gives how many notifications were dropped, see [`Queue::reconfigure`].
    pub(super) fn replace(
        &self,
        config: ReceiverConfig,
        secret: String,
        sender: Box<dyn Sender>,
    ) -> Result<usize, StateError> {
        let dropped = self.queue.reconfigure(config);
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = secret;
        *self.next_sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        self.wake();
        dropped
    }

    pub(super) fn release(&self) {
        if self.queue.release() {
            self.wake();
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Relaxed);
        self.wake();
    }

    pub(super) fn join(&self, deadline: Instant) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        crate::threads::join(thread, deadline)
    }

    fn wake(&self) {
        match self.wake.try_send(()) {
            // Full: it is about to wake up anyway. Disconnected: it has ended.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

struct Run {
    queue: Arc<Queue>,
    sender: Box<dyn Sender>,
    next_sender: NextSender,
    board: Arc<Board>,
    clock: Clock,
    woken: Receiver<()>,
    stopping: Arc<AtomicBool>,
}

impl Run {
    fn run(&mut self) {
        let mut pause = Duration::ZERO;
        let mut backoff = BACKOFF_MIN;
        let mut reminded: Option<Instant> = None;
        loop {
            self.wait(pause);
            if self.stopping.load(Relaxed) {
                return;
            }
            if let Some(sender) = self.next_sender.lock().unwrap_or_else(PoisonError::into_inner).take() {
                self.sender = sender;
                // Nothing of what the former receiver knew or refused counts for this one.
                (backoff, reminded) = (BACKOFF_MIN, None);
            }
            let due = self.sender.reminder().is_some_and(|every| reminded.is_none_or(|at| at.elapsed() >= every));
            match self.send(due) {
                Ok(more) => {
                    backoff = BACKOFF_MIN;
                    if due {
                        reminded = Some(Instant::now());
                    }
                    pause = if more { Duration::ZERO } else { self.sender.reminder().unwrap_or(IDLE) };
                }
                Err(error) => {
                    if self.queue.failed(&error) {
                        tracing::warn!(receiver = self.queue.name, %error, "alerts: not delivered, tried again");
                    }
                    // Sleeps through news: the receiver gets no more tries because more happens.
                    self.sleep(backoff);
                    (pause, backoff) = (Duration::ZERO, (backoff * 2).min(BACKOFF_MAX));
                }
            }
        }
    }

    /// Gives whether more waits.
    fn send(&mut self, reminder: bool) -> Result<bool, String> {
        let waiting = self.queue.first(BATCH_MAX);
        if waiting.is_empty() && !reminder {
            return Ok(false);
        }
        let mut active = Vec::new();
        if reminder {
            active = self.board.active();
            active.retain(|alert| self.queue.wants(alert));
        }
        let done = self.sender.send(&waiting, &active, (self.clock)())?;
        let done = &waiting[..done.min(waiting.len())];
        if let Err(error) = self.queue.done(done) {
            tracing::error!(%error, "alerts: what was delivered may be delivered again after a restart");
        }
        Ok(!self.queue.first(1).is_empty())
    }

    fn wait(&self, pause: Duration) {
        if pause > Duration::ZERO
            && let Err(RecvTimeoutError::Disconnected) = self.woken.recv_timeout(pause)
        {
            self.stopping.store(true, Relaxed);
        }
    }

    /// Sleeps, but not through a stop or a change of the receiver.
    fn sleep(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let changed = || self.next_sender.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        while !self.stopping.load(Relaxed) && !changed() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            if let Err(RecvTimeoutError::Disconnected) = self.woken.recv_timeout(left) {
                return;
            }
        }
    }
}
