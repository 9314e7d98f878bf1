//! Connections: options, and what an error means for the deliverer.

use postgres::Client;
use postgres_connect::ConnectError;
use sink_api::SinkError;

use crate::config::Config;

pub use postgres_connect::chain;

/// The options of a connection.
///
/// # Errors
/// What is wrong with the connection string, without showing it.
pub fn options(config: &Config) -> Result<postgres::Config, String> {
    let mut options: postgres::Config =
        config.url.0.parse().map_err(|error| format!("{error}; allowed is postgres://user@host:port/dbname"))?;
    if let Some(host) = &config.host {
        // A connection string's hosts would come first.
        options = without_hosts(&options);
        options.host(host);
    }
    if let Some(port) = config.port {
        options.port(port);
    }
    if let Some(dbname) = &config.dbname {
        options.dbname(dbname);
    }
    if let Some(user) = &config.user {
        options.user(user);
    }
    if let Some(password) = &config.password {
        options.password(&password.0);
    }
    if options.get_hosts().is_empty() {
        options.host("localhost");
    }
    Ok(options)
}

fn without_hosts(options: &postgres::Config) -> postgres::Config {
    let mut fresh = postgres::Config::new();
    if let Some(user) = options.get_user() {
        fresh.user(user);
    }
    if let Some(password) = options.get_password() {
        fresh.password(password);
    }
    if let Some(dbname) = options.get_dbname() {
        fresh.dbname(dbname);
    }
    options.get_ports().first().map(|port| fresh.port(*port));
    fresh
}

/// Connects.
///
/// # Errors
/// `Retry` for what may pass, `Fatal` for a password file or certificates that cannot be read and for refused logins.
pub fn connect(config: &Config) -> Result<Client, SinkError> {
    let mut options = options(config).map_err(SinkError::Fatal)?;
    if let Some(path) = &config.password_file {
        let password = std::fs::read_to_string(path)
            .map_err(|error| SinkError::Fatal(format!("password_file {}: {error}", path.display())))?;
        options.password(password.trim_end_matches(['\r', '\n']));
    }
    let client = postgres_connect::connect(&options, config.sslmode, config.sslrootcert.as_deref());
    client.map_err(|error| match error {
        ConnectError::Setup(problem) => SinkError::Fatal(problem),
        ConnectError::Server(error) => sink_error("connect", &error),
    })
}

/// What a database error means: data that it refuses, a person's task, or something that may pass.
pub fn sink_error(what: &str, error: &postgres::Error) -> SinkError {
    let Some(db) = error.as_db_error() else {
        return SinkError::retry(format!("{what}: {}", chain(error)));
    };
    let text = format!("{what}: {} ({})", db.message(), db.code().code());
    match db.code().code() {
        // Refused login, missing rights.
        code if code.starts_with("28") || code == "42501" => SinkError::Fatal(text),
        // A row without partition breaks no constraint that has a name: the partition was dropped meanwhile, and is made
        // again after opening.
        "23514" if db.constraint().is_none() => SinkError::retry(text),
        // Data exceptions and violated constraints.
        code if code.starts_with("22") || code.starts_with("23") => SinkError::Reject(text),
        _ => SinkError::retry(text),
    }
}
