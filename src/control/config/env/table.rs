//! The table of variables.

use super::values::{address, boolean, days, hours, list, number, seconds, text};

/// One environment variable.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it sets, for help texts.
    pub about: &'static str,
    /// Where its value goes.
    pub(super) target: Target,
    /// How its text becomes a TOML literal.
    pub(super) literal: fn(&str) -> Result<String, String>,
}

pub(super) enum Target {
    /// This key.
    Key(&'static str),
    /// This key of every `[[sink]]`.
    EverySink(&'static str),
    /// This key of every `[[sink]]` of these kinds.
    SinksOf(&'static [&'static str], &'static str),
    /// The port of every listener.
    ListenPort,
    /// The address of every listener.
    ListenAddr,
}

/// Kinds of sink that speak to a PostgreSQL server.
pub(super) const DATABASES: &[&str] = &["postgres", "timescaledb"];

/// The kind of sink that speaks to InfluxDB.
const INFLUXDB: &[&str] = &["influxdb"];

/// Every variable. Where two set the same thing, the later row wins.
pub const VARIABLES: &[Variable] = &[
    Variable { name: "NETFLOW_PORT", about: "UDP port to listen on", target: Target::ListenPort, literal: number },
    Variable {
        name: "NETFLOW_LISTEN_PORT",
        about: "UDP port to listen on; wins over NETFLOW_PORT",
        target: Target::ListenPort,
        literal: number,
    },
    Variable {
        name: "NETFLOW_LISTEN_ADDR",
        about: "address to listen on",
        target: Target::ListenAddr,
        literal: address,
    },
    Variable {
        name: "NETFLOW_PROTOCOL",
        about: "accepted versions, separated by commas",
        target: Target::Key("receive.protocols"),
        literal: list,
    },
    Variable {
        name: "BUFFER_SIZE",
        about: "longest datagram taken whole, bytes",
        target: Target::Key("receive.datagram_bytes_max"),
        literal: number,
    },
    Variable {
        name: "BATCH_SIZE",
        about: "flows that a sink commits together",
        target: Target::EverySink("batch_rows"),
        literal: number,
    },
    Variable {
        name: "FLUSH_INTERVAL",
        about: "seconds after which a sink commits what it has",
        target: Target::EverySink("flush_interval"),
        literal: seconds,
    },
    Variable {
        name: "DB_HOST",
        about: "host of the database; adds a sink of kind timescaledb when there is none for PostgreSQL",
        target: Target::SinksOf(DATABASES, "host"),
        literal: text,
    },
    Variable {
        name: "DB_PORT",
        about: "port of the database",
        target: Target::SinksOf(DATABASES, "port"),
        literal: number,
    },
    Variable {
        name: "DB_NAME",
        about: "name of the database; adds a sink as DB_HOST does",
        target: Target::SinksOf(DATABASES, "dbname"),
        literal: text,
    },
    Variable {
        name: "DB_USER",
        about: "role at the database",
        target: Target::SinksOf(DATABASES, "user"),
        literal: text,
    },
    Variable {
        name: "DB_PASSWORD",
        about: "password at the database",
        target: Target::SinksOf(DATABASES, "password"),
        literal: text,
    },
    Variable {
        name: "DB_PASSWORD_FILE",
        about: "file that holds the password at the database",
        target: Target::SinksOf(DATABASES, "password_file"),
        literal: text,
    },
    Variable {
        name: "DB_SCHEMA",
        about: "schema of the tables",
        target: Target::SinksOf(DATABASES, "schema"),
        literal: text,
    },
    Variable {
        name: "TIMESCALEDB_FLOWS_TABLE",
        about: "name of the table of flows",
        target: Target::SinksOf(DATABASES, "table"),
        literal: text,
    },
    Variable {
        name: "TIMESCALEDB_FLOWS_RETENTION_DETAIL",
        about: "days that detail is kept",
        target: Target::SinksOf(DATABASES, "retention_detail_days"),
        literal: number,
    },
    Variable {
        name: "TIMESCALEDB_FLOWS_RETENTION_AGGREGATE",
        about: "months that long rollups are kept",
        target: Target::SinksOf(DATABASES, "retention_aggregate_months"),
        literal: number,
    },
    Variable {
        name: "TIMESCALEDB_FLOWS_CHUNK_INTERVAL",
        about: "width of a chunk: hours, or a text such as 1 day",
        target: Target::SinksOf(DATABASES, "chunk_interval_hours"),
        literal: hours,
    },
    Variable {
        name: "INFLUXDB_URL",
        about: "address of the InfluxDB server",
        target: Target::SinksOf(INFLUXDB, "url"),
        literal: text,
    },
    Variable {
        name: "INFLUXDB_BUCKET",
        about: "bucket of InfluxDB (on version 1 the database, unless the file names one)",
        target: Target::SinksOf(INFLUXDB, "bucket"),
        literal: text,
    },
    Variable {
        name: "INFLUXDB_ORG",
        about: "organisation of InfluxDB",
        target: Target::SinksOf(INFLUXDB, "org"),
        literal: text,
    },
    Variable {
        name: "INFLUXDB_TOKEN",
        about: "token of InfluxDB",
        target: Target::SinksOf(INFLUXDB, "token"),
        literal: text,
    },
    Variable {
        name: "INFLUXDB_TOKEN_FILE",
        about: "file that holds the token of InfluxDB",
        target: Target::SinksOf(INFLUXDB, "token_file"),
        literal: text,
    },
    Variable {
        name: "INFLUXDB_RETENTION",
        about: "how long InfluxDB keeps detail and short rollups: days, or a text such as 30d, 4w, 720h",
        target: Target::SinksOf(INFLUXDB, "retention_detail_days"),
        literal: days,
    },
    Variable {
        name: "PROMETHEUS_NETFLOW_METRICS_ENABLED",
        about: "whether /metrics is served",
        target: Target::Key("admin.metrics"),
        literal: boolean,
    },
    Variable {
        name: "PROMETHEUS_NETFLOW_PORT",
        about: "port of /metrics and /healthz alone; the admin port itself means one listener",
        target: Target::Key("admin.metrics_port"),
        literal: number,
    },
    Variable {
        name: "NETFLOW_ALERT_SUBSCRIBER_24H_BYTES",
        about: "bytes of a subscriber in 24 hours over which there is an alert",
        target: Target::Key("alerts.subscriber_24h_bytes"),
        literal: text,
    },
    Variable {
        name: "NETFLOW_ALERT_SITE_CIR_PERCENT",
        about: "percent of a site's committed rate over which there is an alert",
        target: Target::Key("alerts.site_cir_percent"),
        literal: number,
    },
    Variable {
        name: "NETFLOW_ALERT_DPI_PROTOCOL",
        about: "applications and categories that are watched for, separated by commas",
        target: Target::Key("alerts.dpi_protocols"),
        literal: list,
    },
    Variable {
        name: "LOG_LEVEL",
        about: "error, warn, info, debug or trace; Python's names too",
        target: Target::Key("telemetry.log_level"),
        literal: text,
    },
    Variable {
        name: "LOG_FILE",
        about: "file for log lines, besides stderr",
        target: Target::Key("telemetry.log_file"),
        literal: text,
    },
];
