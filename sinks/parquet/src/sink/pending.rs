use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use parquet::errors::Result;
use sink_api::FlowBatch;
use sink_api::batch::Field;
use sink_api::rollup::{RollupDef, RollupRows, RollupSums};

use super::commit::Commit;
use crate::encode::{Rows, extent, flow_order};
use crate::layout::{Partitioning, day, is_table_name};
use crate::table::{Table, flow_cells, rollup_cells};

/// Log records taken from a group and not encoded yet. They are shared with the log, not copied.
pub(super) struct Pending<'a> {
    rollups: &'a [RollupDef],
    cutoff_ms: i64,
    batches: Vec<Arc<FlowBatch>>,
    flow_rows: usize,
    sums: Vec<Arc<RollupSums>>,
    sum_rows: usize,
    expired_flows: u64,
}

impl<'a> Pending<'a> {
    /// Flows that ended before `cutoff_ms` are counted instead of stored.
    pub(super) fn new(rollups: &'a [RollupDef], cutoff_ms: i64) -> Self {
        let (batches, sums) = (Vec::new(), Vec::new());
        Self { rollups, cutoff_ms, batches, flow_rows: 0, sums, sum_rows: 0, expired_flows: 0 }
    }

    pub(super) fn push_flows(&mut self, batch: Arc<FlowBatch>) {
        self.flow_rows += batch.len();
        self.batches.push(batch);
    }

    pub(super) fn push_sums(&mut self, sums: Arc<RollupSums>) {
        self.sum_rows += sums.rows.iter().map(RollupRows::len).sum::<usize>();
        self.sums.push(sums);
    }

    pub(super) fn flow_rows(&self) -> usize {
        self.flow_rows
    }

    pub(super) fn sum_rows(&self) -> usize {
        self.sum_rows
    }

    /// Flows left out because they are older than the retention.
    pub(super) fn expired_flows(&self) -> u64 {
        self.expired_flows
    }

    /// Encodes the flows held: one row group for each day that they touch.
    pub(super) fn flush_flows(&mut self, commit: &mut Commit<'_>) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        let total = std::mem::take(&mut self.flow_rows);
        if total == 0 {
            return Ok(());
        }
        let times: Vec<Cow<'_, [i64]>> = batches.iter().map(|b| times_of(b)).collect();
        let (days, expired) = partition_rows(&times, self.cutoff_ms, Partitioning::Day);
        self.expired_flows += expired;
        let table = Table::flows();
        for (partition, part) in days {
            let rows = flow_order(&batches, total, part.rows);
            commit.row_group(&table, partition, part.times, &rows, |column| {
                batches.iter().map(|b| flow_cells(b, Field::ALL[column])).collect()
            })?;
        }
        Ok(())
    }

    /// Encodes the rollup rows held. Rows of rollups that are not configured (any more) are left out.
    pub(super) fn flush_sums(&mut self, commit: &mut Commit<'_>) -> Result<()> {
        let sums = std::mem::take(&mut self.sums);
        self.sum_rows = 0;
        for def in self.rollups.iter().filter(|d| is_table_name(&d.name)) {
            let fits = |rows: &&RollupRows| {
                rows.rollup == def.name && rows.keys.iter().map(|k| k.0).eq(def.by.iter().copied())
            };
            let parts: Vec<&RollupRows> = sums.iter().flat_map(|s| &s.rows).filter(fits).collect();
            let total = parts.iter().map(|p| p.len()).sum();
            if total == 0 {
                continue;
            }
            write_rollup(commit, def, &parts, total)?;
        }
        Ok(())
    }
}

/// Encodes rows of one rollup: one row group for each partition that they touch.
fn write_rollup(commit: &mut Commit<'_>, def: &RollupDef, parts: &[&RollupRows], total: usize) -> Result<()> {
    let table = Table::rollup(def);
    let buckets: Vec<_> = parts.iter().map(|p| Cow::Borrowed(p.bucket.as_slice())).collect();
    let (partitions, _) = partition_rows(&buckets, i64::MIN, Partitioning::of(def));
    for (partition, part) in partitions {
        let rows = Rows::new(total, part.rows);
        commit.row_group(&table, partition, part.times, &rows, |column| {
            parts.iter().filter_map(|p| rollup_cells(p, column)).collect()
        })?;
    }
    Ok(())
}

/// Rows of one partition.
pub(crate) struct Part {
    /// Which; `None` when it is all of them.
    pub(crate) rows: Option<Vec<u32>>,
    /// Smallest and largest time.
    pub(crate) times: (i64, i64),
}

/// The times of all rows; a time that is not known is 0.
fn times_of(batch: &FlowBatch) -> Cow<'_, [i64]> {
    match batch.time.values() {
        [] => Cow::Owned(vec![0; batch.len()]),
        times => Cow::Borrowed(times),
    }
}

/// Divides rows by partition; also the number of rows before the cutoff, which belong to none.
pub(crate) fn partition_rows(
    parts_times: &[Cow<'_, [i64]>],
    cutoff_ms: i64,
    by: Partitioning,
) -> (BTreeMap<String, Part>, u64) {
    let mut bounds = (i64::MAX, i64::MIN);
    for times in parts_times {
        let (least, most) = extent(times).unwrap_or(bounds);
        bounds = (bounds.0.min(least), bounds.1.max(most));
    }
    let mut parts = BTreeMap::new();
    if bounds.0 >= cutoff_ms && by.name(bounds.0) == by.name(bounds.1) {
        parts.insert(by.name(bounds.0), Part { rows: None, times: bounds });
        return (parts, 0);
    }
    let mut days: BTreeMap<i64, (Vec<u32>, (i64, i64))> = BTreeMap::new();
    let mut expired = 0;
    for (row, time) in parts_times.iter().flat_map(|times| times.iter().copied()).enumerate() {
        if time < cutoff_ms {
            expired += 1;
            continue;
        }
        let (rows, bounds) = days.entry(day(time)).or_insert((Vec::new(), (i64::MAX, i64::MIN)));
        rows.push(row as u32);
        *bounds = (bounds.0.min(time), bounds.1.max(time));
    }
    for (_, (rows, times)) in days {
        let part = parts.entry(by.name(times.0)).or_insert(Part { rows: Some(Vec::new()), times });
        part.times = (part.times.0.min(times.0), part.times.1.max(times.1));
        if let Some(all) = &mut part.rows {
            all.extend(rows);
        }
    }
    (parts, expired)
}
