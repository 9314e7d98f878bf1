//! Making one row a bucket and key of all that a rollup has of a bucket that is over, however large its files are.
//!
//! A bucket of an hour or a day is emitted again and again while it is open, each time with a row for nearly every key. A fold
//! reads all files of the bucket, some rows a step, so that writing never waits for long, and holds a bounded number of rows:
//! when keys are more, it takes half of them, by hash, and reads the files once more for the other half.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use parquet::errors::{ParquetError, Result};
use sink_api::rollup::{Measures, RollupDef, RollupRows};

use super::slice::Slice;
use super::{Job, OVER_AFTER_MS, checked, in_order, sums};
use crate::config::Config;
use crate::decode::{DataReader, read_rollup};
use crate::manifest::{DataFile, State};
use crate::sink::OpenFile;
use crate::table::{Table, rollup_cells};

/// Rows that a fold holds, and those that it reads in a step: less memory together than one merge of small files takes.
pub const HELD_ROWS_MAX: usize = 200_000;
const STEP_ROWS: usize = 100_000;

/// What came after a bucket was folded is worth another fold when it is this part of it.
const LATE_PART: u64 = 4;

/// The bucket that is most worth folding: the oldest that is over and whose files have not all been folded into one. Narrow
/// buckets are emitted a few times at the most: they are left as they are. So are files that `spared` names.
pub fn next_job(state: &State, rollups: &[RollupDef], spared: &BTreeSet<String>, now_ms: i64) -> Option<Job> {
    let mut buckets: BTreeMap<(i64, &str, &str), Vec<&Arc<DataFile>>> = BTreeMap::new();
    for file in state.files.values().filter(|file| !spared.contains(&file.path)) {
        let of_table = |def: &&RollupDef| *def.name == *file.table() && def.is_worth_folding();
        let Some(def) = rollups.iter().find(of_table) else { continue };
        // A file of several buckets goes with the last.
        let end_ms = (file.max_ms.div_euclid(def.bucket_ms).saturating_add(1)).saturating_mul(def.bucket_ms);
        if end_ms.saturating_add(OVER_AFTER_MS) <= now_ms {
            buckets.entry((end_ms, file.table(), file.partition())).or_default().push(file);
        }
    }
    let rows = |files: &[&Arc<DataFile>], folded: bool| {
        files.iter().filter(|file| file.folded == folded).map(|file| file.rows).sum::<u64>()
    };
    let is_worth = |files: &Vec<_>| files.len() >= 2 && rows(files, false) > rows(files, true) / LATE_PART;
    let files = buckets.into_values().find(is_worth)?;
    Some(Job { files: files.into_iter().cloned().collect() })
}

/// Where a fold is in its files.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    file: usize,
    row_group: usize,
    row: usize,
}

/// A fold under way.
pub(crate) struct Fold {
    job: Job,
    def: RollupDef,
    /// What is still to be done, the slice under way last.
    todo: Vec<Slice>,
    /// What comes next, and the reader of that file.
    next: Place,
    reader: Option<DataReader>,
    /// Rows of the slice under way: each bucket and key once, but for those that came since they were added up.
    held: Vec<RollupRows>,
    fresh_rows: usize,
    held_rows_max: usize,
    out: OpenFile,
    /// Sums of all rows that were read, taken while the first slice is, and of those that were written.
    read: Measures,
    written: Measures,
    is_first_pass: bool,
}

impl Fold {
    /// Starts a fold.
    ///
    /// # Errors
    /// Of the file system, or when the files' rollup is not known.
    pub fn begin(
        job: Job,
        folder: &Path,
        config: &Config,
        rollups: &[RollupDef],
        held_rows_max: usize,
    ) -> Result<Self> {
        let unknown = || ParquetError::General("the files to fold are of no known rollup".to_owned());
        let first = job.files.first().ok_or_else(unknown)?;
        let def = rollups.iter().find(|def| *def.name == *first.table()).ok_or_else(unknown)?.clone();
        let out = OpenFile::create(folder, config, &Table::rollup(&def), first.partition(), "fold")?;
        Ok(Self {
            job,
            def,
            todo: vec![Slice::default()],
            next: Place::default(),
            reader: None,
            held: Vec::new(),
            fresh_rows: 0,
            held_rows_max,
            out,
            read: Measures::default(),
            written: Measures::default(),
            is_first_pass: true,
        })
    }

    /// The files that it replaces.
    pub fn files(&self) -> &[Arc<DataFile>] {
        &self.job.files
    }

    /// Takes some rows, or writes what was taken; gives whether everything is written.
    ///
    /// # Errors
    /// Of the file system, or when a file is malformed.
    pub fn step(&mut self, folder: &Path) -> Result<bool> {
        let Some(slice) = self.todo.last().copied() else {
            return Ok(true);
        };
        let Place { file, row_group, row } = self.next;
        let Some(listed) = self.job.files.get(file) else {
            self.write_held()?;
            self.todo.pop();
            self.next = Place::default();
            self.is_first_pass = false;
            return Ok(self.todo.is_empty());
        };
        let reader = match &self.reader {
            Some(reader) => reader,
            None => self.reader.insert(open(&folder.join(&listed.path), listed.rows)?),
        };
        if row_group >= reader.row_groups().len() {
            self.reader = None;
            self.next = Place { file: file + 1, ..Place::default() };
            return Ok(false);
        }
        let end = reader.rows(row_group).min(row + STEP_ROWS);
        self.next = match end < reader.rows(row_group) {
            true => Place { row: end, ..self.next },
            false => Place { file, row_group: row_group + 1, row: 0 },
        };
        let wanted = row..end;
        if let Some(rows) = read_rollup(reader, row_group, &self.def, Some(std::slice::from_ref(&wanted)))? {
            if self.is_first_pass {
                add_all(&mut self.read, &rows);
            }
            self.take(if slice.is_all() { rows } else { rows.some_rows(&slice.rows(&rows)) });
        }
        Ok(false)
    }

    /// Takes rows of the slice under way. Adding up goes through all that is held, so it waits for some rows.
    fn take(&mut self, rows: RollupRows) {
        self.fresh_rows += rows.len();
        self.held.push(rows);
        if self.fresh_rows >= STEP_ROWS.min(self.held_rows_max) {
            self.add_up();
        }
    }

    /// Adds up what is held; when keys are too many, half of them are left for later.
    fn add_up(&mut self) {
        self.fresh_rows = 0;
        let left = sums::add_up(&mut self.held);
        keep(&mut self.held, &left);
        while let Some(slice) = self.todo.last_mut()
            && self.held.iter().map(RollupRows::len).sum::<usize>() > self.held_rows_max
            && let Some(other) = slice.halve()
        {
            for part in &mut self.held {
                *part = part.some_rows(&slice.rows(part));
            }
            let under_way = self.todo.len() - 1;
            self.todo.insert(under_way, other);
        }
    }

    fn write_held(&mut self) -> Result<()> {
        self.add_up();
        let held = std::mem::take(&mut self.held);
        let total = held.iter().map(RollupRows::len).sum();
        let buckets = || held.iter().flat_map(|part| part.bucket.iter().copied());
        let (Some(least), Some(most)) = (buckets().min(), buckets().max()) else {
            return Ok(());
        };
        held.iter().for_each(|part| add_all(&mut self.written, part));
        let rows = in_order(&held, total, (0..total as u32).collect());
        self.out.row_group((least, most), &rows, |column| {
            held.iter().filter_map(|part| rollup_cells(part, column)).collect()
        })
    }

    /// The file with everything, and what it replaces.
    ///
    /// # Errors
    /// When what was written does not sum up to what was read.
    pub fn finish(self) -> Result<(OpenFile, Job)> {
        if self.read == self.written {
            return Ok((self.out, self.job));
        }
        self.abandon();
        Err(ParquetError::General("folding would have changed sums: the files are left as they are".to_owned()))
    }

    /// Gives it up: nothing has happened.
    pub fn abandon(self) {
        // What is left over is removed when the store is opened.
        let _ = fs::remove_file(self.out.path());
    }
}

/// Opens a file that must have so many rows.
fn open(path: &Path, rows: u64) -> Result<DataReader> {
    let reader = DataReader::open(path)?;
    checked((0..reader.row_groups().len()).map(|group| reader.rows(group) as u64).sum(), rows)?;
    Ok(reader)
}

/// Keeps the rows of these numbers, counted over all parts and ascending, and no part without rows.
fn keep(parts: &mut Vec<RollupRows>, left: &[u32]) {
    let mut start = 0;
    for part in parts.iter_mut() {
        let end = start + part.len() as u32;
        let (from, to) = (left.partition_point(|row| *row < start), left.partition_point(|row| *row < end));
        if to - from < part.len() {
            let rows: Vec<u32> = left[from..to].iter().map(|row| row - start).collect();
            *part = part.some_rows(&rows);
        }
        start = end;
    }
    parts.retain(|part| !part.is_empty());
}

/// Adds all rows to a sum, wrapping as rows do when they are added up.
fn add_all(sum: &mut Measures, rows: &RollupRows) {
    let add = |sum: &mut u64, rows: &[u64]| *sum = rows.iter().fold(*sum, |sum, more| sum.wrapping_add(*more));
    add(&mut sum.bytes, &rows.bytes);
    add(&mut sum.packets, &rows.packets);
    add(&mut sum.flows, &rows.flows);
    add(&mut sum.rtt_ms_sum, &rows.rtt_ms_sum);
    add(&mut sum.rtt_count, &rows.rtt_count);
}
