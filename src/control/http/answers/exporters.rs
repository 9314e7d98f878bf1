//! `exporters`: what is known of each exporter.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::Addr;
use crate::flow::time::rfc3339;
use crate::telemetry::ledger::Account;

use super::super::error::ApiError;
use super::super::route::Call;
use super::completeness::Completeness;
use crate::control::state::ExporterState;

/// Answer of `exporters`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Exporters {
    /// By address. The address `::` stands for all exporters beyond the number that have an account of their own.
    pub items: Vec<Exporter>,
    /// Number of exporters.
    pub total: u64,
    /// Since when it is counted.
    pub since: String,
}

/// One exporter.
#[derive(Debug, Serialize, ToSchema)]
pub struct Exporter {
    /// Its address.
    pub exporter_ip: String,
    /// Version of its latest datagram; null before the first.
    #[schema(required)]
    pub version: Option<i64>,
    /// Receive time of its first datagram, over all runs of the collector.
    #[schema(required)]
    pub first_seen: Option<String>,
    /// Receive time of the latest datagram.
    #[schema(required)]
    pub last_seen: Option<String>,
    /// Seconds since the latest datagram.
    #[schema(required)]
    pub silent_seconds: Option<f64>,
    /// Its clock minus ours, ms.
    pub clock_skew_ms: i64,
    /// Sampling rate in force; 1 = none.
    pub sampling_rate: i64,
    /// Whether its sequence numbers count datagrams instead of flows.
    pub sequence_counts_datagrams: bool,
    /// Share of its flows that reached the log; null before the first.
    #[schema(required)]
    pub completeness: Option<f64>,
    /// Its account of the ledger: counts of this run.
    pub counters: BTreeMap<&'static str, u64>,
    /// The same counts over all runs.
    pub totals: BTreeMap<String, u64>,
}

impl Exporter {
    fn new(address: Addr, account: &Account, history: Option<ExporterState>, now_ms: i64) -> Self {
        let counters: BTreeMap<&'static str, u64> = account.counters().collect();
        let history = history.unwrap_or_else(|| ExporterState {
            first_seen_ms: account.first_seen_ms.get(),
            totals: counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            ..ExporterState::default()
        });
        let known = |ms: i64| Some(ms).filter(|ms| *ms != 0);
        let last_seen_ms = known(account.last_seen_ms.get()).or(known(history.last_seen_ms));
        Self {
            exporter_ip: address.to_string(),
            version: known(account.version.get()).or(known(history.version)),
            first_seen: known(history.first_seen_ms).map(rfc3339),
            last_seen: last_seen_ms.map(rfc3339),
            silent_seconds: last_seen_ms.map(|ms| (now_ms - ms).max(0) as f64 / 1000.0),
            clock_skew_ms: account.clock_skew_ms.get(),
            sampling_rate: account.sampling_rate.get().max(1),
            sequence_counts_datagrams: account.sequence_counts_datagrams.get() != 0,
            completeness: Completeness::of_account(account).ratio(),
            counters,
            totals: history.totals,
        }
    }
}

/// Answers.
///
/// # Errors
/// None of its own.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let collector = &call.endpoint.collector;
    let now_ms = collector.now_ms();
    let mut histories = collector.exporters_of_all_runs();
    let mut accounts: BTreeMap<Addr, Arc<Account>> = collector.ledger().accounts().into_iter().collect();
    // Those that were heard in earlier runs only.
    for address in histories.keys() {
        accounts.entry(*address).or_default();
    }
    let item =
        |(address, account): (Addr, Arc<Account>)| Exporter::new(address, &account, histories.remove(&address), now_ms);
    let items: Vec<_> = accounts.into_iter().map(item).collect();
    let total = items.len() as u64;
    Ok(super::json(&Exporters { items, total, since: rfc3339(call.endpoint.started_ms) }))
}
