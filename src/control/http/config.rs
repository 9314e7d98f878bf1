//! Configuration of the admin endpoint: the table `[admin]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::flow::Uuid;
use crate::flow::sink::KeyError;
use crate::telemetry::units;

/// What [`Config::without_tokens`] must say before an address that others can reach is opened without tokens.
pub const OPEN_TO_EVERYONE: &str = "open to everyone";

/// Memory of all requests' bodies, where one of them may not take more.
const BODIES_BYTES_MAX: u64 = 32 << 20;
/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// The table `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the API, the metrics and the health checks.
    pub listen: String,
    /// Name of the sink whose store answers questions; empty takes the first sink that can.
    pub store: String,
    /// Set to "open to everyone" to serve an address that others can reach without any token.
    pub without_tokens: String,
    /// Whether `/metrics` is served.
    pub metrics: bool,
    /// Port that serves `/metrics` and `/healthz` only, without a token; 0 = none. The port of `listen` means that one
    /// listener serves all.
    pub metrics_port: u16,
    /// IP address of that port; empty takes the address of `listen`.
    pub metrics_address: String,
    /// Time that one question may take, ms. Longer ones are answered 504.
    #[serde(rename = "query_time_max", with = "units::duration_ms")]
    pub query_time_max_ms: u64,
    /// Time that one export of flow records may take, ms.
    #[serde(rename = "export_time_max", with = "units::duration_ms")]
    pub export_time_max_ms: u64,
    /// Questions answered at the same time; more wait for a moment, then are answered 503.
    pub queries_max: usize,
    /// Exports of flow records at the same time; more wait for a moment, then are answered 503.
    pub exports_max: usize,
    /// Open connections; more wait to be accepted.
    pub connections_max: usize,
    /// Requests in a second by one token, or by one address without a token; ten times as many at once. More are answered 429;
    /// 0 = no limit.
    pub requests_per_second: u32,
    /// Size of a request's body, bytes.
    #[serde(with = "units::bytes")]
    pub body_bytes_max: u64,
    /// Longest silence of a client, and longest time for it to send one request, ms. Slower ones are cut.
    #[serde(rename = "client_time_max", with = "units::duration_ms")]
    pub client_time_max_ms: u64,
    /// Who may ask what; none leaves a loopback address open.
    pub token: Vec<TokenConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9100".into(),
            store: String::new(),
            without_tokens: String::new(),
            metrics: true,
            metrics_port: 0,
            metrics_address: String::new(),
            query_time_max_ms: 30_000,
            export_time_max_ms: 600_000,
            queries_max: 4,
            exports_max: 2,
            connections_max: 256,
            requests_per_second: 500,
            body_bytes_max: 16 << 20,
            client_time_max_ms: 30_000,
            token: Vec::new(),
        }
    }
}

/// One `[[admin.token]]`. The token itself is given as its SHA-256 or in a file, never in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenConfig {
    /// Who holds it; shown in logs.
    pub name: String,
    /// SHA-256 of the token in hexadecimal (`printf %s TOKEN | sha256sum`).
    pub sha256: String,
    /// File that holds the token itself; blanks around it are left out.
    pub file: Option<PathBuf>,
    /// What it may do.
    pub role: Role,
    /// Limits it to flows of one reseller.
    pub reseller_id: Option<Uuid>,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Ask questions.
    #[default]
    Read,
    /// Send datagrams, nothing else.
    Ingest,
    /// Everything.
    Admin,
}

impl Role {
    /// Its name in the configuration and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Ingest => "ingest",
            Self::Admin => "admin",
        }
    }
}

impl Config {
    /// The address to listen on.
    ///
    /// # Errors
    /// A text that is no address with a port, with what is allowed.
    pub fn listen_addr(&self) -> Result<SocketAddr, KeyError> {
        let text = self.listen.trim();
        let text = text.strip_prefix("localhost:").map_or(text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().map_err(|_| KeyError {
            key: "listen".into(),
            problem: format!("{:?} is no address with a port, such as 127.0.0.1:9100 or [::1]:9100", self.listen),
        })
    }

    /// Memory of all bodies that are read at the same time, at most, bytes; more wait for a moment, then are answered 503.
    pub fn bodies_bytes_max(&self) -> u64 {
        self.body_bytes_max.max(BODIES_BYTES_MAX)
    }

    /// The second address, when metrics have a port of their own.
    ///
    /// # Errors
    /// As for [`Config::listen_addr`]; a `metrics_address` that is no IP address.
    pub fn metrics_addr(&self) -> Result<Option<SocketAddr>, KeyError> {
        let listen = self.listen_addr()?;
        let own = self.metrics && self.metrics_port != 0 && self.metrics_port != listen.port();
        let ip = match &*self.metrics_address {
            "" => listen.ip(),
            text => text.parse().map_err(|_| KeyError {
                key: "metrics_address".into(),
                problem: format!("{text:?} is no IP address, such as 0.0.0.0 or ::"),
            })?,
        };
        Ok(own.then(|| SocketAddr::new(ip, self.metrics_port)))
    }

    /// Every problem of the table, without looking at files.
    pub fn problems(&self) -> Vec<KeyError> {
        let mut problems = Vec::new();
        let mut problem = |key: String, problem: String| problems.push(KeyError { key, problem });
        match self.listen_addr() {
            Err(error) => problem(error.key, error.problem),
            Ok(addr) if !is_loopback(addr.ip()) && self.token.is_empty() && self.without_tokens != OPEN_TO_EVERYONE => {
                problem(
                    "listen".into(),
                    format!(
                        "{addr} can be reached by others and there is no [[admin.token]]; add one, listen on 127.0.0.1, or \
                         say without_tokens = \"{OPEN_TO_EVERYONE}\""
                    ),
                );
            }
            Ok(_) => {}
        }
        if let Err(error) = self.metrics_addr()
            && error.key != "listen"
        {
            problem(error.key, error.problem);
        }
        if !self.without_tokens.is_empty() && self.without_tokens != OPEN_TO_EVERYONE {
            problem("without_tokens".into(), format!("must be empty or \"{OPEN_TO_EVERYONE}\""));
        }
        for (key, value) in [
            ("query_time_max", self.query_time_max_ms),
            ("export_time_max", self.export_time_max_ms),
            ("client_time_max", self.client_time_max_ms),
            ("queries_max", self.queries_max as u64),
            ("exports_max", self.exports_max as u64),
            ("connections_max", self.connections_max as u64),
            ("body_bytes_max", self.body_bytes_max),
        ] {
            if value == 0 {
                problem(key.into(), "must be greater than 0".into());
            }
        }
        for (index, token) in self.token.iter().enumerate() {
            let key = |name: &str| format!("token[{index}].{name}");
            if let Some(why) = token.problem() {
                problem(key("sha256"), why);
            }
            if token.role == Role::Ingest && token.reseller_id.is_some() {
                problem(key("reseller_id"), "an ingest token cannot be limited to a reseller".into());
            }
        }
        problems
    }
}

impl TokenConfig {
    fn problem(&self) -> Option<String> {
        match (&*self.sha256, &self.file) {
            ("", None) => Some("a token needs sha256 or file".into()),
            ("", Some(_)) => None,
            (_, Some(_)) => Some("sha256 and file are both given; one is allowed".into()),
            (hex, None) if decode_sha256(hex).is_none() => Some(format!("must be {SHA256_DIGITS} hexadecimal digits")),
            _ => None,
        }
    }
}

/// The 32 bytes of a SHA-256 in hexadecimal.
pub(super) fn decode_sha256(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != SHA256_DIGITS || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// Whether only this machine can reach an address; an IPv4-mapped one counts as its IPv4 address.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(config: &Config) -> Vec<String> {
        config.problems().into_iter().map(|p| p.key).collect()
    }

    #[test]
    fn the_defaults_are_loopback_and_have_no_problems() {
        let config = Config::default();
        assert!(config.problems().is_empty());
        assert!(is_loopback(config.listen_addr().unwrap().ip()));
        assert_eq!(config.metrics_addr().unwrap(), None);
    }

    #[test]
    fn an_open_address_without_tokens_is_refused_unless_the_words_are_said() {
        for listen in ["0.0.0.0:9100", "[::]:9100", "192.0.2.1:9100"] {
            let mut config = Config { listen: listen.into(), ..Config::default() };
            assert_eq!(keys(&config), ["listen"]);
            config.without_tokens = "yes".into();
            assert_eq!(keys(&config), ["listen", "without_tokens"]);
            config.without_tokens = OPEN_TO_EVERYONE.into();
            assert!(config.problems().is_empty());
        }
    }

    #[test]
    fn every_problem_is_reported_with_its_key() {
        let config = Config {
            listen: "nowhere".into(),
            queries_max: 0,
            token: vec![
                TokenConfig::default(),
                TokenConfig { sha256: "12".into(), ..Default::default() },
                TokenConfig {
                    sha256: "0".repeat(64),
                    role: Role::Ingest,
                    reseller_id: Some(Uuid::nil()),
                    ..Default::default()
                },
            ],
            ..Config::default()
        };
        assert_eq!(
            keys(&config),
            ["listen", "queries_max", "token[0].sha256", "token[1].sha256", "token[2].reseller_id"]
        );
    }

    #[test]
    fn the_table_reads_from_toml_and_a_second_port_keeps_the_address() {
        let text = "listen = \"localhost:9200\"\nmetrics_port = 9108\nquery_time_max = \"10s\"\n[[token]]\nname = \"x\"\nfile = \"t\"\nrole = \"admin\"";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.query_time_max_ms, 10_000);
        assert_eq!(config.token[0].role, Role::Admin);
        assert_eq!(config.metrics_addr().unwrap(), Some("127.0.0.1:9108".parse().unwrap()));
        let wide = Config { metrics_address: "::".into(), ..config.clone() };
        assert_eq!(wide.metrics_addr().unwrap(), Some("[::]:9108".parse().unwrap()));
        let wrong = Config { metrics_address: "host".into(), ..config };
        assert_eq!(keys(&wrong), ["metrics_address"]);
        assert!(toml::from_str::<Config>("lisen = 1").is_err());
    }
}
