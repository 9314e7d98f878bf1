//! Names of folders and files.
//!
//! `<path>/<table>/<partition>/<name>.parquet`, where the partition is a day (`2026-11-22`: `flows`, and rollups kept as
//! long as detail) or a month (`2026-11`: rollups kept for months). Beside them `manifest`, `lock`, and `.removed`, where
//! files that the manifest no longer lists wait for queries that still read them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sink_api::rollup::{Keep, RollupDef};
use sink_api::time::{DAY_MS, rfc3339};

use crate::table::FLOWS;

/// Folder of files that are no longer listed.
pub const REMOVED: &str = ".removed";

/// Ending of files that are not complete; engines that read `*.parquet` pass over them.
pub const TEMPORARY: &str = "tmp";

/// How a table is cut into partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// One folder a day.
    Day,
    /// One folder a month.
    Month,
}

impl Partitioning {
    /// That of a rollup.
    pub fn of(def: &RollupDef) -> Self {
        match def.keep {
            Keep::Detail => Self::Day,
            Keep::Aggregate => Self::Month,
        }
    }

    /// The partition of a time.
    pub fn name(self, ms: i64) -> String {
        let text = rfc3339(ms);
        let length = match self {
            Self::Day => "2026-01-31".len(),
            Self::Month => "2026-01".len(),
        };
        // Times before year 0 or outside the calendar (then the text is the bare number) share one partition.
        let calendar = text.as_bytes().get(4) == Some(&b'-') && !text.starts_with('-');
        (if calendar { &text[..length] } else { &"0000-00-00"[..length] }).to_string()
    }
}

/// The day of a time, counted from the Unix epoch.
pub fn day(ms: i64) -> i64 {
    ms.div_euclid(DAY_MS)
}

/// Path of a committed file under the store's folder. `seq` makes it unique.
pub fn file_path(table: &str, partition: &str, seq: u64, label: &str) -> String {
    format!("{table}/{partition}/{seq:010}-{label}.parquet")
}

/// Where a file waits once it is no longer listed.
pub fn removed_path(folder: &Path, path: &str) -> PathBuf {
    folder.join(REMOVED).join(path.replace('/', "~"))
}

/// Paths of all data files (also temporary ones) under the store's folder, by what is on the disk.
///
/// # Errors
/// Of the file system.
pub fn files_on_disk(folder: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for table in folders(folder)? {
        for partition in folders(&folder.join(&table))?.into_iter().filter(|name| is_partition(name)) {
            for entry in fs::read_dir(folder.join(&table).join(&partition))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name.ends_with(".parquet") || name.ends_with(".tmp") {
                    found.push(format!("{table}/{partition}/{name}"));
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a folder's name is that of a partition: other folders are not ours.
fn is_partition(name: &str) -> bool {
    matches!(name.len(), 7 | 10)
        && name.bytes().enumerate().all(|(i, b)| match i {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        })
}

/// Names of the folders in a folder, without hidden ones.
fn folders(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a rollup's name can be a table beside `flows`.
pub fn is_table_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name != FLOWS && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_by_calendar() {
        let ms = 1_700_000_000_000;
        assert_eq!(Partitioning::Day.name(ms), "2023-11-14");
        assert_eq!(Partitioning::Month.name(ms), "2023-11");
        assert_eq!(Partitioning::Day.name(i64::MAX), "0000-00-00");
        assert_eq!(Partitioning::Day.name(i64::MIN), "0000-00-00");
    }
}
