//! Connections: options, TLS, and what an error means for the deliverer.

use std::sync::Arc;
use std::time::Duration;

use postgres::config::SslMode as Negotiate;
use postgres::{Client, NoTls};
use rustls::client::WebPkiServerVerifier;
use sink_api::SinkError;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{Config, SslMode};
use crate::verify::Unnamed;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unacknowledged before the connection counts as dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle time after which the connection is probed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

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
    options
        .application_name("rgz-netflow")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .keepalives_idle(KEEPALIVE_IDLE)
        .ssl_mode(match config.sslmode {
            SslMode::Disable => Negotiate::Disable,
            SslMode::Prefer => Negotiate::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Negotiate::Require,
        });
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
    let client = match config.sslmode {
        SslMode::Disable => options.connect(NoTls),
        _ => options.connect(MakeRustlsConnect::new(tls(config)?)),
    };
    client.map_err(|error| sink_error("connect", &error))
}

fn tls(config: &Config) -> Result<rustls::ClientConfig, SinkError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let fatal = |error: &dyn std::fmt::Display| SinkError::Fatal(format!("TLS: {error}"));
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| fatal(&e))?;
    let roots = Arc::new(crate::verify::roots(config.sslrootcert.as_deref()).map_err(SinkError::Fatal)?);
    let client = match config.sslmode {
        SslMode::VerifyFull => builder.with_root_certificates(roots).with_no_client_auth(),
        mode => {
            let inner = WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(|e| fatal(&e))?;
            let verifier = Unnamed { inner, check_authority: mode == SslMode::VerifyCa };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
    };
    Ok(client)
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

/// An error with its causes: postgres hides the operating system's error behind one sentence.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
