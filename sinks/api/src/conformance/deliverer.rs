//! A deliverer in small: sends the entries of a log to a sink until all are there, whatever breaks.

use std::fmt;
use std::time::{Duration, Instant};

use crate::sink::{Entry, Group, RefusedRow, Sink, SinkConfig, SinkContext, SinkCounters, SinkError};

/// How long everything may take.
const DEADLINE: Duration = Duration::from_secs(240);

/// A sink that is opened again after each error, as the contract says.
pub struct Deliverer<'a> {
    config: &'a dyn SinkConfig,
    context: &'a SinkContext,
    entries: &'a [Entry],
    sink: Option<Box<dyn Sink>>,
    /// Entries known to be stored.
    pub stored: usize,
    /// Errors that were survived.
    pub errors: Vec<String>,
    /// Rows set aside: position, row, reason.
    pub set_aside: Vec<(u64, usize, String)>,
    /// Whether rows can be set aside.
    pub keeps: bool,
    deadline: Instant,
}

impl<'a> Deliverer<'a> {
    /// Nothing is opened yet.
    pub fn new(config: &'a dyn SinkConfig, context: &'a SinkContext, entries: &'a [Entry]) -> Self {
        let deadline = Instant::now() + DEADLINE;
        let (errors, set_aside) = (Vec::new(), Vec::new());
        Self { config, context, entries, sink: None, stored: 0, errors, set_aside, keeps: true, deadline }
    }

    /// Whether all entries are stored.
    pub fn done(&self) -> bool {
        self.stored == self.entries.len()
    }

    /// What the open sink counted.
    pub fn counters(&self) -> SinkCounters {
        self.sink.as_ref().map(|sink| sink.counters()).unwrap_or_default()
    }

    /// Drops the sink, so that the next step opens it anew.
    pub fn reopen(&mut self) {
        self.sink = None;
    }

    /// Opens if need be and writes one group of at most so many entries; gives whether that went well.
    ///
    /// # Panics
    /// Not everything was stored in time, or the error is none after which one tries again.
    pub fn step(&mut self, entries: usize) -> bool {
        assert!(Instant::now() < self.deadline, "not done in time; last errors: {:?}", self.errors.last());
        match self.try_step(entries) {
            Ok(()) => true,
            Err(error) => {
                assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
                self.errors.push(error.to_string());
                self.sink = None;
                false
            }
        }
    }

    /// The same with the error, whatever it is.
    ///
    /// # Errors
    /// As the sink gave it.
    pub fn try_step(&mut self, entries: usize) -> Result<(), SinkError> {
        let mut sink = match self.sink.take() {
            Some(sink) => sink,
            None => {
                let mut sink = self.config.open(self.context)?;
                self.stored = sink.cursor()?.unwrap_or(0) as usize;
                sink
            }
        };
        let rest = &self.entries[self.stored..];
        let mut group = Slice::new(&rest[..rest.len().min(entries)]);
        group.keeps = self.keeps;
        sink.write(&mut group)?;
        self.stored += group.taken;
        self.set_aside.append(&mut group.set_aside);
        self.sink = Some(sink);
        Ok(())
    }

    /// Writes all that is left.
    pub fn finish(&mut self) {
        while !self.done() {
            self.step(16);
        }
    }
}

impl fmt::Debug for Deliverer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliverer")
            .field("stored", &self.stored)
            .field("errors", &self.errors)
            .field("set_aside", &self.set_aside)
            .finish_non_exhaustive()
    }
}

/// Entries as one group.
pub(super) struct Slice<'a> {
    entries: &'a [Entry],
    /// How many were pulled.
    pub(super) taken: usize,
    /// Whether the log cannot be read after the last one.
    pub(super) fails: bool,
    keeps: bool,
    set_aside: Vec<(u64, usize, String)>,
}

impl<'a> Slice<'a> {
    pub(super) fn new(entries: &'a [Entry]) -> Self {
        Self { entries, taken: 0, fails: false, keeps: true, set_aside: Vec::new() }
    }
}

impl Group for Slice<'_> {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        let entry = self.entries.get(self.taken).cloned();
        self.taken += usize::from(entry.is_some());
        match entry {
            None if self.fails => Err(SinkError::retry("the log's file cannot be read")),
            entry => Ok(entry),
        }
    }

    fn set_aside(&mut self, rows: &[RefusedRow<'_>]) -> Result<(), SinkError> {
        if !self.keeps && !rows.is_empty() {
            return Err(SinkError::retry("the quarantine cannot be written"));
        }
        let rows = rows.iter().map(|refused| (refused.entry.position, refused.row, refused.reason.to_owned()));
        self.set_aside.extend(rows);
        Ok(())
    }
}
