//! The keys of a `[[sink]]` table of kind `postgres` or `timescaledb`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sink_api::sink::{KeyError, ParsedSink, Retention};
use sink_api::{Field, FlowStore, RollupDef, Secret, Sink, SinkConfig, SinkContext, SinkError};

use crate::columns;
use crate::sink::PostgresSink;
use crate::store::PostgresStore;

/// Every key.
pub const KEYS: &[&str] = &[
    "url",
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "password_file",
    "schema",
    "table",
    "columns",
    "sslmode",
    "sslrootcert",
    "retention_detail_days",
    "retention_aggregate_months",
    "chunk_interval_hours",
    "statement_timeout_s",
    "connections",
    "usage_ports",
    "debug_log_rows",
];

/// A `[[sink]]` table of kind `postgres`.
pub const SAMPLE_POSTGRES: &str = include_str!("../sample-postgres.toml");

/// A `[[sink]]` table of kind `timescaledb`.
pub const SAMPLE_TIMESCALEDB: &str = include_str!("../sample-timescaledb.toml");

/// Bytes of one group of rows, all columns set, as it is pulled and as it is encoded.
const GROUP_BYTES_MAX: u64 = 112 << 20;

/// Most connections that write: each holds an encoding buffer, and a server has more to do than this.
const CONNECTIONS_MAX: i64 = 8;

/// Most rows of the table of malformed datagrams: it is read by people.
const DEBUG_LOG_ROWS_MAX: i64 = 1_000_000;

pub use postgres_connect::SslMode;

/// The configuration of a sink.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether hypertables are used where the server has TimescaleDB.
    pub timescale: bool,
    /// Connection string with everything but the keys below; empty for libpq's usual defaults.
    pub url: Secret,
    /// Over the connection string's.
    pub host: Option<String>,
    /// Over the connection string's.
    pub port: Option<u16>,
    /// Over the connection string's.
    pub dbname: Option<String>,
    /// Over the connection string's.
    pub user: Option<String>,
    /// Over the connection string's.
    pub password: Option<Secret>,
    /// A file with the password, read at each connection.
    pub password_file: Option<PathBuf>,
    /// Schema of the tables.
    pub schema: String,
    /// Name of the table of flows; rollups are `<table>_<rollup>`.
    pub table: String,
    /// Columns of the table of flows that are written, in its order; always with the time.
    pub columns: Vec<Field>,
    /// How the connection is protected.
    pub sslmode: SslMode,
    /// Certificates of authorities (PEM); without it those that Mozilla trusts.
    pub sslrootcert: Option<PathBuf>,
    /// How long rows are kept.
    pub retention: Retention,
    /// Width of a chunk of detail; with native partitions always one day.
    pub chunk_interval_hours: u32,
    /// How long one statement of the writer may take.
    pub statement_timeout: Duration,
    /// Connections that write side by side.
    pub connections: usize,
    /// Whether a subscriber's top ports are answered from a rollup by the hour.
    pub usage_ports: bool,
    /// Malformed datagrams that are kept in `netflow.netflow_debug_log`; 0 for no such table.
    pub debug_log_rows: u32,
}

impl Config {
    /// The defaults of a kind.
    pub fn new(timescale: bool) -> Self {
        Self {
            timescale,
            url: Secret(String::new()),
            host: None,
            port: None,
            dbname: None,
            user: None,
            password: None,
            password_file: None,
            schema: "public".to_owned(),
            table: "flows".to_owned(),
            columns: columns::flow_fields(),
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            retention: Retention::default(),
            chunk_interval_hours: 24,
            statement_timeout: Duration::from_secs(300),
            connections: 2,
            usage_ports: true,
            debug_log_rows: 0,
        }
    }

    /// The table of flows, quoted and with its schema.
    pub fn flows_table(&self) -> String {
        self.quoted(&self.table)
    }

    /// The name of a rollup's table, without schema.
    pub fn rollup_name(&self, rollup: &str) -> String {
        format!("{}_{rollup}", self.table)
    }

    /// A name in the tables' schema, quoted.
    pub fn quoted(&self, name: &str) -> String {
        format!("{}.{}", quote(&self.schema), quote(name))
    }

    /// Under which the sink's place is known in the `netflow` schema: two sinks with different tables are two places.
    pub fn target(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

/// An SQL identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL text literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Reads the table of a sink of kind `postgres`.
///
/// # Errors
/// Every problem found.
pub fn parse_postgres(table: &toml::Table, base: &Path) -> ParsedSink {
    parse(Config::new(false), table, base)
}

/// Reads the table of a sink of kind `timescaledb`.
///
/// # Errors
/// Every problem found.
pub fn parse_timescaledb(table: &toml::Table, base: &Path) -> ParsedSink {
    parse(Config::new(true), table, base)
}

fn parse(mut config: Config, table: &toml::Table, base: &Path) -> ParsedSink {
    let mut problems = Vec::new();
    for (key, value) in table {
        if let Err(allowed) = set(&mut config, key, value, base) {
            problems.push(KeyError {
                key: key.clone(),
                problem: format!("{} is not allowed; {allowed}", shown(key, value)),
            });
        }
    }
    if let Err(error) = crate::connect::options(&config) {
        problems.push(KeyError { key: "url".to_owned(), problem: error });
    }
    if problems.is_empty() { Ok(Box::new(config)) } else { Err(problems) }
}

/// A value for an error text, without secrets.
fn shown(key: &str, value: &toml::Value) -> String {
    if matches!(key, "password" | "url") { "this value".to_owned() } else { value.to_string() }
}

/// Longest name of a table: PostgreSQL cuts names at 63 bytes, and rollups and partitions add to it.
const TABLE_NAME_BYTES_MAX: usize = 30;

/// Sets one key, or says what is allowed.
fn set(config: &mut Config, key: &str, value: &toml::Value, base: &Path) -> Result<(), String> {
    let text = || value.as_str().filter(|t| !t.is_empty()).map(str::to_owned).ok_or("a text that is not empty");
    let name = || {
        text().ok().filter(|t| t.len() <= TABLE_NAME_BYTES_MAX && !t.contains('\0')).ok_or("a name of at most 30 bytes")
    };
    let number = |range: std::ops::RangeInclusive<i64>| {
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        value.as_integer().filter(|n| range.contains(n)).ok_or_else(allowed)
    };
    match key {
        "url" => config.url = Secret(text()?),
        "host" => config.host = Some(text()?),
        "port" => config.port = Some(number(1..=65_535)? as u16),
        "dbname" => config.dbname = Some(text()?),
        "user" => config.user = Some(text()?),
        "password" => config.password = Some(Secret(value.as_str().ok_or("a text")?.to_owned())),
        "password_file" => config.password_file = Some(base.join(text()?)),
        "schema" => config.schema = name()?,
        "table" => config.table = name()?,
        "columns" => config.columns = columns::chosen(value)?,
        "sslmode" => {
            let mode = SslMode::NAMES.iter().find(|(name, _)| value.as_str() == Some(name));
            config.sslmode = mode.ok_or("disable, prefer, require, verify-ca or verify-full")?.1;
        }
        "sslrootcert" => config.sslrootcert = Some(base.join(text()?)),
        "retention_detail_days" => config.retention.detail_days = number(1..=36_500)? as u32,
        "retention_aggregate_months" => config.retention.aggregate_months = number(1..=1_200)? as u32,
        "chunk_interval_hours" => config.chunk_interval_hours = number(1..=8_760)? as u32,
        "statement_timeout_s" => config.statement_timeout = Duration::from_secs(number(1..=86_400)? as u64),
        "debug_log_rows" => config.debug_log_rows = number(0..=DEBUG_LOG_ROWS_MAX)? as u32,
        "usage_ports" => config.usage_ports = value.as_bool().ok_or("true or false")?,
        "connections" => config.connections = number(1..=CONNECTIONS_MAX)? as usize,
        _ => return Err(format!("a sink of this kind has {}", KEYS.join(", "))),
    }
    Ok(())
}

impl SinkConfig for Config {
    fn open(&self, context: &SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(PostgresSink::open(self, context)?))
    }

    fn store(&self, context: &SinkContext) -> Result<Option<Arc<dyn FlowStore>>, SinkError> {
        Ok(Some(Arc::new(PostgresStore::new(self, context))))
    }

    fn probe(&self) -> Result<Option<String>, SinkError> {
        crate::schema::describe(&mut crate::connect::connect(self)?, self.timescale).map(Some)
    }

    fn rollups(&self) -> Vec<RollupDef> {
        self.usage_ports.then(RollupDef::usage_ports).into_iter().collect()
    }

    fn memory_bytes_max(&self) -> u64 {
        // One for each connection, and one that is pulled meanwhile.
        (self.connections as u64 + 1) * GROUP_BYTES_MAX
    }
}
