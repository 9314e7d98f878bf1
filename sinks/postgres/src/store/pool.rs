//! Connections for questions, kept between them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use postgres::{Client, Transaction};
use sink_api::store::StoreError;

use super::PostgresStore;
use crate::connect::connect;

/// Idle connections that are kept: more questions at once connect and disconnect.
const IDLE_MAX: usize = 4;

#[derive(Default)]
pub struct Pool(Mutex<Vec<Client>>);

impl Drop for Pool {
    /// Closes the connections on a thread of their own: closing waits, which panics on a thread of an async runtime, where
    /// the last owner of a store may be.
    fn drop(&mut self) {
        let idle = std::mem::take(self.0.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !idle.is_empty() {
            std::thread::spawn(move || drop(idle));
        }
    }
}

impl PostgresStore {
    /// Runs a question in a read-only transaction that the server ends by itself when its time is over. One about a single
    /// subscriber is kept from reading everything.
    pub(super) fn with_transaction<T>(
        &self,
        left: Duration,
        by_subscriber: bool,
        run: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut client = self.client()?;
        let result = self.transaction(&mut client, left, by_subscriber, run);
        if result.is_ok() && !client.is_closed() {
            let mut idle = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(client);
            }
        }
        result
    }

    fn transaction<T>(
        &self,
        client: &mut Client,
        left: Duration,
        by_subscriber: bool,
        run: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let failed = |error: postgres::Error| self.failed(&error);
        let mut tx = client.build_transaction().read_only(true).start().map_err(failed)?;
        let timeout_ms = left.as_millis().clamp(1, i32::MAX as u128);
        let by_index = if by_subscriber { "; SET LOCAL enable_seqscan = off" } else { "" };
        // Answers are aggregates over much: compiling them costs more than it gives.
        tx.batch_execute(&format!(
            "SET LOCAL statement_timeout = {timeout_ms}; SET LOCAL timezone = 'UTC'; SET LOCAL jit = off{by_index}"
        ))
        .map_err(failed)?;
        let value = run(&mut tx)?;
        tx.rollback().map_err(failed)?;
        Ok(value)
    }

    fn client(&self) -> Result<Client, StoreError> {
        loop {
            let idle = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut client) = idle else { break };
            // The server may have closed it meanwhile.
            if client.is_valid(VALID_WITHIN).is_ok() {
                return Ok(client);
            }
        }
        connect(&self.config).map_err(|error| StoreError::Down { store: self.name.clone(), reason: error.to_string() })
    }
}

/// How long an idle connection may take to answer.
const VALID_WITHIN: Duration = Duration::from_secs(2);
