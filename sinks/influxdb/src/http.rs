//! Requests, and what their answers mean to the deliverer.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sink_api::SinkError;
use sink_api::rollup::Keep;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::config::{Api, Config};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an error's text that are read.
const ERROR_BYTES_MAX: u64 = 16 * 1024;

/// Points that the server sends in one piece of an answer.
const CHUNK_POINTS: &str = "10000";

/// Names under which InfluxQL finds the two buckets of a v2 server as retention policies of one database.
pub const V2_POLICIES: [&str; 2] = ["detail", "long"];

/// A server, and how it is spoken to. Cheap to copy: connections are shared.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    config: Arc<Config>,
    authorization: Option<Arc<str>>,
}

/// Why a request to store points was not taken.
#[derive(Debug)]
pub enum WriteError {
    /// The server refuses points of this request and will again.
    Refused(String),
    /// Everything was stored but for this many points, which are older than the server keeps.
    TooOld(u64),
    /// As the sink's contract says.
    Sink(SinkError),
}

impl Client {
    /// Reads secrets and certificates from their files. Does not connect.
    ///
    /// # Errors
    /// `Fatal` when a file cannot be read.
    pub fn new(config: &Config) -> Result<Self, SinkError> {
        let builder = Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(config.request_timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("rgz-netflow")
            .tls_config(tls(config.ca_file.as_deref())?);
        Ok(Self {
            agent: builder.build().new_agent(),
            authorization: authorization(config)?.map(Into::into),
            config: Arc::new(config.clone()),
        })
    }

    /// Stores points (line protocol, timestamps in ns). `compressed` is working space.
    pub fn write(&self, keep: Keep, lines: &[u8], compressed: &mut Vec<u8>) -> Result<(), WriteError> {
        let mut request = match self.config.api {
            Api::V1 => self.agent.post(self.path("/write")).query("db", self.database()).query("rp", self.policy(keep)),
            Api::V2 => {
                let request = self.agent.post(self.path("/api/v2/write")).query("org", &self.config.org);
                request.query("bucket", self.bucket(keep))
            }
        };
        request = request.query("precision", "ns").content_type("text/plain; charset=utf-8");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", &**authorization);
        }
        let body = if self.config.gzip {
            gzip(lines, compressed).map_err(|e| WriteError::Sink(SinkError::retry(e)))?;
            request = request.header("content-encoding", "gzip");
            compressed
        } else {
            lines
        };
        match request.send(body) {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => {
                let after = retry_after(&answer);
                let status = answer.status().as_u16();
                Err(write_error(status, &text(answer), after))
            }
            Err(error) => Err(WriteError::Sink(self.unreachable(&error))),
        }
    }

    /// Asks in InfluxQL; gives the answer's bytes as they come. A connection that is dropped ends the query at the server.
    pub fn query(&self, keep: Keep, statement: &str, timeout: Duration) -> Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.post(self.path("/query")).query("epoch", "ns").query("db", self.database());
        request = request.query("rp", self.policy(keep)).query("chunked", "true").query("chunk_size", CHUNK_POINTS);
        if self.config.api == Api::V2 {
            request = request.query("org", &self.config.org);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", &**authorization);
        }
        let request = request.header("accept", "application/json");
        request.config().timeout_global(Some(timeout)).build().send_form([("q", statement)])
    }

    /// Asks for JSON of the v2 interface, or sends it (`POST`, `PATCH`).
    pub fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, SinkError> {
        let url = self.path(path);
        let token = self.authorization.as_deref().unwrap_or_default();
        let send = |request: ureq::RequestBuilder<ureq::typestate::WithBody>| {
            request.header("authorization", token).send_json(body.unwrap_or(&Value::Null))
        };
        let answer = match method {
            "POST" => send(self.agent.post(&url)),
            "PATCH" => send(self.agent.patch(&url)),
            _ => self.agent.get(&url).header("authorization", token).call(),
        };
        checked(answer.map_err(|e| self.unreachable(&e))?)
    }

    /// Runs a statement that defines something (v1).
    pub fn define(&self, statement: &str) -> Result<Value, SinkError> {
        let mut request = self.agent.post(self.path("/query"));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", &**authorization);
        }
        checked(request.send_form([("q", statement)]).map_err(|e| self.unreachable(&e))?)
    }

    /// Whether the server answers at all, with its version.
    pub fn ping(&self) -> Result<String, SinkError> {
        let answer = self.agent.get(self.path("/ping")).call().map_err(|e| self.unreachable(&e))?;
        let version =
            answer.headers().get("x-influxdb-version").and_then(|v| v.to_str().ok()).unwrap_or("?").to_owned();
        if answer.status().is_success() { Ok(version) } else { checked(answer).map(|_| version) }
    }

    /// The database that InfluxQL asks.
    pub fn database(&self) -> &str {
        let config = &self.config;
        if config.api == Api::V2 { &config.bucket } else { config.database.as_deref().unwrap_or(&config.bucket) }
    }

    /// The retention policy that InfluxQL asks.
    pub fn policy(&self, keep: Keep) -> String {
        let long = keep == Keep::Aggregate;
        match self.config.api {
            Api::V1 if long => format!("{}_long", self.config.retention_policy),
            Api::V1 => self.config.retention_policy.clone(),
            Api::V2 => V2_POLICIES[usize::from(long)].to_owned(),
        }
    }

    /// The bucket of a v2 server.
    pub fn bucket(&self, keep: Keep) -> String {
        let name = &self.config.bucket;
        if keep == Keep::Aggregate { format!("{name}_long") } else { name.clone() }
    }

    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.config.url)
    }

    /// An error before there was an answer.
    pub fn unreachable(&self, error: &ureq::Error) -> SinkError {
        SinkError::retry(format!("{}: {error}", self.config.url))
    }
}

/// Certificates of authorities; the TLS provider is named because a process may have none by default.
fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, SinkError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    let Some(path) = ca_file else { return Ok(builder.root_certs(RootCerts::WebPki).build()) };
    let wrong = |what: &dyn std::fmt::Display| SinkError::Fatal(format!("ca_file {}: {what}", path.display()));
    let pem = std::fs::read(path).map_err(|e| wrong(&e))?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| wrong(&e))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(wrong(&"no certificate in it"));
    }
    Ok(builder.root_certs(certificates.into()).build())
}

fn authorization(config: &Config) -> Result<Option<String>, SinkError> {
    let from = |given: &Option<crate::Secret>, file: &Option<std::path::PathBuf>| -> Result<_, SinkError> {
        match file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|e| SinkError::Fatal(format!("{}: {e}", path.display())))?;
                Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            None => Ok(given.as_ref().map(|secret| secret.0.clone())),
        }
    };
    match config.api {
        Api::V2 => Ok(from(&config.token, &config.token_file)?.map(|token| format!("Token {token}"))),
        Api::V1 => {
            let password = from(&config.password, &config.password_file)?.unwrap_or_default();
            Ok(config.user.as_ref().map(|user| format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))))
        }
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}

/// Compresses for speed: the points of one request repeat their names.
fn gzip(bytes: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.clear();
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes)?;
    encoder.finish().map(drop)
}

/// The sentence in an answer that is an error.
fn text(answer: Response<Body>) -> String {
    let mut body = String::new();
    // What cannot be read is left out of the sentence.
    let _ = answer.into_body().into_with_config().limit(ERROR_BYTES_MAX).reader().read_to_string(&mut body);
    let json: Value = serde_json::from_str(&body).unwrap_or_default();
    let sentence = json["message"].as_str().or_else(|| json["error"].as_str()).unwrap_or(body.trim());
    sentence.to_owned()
}

/// JSON of an answer, or what its error means.
fn checked(answer: Response<Body>) -> Result<Value, SinkError> {
    let status = answer.status().as_u16();
    if !(200..300).contains(&status) {
        let after = retry_after(&answer);
        return Err(match write_error(status, &text(answer), after) {
            WriteError::Sink(error) => error,
            WriteError::Refused(reason) => SinkError::Fatal(reason),
            WriteError::TooOld(_) => SinkError::retry(format!("status {status}")),
        });
    }
    let mut answer = answer;
    let value: Value = answer.body_mut().read_json().map_err(SinkError::retry)?;
    let error = value["results"][0]["error"].as_str().or_else(|| value["error"].as_str());
    match error {
        Some(error) if error.contains("authoriz") => Err(SinkError::Fatal(error.to_owned())),
        Some(error) => Err(SinkError::retry(error)),
        None => Ok(value),
    }
}

/// What the server asks for: seconds, or a date.
fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let value = answer.headers().get("retry-after")?.to_str().ok()?.trim();
    after(value, SystemTime::now())
}

fn after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    SystemTime::from(date.timestamp()).duration_since(now).ok()
}

/// Sentences that mean a bound of the server, which no halving helps against.
const SERVER_BOUNDS: [&str; 3] = ["max-series-per-database", "max-values-per-tag", "max series"];

/// What an answer to a write that is no success means.
fn write_error(status: u16, reason: &str, after: Option<Duration>) -> WriteError {
    let said = format!("status {status}: {reason}");
    let sink = WriteError::Sink;
    match status {
        400 | 413 | 422 if SERVER_BOUNDS.iter().any(|bound| reason.contains(bound)) => sink(SinkError::Fatal(said)),
        400 | 422 if only_too_old(reason) => WriteError::TooOld(dropped(reason)),
        400 | 413 | 422 => WriteError::Refused(said),
        401 | 403 => sink(SinkError::Fatal(said)),
        429 | 503 => sink(SinkError::Retry { reason: said, after }),
        _ => sink(SinkError::retry(said)),
    }
}

/// Whether a partial write left out nothing but what is older than the server keeps.
fn only_too_old(reason: &str) -> bool {
    reason.matches("partial write").count() == 1 && reason.contains("points beyond retention policy")
}

/// The count in `... dropped=3`.
fn dropped(reason: &str) -> u64 {
    let digits = reason.rsplit("dropped=").next().unwrap_or_default();
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_means_follows_from_its_status() {
        let of = |status, reason: &str| write_error(status, reason, Some(Duration::from_secs(7)));
        let conflict = "partial write: field type conflict: input field \"x\" is type float dropped=1";
        for (status, reason) in [(400, conflict), (400, "unable to parse"), (413, "too large"), (422, "unprocessable")]
        {
            assert!(matches!(of(status, reason), WriteError::Refused(_)), "{status} {reason}");
        }
        let old = "partial write: points beyond retention policy dropped=12";
        assert!(matches!(of(400, old), WriteError::TooOld(12)));
        assert!(matches!(of(422, &format!("failure writing points to database: {old}")), WriteError::TooOld(12)));
        assert!(matches!(of(429, ""), WriteError::Sink(SinkError::Retry { after: Some(_), .. })));
        assert!(matches!(of(503, ""), WriteError::Sink(SinkError::Retry { after: Some(_), .. })));
        assert!(matches!(of(404, "database not found"), WriteError::Sink(SinkError::Retry { after: None, .. })));
        assert!(matches!(of(500, "timeout"), WriteError::Sink(SinkError::Retry { .. })));
        for status in [401, 403] {
            assert!(matches!(of(status, ""), WriteError::Sink(SinkError::Fatal(_))));
        }
        let bound = "partial write: max-series-per-database limit exceeded: (1000000) dropped=3";
        assert!(matches!(of(400, bound), WriteError::Sink(SinkError::Fatal(_))));
    }

    #[test]
    fn the_pause_a_server_asks_for_is_read_as_seconds_or_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        assert_eq!(after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(after("soon", now), None);
    }

    #[test]
    fn basic_authorization_is_base64() {
        let of = |text: &str| base64(text.as_bytes());
        assert_eq!((of(""), of("a"), of("ab"), of("abc"), of("rgz:pä"),), {
            let text = |t: &str| t.to_owned();
            (text(""), text("YQ=="), text("YWI="), text("YWJj"), text("cmd6OnDDpA=="))
        });
    }

    #[test]
    fn what_is_compressed_reads_back() {
        let (mut out, mut back) = (Vec::new(), Vec::new());
        let bytes = b"traffic,collector=x bytes=1i 1\n".repeat(100);
        gzip(&bytes, &mut out).unwrap();
        flate2::read::GzDecoder::new(&out[..]).read_to_end(&mut back).unwrap();
        assert!(back == bytes && out.len() < bytes.len() / 4);
    }
}
