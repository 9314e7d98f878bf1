//! Requests, in the forms of both interfaces.

mod answer;
mod secure;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sink_api::SinkError;
use sink_api::rollup::Keep;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::config::{Api, Config};
use answer::{checked, retry_after, text, write_error};
use secure::{authorization, tls};

pub use answer::{WriteError, refusal};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Points that the server sends in one piece of an answer.
const CHUNK_POINTS: &str = "10000";

/// A server, and how it is spoken to. Cheap to copy: connections are shared.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    config: Arc<Config>,
    authorization: Option<Arc<str>>,
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

    /// The database whose tags InfluxQL shows. A version 2 looks at the default policy of a database alone, whatever the
    /// statement says, so each bucket is the default of a database of its own.
    pub fn tags_database(&self, keep: Keep) -> String {
        if self.config.api == Api::V2 { self.bucket(keep) } else { self.database().to_owned() }
    }

    /// The retention policy that InfluxQL asks; on a version 2 it has the bucket's name, so that the same queries are right
    /// for both versions.
    pub fn policy(&self, keep: Keep) -> String {
        match (self.config.api, keep) {
            (Api::V1, Keep::Aggregate) => format!("{}_long", self.config.retention_policy),
            (Api::V1, Keep::Detail) => self.config.retention_policy.clone(),
            (Api::V2, keep) => self.bucket(keep),
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

/// Compresses for speed: the points of one request repeat their names.
fn gzip(bytes: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.clear();
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes)?;
    encoder.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_compressed_reads_back() {
        let (mut out, mut back) = (Vec::new(), Vec::new());
        let bytes = b"traffic,collector=x bytes=1i 1\n".repeat(100);
        gzip(&bytes, &mut out).unwrap();
        flate2::read::GzDecoder::new(&out[..]).read_to_end(&mut back).unwrap();
        assert!(back == bytes && out.len() < bytes.len() / 4);
    }
}
