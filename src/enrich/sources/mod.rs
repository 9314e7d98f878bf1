//! Sources of slow knowledge: CSV files and MMDB files, read whole into a builder of the table.
//!
//! A source is right as a whole or not at all: any error keeps the table in use. Errors name file, line and column; a file's
//! errors are gathered, up to [`ERRORS_MAX`].

mod leases;
mod mmdb;
mod networks;
mod oui;
mod ports;
mod rows;
mod sites;
mod subscribers;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Config;
use super::app::Apps;
use super::names::{Names, TooManyNames};
use super::sites::Sites;
use super::sql::Answers;
use super::table::{Builder, Table};
pub use leases::LeaseRow;
pub(super) use leases::read_leases;
pub(super) use mmdb::files as mmdb_files;

/// Errors reported of one file; more say nothing new.
pub const ERRORS_MAX: usize = 20;

/// Bytes of a file at most: stops a wrong path (a disk image, a log) from filling the memory. A City database has about
/// 100 MB, a million subscribers about 150 MB.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// What is wrong with a source, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// The file.
    pub file: PathBuf,
    /// Line from 1, when it is known.
    pub line: Option<u64>,
    /// Name of the column, when one is at fault.
    pub column: Option<&'static str>,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl SourceError {
    /// An error about a file as a whole.
    pub(super) fn about(file: &Path, problem: impl fmt::Display) -> Self {
        Self { file: file.into(), line: None, column: None, problem: problem.to_string() }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ": column {column}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for SourceError {}

/// One source that is part of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceReport {
    /// `geoip`, `subscribers`, `sites`, `networks`, `ports` or `oui`.
    pub kind: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Rows or networks read.
    pub rows: usize,
    /// When the file was changed last (MMDB: when the database was built), ms since the Unix epoch; 0 = unknown.
    pub changed_ms: i64,
}

/// A table and what it was made from.
#[derive(Debug)]
pub(super) struct Compiled {
    pub table: Table,
    pub sources: Vec<SourceReport>,
}

/// Reads every source of the configuration, and the answers of its queries, and compiles the table.
///
/// # Errors
/// Everything that is wrong with any of them.
pub(super) fn compile(
    config: &Config,
    answers: &Answers,
    names: &Arc<Names>,
    generation: u64,
) -> Result<Compiled, Vec<SourceError>> {
    let mut reading = Reading {
        names,
        builder: Builder::default(),
        apps: Apps::builtin(names).map_err(|error| vec![SourceError::about(Path::new("built-in ports"), error)])?,
        sites: Sites::default(),
        sources: Vec::new(),
        errors: Vec::new(),
    };
    mmdb::read_folder(&mut reading, &config.geoip);
    networks::read(&mut reading, config.networks.as_deref().or(answers.networks.as_deref()));
    for file in [&config.sites, &answers.sites].into_iter().flatten() {
        sites::read(&mut reading, file);
    }
    for file in [&config.subscribers, &answers.subscribers].into_iter().flatten() {
        subscribers::read(&mut reading, file);
    }
    if let Some(file) = &config.ports {
        ports::read(&mut reading, file);
    }
    if let Some(file) = &config.oui {
        oui::read(&mut reading, file);
    }
    if !reading.errors.is_empty() {
        return Err(reading.errors.into_iter().map(|error| answers.name_query(error)).collect());
    }
    let Reading { builder, apps, sites, sources, .. } = reading;
    let table = builder
        .build(generation, names.clone(), apps, sites)
        .map_err(|error| vec![SourceError::about(&config.geoip, error)])?;
    Ok(Compiled { table, sources })
}

/// What has been read so far.
struct Reading<'a> {
    names: &'a Names,
    builder: Builder,
    apps: Apps,
    sites: Sites,
    sources: Vec<SourceReport>,
    errors: Vec<SourceError>,
}

impl Reading<'_> {
    fn done(&mut self, kind: &'static str, file: &Path, rows: usize, changed_ms: i64) {
        self.sources.push(SourceReport { kind, file: file.into(), rows, changed_ms });
    }

    fn text(&self, text: &str) -> Result<u32, TooManyNames> {
        if text.is_empty() { Ok(0) } else { self.names.texts.number(&text.into()) }
    }
}

/// The bytes of a regular file.
fn read_file(file: &Path) -> Result<Vec<u8>, SourceError> {
    let failed = |error: std::io::Error| SourceError::about(file, format_args!("cannot be read: {error}"));
    let metadata = std::fs::metadata(file).map_err(failed)?;
    if !metadata.is_file() {
        return Err(SourceError::about(file, "is no regular file"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(SourceError::about(file, format_args!("has {} bytes, more than {FILE_BYTES_MAX}", metadata.len())));
    }
    if metadata.len() == 0 {
        return Err(SourceError::about(file, "is empty; a table without rows has its line of column names at least"));
    }
    std::fs::read(file).map_err(failed)
}

/// When a file was changed last, ms since the Unix epoch; 0 when unknown.
fn changed_ms(file: &Path) -> i64 {
    let changed = std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |since| since.as_millis() as i64)
}
