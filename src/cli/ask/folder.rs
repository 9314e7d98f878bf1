//! A data folder without its collector: the embedded store behind the same API, on loopback, for as long as one command
//! takes. So a folder answers exactly as a collector does.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use crate::cli::Failure;
use crate::control::http::{
    Collector, Config, Endpoint, IngestError, Ingested, Readiness, Reloaded, Role, Server, SinkStatus, TokenConfig,
};
use crate::flow::sink::{LogTail, NoTail};
use crate::flow::time::now_ms;
use crate::flow::{FlowStore, LogId, RollupDef, SinkContext};
use crate::log::OfflineLog;
use crate::telemetry::Exposition;
use crate::telemetry::ledger::Ledger;

/// The kind of sink whose place is a folder.
const KIND: &str = "parquet";
/// Its log, as `[log]` puts it by default.
const LOG: &str = "log";
/// A command waits as long as its user does.
const TIME_MAX_MS: u64 = 24 * 3_600_000;

/// The folder, being served.
pub struct Folder {
    /// Where.
    pub url: String,
    /// Keeps other users of the machine out.
    pub token: String,
    _runtime: Runtime,
}

impl Folder {
    /// Opens the folder and serves it.
    ///
    /// # Errors
    /// No such folder, or no store in it.
    pub fn serve(path: &Path, rollups: Vec<RollupDef>) -> Result<Self, Failure> {
        let failure = |what: &dyn std::fmt::Display| Failure::new(format!("data folder {}: {what}", path.display()));
        if !path.is_dir() {
            return Err(failure(&"there is no such folder"));
        }
        let rollups = Arc::new(rollups);
        let store = open(path, rollups.clone()).map_err(|e| failure(&e))?;
        let token = random_token().map_err(|e| failure(&e))?;
        let sha256 = Sha256::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
        let config = Config {
            listen: "127.0.0.1:0".to_owned(),
            query_time_max_ms: TIME_MAX_MS,
            export_time_max_ms: TIME_MAX_MS,
            token: vec![TokenConfig { name: "command".to_owned(), sha256, role: Role::Read, ..TokenConfig::default() }],
            ..Config::default()
        };
        let collector = Arc::new(Offline { store, rollups, ledger: Ledger::default() });
        let endpoint = Endpoint::new(collector, config, Path::new("")).map_err(|problems| {
            failure(&problems.first().map(|problem| problem.problem.clone()).unwrap_or_default())
        })?;
        let runtime = Runtime::new().map_err(|e| failure(&e))?;
        let server = runtime.block_on(Server::bind(Arc::new(endpoint))).map_err(|e| failure(&e.problem))?;
        let url = format!("http://{}", server.api_addr());
        // Served until the runtime goes.
        runtime.spawn(server.serve(std::future::pending()));
        Ok(Self { url, token, _runtime: runtime })
    }
}

/// The store over the folder, and behind it what the log holds beyond it.
fn open(path: &Path, rollups: Arc<Vec<RollupDef>>) -> Result<Arc<dyn FlowStore>, String> {
    let kind = sinks::KINDS.iter().find(|kind| kind.name == KIND).ok_or("no embedded store is built in")?;
    let mut table = toml::Table::new();
    let absolute = std::path::absolute(path).map_err(|e| e.to_string())?;
    table.insert("path".to_owned(), absolute.to_string_lossy().into_owned().into());
    let config = (kind.parse)(&table, Path::new(""))
        .map_err(|problems| problems.first().map(|problem| problem.problem.clone()).unwrap_or_default())?;
    let log = path.join(LOG);
    let (log_id, tail): (LogId, Arc<dyn LogTail>) = if log.is_dir() {
        let log = OfflineLog::open(&log).map_err(|e| format!("its log cannot be read: {e}"))?;
        (log.id(), Arc::new(log))
    } else {
        (LogId([0; 16]), Arc::new(NoTail))
    };
    let context = SinkContext {
        name: KIND.to_owned(),
        log_id,
        tail,
        rollups,
        malformed: Arc::default(),
        clock: Arc::new(now_ms),
    };
    config.store(&context).map_err(|e| e.to_string())?.ok_or_else(|| "its store answers no questions".to_owned())
}

fn random_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A collector that only answers.
struct Offline {
    store: Arc<dyn FlowStore>,
    rollups: Arc<Vec<RollupDef>>,
    ledger: Ledger,
}

/// Why everything but questions is refused.
const OFFLINE: &str = "this is a data folder without its collector";

impl Collector for Offline {
    fn store(&self, name: Option<&str>) -> Option<Arc<dyn FlowStore>> {
        name.is_none_or(|name| name == self.store.name()).then(|| self.store.clone())
    }

    fn store_names(&self) -> Vec<String> {
        vec![self.store.name().to_owned()]
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn expose(&self, _: &mut Exposition) {}

    fn sinks(&self) -> Vec<SinkStatus> {
        Vec::new()
    }

    fn ingest(&self, _: IpAddr, _: &[u8]) -> Result<Ingested, IngestError> {
        Err(IngestError::Failed(OFFLINE.to_owned()))
    }

    fn readiness(&self) -> Readiness {
        let checks = [("receive".to_owned(), OFFLINE.to_owned())].into();
        Readiness { ready: false, checks }
    }

    fn rollups(&self) -> Arc<Vec<RollupDef>> {
        self.rollups.clone()
    }

    fn config(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn reload(&self) -> Result<Reloaded, Vec<String>> {
        Err(vec![OFFLINE.to_owned()])
    }

    fn emit_open_sums(&self) {}

    fn now_ms(&self) -> i64 {
        now_ms()
    }
}
