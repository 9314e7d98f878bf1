//! A database of a TimescaleDB: on the server of `TIMESCALEDB_TEST_URL`, else on one that the test starts.

#![allow(dead_code, reason = "each test binary uses a part")]

use postgres::{Client, NoTls};

use crate::server::{self, Server};

/// An empty database on a server with TimescaleDB; dropped at the end.
pub struct Database {
    maintenance: String,
    url: String,
    name: String,
    /// Stopped after the database was dropped.
    _server: Option<Server>,
}

impl Database {
    pub fn new(name: &str) -> Option<Self> {
        let (maintenance, server) = match std::env::var("TIMESCALEDB_TEST_URL") {
            Ok(url) => (url, None),
            Err(_) => {
                let server = Server::start_timescale("timescale")?;
                (server.url("postgres"), Some(server))
            }
        };
        let name = format!("netflow_test_{name}_{}", std::process::id());
        let mut client = Client::connect(&maintenance, NoTls).unwrap();
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).unwrap();
        let mut parts = maintenance.rsplitn(2, '/');
        let url = format!("{}/{name}", parts.nth(1).unwrap());
        Some(Self { maintenance, url, name, _server: server })
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.url, NoTls).unwrap()
    }

    pub fn config(&self) -> sink_postgres::Config {
        sink_postgres::Config { timescale: true, ..server::config(&self.url) }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Ok(mut client) = Client::connect(&self.maintenance, NoTls) {
            let _ = client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}
