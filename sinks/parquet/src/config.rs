//! The keys of a `[[sink]]` table of kind `parquet`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sink_api::sink::{KeyError, ParsedSink, Retention};
use sink_api::{FlowStore, Sink, SinkConfig, SinkContext, SinkError};

use crate::compact::MERGE_ROWS_MAX;
use crate::sink::ParquetSink;
use crate::store::ParquetStore;

/// Every key.
pub const KEYS: &[&str] =
    &["path", "compression_level", "retention_detail_days", "retention_aggregate_months", "row_group_rows"];

/// A `[[sink]]` table that works as it stands.
pub const SAMPLE: &str = include_str!("../sample.toml");

/// Bytes that a row held for writing costs at the most: a batch's columns, and one column brought together.
const ROW_BYTES_MAX: u64 = 160;

/// Bytes that a query may hold: groups, and the pages being decoded.
const QUERY_BYTES_MAX: u64 = 64 << 20;

/// Bounds of `row_group_rows`: below, footers outweigh data; above, memory.
const ROW_GROUP_ROWS: std::ops::RangeInclusive<i64> = 1_000..=4_000_000;

/// The configuration of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder of the store.
    pub path: PathBuf,
    /// zstd level, 1 (fast) to 19 (small).
    pub compression_level: i32,
    /// How long rows are kept.
    pub retention: Retention,
    /// Rows that are brought together before they are encoded: memory against size.
    pub row_group_rows: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("data"),
            compression_level: 1,
            retention: Retention::default(),
            row_group_rows: 400_000,
        }
    }
}

/// Reads the table.
///
/// # Errors
/// Every problem found.
pub fn parse(table: &toml::Table, base: &Path) -> ParsedSink {
    let mut config = Config::default();
    let mut problems = Vec::new();
    for (key, value) in table {
        let mut number = |range: std::ops::RangeInclusive<i64>| match value.as_integer() {
            Some(n) if range.contains(&n) => n,
            _ => {
                let problem =
                    format!("{value} is not allowed; a whole number from {} to {}", range.start(), range.end());
                problems.push(KeyError { key: key.clone(), problem });
                *range.start()
            }
        };
        match key.as_str() {
            "path" => match value.as_str().filter(|p| !p.is_empty()) {
                Some(path) => config.path = PathBuf::from(path),
                None => {
                    problems.push(KeyError { key: key.clone(), problem: format!("{value} is not allowed; a folder") })
                }
            },
            "compression_level" => config.compression_level = number(1..=19) as i32,
            "retention_detail_days" => config.retention.detail_days = number(1..=36_500) as u32,
            "retention_aggregate_months" => config.retention.aggregate_months = number(1..=1_200) as u32,
            "row_group_rows" => config.row_group_rows = number(ROW_GROUP_ROWS) as usize,
            _ => problems.push(KeyError {
                key: key.clone(),
                problem: format!("unknown key; a sink of kind parquet has {}", KEYS.join(", ")),
            }),
        }
    }
    config.path = base.join(&config.path);
    if problems.is_empty() { Ok(Box::new(config)) } else { Err(problems) }
}

impl SinkConfig for Config {
    fn open(&self, context: &SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(ParquetSink::open(self, context)?))
    }

    fn store(&self, context: &SinkContext) -> Result<Option<Arc<dyn FlowStore>>, SinkError> {
        Ok(Some(Arc::new(ParquetStore::new(self, context))))
    }

    fn folders(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn memory_bytes_max(&self) -> u64 {
        (self.row_group_rows as u64).max(MERGE_ROWS_MAX) * ROW_BYTES_MAX + QUERY_BYTES_MAX
    }
}
