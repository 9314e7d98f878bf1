//! The handle of a sink's thread: what others may ask of it while it works.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::group::Source;
use super::quarantine::Quarantine;
use super::replay::{Replayed, Wish};
use super::run::Run;
use super::{Config, Status};
use crate::flow::{SinkConfig, SinkContext};

/// A running delivery to one sink.
#[derive(Debug)]
pub struct Deliverer {
    status: Arc<Status>,
    ending: Arc<Ending>,
    replays: Arc<ReplaySlot>,
    quarantine: Arc<Quarantine>,
    thread: Option<JoinHandle<()>>,
}

/// Whether and how the thread is asked to end.
#[derive(Debug, Default)]
pub(super) struct Ending(AtomicU8);

impl Ending {
    /// After what the log holds already.
    const STOP: u8 = 1;
    /// After what was given to the sink already.
    const LEAVE: u8 = 2;

    fn ask(&self, how: u8) {
        self.0.fetch_max(how, Relaxed);
    }

    pub fn is_asked(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    pub fn is_leaving(&self) -> bool {
        self.0.load(Relaxed) == Self::LEAVE
    }
}

/// A replay of the quarantine that somebody waits for.
#[derive(Debug)]
pub(super) struct AskedReplay {
    pub wish: Wish,
    pub answer: Sender<Replayed>,
}

/// Where a replay is asked for.
#[derive(Debug, Default)]
pub(super) struct ReplaySlot(Mutex<Option<AskedReplay>>);

impl ReplaySlot {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<AskedReplay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_asked(&self) -> bool {
        self.lock().is_some()
    }

    pub fn take(&self) -> Option<AskedReplay> {
        self.lock().take()
    }
}

/// What the thread and its handle share.
#[derive(Debug)]
pub(super) struct Shared {
    pub status: Arc<Status>,
    pub ending: Arc<Ending>,
    pub replays: Arc<ReplaySlot>,
    pub quarantine: Arc<Quarantine>,
}

impl Deliverer {
    /// Starts the sink's thread. The sink is opened there, so a server that is down delays nobody.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        config: Config,
        kind: &str,
        sink: Arc<dyn SinkConfig>,
        context: SinkContext,
        source: Box<dyn Source>,
    ) -> io::Result<Self> {
        let status = Arc::new(Status::new(&config.name, kind));
        let ending = Arc::new(Ending::default());
        let quarantine = Quarantine::new(&config.quarantine, config.quarantine_bytes_max, context.log_id);
        let (quarantine, replays) = (Arc::new(quarantine), Arc::new(ReplaySlot::default()));
        let name = format!("sink-{}", config.name);
        let shared = Shared {
            status: status.clone(),
            ending: ending.clone(),
            replays: replays.clone(),
            quarantine: quarantine.clone(),
        };
        let mut run = Run::new(config, sink, context, source, shared);
        let thread = std::thread::Builder::new().name(name).spawn(move || run.run())?;
        Ok(Self { status, ending, replays, quarantine, thread: Some(thread) })
    }

    /// What the sink refused.
    pub fn quarantine(&self) -> &Arc<Quarantine> {
        &self.quarantine
    }

    /// Asks the thread to bring what is in quarantine to the sink again, as soon as the sink takes data; that it does not take
    /// any now is an answer too. `None` while somebody else waits. The answer fails to come when the thread ends before.
    pub fn replay(&self, wish: Wish) -> Option<Receiver<Replayed>> {
        let mut slot = self.replays.lock();
        if slot.is_some() {
            return None;
        }
        let (answer, receiver) = bounded(1);
        *slot = Some(AskedReplay { wish, answer });
        Some(receiver)
    }

    /// What is known of the sink.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Asks the thread to take what the log holds already, commit it and end.
    pub fn stop(&self) {
        self.ending.ask(Ending::STOP);
    }

    /// Asks the thread to commit what it has given to the sink and end; what else the log holds is for whoever follows.
    pub fn leave(&self) {
        self.ending.ask(Ending::LEAVE);
    }

    /// Whether the thread has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the thread to end, up to the deadline. Gives whether it ended; a sink that hangs is left behind: what it
    /// had not committed is in the log.
    pub fn join(&mut self, deadline: Instant) -> bool {
        self.stop();
        while let Some(thread) = &self.thread {
            if thread.is_finished() {
                // A panic of the thread is counted where all are: `telemetry::panics`.
                let _ = self.thread.take().map(JoinHandle::join);
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}
