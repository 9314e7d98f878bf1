//! The configuration: `pipeline.toml`, environment variables and flags, summed up from the stages' own `Config` structs.
//!
//! Precedence: default < file < environment file < environment < flag. Every value knows where it came from, and a problem
//! is reported with its place, all problems at once. Without a file the same defaults hold.

mod document;
mod env;
mod read;
mod show;
mod sinks;

use std::path::{Path as FsPath, PathBuf};

use serde::{Deserialize, Serialize};

use self::document::{Document, Overlay, Path};
use crate::flow::RollupDef;
use crate::flow::sink::KeyError;
use crate::{aggregate, control, decode, enrich, log, receive, telemetry};

pub use document::Origin;
pub use env::{Environment, VARIABLES, Variable, of_process};
pub use read::Problem;
pub use show::{Shown, show};
pub use sinks::{Common, SinkSettings, SinkTable, Start};

/// The file that is read when none is named and it is there.
pub const FILE_DEFAULT: &str = "pipeline.toml";

/// The stages' tables, as they stand in the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stages {
    /// Where exports come in.
    pub receive: receive::Config,
    /// How records become flows.
    pub decode: decode::Config,
    /// Who and where each flow is.
    pub enrich: enrich::Config,
    /// Sums by key and time.
    pub aggregate: aggregate::Config,
    /// The record of everything on disk.
    pub log: log::Config,
    /// The API, the metrics and the health checks.
    pub admin: control::http::Config,
    /// What is watched for, and who is told.
    pub alerts: control::alerts::Config,
    /// What the collector says about itself.
    pub telemetry: telemetry::logging::Config,
    /// The sinks' tables, read by [`sinks`].
    #[serde(skip_serializing)]
    sink: Vec<toml::Table>,
}

/// Everything that `run` needs to know.
#[derive(Debug)]
pub struct Settings {
    /// The stages' settings. Their paths are as the file has them, to be taken from `base`.
    pub stages: Stages,
    /// The sinks, in the order of the file.
    pub sinks: Vec<SinkSettings>,
    /// The folder from which relative paths are taken.
    pub base: PathBuf,
    /// Every value as text with its origin.
    pub shown: Vec<Shown>,
}

impl Settings {
    /// Every rollup that is kept: those of the aggregator's settings, and those that the sinks' stores answer from.
    ///
    /// # Errors
    /// As [`aggregate::Config::rollups`]; loading has checked them.
    pub fn rollups(&self) -> Result<Vec<RollupDef>, Vec<aggregate::Problem>> {
        self.stages.aggregate.rollups(self.sinks.iter().flat_map(|sink| sink.config.rollups()))
    }
}

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; without it [`FILE_DEFAULT`] when that is there, else none.
    pub file: Option<PathBuf>,
    /// An environment file.
    pub env_file: Option<PathBuf>,
    /// The process's environment.
    pub environment: Environment,
    /// `-p PORT`.
    pub port: Option<u16>,
}

/// Every problem of a configuration.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Reads the configuration.
///
/// # Errors
/// Every problem of it, each with its place.
pub fn load(sources: &Sources) -> Result<Settings, Problems> {
    load_with(sources, ::sinks::KINDS)
}

fn load_with(sources: &Sources, kinds: &[::sinks::Kind]) -> Result<Settings, Problems> {
    let (name, text) = read_file(sources.file.as_deref())?;
    let mut environment = match &sources.env_file {
        Some(path) => {
            env::parse_file(&path.display().to_string(), &read_text(path, "environment file")?).map_err(Problems)?
        }
        None => Environment::new(),
    };
    environment.extend(sources.environment.clone());

    let (document, errors) = Document::parse(&name, &text);
    if !errors.is_empty() {
        let problem = |(span, problem)| Problem { origin: document.origin_at(&span), key: String::new(), problem };
        return Err(Problems(errors.into_iter().map(problem).collect()));
    }
    let base = FsPath::new(&name).parent().map(FsPath::to_owned).unwrap_or_default();
    let mut problems = Vec::new();
    let default_sink = [default_sink()];
    let document = match document.get(&Path::parse("sink")) {
        Some(_) => Ok(document),
        None => document.overlay(&default_sink),
    };
    let document = document.map_err(|(origin, problem)| one(origin, problem))?;

    let database = env::database(&environment, &document, !name.is_empty());
    let document = document.overlay(&database).map_err(|(origin, problem)| one(origin, problem))?;
    let listen = receive::Config::default().listen;
    let overlays = env::overlays(&environment, &document, &listen, &mut problems);
    let document = document.overlay(&overlays).map_err(|(origin, problem)| one(origin, problem))?;
    let flags: Vec<Overlay> = sources
        .port
        .map(|port| env::listen_port(&document, &listen, port, Origin::Flag("--port".to_owned())))
        .into_iter()
        .collect();
    let document = document.overlay(&flags).map_err(|(origin, problem)| one(origin, problem))?;

    let mut stages: Stages = read::read(document.clone(), &mut problems);
    check(&stages, &base, &document, &mut problems);
    let sinks = sinks::read_sinks(&document, kinds, &base, &mut problems);
    let store = &stages.admin.store;
    if problems.is_empty() && !store.is_empty() && !sinks.iter().any(|sink| sink.common.name == *store) {
        let names: Vec<&str> = sinks.iter().map(|sink| &*sink.common.name).collect();
        let problem = read::describe_unknown("unknown sink", store, &names, "sinks");
        problems.push(sinks::problem_at(&document, &Path::parse("admin.store"), problem));
    }
    if !problems.is_empty() {
        problems.sort_by_key(|problem| problem.origin.place());
        return Err(Problems(problems));
    }
    let shown = show(&stages, &sinks, &document);
    // The process's environment speaks of the process's folder, the file of its own.
    let log_file = &mut stages.telemetry.log_file;
    let from_file = matches!(document.origin(&Path::parse("telemetry.log_file")), Origin::File { .. });
    if from_file && !log_file.as_os_str().is_empty() {
        *log_file = base.join(&*log_file);
    }
    Ok(Settings { stages, sinks, base, shown })
}

/// What the stages themselves say about their values, and files that are not there.
fn check(stages: &Stages, base: &FsPath, document: &Document<'_>, problems: &mut Vec<Problem>) {
    let mut say = |table: &str, errors: Vec<KeyError>| {
        let problem = |e: KeyError| sinks::problem_at(document, &Path::parse(table).then(&e.key), e.problem);
        problems.extend(errors.into_iter().map(problem));
    };
    let pairs = |pairs: Vec<(&str, String)>| {
        pairs.into_iter().map(|(key, problem)| KeyError { key: key.to_owned(), problem }).collect()
    };
    say("receive", pairs(stages.receive.problems()));
    say("decode", pairs(stages.decode.problems()));
    let rollups = stages.aggregate.rollups([]).err().unwrap_or_default();
    say("aggregate", rollups.into_iter().map(|e| KeyError { key: e.key, problem: e.problem }).collect());
    say("admin", stages.admin.problems());
    say("alerts", stages.alerts.problems());
    let tables = [
        ("subscribers", &stages.enrich.subscribers),
        ("sites", &stages.enrich.sites),
        ("networks", &stages.enrich.networks),
        ("ports", &stages.enrich.ports),
        ("oui", &stages.enrich.oui),
    ];
    let missing = tables.into_iter().filter_map(|(key, path)| {
        let path = path.as_ref().map(|path| base.join(path)).filter(|path| !path.is_file())?;
        Some(KeyError { key: key.to_owned(), problem: format!("there is no file {}", path.display()) })
    });
    say("enrich", missing.collect());
    say("enrich", stages.enrich.problems().into_iter().map(|(key, problem)| KeyError { key, problem }).collect());
}

fn default_sink() -> Overlay {
    Overlay { path: Path::parse("sink"), literal: sinks::DEFAULT_SINK.to_owned(), origin: Origin::Default }
}

fn one(origin: Origin, problem: String) -> Problems {
    Problems(vec![Problem { origin, key: String::new(), problem }])
}

/// The file's name and text; both empty when there is none.
fn read_file(named: Option<&FsPath>) -> Result<(String, String), Problems> {
    match named {
        Some(path) => Ok((path.display().to_string(), read_text(path, "configuration")?)),
        None if FsPath::new(FILE_DEFAULT).exists() => {
            Ok((FILE_DEFAULT.to_owned(), read_text(FsPath::new(FILE_DEFAULT), "configuration")?))
        }
        None => Ok((String::new(), String::new())),
    }
}

fn read_text(path: &FsPath, what: &str) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|e| {
        let origin = Origin::File { file: path.display().to_string(), line: 0 };
        one(origin, format!("cannot read the {what}: {e}"))
    })
}

#[cfg(test)]
mod tests;
