use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a stop that a second signal forced.
const FORCED: i32 = 3;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// Signals as messages to the main thread.
pub(super) struct Signals {
    asked: Receiver<Asked>,
    forced: Arc<AtomicBool>,
}

impl Signals {
    /// Begins to watch SIGTERM, SIGINT and SIGHUP.
    pub fn watch(runtime: &Runtime) -> io::Result<Self> {
        let (sender, asked) = crossbeam_channel::unbounded();
        let forced = Arc::new(AtomicBool::new(false));
        let _inside = runtime.enter();
        for (kind, ask) in [
            (SignalKind::terminate(), Asked::Stop),
            (SignalKind::interrupt(), Asked::Stop),
            (SignalKind::hangup(), Asked::Reload),
        ] {
            runtime.spawn(pass_on(signal(kind)?, ask, sender.clone(), forced.clone()));
        }
        Ok(Self { asked, forced })
    }

    /// Waits for a signal.
    pub fn wait(&self, time: Duration) -> Option<Asked> {
        match self.asked.recv_timeout(time) {
            Ok(asked) => Some(asked),
            Err(RecvTimeoutError::Timeout) => None,
            // The runtime is gone: nothing can ask any more.
            Err(RecvTimeoutError::Disconnected) => Some(Asked::Stop),
        }
    }

    /// From now on another request to stop ends the process at once.
    pub fn force_exit_on_the_next(&self) {
        self.forced.store(true, Relaxed);
    }
}

async fn pass_on(mut signal: Signal, ask: Asked, sender: Sender<Asked>, forced: Arc<AtomicBool>) {
    while signal.recv().await.is_some() {
        if ask == Asked::Stop && forced.load(Relaxed) {
            tracing::warn!("asked to stop again: ending at once; what is not delivered is in the log");
            std::process::exit(FORCED);
        }
        // The main thread is there as long as the runtime.
        let _ = sender.send(ask);
    }
}
