use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::errors::{ParquetError, Result};

use crate::config::Config;
use crate::encode::{FileWriter, Rows};
use crate::layout;
use crate::manifest::DataFile;
use crate::table::{Cells, Table};

/// Moments of a commit between which a crash can fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A file is complete under its temporary name.
    FileWritten,
    /// A file has its name.
    Renamed,
    /// Names are durable, the manifest does not list them.
    BeforeManifest,
    /// The commit happened, the answer is not given yet.
    AfterManifest,
}

/// A hook that sees the steps and may fail one. Without a hook nothing happens.
#[derive(Default)]
pub(crate) struct Steps {
    hook: Option<StepHook>,
}

pub(crate) type StepHook = Box<dyn FnMut(Step) -> io::Result<()> + Send>;

impl Steps {
    #[cfg(test)]
    pub(crate) fn new(hook: StepHook) -> Self {
        Self { hook: Some(hook) }
    }

    pub(crate) fn at(&mut self, step: Step) -> io::Result<()> {
        self.hook.as_mut().map_or(Ok(()), |hook| hook(step))
    }
}

/// Files being written that become part of the store together.
pub(crate) struct Commit<'a> {
    folder: &'a Path,
    config: &'a Config,
    seq: u64,
    steps: &'a mut Steps,
    open: BTreeMap<(String, String), OpenFile>,
}

/// A file of one table and partition that is being written under a temporary name.
pub(crate) struct OpenFile {
    writer: FileWriter,
    min_ms: i64,
    max_ms: i64,
}

impl OpenFile {
    /// Starts a file. `name` tells it from others that are being written.
    pub(crate) fn create(folder: &Path, config: &Config, table: &Table, partition: &str, name: &str) -> Result<Self> {
        let folder = folder.join(&table.name).join(partition);
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{name}.{}", layout::TEMPORARY));
        let writer = FileWriter::create(&path, table, config.compression_level)?;
        Ok(Self { writer, min_ms: i64::MAX, max_ms: i64::MIN })
    }

    /// Adds a row group. `times` are the smallest and largest time of its rows.
    pub(crate) fn row_group<'b>(
        &mut self,
        times: (i64, i64),
        rows: &Rows,
        cells: impl FnMut(usize) -> Vec<Cells<'b>>,
    ) -> Result<()> {
        self.writer.row_group(rows, cells)?;
        self.min_ms = self.min_ms.min(times.0);
        self.max_ms = self.max_ms.max(times.1);
        Ok(())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.writer.path()
    }
}

impl<'a> Commit<'a> {
    /// Starts a commit. `seq` is the number that its change will have: names are made of it.
    pub(crate) fn new(folder: &'a Path, config: &'a Config, seq: u64, steps: &'a mut Steps) -> Self {
        Self { folder, config, seq, steps, open: BTreeMap::new() }
    }

    /// Adds a row group to the file of a table and partition. `times` are the smallest and largest time of its rows.
    pub(crate) fn row_group<'b>(
        &mut self,
        table: &Table,
        partition: String,
        times: (i64, i64),
        rows: &Rows,
        cells: impl FnMut(usize) -> Vec<Cells<'b>>,
    ) -> Result<()> {
        let file = match self.open.entry((table.name.clone(), partition)) {
            Entry::Occupied(file) => file.into_mut(),
            Entry::Vacant(place) => {
                let name = format!("{:010}", self.seq);
                let file = OpenFile::create(self.folder, self.config, table, &place.key().1, &name)?;
                place.insert(file)
            }
        };
        file.row_group(times, rows, cells)
    }

    /// Takes a file that was written beside the commits.
    pub(crate) fn take(&mut self, table: &str, partition: &str, file: OpenFile) {
        self.open.insert((table.to_owned(), partition.to_owned()), file);
    }

    /// Completes all files and gives them their names, durably; gives what the manifest must list. `folded` says what
    /// [`DataFile::folded`] does.
    pub(crate) fn finish(self, label: &str, folded: bool) -> Result<Vec<Arc<DataFile>>> {
        let Self { folder, seq, steps, open, .. } = self;
        let mut step = |s| steps.at(s).map_err(ParquetError::from);
        let mut files = Vec::with_capacity(open.len());
        let mut renames: Vec<(PathBuf, PathBuf)> = Vec::with_capacity(open.len());
        for ((table, partition), file) in open {
            let path = layout::file_path(&table, &partition, seq, label);
            let OpenFile { writer, min_ms, max_ms } = file;
            let written = writer.finish()?;
            step(Step::FileWritten)?;
            renames.push((written.path, folder.join(&path)));
            let (rows, bytes) = (written.rows, written.bytes);
            files.push(Arc::new(DataFile { path, rows, bytes, min_ms, max_ms, folded }));
        }
        let mut folders = BTreeSet::new();
        for (from, to) in &renames {
            fs::rename(from, to)?;
            step(Step::Renamed)?;
            // The file's folder, and those above it, which may be new as well.
            folders.extend(to.ancestors().skip(1).take_while(|a| a.starts_with(folder)).map(Path::to_path_buf));
        }
        for folder in folders {
            File::open(folder)?.sync_all()?;
        }
        Ok(files)
    }
}
