//! The table of sinks: one row a kind. Adding a sink touches its own folder and one row here.

use std::path::Path;

/// One kind of sink.
pub struct Kind {
    /// Its name in `kind = "..."`.
    pub name: &'static str,
    /// One line for help texts.
    pub about: &'static str,
    /// A commented `[[sink]]` table that works as it stands, shown by `rgz-netflow sample KIND`.
    pub sample: &'static str,
    /// Every key that the table may have besides `name` and `kind`.
    pub keys: &'static [&'static str],
    /// Reads the keys of a `[[sink]]` table (without `name` and `kind`). Relative paths are taken from `base`.
    ///
    /// # Errors
    /// Every problem found, each with the key it is about.
    pub parse: fn(table: &toml::Table, base: &Path) -> ParsedSink,
}

pub use sink_api::sink::{KeyError, ParsedSink};

/// Every kind of sink, in the order in which help texts show them.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "parquet",
        about: "embedded store: columnar files on local disk by day, open to every engine that reads Parquet (default)",
        sample: sink_parquet::SAMPLE,
        keys: sink_parquet::KEYS,
        parse: sink_parquet::parse,
    },
    Kind {
        name: "postgres",
        about: "tables in PostgreSQL, native partitions by day, exactly once",
        sample: sink_postgres::SAMPLE_POSTGRES,
        keys: sink_postgres::KEYS,
        parse: sink_postgres::parse_postgres,
    },
    Kind {
        name: "timescaledb",
        about: "hypertables in TimescaleDB (native partitions where the server has none), exactly once",
        sample: sink_postgres::SAMPLE_TIMESCALEDB,
        keys: sink_postgres::KEYS,
        parse: sink_postgres::parse_timescaledb,
    },
    Kind {
        name: "influxdb",
        about: "points in InfluxDB 1 or 2: rollups, flows on wish; idempotent",
        sample: sink_influxdb::SAMPLE,
        keys: sink_influxdb::KEYS,
        parse: sink_influxdb::parse,
    },
];
