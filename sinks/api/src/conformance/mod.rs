//! One suite for every sink: the same records in, the same answers out.
//!
//! [`run`] writes one data set through the sink contract (with repeats, torn groups, reopening, a second log), asks
//! questions of every shape, and compares each answer with that of [`MemoryStore`]. It needs a sink over an empty place, with
//! retention long enough for [`Options::days`] days before the clock it is given.

mod columns;
mod contract;
mod data;
mod deliverer;
mod questions;
mod records;
mod rollups;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::batch::Field;
use crate::column::Text;
use crate::rollup::{Key, RollupDef, Shape};
use crate::sink::{Entry, LogId, LogTail, NoTail, SinkConfig, SinkContext, SinkError};
use crate::store::memory::MemoryStore;
use questions::Asked;

pub use data::{DataSet, START_MS};
pub use deliverer::Deliverer;
pub use rollups::pro_rated;

/// What the suite writes and expects.
#[derive(Clone, Debug)]
pub struct Options {
    /// Flows in the data set.
    pub flows: usize,
    /// Days over which they are spread.
    pub days: u32,
    /// Whether the sink keeps detail; without it only questions that rollups answer are asked.
    pub detail: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { flows: 100_000, days: 40, detail: true }
    }
}

/// What a run went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries written.
    pub entries: usize,
    /// Questions whose answers were compared.
    pub questions: usize,
}

/// What differs from the reference, one line each.
pub type Failures = Vec<String>;

/// Runs the whole suite against an empty place.
///
/// # Errors
/// Every difference found; writing stops at the first error of the sink that the contract does not allow.
pub fn run(config: &dyn SinkConfig, options: &Options) -> Result<Report, Failures> {
    run_with_columns(config, options, Field::ALL)
}

/// The same for a sink that stores these columns of flows only: questions that need others must be refused or answered from a
/// rollup, and flows one by one come without them.
///
/// # Errors
/// As [`run`].
pub fn run_with_columns(config: &dyn SinkConfig, options: &Options, columns: &[Field]) -> Result<Report, Failures> {
    let rollups = Arc::new(rollup_defs());
    let set = DataSet::new(options, &rollups);
    let reference = MemoryStore::new("conformance", Arc::clone(&rollups));
    let mut report = Report { entries: set.entries.len() + set.other_log.len(), questions: 0 };
    let with_tail = |log_id, entries: &[Entry]| SinkContext {
        log_id,
        tail: Arc::new(Tail(entries.to_vec())),
        ..context(Arc::clone(&rollups), set.now_ms)
    };
    let first = with_tail(LOG, &set.entries);
    let second = with_tail(OTHER_LOG, &set.other_log);
    contract::write_all(config, &first, &set.entries, &reference).map_err(|failure| vec![failure])?;
    let mut failures =
        questions::compare(config, &first, &reference, &set, (options, columns, Asked::All), &mut report);
    contract::write_all(config, &second, &set.other_log, &reference).map_err(|failure| vec![failure])?;
    // That the store has both logs shows in each answer, so some are enough.
    let asked = (options, columns, Asked::Some);
    failures.extend(questions::compare(config, &second, &reference, &set, asked, &mut report));
    if failures.is_empty() { Ok(report) } else { Err(failures) }
}

/// What a sink is given under a clock that stands still: [`LOG`], whose tail is empty.
pub fn context(rollups: Arc<Vec<RollupDef>>, now_ms: i64) -> SinkContext {
    SinkContext {
        name: "conformance".to_owned(),
        log_id: LOG,
        tail: Arc::new(NoTail),
        rollups,
        malformed: Arc::default(),
        clock: Arc::new(move || now_ms),
    }
}

/// The log of most entries.
pub const LOG: LogId = LogId([7; 16]);

/// A second collector's log in the same place.
pub const OTHER_LOG: LogId = LogId([9; 16]);

/// The default rollups and `usage_ports`, `talkers` with few hosts beside the customers so that some are cut, and one rollup of a user's own.
fn rollup_defs() -> Vec<RollupDef> {
    use crate::batch::Field::{DstPort, ExporterIp, ResellerId, Tos};
    let mut defs = RollupDef::defaults();
    defs.push(RollupDef::usage_ports());
    for def in &mut defs {
        if let Shape::Talkers { others } = &mut def.shape {
            *others = 3;
        }
    }
    defs.push(RollupDef {
        name: Text::from("by_exporter"),
        bucket_ms: crate::time::HOUR_MS,
        keep: crate::rollup::Keep::Aggregate,
        by: [ExporterIp, ResellerId, DstPort, Tos].map(Key::Field).into(),
        shape: Shape::Plain,
        while_open: true,
        since_ms: i64::MIN,
    });
    defs
}

/// A log in memory.
struct Tail(Vec<Entry>);

impl LogTail for Tail {
    fn read_after(&self, position: u64, visit: &mut dyn FnMut(&Entry) -> bool) -> std::io::Result<()> {
        self.0.iter().skip_while(|entry| entry.position <= position).all(visit);
        Ok(())
    }
}

fn described(what: &str, error: &SinkError) -> String {
    format!("{what}: {error}")
}
