//! From Parquet files back to columns in memory: chosen columns of chosen rows.
//!
//! Columns that a file lacks (it was written before they existed) are null. Reads what this store writes: data pages of
//! version 2, the encodings of [`crate::codec`]; anything else is an error that names the file.

mod leaf;
mod rows;
mod source;
#[cfg(test)]
mod tests;
mod values;

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{LogicalType, Type as Physical};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::index_reader::{decode_column_index, decode_offset_index};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use crate::encode::LeafData;
use source::Source;

pub use rows::{read_flows, read_rollup};

/// Rows that a row group can have, well over what the writer is allowed: a damaged footer must not ask for all memory.
const ROWS_MAX: usize = 1 << 24;

/// Rows of a row group that are wanted: ascending, disjoint ranges, or all.
pub type Wanted<'a> = Option<&'a [Range<usize>]>;

/// An open data file. Threads may share it.
#[derive(Clone)]
pub struct DataReader {
    source: Source,
    metadata: Arc<ParquetMetaData>,
}

impl DataReader {
    /// Opens a file and reads its footer.
    ///
    /// # Errors
    /// Of the file system, or when it is no Parquet file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::with_metadata(File::open(path)?, None)
    }

    /// The same with a footer that is known already.
    ///
    /// # Errors
    /// See [`DataReader::open`].
    pub fn with_metadata(file: File, metadata: Option<Arc<ParquetMetaData>>) -> Result<Self> {
        let source = Source::new(file)?;
        let metadata = match metadata {
            Some(metadata) => metadata,
            None => {
                let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
                let metadata = guarded(|| reader.parse_and_finish(&source))?;
                check_places(&metadata, source.len())?;
                Arc::new(metadata)
            }
        };
        Ok(Self { source, metadata })
    }

    /// The footer.
    pub fn metadata(&self) -> &Arc<ParquetMetaData> {
        &self.metadata
    }

    /// Its row groups.
    pub fn row_groups(&self) -> &[RowGroupMetaData] {
        self.metadata.row_groups()
    }

    /// What the footer says about a leaf in a row group; `None` when the file lacks the leaf.
    pub fn chunk(&self, row_group: usize, leaf: &str) -> Option<&ColumnChunkMetaData> {
        self.row_groups().get(row_group)?.columns().iter().find(|c| c.column_descr().name() == leaf)
    }

    /// Rows in a row group.
    pub fn rows(&self, row_group: usize) -> usize {
        self.row_groups().get(row_group).map_or(0, |g| usize::try_from(g.num_rows()).unwrap_or(0))
    }

    /// Where the pages of a chunk are, when the file says so.
    ///
    /// # Errors
    /// Of the file system, or when the index is malformed.
    pub fn offset_index(&self, chunk: &ColumnChunkMetaData) -> Result<Option<OffsetIndexMetaData>> {
        let Some(range) = chunk.offset_index_range() else {
            return Ok(None);
        };
        let bytes = self.index_bytes(range)?;
        let index = guarded(|| decode_offset_index(&bytes))?;
        let mut first_rows = index.page_locations().iter().map(|page| page.first_row_index);
        if first_rows.next() != Some(0)
            || !index.page_locations().is_sorted_by(|a, b| a.first_row_index < b.first_row_index)
        {
            return Err(leaf::malformed("rows of the page index"));
        }
        Ok(Some(index))
    }

    /// Smallest and largest values of the pages of a chunk, when the file says so.
    ///
    /// # Errors
    /// Of the file system, or when the index is malformed.
    pub fn column_index(&self, chunk: &ColumnChunkMetaData) -> Result<Option<ColumnIndexMetaData>> {
        let Some(range) = chunk.column_index_range() else {
            return Ok(None);
        };
        let bytes = self.index_bytes(range)?;
        guarded(|| decode_column_index(&bytes, chunk.column_type())).map(Some)
    }

    fn index_bytes(&self, range: Range<u64>) -> Result<Bytes> {
        let length = range.end.checked_sub(range.start).ok_or_else(|| leaf::malformed("place of the page index"))?;
        self.source.get_bytes(range.start, usize::try_from(length)?)
    }

    /// Reads a leaf. A leaf that the file lacks, or that is null everywhere, is `LeafData::Null`.
    ///
    /// # Errors
    /// Of the file system, or when pages are malformed.
    pub fn read(&self, row_group: usize, leaf: &str, wanted: Wanted<'_>) -> Result<LeafData> {
        let Some(chunk) = self.chunk(row_group, leaf) else {
            return Ok(LeafData::Null);
        };
        let rows = self.rows(row_group);
        let nulls = chunk.statistics().and_then(|s| s.null_count_opt());
        if nulls == Some(rows as u64) {
            return Ok(LeafData::Null);
        }
        let physical = chunk.column_type();
        let is_dictionary = match chunk.column_descr().logical_type_ref() {
            Some(LogicalType::Uuid | LogicalType::String) => true,
            _ => physical == Physical::BYTE_ARRAY,
        };
        let locations = match wanted {
            Some(_) => self.offset_index(chunk)?.map(|index| index.page_locations().clone()),
            None => None,
        };
        let source = match &locations {
            // A few pages: read one by one.
            Some(_) => self.source.clone(),
            None => {
                let (start, length) = chunk.byte_range();
                self.source.with_window(start, length)?
            }
        };
        guarded(|| {
            let mut pages = SerializedPageReader::new(Arc::new(source), chunk, rows, locations)?;
            leaf::read_chunk(&mut pages, physical, is_dictionary, rows, wanted)
        })
    }
}

/// Runs the crate's reader so that a panic in it is an error: page headers that lack what their type needs, and page indexes
/// whose rows do not ascend, reach `unwrap` and plain subtraction there. What it was reading is dropped with it.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(ParquetError::General(format!("damaged pages: {}", said.unwrap_or("unreadable"))))
    })
}

/// Refuses a footer that places chunks outside the file, or tells of absurdly many rows: the readers of chunks take these
/// figures as given.
fn check_places(metadata: &ParquetMetaData, length: u64) -> Result<()> {
    let inside = |start: i64, size: i64| {
        let end = start.checked_add(size).and_then(|end| u64::try_from(end).ok());
        start >= 0 && size >= 0 && end.is_some_and(|end| end <= length)
    };
    for group in metadata.row_groups() {
        if !usize::try_from(group.num_rows()).is_ok_and(|rows| rows <= ROWS_MAX) {
            let rows = group.num_rows();
            return Err(ParquetError::General(format!("the footer tells of {rows} rows in a row group")));
        }
        for chunk in group.columns() {
            let data = chunk.data_page_offset();
            let start = chunk.dictionary_page_offset().unwrap_or(data);
            if data < start || !inside(data, 0) || !inside(start, chunk.compressed_size()) {
                let name = chunk.column_descr().name();
                return Err(ParquetError::General(format!("the footer places column {name} outside the file")));
            }
        }
    }
    Ok(())
}
