//! `protocol-breakdown`: shares of protocols and services.

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::store::OrderBy;
use crate::flow::value::Value;
use crate::flow::{Field, Key, Measures};

use super::super::error::ApiError;
use super::super::route::Call;
use super::basis::{Ask, Basis};

/// Answer of `protocol-breakdown`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProtocolBreakdown {
    /// Most bytes first.
    pub items: Vec<Share>,
    /// Pairs of protocol and port there are before the limit.
    pub total: u64,
    /// Sums of everything that matched: what the shares are of.
    pub matched: Sums,
    /// What it rests on.
    #[serde(flatten)]
    pub basis: Basis,
}

/// A protocol and service.
#[derive(Debug, Serialize, ToSchema)]
pub struct Share {
    /// IP protocol number.
    #[schema(required)]
    pub protocol: Option<u64>,
    /// The protocol's name, where it has a common one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_name: Option<&'static str>,
    /// The service's port: the side's that the service table knows, 0 for none; null for protocols without ports.
    #[schema(required)]
    pub dst_port: Option<u64>,
    /// Percent of all bytes that matched.
    #[serde(rename = "bytes%")]
    pub bytes_percent: f64,
    /// Percent of all packets that matched.
    #[serde(rename = "packets%")]
    pub packets_percent: f64,
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Flows.
    pub flows: u64,
}

/// Sums.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Sums {
    /// Layer 3 bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Flows.
    pub flows: u64,
}

impl From<&Measures> for Sums {
    fn from(m: &Measures) -> Self {
        Self { bytes: m.bytes, packets: m.packets, flows: m.flows }
    }
}

/// Answers.
///
/// # Errors
/// Bad parameters, and what the store says.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let ask = Ask {
        by: vec![Key::Field(Field::Protocol), Key::Field(Field::ServicePort)],
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: call.params.whole("limit")?.map(|n| n as usize),
    };
    let (answer, basis) = call.ask(call.range()?, call.filter()?, ask)?;
    let matched = answer.matched;
    let items = answer.rows.iter().map(|row| {
        let protocol = number(row.keys.first());
        Share {
            protocol,
            protocol_name: protocol.and_then(protocol_name),
            dst_port: number(row.keys.get(1)),
            bytes_percent: percent(row.measures.bytes, matched.bytes),
            packets_percent: percent(row.measures.packets, matched.packets),
            bytes: row.measures.bytes,
            packets: row.measures.packets,
            flows: row.measures.flows,
        }
    });
    let items = items.collect();
    Ok(super::json(&ProtocolBreakdown { items, total: answer.total_rows, matched: (&matched).into(), basis }))
}

/// A key's value as a number.
pub fn number(value: Option<&Value>) -> Option<u64> {
    match value {
        Some(Value::Number(n)) => Some(*n),
        _ => None,
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Names of the protocols that people know by name (IANA protocol numbers).
pub fn protocol_name(number: u64) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipip",
        6 => "tcp",
        17 => "udp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmpv6",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        115 => "l2tp",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}
