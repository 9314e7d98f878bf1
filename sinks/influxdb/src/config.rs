//! The keys of a `[[sink]]` table of kind `influxdb`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sink_api::rollup::Keep;
use sink_api::sink::{KeyError, ParsedSink, Retention};
use sink_api::time::DAY_MS;
use sink_api::{FlowStore, RollupDef, Secret, Sink, SinkConfig, SinkContext, SinkError};

use crate::http::Client;
use crate::place;
use crate::sink::InfluxSink;
use crate::store::InfluxStore;

/// Every key.
pub const KEYS: &[&str] = &[
    "url",
    "api",
    "org",
    "bucket",
    "token",
    "token_file",
    "database",
    "retention_policy",
    "user",
    "password",
    "password_file",
    "ca_file",
    "detail",
    "usage_ports",
    "tags_max",
    "gzip",
    "retention_detail_days",
    "retention_aggregate_months",
    "shard_days",
    "request_timeout_s",
];

/// A `[[sink]]` table of this kind.
pub const SAMPLE: &str = include_str!("../sample.toml");

/// Bytes that this sink may hold: requests being made, the subscribers that have a tag, and the groups of one query.
const MEMORY_BYTES_MAX: u64 = 96 << 20;

/// Subscribers that get a tag: below the 100,000 values of one tag that an InfluxDB 1 accepts by default.
const TAGS_MAX_DEFAULT: u32 = 90_000;

/// Which HTTP interface the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// InfluxDB 1: database, retention policy, user and password.
    V1,
    /// InfluxDB 2: organisation, bucket, token.
    V2,
}

/// The configuration of a sink.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the server, `http://` or `https://`, without a slash at its end.
    pub url: String,
    /// Which HTTP interface it has.
    pub api: Api,
    /// Organisation (v2).
    pub org: String,
    /// Bucket of detail and short rollups; long ones go to `<bucket>_long` (v2).
    pub bucket: String,
    /// Token (v2).
    pub token: Option<Secret>,
    /// A file with the token, read when the sink opens (v2).
    pub token_file: Option<PathBuf>,
    /// Database (v1); without it the name in `bucket`.
    pub database: Option<String>,
    /// Retention policy of detail and short rollups; long ones go to `<retention_policy>_long` (v1).
    pub retention_policy: String,
    /// User (v1).
    pub user: Option<String>,
    /// Password (v1).
    pub password: Option<Secret>,
    /// A file with the password, read when the sink opens (v1).
    pub password_file: Option<PathBuf>,
    /// Certificates of authorities (PEM); without it those that Mozilla trusts.
    pub ca_file: Option<PathBuf>,
    /// Whether flows are stored too.
    pub detail: bool,
    /// Whether a subscriber's top ports are answered from a rollup by the hour.
    pub usage_ports: bool,
    /// How many subscribers have a tag of their own in `usage`.
    pub tags_max: u32,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// How long points are kept.
    pub retention: Retention,
    /// Days that one shard of the server covers; `None`: what the server chooses.
    pub shard_days: Option<u32>,
    /// How long one request may take.
    pub request_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "http://localhost:8086".to_owned(),
            api: Api::V2,
            org: String::new(),
            bucket: "netflow".to_owned(),
            token: None,
            token_file: None,
            database: None,
            retention_policy: "netflow".to_owned(),
            user: None,
            password: None,
            password_file: None,
            ca_file: None,
            detail: false,
            usage_ports: true,
            tags_max: TAGS_MAX_DEFAULT,
            gzip: true,
            retention: Retention::default(),
            shard_days: None,
            request_timeout: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// How long points of a retention class are kept. Months are counted as the longest year has them.
    pub(crate) fn kept_days(&self, keep: Keep) -> i64 {
        match keep {
            Keep::Detail => i64::from(self.retention.detail_days),
            Keep::Aggregate => (i64::from(self.retention.aggregate_months) * 366 + 11) / 12,
        }
    }

    /// Width of the shards of points of a retention class, when it is configured: never wider than the points are kept.
    pub(crate) fn shard_hours(&self, keep: Keep) -> Option<i64> {
        self.shard_days.map(|days| i64::from(days).min(self.kept_days(keep)) * 24)
    }

    /// The first time that is kept of a retention class, ms since the Unix epoch.
    pub(crate) fn cutoff_ms(&self, keep: Keep, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.kept_days(keep) * DAY_MS)
    }
}

/// Reads the table of a sink.
///
/// # Errors
/// Every problem found.
pub fn parse(table: &toml::Table, base: &Path) -> ParsedSink {
    let mut config = Config::default();
    let mut problems = Vec::new();
    for (key, value) in table {
        if let Err(allowed) = set(&mut config, key, value, base) {
            let shown =
                if matches!(&**key, "password" | "token") { "this value".to_owned() } else { value.to_string() };
            problems.push(KeyError { key: key.clone(), problem: format!("{shown} is not allowed; {allowed}") });
        }
    }
    let mut missing = |key: &str, why: &str| problems.push(KeyError { key: key.to_owned(), problem: why.to_owned() });
    if config.api == Api::V2 && config.org.is_empty() && !table.contains_key("org") {
        missing("org", "api \"v2\" needs an organisation; servers of version 1 have api = \"v1\"");
    }
    if config.api == Api::V2 && config.token.is_none() && config.token_file.is_none() {
        missing("token_file", "api \"v2\" needs a token: token_file, or token");
    }
    if problems.is_empty() { Ok(Box::new(config)) } else { Err(problems) }
}

/// Longest name of a bucket or database that is taken.
const NAME_BYTES_MAX: usize = 200;

/// Sets one key, or says what is allowed.
fn set(config: &mut Config, key: &str, value: &toml::Value, base: &Path) -> Result<(), String> {
    let text = || value.as_str().filter(|t| !t.is_empty()).map(str::to_owned).ok_or("a text that is not empty");
    let name = || {
        let plain = |t: &String| t.len() <= NAME_BYTES_MAX && !t.contains(|c: char| c.is_control() || c == '/');
        text().ok().filter(plain).ok_or("a name without control characters and slashes")
    };
    let number = |range: std::ops::RangeInclusive<i64>| {
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        value.as_integer().filter(|n| range.contains(n)).ok_or_else(allowed)
    };
    let flag = || value.as_bool().ok_or("true or false");
    match key {
        "url" => config.url = url(&text()?)?,
        "api" => {
            config.api = match value.as_str() {
                Some("v1") => Api::V1,
                Some("v2") => Api::V2,
                _ => return Err("v1 or v2".to_owned()),
            }
        }
        "org" => config.org = text()?,
        "bucket" => config.bucket = name()?,
        "token" => config.token = Some(Secret(text()?)),
        "token_file" => config.token_file = Some(base.join(text()?)),
        "database" => config.database = Some(name()?),
        "retention_policy" => config.retention_policy = name()?,
        "user" => config.user = Some(text()?),
        "password" => config.password = Some(Secret(value.as_str().ok_or("a text")?.to_owned())),
        "password_file" => config.password_file = Some(base.join(text()?)),
        "ca_file" => config.ca_file = Some(base.join(text()?)),
        "detail" => config.detail = flag()?,
        "usage_ports" => config.usage_ports = flag()?,
        "tags_max" => config.tags_max = number(0..=10_000_000)? as u32,
        "gzip" => config.gzip = flag()?,
        "retention_detail_days" => config.retention.detail_days = number(1..=36_500)? as u32,
        "retention_aggregate_months" => config.retention.aggregate_months = number(1..=1_200)? as u32,
        "shard_days" => config.shard_days = Some(number(1..=366)? as u32),
        "request_timeout_s" => config.request_timeout = Duration::from_secs(number(1..=3_600)? as u64),
        _ => return Err(format!("a sink of this kind has {}", KEYS.join(", "))),
    }
    Ok(())
}

/// An address without the slash at its end. User and password have keys of their own.
fn url(text: &str) -> Result<String, String> {
    let allowed = || "an address such as http://localhost:8086, without user and password".to_owned();
    let url = text.trim_end_matches('/');
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or_else(allowed)?;
    let parsed: ureq::http::Uri = url.parse().map_err(|_| allowed())?;
    let plain = parsed.host().is_some_and(|h| !h.is_empty()) && !host.contains(['@', '?', '#']);
    if plain { Ok(url.to_owned()) } else { Err(allowed()) }
}

impl SinkConfig for Config {
    fn open(&self, context: &SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(InfluxSink::open(self, context)?))
    }

    fn store(&self, context: &SinkContext) -> Result<Option<Arc<dyn FlowStore>>, SinkError> {
        Ok(Some(Arc::new(InfluxStore::new(self, context))))
    }

    fn probe(&self) -> Result<Option<String>, SinkError> {
        place::probe(&Client::new(self)?, self).map(Some)
    }

    fn rollups(&self) -> Vec<RollupDef> {
        self.usage_ports.then(RollupDef::usage_ports).into_iter().collect()
    }

    fn memory_bytes_max(&self) -> u64 {
        MEMORY_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let table = text.parse().unwrap();
        parse(&table, Path::new("/base")).map(drop).unwrap_err().into_iter().map(|p| p.key).collect()
    }

    #[test]
    fn the_sample_reads_and_shows_every_key() {
        let table: toml::Table = SAMPLE.parse().unwrap();
        let mut sink = table["sink"][0].as_table().unwrap().clone();
        assert_eq!(sink.remove("kind").unwrap().as_str(), Some("influxdb"));
        sink.remove("name");
        assert!(parse(&sink, Path::new("/base")).is_ok());
        for key in KEYS {
            assert!(SAMPLE.contains(&format!("{key} =")), "{key}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once_and_no_secret_is_shown() {
        let text = "url = \"ftp://x\"\ntags_max = -1\ntoken = \"\"\ncolour = 1\napi = \"v3\"";
        assert_eq!(problems(text), ["api", "colour", "tags_max", "token", "url", "org", "token_file"]);
        assert!(problems("api = \"v2\"\ntoken = \"t\"").contains(&"org".to_owned()));
        assert!(problems("api = \"v1\"\nurl = \"http://me:pw@host\"").contains(&"url".to_owned()));
        let config = Config { token: Some(Secret("hidden".to_owned())), ..Config::default() };
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
