use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hashbrown::HashMap;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ParquetMetaData;
use sink_api::FlowBatch;
use sink_api::batch::Field;
use sink_api::rollup::Key;
use sink_api::store::group::{GROUPS_MAX, Grouper};
use sink_api::store::plan::Plan;
use sink_api::store::{FlowsQuestion, Question, StoreError, TimeRange};

use super::by_address::AddressSums;
use super::prune::{Condition, Left, conditions, prune};
use super::{ParquetStore, parallel, select};
use crate::decode::{DataReader, read_flows, read_rollup};
use crate::layout::removed_path;
use crate::manifest::{DataFile, State};
use crate::sink::is_missing;
use crate::table::FLOWS;

/// Footers kept in memory, in bytes: they are needed again by the next question.
const FOOTERS_BYTES_MAX: usize = 32 << 20;

/// Footers of files that were read, by path. Files never change, so footers do not either.
#[derive(Default)]
pub(crate) struct Footers {
    held: Mutex<HeldFooters>,
}

#[derive(Default)]
struct HeldFooters {
    bytes: usize,
    by_path: HashMap<String, Arc<ParquetMetaData>, foldhash::fast::RandomState>,
}

impl Footers {
    fn get(&self, path: &str) -> Option<Arc<ParquetMetaData>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).by_path.get(path).cloned()
    }

    fn put(&self, path: &str, footer: &Arc<ParquetMetaData>) {
        let size = footer.memory_size();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.bytes + size > FOOTERS_BYTES_MAX {
            *held = Default::default();
        }
        if held.by_path.insert(path.to_owned(), footer.clone()).is_none() {
            held.bytes += size;
        }
    }
}

/// One row group to be read.
struct Unit {
    file: Arc<DataFile>,
    footer: Arc<ParquetMetaData>,
    row_group: usize,
}

/// Reads the files of a snapshot for one question.
pub(super) struct Scan<'a> {
    pub(super) store: &'a ParquetStore,
    pub(super) deadline: Instant,
}

impl Scan<'_> {
    /// Adds the rows of all files to a grouper, on all cores.
    pub(super) fn sum<'q>(
        &self,
        state: &State,
        question: &'q Question,
        plan: &'q Plan,
        grouper: &mut Grouper<'q>,
    ) -> Result<(), StoreError>
    where
        Self: 'q,
    {
        let table = plan.rollup.as_ref().map_or(FLOWS, |def| &*def.name);
        let units = self.units(state, table, plan.range)?;
        let has = |field| plan.rollup.as_ref().is_none_or(|def| def.by.contains(&Key::Field(field)));
        let time_leaf = if plan.rollup.is_some() { "bucket" } else { Field::Time.name() };
        let conditions = conditions(time_leaf, plan.range, &question.filter, has);
        let fields = Plan::detail_fields(question);
        let name = self.store.name.as_str();
        let hot = AddressSums::fits(question, plan);
        let start = || (Grouper::new("", question, plan, GROUPS_MAX), AddressSums::default());
        let sums = parallel::for_each(&units, start, |(sums, by_address), unit| {
            self.store.check(self.deadline)?;
            let (reader, left) = self.open(unit, &conditions)?;
            let Some((wanted, same)) = left.wanted() else { return Ok(()) };
            if let (Some(field), Left::Certain) = (hot, &left)
                && by_address.add(&reader, unit.row_group, field).map_err(|e| self.broken(unit, e))?
            {
                return by_address.spill(sums, GROUPS_MAX / 2);
            }
            match &plan.rollup {
                None => {
                    let batch = read_flows(&reader, unit.row_group, &fields, wanted, same);
                    sums.add_batch(&batch.map_err(|e| self.broken(unit, e))?)
                }
                Some(def) => {
                    let rows = read_rollup(&reader, unit.row_group, def, wanted).map_err(|e| self.broken(unit, e))?;
                    rows.map_or(Ok(()), |rows| sums.add_rollup(&rows))
                }
            }
        });
        let merged = sums.and_then(|sums| {
            sums.into_iter().try_for_each(|(sums, mut by_address)| {
                grouper.merge(&sums)?;
                by_address.spill(grouper, 0)
            })
        });
        merged.map_err(|e| named(e, name))
    }

    /// Calls `give` for each row group's batch and matching rows, oldest file first, until it gives false.
    pub(super) fn list(
        &self,
        state: &State,
        question: &FlowsQuestion,
        give: &mut dyn FnMut(&FlowBatch, &[u32]) -> bool,
    ) -> Result<(), StoreError> {
        let conditions = conditions(Field::Time.name(), question.range, &question.filter, |_| true);
        let mut rows = Vec::new();
        for unit in self.units(state, FLOWS, question.range)? {
            self.store.check(self.deadline)?;
            let (reader, left) = self.open(&unit, &conditions)?;
            let Some((wanted, same)) = left.wanted() else { continue };
            let batch = read_flows(&reader, unit.row_group, Field::ALL, wanted, same);
            let batch = batch.map_err(|e| self.broken(&unit, e))?;
            select(question, &batch, &mut rows);
            if !give(&batch, &rows) {
                break;
            }
        }
        Ok(())
    }

    /// The row groups of a table's files that touch a range, oldest file first.
    fn units(&self, state: &State, table: &str, range: TimeRange) -> Result<Vec<Unit>, StoreError> {
        let touches = |f: &&Arc<DataFile>| f.min_ms < range.to && f.max_ms >= range.from;
        let mut files: Vec<_> = state.table(table).filter(touches).cloned().collect();
        files.sort_by_key(|f| (f.min_ms, f.max_ms));
        let footers = parallel::for_each(&files, Vec::new, |found, file| {
            self.store.check(self.deadline)?;
            let footer = match self.store.footers.get(&file.path) {
                Some(footer) => footer,
                None => {
                    let reader = DataReader::with_metadata(self.file(file)?, None);
                    let footer = reader.map_err(|e| self.store.down(format!("{}: {e}", file.path)))?.metadata().clone();
                    self.store.footers.put(&file.path, &footer);
                    footer
                }
            };
            found.push((file.clone(), footer));
            Ok(())
        })?;
        let mut footers: Vec<_> = footers.into_iter().flatten().collect();
        footers.sort_by_key(|(f, _)| (f.min_ms, f.max_ms));
        let groups = |(file, footer): (Arc<DataFile>, Arc<ParquetMetaData>)| {
            let unit = move |row_group| Unit { file: file.clone(), footer: footer.clone(), row_group };
            (0..unit(0).footer.num_row_groups()).map(unit)
        };
        Ok(footers.into_iter().flat_map(groups).collect())
    }

    fn open(&self, unit: &Unit, conditions: &[Condition]) -> Result<(DataReader, Left), StoreError> {
        let open = |file| -> ParquetResult<(DataReader, Left)> {
            let reader = DataReader::with_metadata(file, Some(unit.footer.clone()))?;
            let left = prune(&reader, unit.row_group, conditions)?;
            Ok((reader, left))
        };
        open(self.file(&unit.file)?).map_err(|e| self.broken(unit, e))
    }

    /// Opens a file of the snapshot, be it that it has left the store meanwhile.
    fn file(&self, file: &DataFile) -> Result<File, StoreError> {
        let open = |path: &Path| File::open(path);
        let opened = match open(&self.store.folder.join(&file.path)) {
            Err(e) if is_missing(&e) => open(&removed_path(&self.store.folder, &file.path)),
            opened => opened,
        };
        opened.map_err(|e| self.store.down(format!("{}: {e}", file.path)))
    }

    fn broken(&self, unit: &Unit, error: impl std::fmt::Display) -> StoreError {
        self.store.down(format!("{}: row group {}: {error}", unit.file.path, unit.row_group))
    }
}

/// The error under the store's name.
fn named(error: StoreError, name: &str) -> StoreError {
    match error {
        StoreError::Unsupported { reason, remedy, .. } => {
            StoreError::Unsupported { store: name.to_owned(), reason, remedy }
        }
        other => other,
    }
}
