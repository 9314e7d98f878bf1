//! `top-talkers`: the addresses with the most bytes.

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::store::OrderBy;
use crate::flow::value::Value;
use crate::flow::{Field, Key};

use super::super::error::ApiError;
use super::super::route::Call;
use super::basis::{Ask, Basis};

/// What addresses can be grouped by, the default first.
pub const BY: &[&str] = &["src_ip", "dst_ip", "host"];

/// Answer of `top-talkers`.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopTalkers {
    /// Most bytes first.
    pub items: Vec<Talker>,
    /// Addresses there are before the limit.
    pub total: u64,
    /// What it rests on.
    #[serde(flatten)]
    pub basis: Basis,
}

/// One address. Which fields it has follows from `by`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Talker {
    /// Source address, by `src_ip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_ip: Option<String>,
    /// Destination address, by `dst_ip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_ip: Option<String>,
    /// Address on either side, by `host`; null for the hosts that were cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Option<String>>,
    /// Bytes that it sent, by `src_ip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    /// Bytes sent to it, by `dst_ip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// Bytes that it sent or that were sent to it, by `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Packets, as the bytes.
    pub packets: u64,
    /// Flows.
    pub flows: u64,
    /// Mean round trip in ms; null where none was measured.
    #[schema(required)]
    pub avg_latency_ms: Option<f64>,
}

/// Answers.
///
/// # Errors
/// Bad parameters, and what the store says.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let by = call.params.word("by")?.unwrap_or(BY[0]);
    let key = match by {
        "dst_ip" => Key::Field(Field::DstIp),
        "host" => Key::Host,
        _ => Key::Field(Field::SrcIp),
    };
    let limit = call.params.whole("limit")?.map(|n| n as usize);
    let ask = Ask { by: vec![key], interval_ms: None, order: OrderBy::Bytes, limit };
    let (answer, basis) = call.ask(call.range()?, call.filter()?, ask)?;
    let items = answer.rows.iter().map(|row| {
        let address = row.keys.first().filter(|v| **v != Value::Null).map(Value::to_string);
        let bytes = Some(row.measures.bytes);
        let mut talker = Talker {
            packets: row.measures.packets,
            flows: row.measures.flows,
            avg_latency_ms: row.measures.avg_latency_ms(),
            ..Talker::default()
        };
        match by {
            "dst_ip" => (talker.dst_ip, talker.bytes_received) = (address, bytes),
            "host" => (talker.host, talker.bytes) = (Some(address), bytes),
            _ => (talker.src_ip, talker.bytes_sent) = (address, bytes),
        }
        talker
    });
    Ok(super::json(&TopTalkers { items: items.collect(), total: answer.total_rows, basis }))
}
