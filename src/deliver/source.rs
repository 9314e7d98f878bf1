use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Source;
use crate::flow::Entry;
use crate::log::{Consumer, Lag, Log};

/// The log's consumer as a sink's source.
pub struct LogSource {
    log: Arc<Log>,
    consumer: Consumer,
    committed: u64,
}

impl LogSource {
    /// A source over a consumer of this log.
    pub fn new(log: Arc<Log>, consumer: Consumer) -> Self {
        let committed = consumer.position();
        Self { log, consumer, committed }
    }
}

impl Source for LogSource {
    fn next(&mut self, timeout: Duration) -> io::Result<Option<Entry>> {
        self.consumer.next(timeout).map_err(io::Error::other)
    }

    fn seek(&mut self, position: u64) {
        let before = position.saturating_sub(1);
        // A sink that is ahead of the log (which lost its tail in a crash) must not skip what is yet to come.
        if before > self.log.end() {
            self.log.ensure_position_above(before);
        }
        self.consumer.seek(before);
    }

    fn commit(&mut self, position: u64) -> u64 {
        self.committed = self.committed.max(position);
        self.consumer.commit(position)
    }

    fn committed(&self) -> u64 {
        self.committed
    }

    fn lag(&self) -> Lag {
        self.consumer.lag()
    }
}
