//! The endpoint on a real loopback listener, over a store in memory with five known flows.

mod alerts;
mod auth;
mod bad_input;
mod description;
mod filters;
mod leases;
mod limits;
mod metrics;
mod process;
mod quarantine;
mod reports;
mod shapes;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::oneshot;

use self::process::TestProcess;
use super::config::{Config, Role, TokenConfig};
use super::endpoint::Endpoint;
use super::route::{Method, Route};
use super::server::Server;
use crate::flow::Uuid;

/// Two resellers and their subscribers.
const RESELLER_A: Uuid = Uuid::from_u128(0xA);
const RESELLER_B: Uuid = Uuid::from_u128(0xB);
const SUBSCRIBER_1: Uuid = Uuid::from_u128(1);

/// A running endpoint; stops when dropped.
struct TestServer {
    addr: SocketAddr,
    metrics_addr: Option<SocketAddr>,
    process: Arc<TestProcess>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// An answer.
struct Got {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

impl TestServer {
    fn start() -> Self {
        Self::with(Config::default(), TestProcess::default())
    }

    fn with(config: Config, process: TestProcess) -> Self {
        let config = Config { listen: "127.0.0.1:0".into(), ..config };
        let process = Arc::new(process);
        let endpoint = Arc::new(Endpoint::new(process.clone(), config, Path::new(".")).unwrap());
        let (addr_sender, addr_receiver) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(endpoint).await.unwrap();
                addr_sender.send((server.api_addr(), server.metrics_addr())).unwrap();
                server
                    .serve(async {
                        let _ = stopped.await;
                    })
                    .await;
            });
            runtime.shutdown_background();
        });
        let (addr, metrics_addr) = addr_receiver.recv().unwrap();
        Self { addr, metrics_addr, process, stop: Some(stop), thread: Some(thread) }
    }

    /// With three tokens: `reader`, `ingester`, `administrator`, and `reader-a` limited to [`RESELLER_A`].
    fn with_tokens() -> Self {
        Self::with_tokens_over(TestProcess::default())
    }

    fn with_tokens_over(process: TestProcess) -> Self {
        let token = |token: &str, role, reseller_id| TokenConfig {
            name: token.into(),
            sha256: sha256(token),
            role,
            reseller_id,
            ..TokenConfig::default()
        };
        let tokens = vec![
            token("reader", Role::Read, None),
            token("ingester", Role::Ingest, None),
            token("administrator", Role::Admin, None),
            token("reader-a", Role::Read, Some(RESELLER_A)),
            token("administrator-a", Role::Admin, Some(RESELLER_A)),
        ];
        Self::with(Config { token: tokens, ..Config::default() }, process)
    }

    fn get(&self, path: &str) -> Got {
        self.request(Method::Get, path, &[], b"")
    }

    fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
        request(self.addr, method, path, headers, body)
    }

    /// The route with its path filled in, asked with a token.
    fn ask(&self, route: &Route, token: &str, query: &str) -> Got {
        let path = format!("{}{query}", sample_path(route));
        let authorization = format!("Bearer {token}");
        let headers: &[_] = if token.is_empty() { &[] } else { &[("authorization", &*authorization)] };
        self.request(route.method, &path, headers, b"")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn request(addr: SocketAddr, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = format!("http://{addr}{path}");
    let response = match method {
        Method::Get => headers.iter().fold(agent.get(url), |r, (name, value)| r.header(*name, *value)).call(),
        Method::Delete => headers.iter().fold(agent.delete(url), |r, (name, value)| r.header(*name, *value)).call(),
        Method::Post => headers.iter().fold(agent.post(url), |r, (name, value)| r.header(*name, *value)).send(body),
        Method::Put => headers.iter().fold(agent.put(url), |r, (name, value)| r.header(*name, *value)).send(body),
    };
    let mut response = response.unwrap();
    let body = response.body_mut().read_to_string().unwrap_or_else(|error| format!("cut: {error}"));
    Got { status: response.status().as_u16(), headers: response.headers().clone(), body }
}

fn sample_path(route: &Route) -> String {
    route.path.replace("{subscriber_id}", &SUBSCRIBER_1.to_string()).replace("{ip}", "10.0.0.1")
}

fn sha256(token: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(token.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// A shared list that a test looks at afterwards.
type Seen<T> = Mutex<Vec<T>>;

/// A body that came by HTTP, and for whom.
type Body = (IpAddr, Vec<u8>);
