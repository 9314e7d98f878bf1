//! `subscriber/{subscriber_id}/usage`: one subscriber's traffic.

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::rollup::Shape;
use crate::flow::store::OrderBy;
use crate::flow::value::Value;
use crate::flow::{Direction, Field, Key, Uuid};

use super::super::error::ApiError;
use super::super::route::Call;
use super::basis::{Ask, Basis};
use super::protocol_breakdown::{number, protocol_name};

/// Answer of `subscriber/{subscriber_id}/usage`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Usage {
    /// The subscriber.
    #[schema(value_type = String, format = "uuid")]
    pub subscriber_id: Uuid,
    /// Bytes in, out and internal.
    pub bytes_total: u64,
    /// Packets in, out and internal.
    pub pkts_total: u64,
    /// Flows in, out and internal.
    pub flows_total: u64,
    /// Bytes to the subscriber.
    pub bytes_in: u64,
    /// Bytes from the subscriber.
    pub bytes_out: u64,
    /// Bytes from the subscriber to other customers.
    pub bytes_internal: u64,
    /// Bytes from other customers; not in the totals, which would hold them twice over all subscribers. null where the tier
    /// does not tell them.
    #[schema(required)]
    pub bytes_internal_in: Option<u64>,
    /// Services with the most bytes.
    pub top_ports: Vec<TopPort>,
    /// What the ports rest on, which can be another tier than that of the totals.
    pub top_ports_basis: Basis,
    /// What the totals rest on.
    #[serde(flatten)]
    pub basis: Basis,
}

/// A service of a subscriber.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopPort {
    /// The service's port, 0 when unknown; null for protocols without ports.
    #[schema(required)]
    pub port: Option<u64>,
    /// IP protocol number.
    #[schema(required)]
    pub protocol: Option<u64>,
    /// The protocol's name, where it has a common one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_name: Option<&'static str>,
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// Answers.
///
/// # Errors
/// Bad parameters, and what the store says.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let Some(subscriber_id) = call.params.uuid("subscriber_id")? else {
        return Err(call.params.wrong("subscriber_id", ""));
    };
    let range = call.range()?;
    let filter = call.filter()?;
    let by_direction =
        Ask { by: vec![Key::Field(Field::Direction)], interval_ms: None, order: OrderBy::Bytes, limit: None };
    let (sums, basis) = call.ask(range, filter.clone(), by_direction)?;
    let by_port = Ask {
        by: vec![Key::Field(Field::Protocol), Key::Field(Field::ServicePort)],
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: call.params.whole("limit")?.map(|n| n as usize),
    };
    let (ports, top_ports_basis) = call.ask(range, filter, by_port)?;
    let top_ports = ports.rows.iter().map(|row| {
        let protocol = number(row.keys.first());
        TopPort {
            port: number(row.keys.get(1)),
            protocol,
            protocol_name: protocol.and_then(protocol_name),
            bytes: row.measures.bytes,
            packets: row.measures.packets,
        }
    });
    let rollups = call.endpoint.collector.rollups();
    let tells_internal_in = rollups.iter().any(|def| *def.name == *basis.tier && def.shape == Shape::PerSubscriber);
    let mut usage = Usage {
        subscriber_id,
        bytes_total: 0,
        pkts_total: 0,
        flows_total: 0,
        bytes_in: 0,
        bytes_out: 0,
        bytes_internal: 0,
        bytes_internal_in: tells_internal_in.then_some(0),
        top_ports: top_ports.collect(),
        top_ports_basis,
        basis,
    };
    for row in &sums.rows {
        let m = &row.measures;
        match row.keys.first() {
            Some(Value::Direction(Direction::InternalIn)) => {
                *usage.bytes_internal_in.get_or_insert(0) += m.bytes;
                continue;
            }
            Some(Value::Direction(Direction::In)) => usage.bytes_in += m.bytes,
            Some(Value::Direction(Direction::Out)) => usage.bytes_out += m.bytes,
            _ => usage.bytes_internal += m.bytes,
        }
        usage.bytes_total += m.bytes;
        usage.pkts_total += m.packets;
        usage.flows_total += m.flows;
    }
    Ok(super::json(&usage))
}
