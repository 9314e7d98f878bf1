//! `[[sink]]`: what is common to all kinds; the kind's own keys go to the kind.

use std::path::Path as FsPath;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::document::{Document, Path, Step};
use super::read::{Problem, describe_unknown, read};
use crate::flow::SinkConfig;
use crate::telemetry::units;

/// What is stored when the file names no sink: one embedded store in `./data`.
pub const DEFAULT_SINK: &str = "[{ name = \"local\", kind = \"parquet\", path = \"data\" }]";

/// Keys that every sink has.
pub const COMMON_KEYS: &[&str] = &["name", "kind", "start", "batch_rows", "flush_interval", "quarantine_bytes_max"];

/// Rows after which a group is committed: about 2 seconds at a million flows a second.
const BATCH_ROWS_DEFAULT: u64 = 2_000_000;
/// Time after which a group is committed.
const FLUSH_INTERVAL_MS_DEFAULT: u64 = 10_000;
/// Bytes on disk for records that the store refuses.
const QUARANTINE_BYTES_DEFAULT: u64 = 64 << 20;

/// The keys of a `[[sink]]` that do not depend on its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Common {
    /// Its name, also of its cursor in the log.
    pub name: String,
    /// One of the kinds of sink.
    pub kind: String,
    /// Where it begins in the log when it is new.
    pub start: Start,
    /// Flows that it commits together at most.
    pub batch_rows: u64,
    /// Time after which it commits what it has, ms.
    #[serde(rename = "flush_interval", with = "units::duration_ms")]
    pub flush_interval_ms: u64,
    /// Room on disk for records that the store refuses; over it the oldest are dropped, counted.
    #[serde(with = "units::bytes")]
    pub quarantine_bytes_max: u64,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: String::new(),
            start: Start::Now,
            batch_rows: BATCH_ROWS_DEFAULT,
            flush_interval_ms: FLUSH_INTERVAL_MS_DEFAULT,
            quarantine_bytes_max: QUARANTINE_BYTES_DEFAULT,
        }
    }
}

/// Where a new sink begins in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the next record.
    #[default]
    Now,
    /// With the oldest record that the log still has.
    Oldest,
}

/// One sink, ready to open.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// What is common to all kinds.
    pub common: Common,
    /// Every key with its value, for telling whether something changed.
    pub table: SinkTable,
    /// What its kind made of its own keys.
    pub config: Arc<dyn SinkConfig>,
}

/// The keys of a sink with their values. Secrets stand in it as they are, so it shows nothing.
#[derive(Clone, PartialEq)]
pub struct SinkTable(toml::Table);

impl SinkTable {
    /// Keys whose values differ, in order.
    pub fn changed_keys<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let differs = |key: &&String| self.0.get(*key) != other.0.get(*key);
        let only_there = other.0.keys().filter(|key| !self.0.contains_key(*key));
        let mut keys: Vec<&str> = self.0.keys().chain(only_there).filter(differs).map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }
}

impl std::fmt::Debug for SinkTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// Reads every `[[sink]]` of the document. Relative paths are taken from `base`.
pub fn read_sinks(
    document: &Document<'_>,
    kinds: &[sinks::Kind],
    base: &FsPath,
    problems: &mut Vec<Problem>,
) -> Vec<SinkSettings> {
    let list = Path::parse("sink");
    let count = document.get(&list).and_then(|list| list.get_ref().as_array()).map_or(0, |list| list.len());
    let mut settings: Vec<SinkSettings> = Vec::new();
    for index in 0..count {
        let path = Path([&list.0[..], &[Step::Index(index)]].concat());
        let Some(sink) = read_sink(document, &path, kinds, base, problems) else { continue };
        if settings.iter().any(|other| other.common.name == sink.common.name) {
            let problem = format!("two sinks are named {:?}; names must differ", sink.common.name);
            problems.push(problem_at(document, &path.then("name"), problem));
        }
        settings.push(sink);
    }
    settings
}

/// Whether a text can name a sink: it is a folder's name and stands in addresses of the API.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn read_sink(
    document: &Document<'_>,
    path: &Path,
    kinds: &[sinks::Kind],
    base: &FsPath,
    problems: &mut Vec<Problem>,
) -> Option<SinkSettings> {
    let table = document.get(path)?.get_ref().as_table()?;
    let problems_before = problems.len();
    let common: Common = read_common(document, path, problems);
    for (key, value) in [("name", &common.name), ("kind", &common.kind)] {
        let said = table.contains_key(key);
        if value.is_empty() && (!said || problems.len() == problems_before) {
            problems.push(problem_at(document, path, format!("a [[sink]] needs the key {key:?}")));
        }
    }
    if !common.name.is_empty() && !is_name(&common.name) {
        let problem = format!(
            "{:?} is no name: it begins with a letter or digit; allowed after it are '-', '_' and '.' too",
            common.name
        );
        problems.push(problem_at(document, &path.then("name"), problem));
    }
    if common.batch_rows == 0 || common.flush_interval_ms == 0 {
        let key = if common.batch_rows == 0 { "batch_rows" } else { "flush_interval" };
        problems.push(problem_at(document, &path.then(key), "must be greater than 0".to_owned()));
    }
    if common.kind.is_empty() {
        return None;
    }
    let Some(kind) = kinds.iter().find(|kind| kind.name == common.kind) else {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        let problem = describe_unknown("unknown kind", &common.kind, &names, "kinds");
        problems.push(problem_at(document, &path.then("kind"), problem));
        return None;
    };
    let known: Vec<&str> = COMMON_KEYS.iter().chain(kind.keys).copied().collect();
    let mut own = toml::Table::new();
    for (key, value) in table {
        let key = key.get_ref().as_ref();
        if COMMON_KEYS.contains(&key) {
            continue;
        }
        let place = path.then(key);
        if !kind.keys.contains(&key) {
            let kinds = format!("keys of kind {}", kind.name);
            problems.push(problem_at(document, &place, describe_unknown("unknown key", key, &known, &kinds)));
        } else if let Some(value) = plain(value.get_ref()) {
            own.insert(key.to_owned(), value);
        }
    }
    match (kind.parse)(&own, base) {
        Ok(config) => {
            own.extend(toml::Table::try_from(&common).unwrap_or_default());
            Some(SinkSettings { common, table: SinkTable(own), config: config.into() })
        }
        Err(errors) => {
            problems.extend(errors.into_iter().map(|e| problem_at(document, &path.then(&e.key), e.problem)));
            None
        }
    }
}

/// The common keys alone, so that the kind's keys are not taken for unknown ones.
fn read_common(document: &Document<'_>, path: &Path, problems: &mut Vec<Problem>) -> Common {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Sinks {
        sink: Vec<Common>,
    }
    let mut alone = document.clone();
    let Some(Step::Index(index)) = path.0.last() else { return Common::default() };
    let others = alone.get(&Path::parse("sink")).and_then(|sinks| sinks.get_ref().as_array()).map_or(0, |s| s.len());
    for other in (0..others).rev().filter(|other| other != index) {
        alone.remove(&Path::parse(&format!("sink[{other}]")));
    }
    let before = problems.len();
    let sinks: Sinks = read(alone, problems);
    // The sink stood alone in the copy; its place in the whole is another.
    for problem in &mut problems[before..] {
        problem.key = problem.key.replacen("sink[0]", &path.to_string(), 1);
    }
    sinks.sink.into_iter().next().unwrap_or_default()
}

/// A problem at a key; where the key is not set, at what it belongs to.
pub fn problem_at(document: &Document<'_>, path: &Path, problem: String) -> Problem {
    let mut place = path.clone();
    while document.get(&place).is_none() && place.0.pop().is_some() {}
    Problem { origin: document.origin(&place), key: path.to_string(), problem }
}

/// The value without spans, as kinds of sink take it.
pub fn plain(value: &DeValue<'_>) -> Option<toml::Value> {
    toml::Value::deserialize(toml::de::ValueDeserializer::from(toml::Spanned::new(0..0, value.clone()))).ok()
}
