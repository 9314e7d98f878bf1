//! Log lines: to stderr, and to a file as well when one is named.

use std::fs::File;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use serde::{Deserialize, Deserializer, Serialize};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// The filter in force, once lines are written.
static FILTER: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// `[telemetry]`: what the collector says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Least important lines that are written.
    pub log_level: Level,
    /// File that gets every line too, appended; empty = stderr only.
    pub log_file: PathBuf,
}

/// How important a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    /// The level of a name; Python's names are known, case does not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "error" | "critical" | "fatal" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" | "notset" => Self::Trace,
            _ => return None,
        })
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| {
            let allowed = "error, warn, info, debug, trace, and Python's names";
            serde::de::Error::custom(format!("{name:?} is no log level; allowed are {allowed}"))
        })
    }
}

/// Sends every line of this process where the configuration says. A second call changes nothing.
///
/// # Errors
/// The file cannot be opened for appending.
pub fn start(config: &Config) -> Result<(), String> {
    let file = match config.log_file.as_os_str().is_empty() {
        true => None,
        false => {
            let opened = File::options().append(true).create(true).open(&config.log_file);
            let path = config.log_file.display();
            Some(opened.map_err(|e| format!("cannot write the log file {path} (log_file, LOG_FILE): {e}"))?)
        }
    };
    let file = file.map(|file| fmt::layer().with_ansi(false).with_writer(Mutex::new(file)).boxed());
    let stderr = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let (filter, handle) = reload::Layer::new(config.log_level.filter());
    // An error means that a subscriber is there already, as in tests that start more than one collector.
    if tracing_subscriber::registry().with(filter).with(file).with(stderr).try_init().is_ok() {
        // Nobody else sets it.
        let _ = FILTER.set(handle);
    }
    Ok(())
}

/// Replaces the level, live.
///
/// # Errors
/// Lines of this process go elsewhere.
pub fn set_level(level: Level) -> Result<(), String> {
    let filter = FILTER.get().ok_or_else(|| "the log lines of this process are not ours".to_owned())?;
    filter.reload(level.filter()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_known_by_our_names_and_pythons() {
        for (name, want) in
            [("INFO", Level::Info), ("Warning", Level::Warn), ("CRITICAL", Level::Error), ("debug", Level::Debug)]
        {
            assert_eq!(Level::from_name(name), Some(want));
        }
        let config: Config = toml::from_str("log_level = \"WARNING\"").unwrap();
        assert_eq!(config.log_level, Level::Warn);
        let error = toml::from_str::<Config>("log_level = \"loud\"").unwrap_err();
        assert!(error.message().contains("allowed are error, warn"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let config = Config { log_file: "/nowhere/at/all.log".into(), ..Config::default() };
        assert!(start(&config).unwrap_err().contains("/nowhere/at/all.log"));
    }
}
