//! Merging files. Rows of a rollup for the same bucket and key become one.
//!
//! What a rollup has of a wide bucket that is over is folded into one file ([`fold`]). Everything else is small files that
//! become larger ones: files of one partition and of similar size are merged once there are enough of them, so each row is rewritten a few
//! times at the most; what remains of a partition that is over is merged whatever its sizes. One call does one merge of a
//! bounded number of rows.

pub mod fold;
mod slice;
mod sums;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use parquet::errors::{ParquetError, Result};
use sink_api::batch::Field;
use sink_api::rollup::{Key, KeyColumn, RollupDef, RollupRows};
use sink_api::time::{HOUR_MS, rfc3339};

use crate::decode::{DataReader, read_flows, read_rollup};
use crate::encode::{Rows, flow_order};
use crate::manifest::{DataFile, State};
use crate::sink::Commit;
use crate::table::{FLOWS, Table, flow_cells, rollup_cells};

/// Rows that one merge takes at the most: it holds them in memory, and writing waits for it.
pub const MERGE_ROWS_MAX: u64 = 400_000;

/// A file of this many rows is left alone.
const DONE_ROWS: u64 = MERGE_ROWS_MAX / 2;

/// Files of similar size that a running partition gathers before they are merged.
const MERGE_FILES_MIN: usize = 8;

/// Files that one merge takes at the most.
const MERGE_FILES_MAX: usize = 64;

/// How long after its end a partition may still get rows in numbers: flows are reported late.
const OVER_AFTER_MS: i64 = HOUR_MS;

/// Files to make one of.
#[derive(Debug, PartialEq)]
pub struct Job {
    /// At least two files of one partition of one table.
    pub files: Vec<Arc<DataFile>>,
}

/// The merge that is most worth doing, if any is.
///
/// Tables of rollups that are not configured (any more) are left as they are, and files that `spared` names.
pub fn next_job(state: &State, rollups: &[RollupDef], spared: &BTreeSet<String>, now_ms: i64) -> Option<Job> {
    let known = |table: &str| table == FLOWS || rollups.iter().any(|d| *d.name == *table);
    let mut groups: BTreeMap<(&str, &str, u32), Vec<&Arc<DataFile>>> = BTreeMap::new();
    let yesterday = rfc3339(now_ms.saturating_sub(OVER_AFTER_MS));
    let is_small = |file: &&Arc<DataFile>| file.rows < DONE_ROWS && known(file.table()) && !spared.contains(&file.path);
    for file in state.files.values().filter(is_small) {
        let over = file.partition() < yesterday.get(..file.partition().len()).unwrap_or_default();
        // Sizes by powers of 8; in a partition that is over all sizes are one class.
        let class = if over { u32::MAX } else { file.rows.max(1).ilog2() / 3 };
        groups.entry((file.table(), file.partition(), class)).or_default().push(file);
    }
    let enough = |class: u32, files: &Vec<_>| files.len() >= if class == u32::MAX { 2 } else { MERGE_FILES_MIN };
    let candidates = groups.into_iter().filter(|((_, _, class), files)| enough(*class, files));
    let (_, files) = candidates.max_by_key(|(_, files)| files.len())?;
    let mut rows = 0;
    let fits = |file: &&Arc<DataFile>| {
        rows += file.rows;
        rows <= MERGE_ROWS_MAX
    };
    let files: Vec<_> = files.into_iter().take(MERGE_FILES_MAX).take_while(fits).cloned().collect();
    (files.len() >= 2).then_some(Job { files })
}

/// Writes the merged rows into the commit. Gives how many there are.
///
/// # Errors
/// Of the file system, or when a file is malformed.
pub(crate) fn run(job: &Job, folder: &Path, rollups: &[RollupDef], commit: &mut Commit<'_>) -> Result<u64> {
    let Some(first) = job.files.first() else {
        return Ok(0);
    };
    let partition = first.partition().to_string();
    let listed = job.files.iter().map(|file| file.rows).sum::<u64>();
    let times = job.files.iter().fold((i64::MAX, i64::MIN), |(a, b), f| (a.min(f.min_ms), b.max(f.max_ms)));
    let readers = job.files.iter().map(|f| DataReader::open(&folder.join(&f.path))).collect::<Result<Vec<_>>>()?;
    let groups = readers.iter().flat_map(|r| (0..r.row_groups().len()).map(move |g| (r, g)));
    if first.table() == FLOWS {
        let read = |(reader, group)| read_flows(reader, group, Field::ALL, None, None).map(Arc::new);
        let batches = groups.map(read).collect::<Result<Vec<_>>>()?;
        let total: usize = batches.iter().map(|b| b.len()).sum();
        let rows = flow_order(&batches, total, None);
        commit.row_group(&Table::flows(), partition, times, &rows, |column| {
            batches.iter().map(|b| flow_cells(b, Field::ALL[column])).collect()
        })?;
        return checked(total as u64, listed).map(|()| total as u64);
    }
    let Some(def) = rollups.iter().find(|d| *d.name == *first.table()) else {
        return Err(ParquetError::General(format!(
            "no rollup is named {}: its files are left as they are",
            first.table()
        )));
    };
    let parts = groups.map(|(reader, group)| read_rollup(reader, group, def, None)).collect::<Result<Vec<_>>>()?;
    let mut parts: Vec<_> = parts.into_iter().flatten().collect();
    let total: usize = parts.iter().map(RollupRows::len).sum();
    checked(total as u64, listed)?;
    let left = sums::add_up(&mut parts);
    let rows = in_order(&parts, total, left);
    commit.row_group(&Table::rollup(def), partition, times, &rows, |column| {
        parts.iter().filter_map(|p| rollup_cells(p, column)).collect()
    })?;
    Ok(rows.stored() as u64)
}

/// The rows of these numbers, counted over all parts, by subscriber where there is one: a question about one subscriber then
/// reads a page or two of each row group.
fn in_order(parts: &[RollupRows], total: usize, mut rows: Vec<u32>) -> Rows {
    let subscribers = parts.iter().map(|part| {
        part.keys.iter().find_map(|(key, column)| match column {
            KeyColumn::Uuid(column) if *key == Key::Field(Field::SubscriberId) => Some(column),
            _ => None,
        })
    });
    let Some(subscribers) = subscribers.collect::<Option<Vec<_>>>() else {
        return Rows::new(total, (rows.len() < total).then_some(rows));
    };
    let of_row: Vec<_> =
        subscribers.into_iter().flat_map(|column| (0..column.len()).map(|row| column.get(row))).collect();
    rows.sort_by_key(|row| of_row[*row as usize]);
    Rows::new(total, Some(rows))
}

/// Whether as many rows are read as the manifest says.
fn checked(read: u64, listed: u64) -> Result<()> {
    if read == listed {
        return Ok(());
    }
    Err(ParquetError::General(format!("{read} rows were read of files that have {listed}: they are left as they are")))
}
