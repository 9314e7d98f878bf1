//! `ledger`: the loss ledger with its sums.
//!
//! The counters are read one after another while they grow, so `in_flight` is exact only when nothing comes in.

use std::collections::BTreeMap;

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::time::rfc3339;

use super::super::collector::SocketStatus;
use super::super::error::ApiError;
use super::super::route::Call;
use super::completeness::Completeness;
use super::sinks::SinkItem;

/// Answer of `ledger`.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerAnswer {
    /// Since when it is counted.
    pub since: String,
    /// Received = decoded + dropped.
    pub datagrams: Datagrams,
    /// Announced = logged + left out + dropped + in flight.
    pub flows: Flows,
    /// Every socket that receives.
    pub sockets: Vec<SocketStatus>,
    /// What the exporters' numbering tells; these flows never arrived.
    pub sequence: BTreeMap<&'static str, u64>,
    /// Oddities of the export that lose nothing.
    pub oddities: BTreeMap<&'static str, u64>,
    /// Received = delivered + waiting + set aside + dropped, for each sink.
    pub sinks: Vec<SinkItem>,
    /// Share of the flows sent that reached the log; null before the first.
    #[schema(required)]
    pub completeness: Option<f64>,
}

/// Datagrams and where they ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct Datagrams {
    /// Dropped by the kernel before they could be received; not in `received`.
    pub kernel_drops: u64,
    /// Received.
    pub received: u64,
    /// Taken apart.
    pub decoded: u64,
    /// Dropped whole, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// Flow records and where they ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct Flows {
    /// Announced by well-formed datagrams.
    pub announced: u64,
    /// In the log.
    pub logged: u64,
    /// Left out on purpose, by reason.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// On the way between receiver and log; 0 when nothing comes in and the sums close.
    pub in_flight: i64,
}

/// Answers.
///
/// # Errors
/// None of its own.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let collector = &call.endpoint.collector;
    let totals: BTreeMap<&'static str, u64> = collector.ledger().totals().into_iter().collect();
    let of = |name: &str| totals.get(name).copied().unwrap_or(0);
    let pick = |names: &[(&'static str, &str)]| names.iter().map(|(shown, name)| (*shown, of(name))).collect();
    let datagrams_dropped: BTreeMap<&'static str, u64> = pick(&[
        ("malformed", "malformed"),
        ("unknown_version", "unknown_version"),
        ("not_allowed", "not_allowed"),
        ("queue_full", "queue_full_datagrams"),
    ]);
    let left_out: BTreeMap<&'static str, u64> =
        pick(&[("absurd", "absurd_flows"), ("second_view", "second_view_flows")]);
    let dropped: BTreeMap<&'static str, u64> =
        pick(&[("queue_full", "queue_full_flows"), ("log_refused", "log_refused_flows"), ("torn", "torn_flows")]);
    let placed = of("logged_flows") + left_out.values().sum::<u64>() + dropped.values().sum::<u64>();
    let sockets = collector.sockets();
    let ledger = LedgerAnswer {
        since: rfc3339(call.endpoint.started_ms),
        datagrams: Datagrams {
            kernel_drops: sockets.iter().map(|socket| socket.kernel_drops).sum(),
            received: of("datagrams"),
            decoded: of("datagrams").saturating_sub(datagrams_dropped.values().sum()),
            dropped: datagrams_dropped,
        },
        flows: Flows {
            announced: of("flows"),
            logged: of("logged_flows"),
            in_flight: of("flows") as i64 - placed as i64,
            left_out,
            dropped,
        },
        sockets,
        sequence: pick(&[
            ("gap", "sequence_gap"),
            ("lost_in_crash", "lost_in_crash"),
            ("reordered", "reordered"),
            ("restarts", "restarts"),
        ]),
        oddities: pick(&[
            ("long_datagrams", "long_datagrams"),
            ("count_replaced", "count_replaced"),
            ("sampling_missing", "sampling_missing"),
            ("clock_replaced", "clock_replaced"),
            ("times_clamped", "times_clamped"),
        ]),
        sinks: collector.sinks().into_iter().map(SinkItem::from).collect(),
        completeness: Completeness::of(collector.ledger(), None).ratio(),
    };
    Ok(super::json(&ledger))
}
