//! The payload of a log record: flows or sums as bytes, column by column; alerts as JSON.
//!
//! Encoding is meant to be cheap rather than small: whole bytes, no compression, loops that vectorise. Decoding takes any
//! bytes: it never panics, and what it reserves is in proportion to the payload (at most 128 times, for sparse wide columns) plus a constant (columns of one
//! value take no bytes only up to `plain::CONSTANT_ROWS_MAX` rows).

mod bytes;
mod dict;
mod flows;
mod pack;
mod plain;
mod size;
mod streams;
mod sums;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use bytes::DecodeError;
pub use size::memory_bytes;

use crate::flow::{AlertRow, FlowBatch, Record, RollupSums, StreamProgress};
use bytes::Reader;

/// Rows of a batch or of one rollup in one record. Bounds what a forged count can make us reserve.
pub const ROWS_MAX: usize = 1 << 20;

/// What a record holds; the number is stored in the record's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PayloadKind {
    /// A batch of flows.
    Flows = 1,
    /// An emission of the aggregator.
    Sums = 2,
    /// Beginnings and ends of alerts.
    Alerts = 3,
}

impl PayloadKind {
    /// The kind of a stored number.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Flows),
            2 => Some(Self::Sums),
            3 => Some(Self::Alerts),
            _ => None,
        }
    }

    /// The kind of a record.
    pub const fn of(record: &Record) -> Self {
        match record {
            Record::Flows(_) => Self::Flows,
            Record::Sums(_) => Self::Sums,
            Record::Alerts(_) => Self::Alerts,
        }
    }
}

/// Appends a record's payload.
///
/// # Errors
/// What makes the record one that could not be read back.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<(), &'static str> {
    match record {
        Record::Flows(batch) => encode_flows(batch, out),
        Record::Sums(sums) => encode_sums(sums, out),
        Record::Alerts(rows) => encode_alerts(rows, out),
    }
}

/// Appends a batch's payload.
///
/// # Errors
/// As for [`encode`].
pub fn encode_flows(batch: &FlowBatch, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if batch.len() > ROWS_MAX {
        return Err("more rows than a record may have");
    }
    if batch.ragged_column().is_some() {
        return Err("columns of different lengths");
    }
    if batch.time.null_count() > 0 {
        return Err("a flow without time");
    }
    flows::put(batch, out);
    Ok(())
}

/// JSON: they are few, and may get more columns.
fn encode_alerts(rows: &[AlertRow], out: &mut Vec<u8>) -> Result<(), &'static str> {
    if rows.len() > ROWS_MAX {
        return Err("more rows than a record may have");
    }
    serde_json::to_writer(out, rows).map_err(|_| "alerts that are no JSON")
}

fn encode_sums(sums: &RollupSums, out: &mut Vec<u8>) -> Result<(), &'static str> {
    for rows in &sums.rows {
        let n = rows.len();
        if n > ROWS_MAX {
            return Err("more rows than a record may have");
        }
        let measures = [&rows.bytes, &rows.packets, &rows.flows, &rows.rtt_ms_sum, &rows.rtt_count];
        let ragged = measures.iter().any(|m| m.len() != n) || rows.keys.iter().any(|(_, column)| column.len() != n);
        if ragged || !(rows.cut_bytes.is_empty() || rows.cut_bytes.len() == n) {
            return Err("columns of different lengths");
        }
    }
    sums::put(sums, out);
    Ok(())
}

/// Reads a payload.
///
/// # Errors
/// Where and why the bytes are not a payload of this kind.
pub fn decode(kind: PayloadKind, payload: &[u8]) -> Result<Record, DecodeError> {
    match kind {
        PayloadKind::Flows => {
            let mut batch = FlowBatch::default();
            decode_flows(payload, &mut batch)?;
            Ok(Record::Flows(Arc::new(batch)))
        }
        PayloadKind::Sums => {
            let mut from = Reader::new(payload);
            let sums = sums::read(&mut from)?;
            if from.left() > 0 { from.fail("bytes after the end") } else { Ok(Record::Sums(Arc::new(sums))) }
        }
        PayloadKind::Alerts => match serde_json::from_slice(payload) {
            Ok(rows) => Ok(Record::Alerts(Arc::new(rows))),
            Err(_) => Reader::new(payload).fail("alerts that are no JSON of theirs"),
        },
    }
}

/// Reads a payload of flows into a batch, whose rows are forgotten before. After an error the batch holds anything.
///
/// # Errors
/// As for [`decode`].
pub fn decode_flows(payload: &[u8], batch: &mut FlowBatch) -> Result<(), DecodeError> {
    batch.clear();
    let mut from = Reader::new(payload);
    flows::read(&mut from, batch)?;
    if from.left() > 0 { from.fail("bytes after the end") } else { Ok(()) }
}

/// Reads only the stream progress of a payload of flows.
///
/// # Errors
/// As for [`decode`].
pub fn decode_streams(payload: &[u8]) -> Result<Vec<StreamProgress>, DecodeError> {
    let mut from = Reader::new(payload);
    from.u32()?;
    streams::read(&mut from)
}
