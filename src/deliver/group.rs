use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::quarantine::Refused;
use crate::flow::sink::{Entry, Group, RefusedRow, SinkError};
use crate::log::Lag;

/// Where a sink's entries come from: the log's consumer, or a list in tests.
pub trait Source: Send {
    /// The next entry; waits for one up to `timeout`, then gives `None`.
    ///
    /// # Errors
    /// An I/O error of the log's files.
    fn next(&mut self, timeout: Duration) -> io::Result<Option<Entry>>;

    /// The next entry to give is the first one at or after `position`.
    fn seek(&mut self, position: u64);

    /// Everything up to and including `position` is durable elsewhere and may be released. Gives the flows that waited and do
    /// so no more.
    fn commit(&mut self, position: u64) -> u64;

    /// The position committed last, as the log remembers it: the start for a sink that has no cursor of its own.
    fn committed(&self) -> u64;

    /// What waits.
    fn lag(&self) -> Lag;
}

/// Bounds of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Rows after which it ends.
    pub rows_max: u64,
    /// Entries after which it ends.
    pub entries_max: u64,
    /// How long after its first entry it ends.
    pub time: Duration,
    /// How long it waits for a first entry.
    pub idle: Duration,
}

/// How a group that is not full goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It waits for entries within its bounds.
    AsBounded,
    /// It waits for nothing.
    TakeWhatIsThere,
    /// It ends.
    End,
}

/// A group over a live source.
pub(super) struct LiveGroup<'a> {
    source: &'a mut dyn Source,
    bounds: Bounds,
    /// Positions that are passed over, with their flows.
    skip: &'a BTreeMap<u64, u64>,
    wait: &'a dyn Fn() -> Wait,
    began: Option<Instant>,
    over: bool,
    /// What the group gave so far.
    pub given: Given,
    /// Keeps rows that the sink sets aside.
    keep: &'a dyn Fn(&[Refused]) -> Result<(), SinkError>,
}

/// What a group gave.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    pub entries: u64,
    pub flows: u64,
    /// Position of the last entry given, 0 when none was.
    pub last: u64,
    /// Position of the first entry given, 0 when none was.
    pub first: u64,
}

/// How often a waiting group looks whether it should end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl<'a> LiveGroup<'a> {
    pub fn new(
        source: &'a mut dyn Source,
        bounds: Bounds,
        skip: &'a BTreeMap<u64, u64>,
        wait: &'a dyn Fn() -> Wait,
        keep: &'a dyn Fn(&[Refused]) -> Result<(), SinkError>,
    ) -> Self {
        Self { source, bounds, skip, wait, keep, began: None, over: false, given: Given::default() }
    }

    fn is_full(&self) -> bool {
        self.given.entries >= self.bounds.entries_max || self.given.flows >= self.bounds.rows_max
    }

    fn time_left(&self, opened: Instant) -> Duration {
        match self.began {
            Some(began) => self.bounds.time.saturating_sub(began.elapsed()),
            None => self.bounds.idle.saturating_sub(opened.elapsed()),
        }
    }
}

impl Group for LiveGroup<'_> {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        let opened = Instant::now();
        while !self.over && !self.is_full() {
            let left = self.time_left(opened);
            let wait = match (self.wait)() {
                Wait::AsBounded => left.min(LOOK_INTERVAL),
                Wait::TakeWhatIsThere => Duration::ZERO,
                Wait::End => {
                    self.over = true;
                    continue;
                }
            };
            match self.source.next(wait).map_err(|e| SinkError::retry(format!("log: {e}")))? {
                Some(entry) if self.skip.contains_key(&entry.position) => {}
                Some(entry) => {
                    self.began.get_or_insert_with(Instant::now);
                    if self.given.entries == 0 {
                        self.given.first = entry.position;
                    }
                    self.given.entries += 1;
                    self.given.flows += entry.record.flow_count();
                    self.given.last = entry.position;
                    return Ok(Some(entry));
                }
                None if left.is_zero() || wait.is_zero() => self.over = true,
                None => {}
            }
        }
        Ok(None)
    }

    fn set_aside(&mut self, rows: &[RefusedRow<'_>]) -> Result<(), SinkError> {
        (self.keep)(&rows.iter().map(Refused::from).collect::<Vec<_>>())
    }
}
