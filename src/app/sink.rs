//! One sink: its deliverer, the store that answers for it, and what follows once it has closed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StartError;
use crate::control::config::{SinkSettings, Start};
use crate::deliver::{self, Deliverer, LogSource, Quarantine, Replayed, Status, Wish};
use crate::flow::malformed::MalformedLog;
use crate::flow::{FlowStore, RollupDef, SinkContext, time};
use crate::log::{ConsumerOptions, Cursor, Log};

/// Prefix of the sinks' cursors in the log, so that a sink's name never meets that of another consumer.
pub(super) const CURSOR_PREFIX: &str = "sink:";

/// A sink that is ready to start: whatever can be wrong with it has been tried.
pub(super) struct Prepared {
    pub settings: SinkSettings,
    context: SinkContext,
    store: Option<Arc<dyn FlowStore>>,
    config: deliver::Config,
}

impl Prepared {
    /// Makes ready. Waits for no server.
    ///
    /// # Errors
    /// The kind refuses to make a store of its settings.
    pub fn new(
        settings: &SinkSettings,
        data: &Path,
        log: &Arc<Log>,
        rollups: &Arc<Vec<RollupDef>>,
        malformed: &Arc<MalformedLog>,
    ) -> Result<Self, StartError> {
        let common = &settings.common;
        let context = SinkContext {
            name: common.name.clone(),
            log_id: log.id(),
            tail: log.clone(),
            rollups: rollups.clone(),
            malformed: malformed.clone(),
            clock: Arc::new(time::now_ms),
        };
        let store = settings.config.store(&context).map_err(|e| StartError(format!("sink {}: {e}", common.name)))?;
        let config = deliver::Config {
            name: common.name.clone(),
            batch_rows: common.batch_rows,
            flush_interval: Duration::from_millis(common.flush_interval_ms),
            quarantine: data.join("quarantine").join(&common.name),
            quarantine_bytes_max: common.quarantine_bytes_max,
        };
        Ok(Self { settings: settings.clone(), context, store, config })
    }

    /// Whether its store can answer questions.
    pub fn answers_questions(&self) -> bool {
        self.store.is_some()
    }
}

/// What follows once a sink has closed.
pub(super) enum After {
    /// It was not asked to close.
    Stay,
    /// It is started with other settings, from its cursor.
    Replace(Box<Prepared>),
    /// Its cursor is dropped.
    Remove,
}

/// A sink at work.
pub(super) struct RunningSink {
    pub settings: SinkSettings,
    pub store: Option<Arc<dyn FlowStore>>,
    /// Flows of the log before the first that this sink was to take.
    pub flows_before: u64,
    pub after: After,
    deliverer: Deliverer,
}

impl RunningSink {
    /// Starts its deliverer.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(prepared: Prepared, log: &Arc<Log>) -> Result<Self, StartError> {
        let Prepared { settings, context, store, config } = prepared;
        let common = &settings.common;
        let start = match common.start {
            Start::Now => Cursor::Now,
            Start::Oldest => Cursor::Oldest,
        };
        let options = ConsumerOptions { start, durable_only: true };
        let consumer = log.consumer(&cursor(&common.name), options);
        let flows_before = consumer.flows_before().unwrap_or_else(|| log.snapshot().flows_total);
        let source = Box::new(LogSource::new(log.clone(), consumer));
        let deliverer = Deliverer::start(config, &common.kind, settings.config.clone(), context, source)
            .map_err(|e| StartError(format!("sink {}: {e}", common.name)))?;
        Ok(Self { settings, store, flows_before, after: After::Stay, deliverer })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.common.name
    }

    /// What is known of it.
    pub fn status(&self) -> &Arc<Status> {
        self.deliverer.status()
    }

    /// What it refused.
    pub fn quarantine(&self) -> &Arc<Quarantine> {
        self.deliverer.quarantine()
    }

    /// Asks for a replay of what it refused; `None` while somebody waits for one.
    pub fn replay(&self, wish: Wish) -> Option<crossbeam_channel::Receiver<Replayed>> {
        self.deliverer.replay(wish)
    }

    /// Has it commit what it holds and close.
    pub fn leave(&mut self, after: After) {
        self.after = after;
        self.deliverer.leave();
    }

    /// Whether its thread has ended.
    pub fn has_ended(&self) -> bool {
        self.deliverer.has_ended()
    }

    /// Has it take what the log holds already, then close.
    pub fn stop(&self) {
        self.deliverer.stop();
    }

    /// Waits for its end; gives whether it came in time.
    pub fn join(&mut self, deadline: Instant) -> bool {
        self.deliverer.join(deadline)
    }
}

/// Name of a sink's cursor in the log.
pub(super) fn cursor(sink: &str) -> String {
    format!("{CURSOR_PREFIX}{sink}")
}
