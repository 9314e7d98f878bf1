//! Connections to PostgreSQL, protected as libpq's `sslmode` says, for the sinks and for the enrichment's queries.
//!
//! The client blocks and brings a runtime of its own: it must not be used on a thread of an async runtime.

mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postgres::config::SslMode as Negotiate;
use postgres::{Client, NoTls};
use rustls::client::WebPkiServerVerifier;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::verify::Unnamed;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unacknowledged before the connection counts as dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle time after which the connection is probed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// How the connection is protected, as libpq names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS when the server offers it, its certificate unchecked.
    #[default]
    Prefer,
    /// TLS, the certificate unchecked.
    Require,
    /// TLS, the certificate signed by a known authority.
    VerifyCa,
    /// TLS, the certificate signed by a known authority for this host.
    VerifyFull,
}

impl SslMode {
    /// Every mode by its name.
    pub const NAMES: [(&'static str, SslMode); 5] = [
        ("disable", SslMode::Disable),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// What a person has to mend: certificates that cannot be read.
    Setup(String),
    /// What the network or the server says.
    Server(postgres::Error),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Setup(problem) => f.write_str(problem),
            Self::Server(error) => f.write_str(&chain(error)),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Connects. What the options say about timeouts, keepalives and TLS is replaced.
///
/// # Errors
/// See [`ConnectError`].
pub fn connect(
    options: &postgres::Config,
    sslmode: SslMode,
    sslrootcert: Option<&Path>,
) -> Result<Client, ConnectError> {
    let mut options = options.clone();
    options
        .application_name("rgz-netflow")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .keepalives_idle(KEEPALIVE_IDLE)
        .ssl_mode(match sslmode {
            SslMode::Disable => Negotiate::Disable,
            SslMode::Prefer => Negotiate::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Negotiate::Require,
        });
    let client = match sslmode {
        SslMode::Disable => options.connect(NoTls),
        _ => options.connect(MakeRustlsConnect::new(tls(sslmode, sslrootcert).map_err(ConnectError::Setup)?)),
    };
    client.map_err(ConnectError::Server)
}

fn tls(sslmode: SslMode, sslrootcert: Option<&Path>) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: &dyn std::fmt::Display| format!("TLS: {error}");
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?;
    let roots = Arc::new(verify::roots(sslrootcert)?);
    let client = match sslmode {
        SslMode::VerifyFull => builder.with_root_certificates(roots).with_no_client_auth(),
        mode => {
            let inner = WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(|e| failed(&e))?;
            let verifier = Unnamed { inner, check_authority: mode == SslMode::VerifyCa };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
    };
    Ok(client)
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
