//! Each `sslmode` checks what libpq's does.

mod delivery;
mod server;

use std::path::Path;

use delivery::Log;
use server::Server;
use sink_api::{SinkConfig, SinkError};
use sink_postgres::SslMode;

/// Opens a sink by a host name; gives whether its connection is encrypted.
fn opens(server: &Server, host: &str, mode: SslMode, authority: Option<&Path>) -> Result<bool, SinkError> {
    let mut config = server::config(&server.url("flows").replace("127.0.0.1", host));
    config.sslmode = mode;
    config.sslrootcert = authority.map(Path::to_owned);
    let _sink = config.open(&Log::new(10).context)?;
    let sql = "SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
               WHERE a.application_name = 'rgz-netflow'";
    Ok(server.client("postgres").query_one(sql, &[]).unwrap().get(0))
}

#[test]
fn certificates_are_checked_as_the_mode_says() {
    let Some(mut server) = Server::start() else { return };
    server.database("flows");
    assert!(!opens(&server, "localhost", SslMode::Prefer, None).unwrap(), "without TLS on the server");
    assert!(opens(&server, "localhost", SslMode::Require, None).is_err());
    let Some(authority) = server.with_tls() else { return };
    let authority = Some(&*authority);
    assert!(!opens(&server, "localhost", SslMode::Disable, None).unwrap());
    for mode in [SslMode::Prefer, SslMode::Require] {
        assert!(opens(&server, "127.0.0.1", mode, None).unwrap(), "{mode:?} looks at no certificate");
    }
    for mode in [SslMode::VerifyCa, SslMode::VerifyFull] {
        assert!(opens(&server, "localhost", mode, authority).unwrap(), "{mode:?}");
        assert!(opens(&server, "localhost", mode, None).is_err(), "{mode:?} refuses an unknown authority");
    }
    assert!(opens(&server, "127.0.0.1", SslMode::VerifyCa, authority).unwrap(), "verify-ca looks at no name");
    assert!(opens(&server, "127.0.0.1", SslMode::VerifyFull, authority).is_err(), "verify-full does");
    let missing = opens(&server, "localhost", SslMode::VerifyFull, Some(Path::new("/nowhere.pem")));
    assert!(matches!(missing, Err(SinkError::Fatal(_))), "{missing:?}");
}
