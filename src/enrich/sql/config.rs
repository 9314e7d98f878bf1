use std::path::PathBuf;

use postgres_connect::SslMode;

use crate::telemetry::units;

/// Queries against a PostgreSQL, on an interval: `[enrich.sql]`.
#[derive(Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqlConfig {
    /// Connection string: `postgres://user@host:port/dbname`.
    pub url: String,
    /// A file with the password, read at each connection.
    pub password_file: Option<PathBuf>,
    /// How the connection is protected, as libpq names it.
    pub sslmode: SslMode,
    /// Certificates of authorities (PEM); without it those that Mozilla trusts.
    pub sslrootcert: Option<PathBuf>,
    /// Time between two answers, ms.
    #[serde(rename = "interval", with = "units::duration_ms")]
    pub interval_ms: u64,
    /// How long one query may take, ms.
    #[serde(rename = "statement_timeout", with = "units::duration_ms")]
    pub statement_timeout_ms: u64,
    /// Query with the columns of the file `subscribers`. Empty = none, here and below.
    pub subscribers: String,
    /// Query with the columns of the file `sites`.
    pub sites: String,
    /// Query with the columns of the file `networks`.
    pub networks: String,
    /// Query: ip, subscriber_id, and if wished reseller_id, nas_id, site, mac, from, to.
    pub leases: String,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: None,
            sslmode: SslMode::default(),
            sslrootcert: None,
            interval_ms: 300_000,
            statement_timeout_ms: 30_000,
            subscribers: String::new(),
            sites: String::new(),
            networks: String::new(),
            leases: String::new(),
        }
    }
}

impl std::fmt::Debug for SqlConfig {
    /// Without the connection string, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlConfig").field("interval_ms", &self.interval_ms).finish_non_exhaustive()
    }
}

impl SqlConfig {
    /// What is wrong with the keys: each key and the problem.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if let Err(error) = self.url.parse::<postgres::Config>() {
            problems.push(("url", format!("{error}; allowed is postgres://user@host:port/dbname")));
        } else if self.url.is_empty() {
            problems.push(("url", "is missing: postgres://user@host:port/dbname".to_owned()));
        }
        for (key, value) in [("interval", self.interval_ms), ("statement_timeout", self.statement_timeout_ms)] {
            if value < 1000 {
                problems.push((key, "must be 1s at least".to_owned()));
            }
        }
        problems
    }
}
