//! A group on several connections: parts of it are committed side by side, each with the range of positions that it holds.
//!
//! After a crash or a lost connection the cursor is the low-water mark, and the ranges above it tell what must not be sent
//! again. The cursor's next step, which every write ends with, removes them.

use std::panic::resume_unwind;

use postgres::Client;
use sink_api::SinkError;

use super::commit::commit as commit_one;
use super::pulled::{AlertRows, FlowRows, Pulled, SumRows};
use super::{Connection, Mark, Place, Tables};
use crate::connect::sink_error;

/// Rows below which a group is not divided: a transaction of its own costs more than it wins.
const PART_ROWS_MIN: usize = 5_000;

/// Positions above the cursor that are stored.
#[derive(Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Those that the database knows of.
    pub fn read(client: &mut Client, place: &Place) -> Result<Self, SinkError> {
        let sql = "SELECT first, last FROM netflow.cursor_ranges WHERE target = $1 AND log_id = $2::text::uuid";
        let rows = client.query(sql, &[&place.target, &place.log_id]).map_err(|e| sink_error("cursor", &e))?;
        Ok(Self(rows.iter().map(|row| (row.get::<_, i64>(0) as u64, row.get::<_, i64>(1) as u64)).collect()))
    }

    pub fn contain(&self, position: u64) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&position))
    }

    pub fn forget_up_to(&mut self, position: u64) {
        self.0.retain(|(_, last)| *last > position);
    }
}

/// Commits parts side by side and takes what is stored out of `pulled`; a group that is too small is left whole.
///
/// # Errors
/// `Retry` or `Fatal` when any part failed so, else `Reject` when any part was refused; those parts are left in `pulled`.
pub(super) fn commit(
    connections: &mut [Connection],
    tables: &Tables,
    place: &Place,
    pulled: &mut Pulled,
) -> Result<(), SinkError> {
    let parts = divide(pulled, connections.len());
    if parts.len() < 2 {
        parts.into_iter().for_each(|part| put_back(pulled, part));
        return Ok(());
    }
    let outcomes: Vec<(Pulled, Result<(), SinkError>)> = std::thread::scope(|scope| {
        let running: Vec<_> = parts
            .into_iter()
            .zip(connections)
            .map(|(part, connection)| {
                scope.spawn(move || {
                    let outcome = positions(&part).map_or(Ok(()), |(first, last)| {
                        commit_one(connection, tables, place, &part, Mark::Range(first, last))
                    });
                    (part, outcome)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let mut refused = None;
    let mut failed = None;
    for (part, outcome) in outcomes {
        match outcome {
            Ok(()) => {}
            Err(SinkError::Reject(reason)) => {
                put_back(pulled, part);
                refused = Some(SinkError::Reject(reason));
            }
            Err(error) => failed = Some(error),
        }
    }
    failed.or(refused).map_or(Ok(()), Err)
}

/// Positions of the first and last entry of a part.
fn positions(part: &Pulled) -> Option<(u64, u64)> {
    let flows = part.flows.iter().map(|flows| flows.entry.position);
    let sums = part.sums.iter().map(|sums| sums.position);
    let all = || flows.clone().chain(sums.clone()).chain(part.alerts.iter().map(|alerts| alerts.position));
    Some((all().min()?, all().max()?))
}

/// Parts of about equal rows; the rows of one entry, and all entries between the first and last of a part, stay together.
fn divide(pulled: &mut Pulled, most: usize) -> Vec<Pulled> {
    let flows = pulled.flows.iter().map(|flows| (flows.entry.position, flows.rows.len()));
    let sums = pulled.sums.iter().map(|sums| (sums.position, sums.rows.len()));
    let alerts = pulled.alerts.iter().map(|alerts| (alerts.position, alerts.rows.len()));
    let mut entries: Vec<(u64, usize)> = flows.chain(sums).chain(alerts).collect();
    entries.sort_unstable();
    let rows: usize = entries.iter().map(|(_, rows)| rows).sum();
    let count = (rows / PART_ROWS_MIN).clamp(1, most);
    let mut parts: Vec<Pulled> = (0..count).map(|_| Pulled::default()).collect();
    // Last position of each part but the last.
    let mut ends = Vec::new();
    let mut seen = 0;
    for window in entries.windows(2) {
        seen += window[0].1;
        if ends.len() + 1 < count && seen * count >= rows * (ends.len() + 1) && window[0].0 != window[1].0 {
            ends.push(window[0].0);
        }
    }
    let part_of = |position: u64| ends.partition_point(|end| *end < position);
    pulled.flows.drain(..).for_each(|flows: FlowRows| parts[part_of(flows.entry.position)].flows.push(flows));
    pulled.sums.drain(..).for_each(|sums: SumRows| parts[part_of(sums.position)].sums.push(sums));
    pulled.alerts.drain(..).for_each(|alerts: AlertRows| parts[part_of(alerts.position)].alerts.push(alerts));
    parts.retain(|part| positions(part).is_some());
    parts
}

fn put_back(pulled: &mut Pulled, mut part: Pulled) {
    pulled.flows.append(&mut part.flows);
    pulled.sums.append(&mut part.sums);
    pulled.alerts.append(&mut part.alerts);
}
