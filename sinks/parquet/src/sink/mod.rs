//! The writer of the store.
//!
//! A commit goes: write each file under a temporary name and sync it; rename them all; sync their folders; append one
//! line to the manifest and sync it. Until that last step nothing has happened: files that the manifest does not list are
//! removed when the store is opened. So a commit is whole or not at all, and the cursor is part of it.

mod commit;
mod pending;
mod retention;
#[cfg(test)]
mod tests;
mod trash;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sink_api::rollup::{Record, RollupDef};
use sink_api::sink::{Group, SinkCounters};
use sink_api::{Clock, LogId, Sink, SinkContext, SinkError};

use crate::compact::{self, fold};
use crate::config::Config;
use crate::layout;
use crate::manifest::{Change, DataFile, ManifestError, ManifestWriter, Stored};
use commit::Steps;
use pending::Pending;
use trash::Trash;

pub(crate) use commit::{Commit, OpenFile};
pub(crate) use retention::oldest_kept_ms;

/// The open store, for writing. Holds the folder's lock.
pub struct ParquetSink {
    folder: PathBuf,
    config: Config,
    log_id: LogId,
    rollups: Arc<Vec<RollupDef>>,
    clock: Clock,
    manifest: ManifestWriter,
    trash: Trash,
    /// A fold under way.
    fold: Option<fold::Fold>,
    /// Files that could not be merged: they are left as they are until the store is opened again.
    spared: BTreeSet<String>,
    steps: Steps,
    expired_flows: u64,
    last_retention_ms: i64,
    _lock: File,
}

impl ParquetSink {
    /// Opens the store, creates it when it is missing, and removes what an interrupted commit left.
    ///
    /// # Errors
    /// `Retry` for trouble with the file system or while another process writes here, `Fatal` for a damaged manifest.
    pub fn open(config: &Config, context: &SinkContext) -> Result<Self, SinkError> {
        let folder = config.path.clone();
        let failed = |what: &str, e: std::io::Error| SinkError::retry(format!("{}: {what}: {e}", folder.display()));
        fs::create_dir_all(&folder).map_err(|e| failed("cannot create", e))?;
        let lock = File::create(folder.join("lock")).map_err(|e| failed("cannot create the lock", e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SinkError::retry(format!("{}: another process writes here", folder.display())));
            }
            Err(TryLockError::Error(e)) => return Err(failed("cannot lock", e)),
        }
        let on_disk = layout::files_on_disk(&folder).map_err(|e| failed("cannot read", e))?;
        let has_data = on_disk.iter().any(|f| f.ends_with(".parquet"));
        let mut manifest = ManifestWriter::open(&folder, has_data).map_err(|e| match e {
            ManifestError::Io(e) => failed("manifest", e),
            damaged => SinkError::Fatal(damaged.to_string()),
        })?;
        settle(&folder, &mut manifest, &on_disk).map_err(|e| failed("cannot settle", e))?;
        let trash = Trash::open(&folder, (context.clock)()).map_err(|e| failed("cannot read", e))?;
        Ok(Self {
            folder,
            config: config.clone(),
            log_id: context.log_id,
            rollups: context.rollups.clone(),
            clock: context.clock.clone(),
            manifest,
            trash,
            fold: None,
            spared: BTreeSet::new(),
            steps: Steps::default(),
            expired_flows: 0,
            last_retention_ms: i64::MIN,
            _lock: lock,
        })
    }

    fn failed(&self, error: impl std::fmt::Display) -> SinkError {
        SinkError::retry(format!("{}: {error}", self.folder.display()))
    }

    /// Takes files out of the store: in the manifest first, then on the disk.
    fn drop_files(&mut self, change: Change) -> Result<(), SinkError> {
        let dropped = change.remove.clone();
        self.manifest.commit(change).map_err(|e| self.failed(e))?;
        for path in dropped {
            self.trash.take(&path, (self.clock)()).map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    /// Goes on with the fold under way, and puts its file in the place of the others at its end.
    fn fold_on(&mut self) -> Result<(), SinkError> {
        let Some(mut fold) = self.fold.take() else {
            return Ok(());
        };
        let files = &self.manifest.state().files;
        if fold.files().iter().any(|file| !files.contains_key(&file.path)) {
            // They have expired meanwhile.
            fold.abandon();
            return Ok(());
        }
        let paths = paths(fold.files());
        match fold.step(&self.folder) {
            Ok(false) => {
                self.fold = Some(fold);
                Ok(())
            }
            Ok(true) => self.end_fold(fold).map_err(|e| self.cannot_merge(paths, e)),
            Err(error) => {
                fold.abandon();
                Err(self.cannot_merge(paths, error))
            }
        }
    }

    fn end_fold(&mut self, fold: fold::Fold) -> Result<(), SinkError> {
        let (out, job) = fold.finish().map_err(SinkError::retry)?;
        let mut commit = Commit::new(&self.folder, &self.config, self.manifest.state().seq + 1, &mut self.steps);
        if let Some(first) = job.files.first() {
            commit.take(first.table(), first.partition(), out);
        }
        let add = commit.finish("folded", true).map_err(SinkError::retry)?;
        self.replace(add, &job)
    }

    /// An error of a merge, whose files are left as they are from now on.
    fn cannot_merge(&mut self, paths: Vec<String>, error: impl std::fmt::Display) -> SinkError {
        self.spared.extend(paths);
        self.failed(error)
    }

    /// Merges some small files, if that is worth it.
    fn merge_small(&mut self, now_ms: i64) -> Result<(), SinkError> {
        let Some(job) = compact::next_job(self.manifest.state(), &self.rollups, &self.spared, now_ms) else {
            return Ok(());
        };
        let mut commit = Commit::new(&self.folder, &self.config, self.manifest.state().seq + 1, &mut self.steps);
        let merged = compact::run(&job, &self.folder, &self.rollups, &mut commit).and_then(|rows| {
            let add = commit.finish("merged", job.files.iter().all(|file| file.folded))?;
            Ok((rows, add))
        });
        let (rows, add) = merged.map_err(|e| self.cannot_merge(paths(&job.files), e))?;
        if add.iter().map(|file| file.rows).sum::<u64>() != rows {
            return Err(self.failed("merging files would have lost rows; they are left as they are"));
        }
        self.replace(add, &job)
    }

    /// Puts files in the place of others.
    fn replace(&mut self, add: Vec<Arc<DataFile>>, job: &compact::Job) -> Result<(), SinkError> {
        self.drop_files(Change { add, remove: paths(&job.files), ..Change::default() })
    }

    /// Runs the steps of commits through a hook that may fail them, for tests of crashes.
    #[cfg(test)]
    pub(crate) fn set_steps(&mut self, steps: Steps) {
        self.steps = steps;
    }
}

fn paths(files: &[Arc<DataFile>]) -> Vec<String> {
    files.iter().map(|file| file.path.clone()).collect()
}

/// Makes disk and manifest agree: files that are not listed never happened, files that are missing are given up.
fn settle(folder: &std::path::Path, manifest: &mut ManifestWriter, on_disk: &[String]) -> std::io::Result<()> {
    for path in on_disk.iter().filter(|p| !manifest.state().files.contains_key(*p)) {
        tracing::info!(file = %path, "removed a file that no commit lists");
        fs::remove_file(folder.join(path))?;
    }
    let missing: Vec<String> =
        manifest.state().files.keys().filter(|p| on_disk.binary_search(p).is_err()).cloned().collect();
    if !missing.is_empty() {
        missing
            .iter()
            .for_each(|file| tracing::error!(%file, "listed in the manifest, but not there: its rows are lost"));
        manifest.commit(Change { remove: missing, ..Change::default() })?;
    }
    Ok(())
}

impl Sink for ParquetSink {
    fn cursor(&mut self) -> Result<Option<u64>, SinkError> {
        Ok(self.manifest.state().cursors.get(&self.log_id).copied())
    }

    fn write(&mut self, group: &mut dyn Group) -> Result<(), SinkError> {
        let retention = self.config.retention;
        let cutoff_ms = retention::detail_cutoff_ms(retention, (self.clock)());
        let mut commit = Commit::new(&self.folder, &self.config, self.manifest.state().seq + 1, &mut self.steps);
        let mut pending = Pending::new(&self.rollups, cutoff_ms);
        let mut run: Option<(u64, u64)> = None;
        while let Some(entry) = group.next()? {
            let from = run.map_or(entry.position, |(from, _)| from);
            run = Some((from, entry.position));
            match entry.record {
                Record::Flows(batch) => pending.push_flows(batch),
                Record::Sums(sums) => pending.push_sums(sums),
                // The collector itself remembers alerts beside these files; a file for the few of a day would be all overhead.
                Record::Alerts(_) => {}
            }
            if pending.flow_rows() >= self.config.row_group_rows {
                pending.flush_flows(&mut commit).map_err(|e| SinkError::retry(e.to_string()))?;
            }
            if pending.sum_rows() >= self.config.row_group_rows {
                pending.flush_sums(&mut commit).map_err(|e| SinkError::retry(e.to_string()))?;
            }
        }
        let Some((from, to)) = run else {
            return Ok(());
        };
        pending.flush_flows(&mut commit).map_err(|e| SinkError::retry(e.to_string()))?;
        pending.flush_sums(&mut commit).map_err(|e| SinkError::retry(e.to_string()))?;
        let expired = pending.expired_flows();
        let label = format!("{}-{from}-{to}", &self.log_id.to_string()[..8]);
        let add = commit.finish(&label, false).map_err(|e| SinkError::retry(e.to_string()))?;
        let stored = vec![Stored { log: self.log_id, from, to }];
        self.steps.at(commit::Step::BeforeManifest).map_err(|e| self.failed(e))?;
        self.manifest.commit(Change { stored, add, ..Change::default() }).map_err(|e| self.failed(e))?;
        self.expired_flows += expired;
        self.steps.at(commit::Step::AfterManifest).map_err(|e| self.failed(e))
    }

    fn maintain(&mut self) -> Result<(), SinkError> {
        let now_ms = (self.clock)();
        self.trash.empty(now_ms).map_err(|e| self.failed(e))?;
        if now_ms.saturating_sub(self.last_retention_ms) >= retention::INTERVAL_MS || now_ms < self.last_retention_ms {
            let remove = retention::expired(self.manifest.state(), &self.rollups, self.config.retention, now_ms);
            if !remove.is_empty() {
                self.drop_files(Change { remove, ..Change::default() })?;
            }
            self.last_retention_ms = now_ms;
        }
        if self.fold.is_none()
            && let Some(job) = fold::next_job(self.manifest.state(), &self.rollups, &self.spared, now_ms)
        {
            let paths = paths(&job.files);
            let begun = fold::Fold::begin(job, &self.folder, &self.config, &self.rollups, fold::HELD_ROWS_MAX);
            self.fold = Some(begun.map_err(|e| self.cannot_merge(paths, e))?);
        }
        // Meanwhile other files wait: they may be those that are folded.
        if self.fold.is_some() { self.fold_on() } else { self.merge_small(now_ms) }
    }

    fn close(mut self: Box<Self>, _deadline: Duration) -> Result<(), SinkError> {
        if let Some(fold) = self.fold.take() {
            fold.abandon();
        }
        // Everything is durable already; the lock goes with the file.
        Ok(())
    }

    fn counters(&self) -> SinkCounters {
        let stored = self.manifest.state().files.values().map(|f| f.bytes).sum();
        SinkCounters { expired_flows: self.expired_flows, stored_bytes: Some(stored) }
    }
}

/// Whether an error says that a file is not there.
pub(crate) fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}
