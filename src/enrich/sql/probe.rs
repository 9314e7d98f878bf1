//! Trying the queries, for `check`: each is asked for its first rows, and those are read as its answer would be.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Answers, LEASES, SqlConfig, TABLES, fetch, new_file, query};
use crate::enrich::names::Names;
use crate::enrich::{Config, SourceError, sources};

/// Rows that each query is asked for: enough to see its columns and what is in them.
const ROWS_MAX: usize = 100;

/// What a query gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Its key in `[enrich.sql]`.
    pub query: &'static str,
    /// Rows that were read, of the first hundred.
    pub rows: usize,
}

/// Connects and tries every query that the configuration has. Nothing of it is put in use or kept.
///
/// # Errors
/// What is wrong, named by its query.
pub fn probe(config: &SqlConfig) -> Result<Vec<Probed>, Vec<SourceError>> {
    let folder = Scratch::new().map_err(|error| vec![error])?;
    let names: Vec<&'static str> =
        TABLES.into_iter().chain([LEASES]).filter(|name| !query(config, name).is_empty()).collect();
    fetch::fetch(&first_rows(config), &names, &folder.0)?;
    let mut answers = Answers::default();
    for name in names.iter().filter(|name| **name != LEASES) {
        *answers.file_mut(name) = Some(new_file(&folder.0, name));
    }
    let nothing = Config { geoip: PathBuf::new(), ..Config::default() };
    let compiled = sources::compile(&nothing, &answers, &Arc::new(Names::default()), 0)?;
    let mut probed: Vec<Probed> = compiled
        .sources
        .iter()
        .filter_map(|source| Some(Probed { query: TABLES.into_iter().find(|t| *t == source.kind)?, rows: source.rows }))
        .collect();
    if names.contains(&LEASES) {
        let named = |errors: Vec<SourceError>| errors.into_iter().map(|e| super::about_query(LEASES, e)).collect();
        let rows = sources::read_leases(&new_file(&folder.0, LEASES)).map_err(|e| -> Vec<SourceError> { named(e) })?;
        probed.push(Probed { query: LEASES, rows: rows.len() });
    }
    Ok(probed)
}

fn first_rows(config: &SqlConfig) -> SqlConfig {
    let mut config = config.clone();
    let SqlConfig { subscribers, sites, networks, leases, .. } = &mut config;
    for query in [subscribers, sites, networks, leases].into_iter().filter(|query| !query.is_empty()) {
        let inner = query.trim().trim_end_matches(';');
        *query = format!("SELECT * FROM (\n{inner}\n) AS answer LIMIT {ROWS_MAX}");
    }
    config
}

/// A folder that only this user can read, gone when dropped: answers name subscribers.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, SourceError> {
        let folder = std::env::temp_dir().join(format!("rgz-netflow-check-{}", std::process::id()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|e| SourceError::about(Path::new(&folder), format_args!("cannot be made: {e}")))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays there is removed with the other temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
