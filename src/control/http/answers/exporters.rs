//! `exporters`: what is known of each exporter.

use std::collections::BTreeMap;

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::time::rfc3339;
use crate::telemetry::Gauge;
use crate::telemetry::ledger::Account;

use super::super::error::ApiError;
use super::super::route::Call;
use super::completeness::Completeness;

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
    /// Receive time of the first datagram since the start.
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
    /// Its account of the ledger.
    pub counters: BTreeMap<&'static str, u64>,
}

impl Exporter {
    fn new(address: String, account: &Account, now_ms: i64) -> Self {
        let time = |gauge: &Gauge| Some(gauge.get()).filter(|ms| *ms != 0);
        let last_seen_ms = time(&account.last_seen_ms);
        Self {
            exporter_ip: address,
            version: time(&account.version),
            first_seen: time(&account.first_seen_ms).map(rfc3339),
            last_seen: last_seen_ms.map(rfc3339),
            silent_seconds: last_seen_ms.map(|ms| (now_ms - ms).max(0) as f64 / 1000.0),
            clock_skew_ms: account.clock_skew_ms.get(),
            sampling_rate: account.sampling_rate.get().max(1),
            sequence_counts_datagrams: account.sequence_counts_datagrams.get() != 0,
            completeness: Completeness::of_account(account).ratio(),
            counters: account.counters().collect(),
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
    let accounts = collector.ledger().accounts();
    let items: Vec<_> =
        accounts.iter().map(|(addr, account)| Exporter::new(addr.to_string(), account, now_ms)).collect();
    let total = items.len() as u64;
    Ok(super::json(&Exporters { items, total, since: rfc3339(call.endpoint.started_ms) }))
}
