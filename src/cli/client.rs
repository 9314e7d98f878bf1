//! HTTP to a running collector.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use ureq::Agent;

use super::{Common, Failure};
use crate::control::config::Settings;

/// Time to reach the collector; a collector that runs answers at once.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a collector that has too much to do is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Status of one that is asked too much by this token or address.
const TOO_MANY_REQUESTS: u16 = 429;
/// Status of one that has too much to do.
const UNAVAILABLE: u16 = 503;
/// Environment variable with the token when no flag gives one.
const TOKEN_VARIABLE: &str = "NETFLOW_TOKEN";

/// A running collector, as options name it.
#[derive(Args, Clone, Debug)]
pub struct Server {
    /// A running collector; without it the one of the configuration, on this machine
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Token; without it NETFLOW_TOKEN of the environment
    #[arg(long)]
    token: Option<String>,
}

impl Server {
    /// Its API.
    ///
    /// # Errors
    /// As for [`Client::new`], and a configuration that cannot be read where it is needed.
    pub fn client(&self, common: &Common) -> Result<Client, Failure> {
        let url = self.url.clone().map_or_else(|| common.load().and_then(|settings| local_url(&settings)), Ok)?;
        Client::new(&url, self.token.as_deref())
    }
}

/// Where the collector that runs with this configuration on this machine answers.
///
/// # Errors
/// Its address is none.
pub fn local_url(settings: &Settings) -> Result<String, Failure> {
    let listen = &settings.stages.admin.listen;
    let addr: SocketAddr = listen.parse().map_err(|e| Failure::new(format!("[admin] listen {listen:?}: {e}")))?;
    // An address that stands for all of the machine's becomes loopback.
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Ok(format!("http://{}", SocketAddr::new(ip, addr.port())))
}

/// A collector's API.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    url: String,
    token: Option<String>,
}

impl Client {
    /// For the collector at this URL. The token comes from the flag or from `NETFLOW_TOKEN`.
    ///
    /// # Errors
    /// A URL that is not `http://...`.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/');
        if !url.starts_with("http://") {
            return Err(Failure::new(format!("{url:?} is no address of a collector, like http://127.0.0.1:9100")));
        }
        let config = Agent::config_builder().timeout_connect(Some(CONNECT_TIME_MAX)).http_status_as_error(false);
        let token = token.map(str::to_owned).or_else(|| std::env::var(TOKEN_VARIABLE).ok());
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        Ok(Self { agent: config.build().into(), url: url.to_owned(), token })
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// A collector that cannot be reached, or its own error with what is allowed.
    pub fn get(&self, path: &str, parameters: &[(&str, String)]) -> Result<Value, Failure> {
        let mut answer = self.call(path, parameters)?;
        answer.body_mut().with_config().limit(u64::MAX).read_json().map_err(|e| self.unreadable(&e))
    }

    /// Asks for a stream of bytes.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn stream(&self, path: &str, parameters: &[(&str, String)]) -> Result<impl Read + use<>, Failure> {
        Ok(self.call(path, parameters)?.into_body().into_with_config().limit(u64::MAX).reader())
    }

    /// Sends bytes and reads JSON.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn post(&self, path: &str, parameters: &[(&str, String)], body: &[u8]) -> Result<Value, Failure> {
        self.send(path, parameters, body, &[TOO_MANY_REQUESTS])
    }

    /// The same, waiting for a while when the collector has too much to do. Only for what a refusal leaves undone.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn post_patiently(&self, path: &str, parameters: &[(&str, String)], body: &[u8]) -> Result<Value, Failure> {
        self.send(path, parameters, body, &[TOO_MANY_REQUESTS, UNAVAILABLE])
    }

    fn send(&self, path: &str, parameters: &[(&str, String)], body: &[u8], wait: &[u16]) -> Result<Value, Failure> {
        let mut answer = self.patiently(wait, || {
            let mut request = self.agent.post(format!("{}{path}", self.url));
            for (name, value) in parameters {
                request = request.query(name, value);
            }
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            request.header("content-type", "application/octet-stream").send(body)
        })?;
        answer.body_mut().read_json().map_err(|e| self.unreadable(&e))
    }

    fn call(&self, path: &str, parameters: &[(&str, String)]) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        self.patiently(&[TOO_MANY_REQUESTS], || {
            let mut request = self.agent.get(format!("{}{path}", self.url));
            for (name, value) in parameters {
                request = request.query(name, value);
            }
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            request.call()
        })
    }

    /// Asks again after the pause that the collector wishes, when its status is one of these, for a while at the most.
    fn patiently(
        &self,
        wait: &[u16],
        mut ask: impl FnMut() -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = ask().map_err(|e| self.unreachable(&e))?;
            let pause = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
            match pause.map(Duration::from_secs) {
                Some(pause) if wait.contains(&answer.status().as_u16()) && Instant::now() + pause < until => {
                    std::thread::sleep(pause);
                }
                _ => return self.checked(answer),
            }
        }
    }

    /// The answer, or the sentence of an answer that is an error.
    fn checked(
        &self,
        mut answer: ureq::http::Response<ureq::Body>,
    ) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body: Value = answer.body_mut().read_json().unwrap_or_default();
        let mut sentence = match body["error"].as_str() {
            Some(error) => error.to_owned(),
            None => format!("{} answered {status}", self.url),
        };
        for (part, words) in [("parameter", "parameter"), ("allowed", "allowed"), ("remedy", "remedy")] {
            if let Some(text) = body[part].as_str().filter(|text| !text.is_empty()) {
                sentence += &format!("; {words}: {text}");
            }
        }
        if status.as_u16() == 401 && self.token.is_none() {
            sentence += &format!("; give a token with --token or {TOKEN_VARIABLE}");
        }
        Err(Failure::new(sentence))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::new(format!("no collector answers at {}: {error}", self.url))
    }

    fn unreadable(&self, error: &ureq::Error) -> Failure {
        Failure::new(format!("the answer of {} cannot be read: {error}", self.url))
    }
}
