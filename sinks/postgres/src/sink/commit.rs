//! Sending rows: one transaction, a COPY for each table that has any.

use std::io::Write;

use postgres::Transaction;
use sink_api::{Field, FlowBatch, LogId, SinkError};

use super::order;
use super::place::{Mark, Place};
use super::pulled::{FlowRows, Pulled};
use super::{Connection, Tables};
use crate::alerts;
use crate::columns::CUT_BYTES;
use crate::connect::{chain, sink_error};
use crate::encode::{HEADER, ROWS, RowOf, Rows, TRAILER};
use crate::schema::Table;

/// Bytes that are encoded before they are handed to the connection: measured best between 64 and 256 KiB.
const PIECE_BYTES: usize = 256 * 1024;

/// Memory for encoding.
#[derive(Default)]
pub(super) struct Buffers {
    /// Rows as they came, where they are sent in another order, and where each ends.
    encoded: Vec<u8>,
    ends: Vec<usize>,
    /// What is sent next.
    piece: Vec<u8>,
}

/// One transaction: rows of every table, and what it says about positions.
pub(super) fn commit(
    connection: &mut Connection,
    tables: &Tables,
    place: &Place,
    pulled: &Pulled,
    mark: Mark,
) -> Result<(), SinkError> {
    let buffers = &mut connection.buffers;
    let mut tx = connection.client.transaction().map_err(|e| sink_error("begin", &e))?;
    place.hold(&mut tx)?;
    let mut flows = encoder(&pulled.flows, &tables.fields);
    let by_subscriber = tables.flows.by_subscriber;
    let order = by_subscriber.then(|| order::by_subscriber(&pulled.flows));
    copy(&mut tx, &tables.flows, &mut flows, &order::as_they_came(&pulled.flows), order.as_deref(), buffers)?;
    for (name, table) in &tables.rollups {
        let has_cut = table.has(CUT_BYTES);
        let of_table = || pulled.sums.iter().filter(|sums| *sums.rollup().rollup == **name);
        let sums: Vec<_> = of_table().map(|sums| sums.rollup()).collect();
        let rows = (0..).zip(of_table()).flat_map(|(index, sums)| sums.rows.iter().map(move |row| (index, *row)));
        copy(&mut tx, table, &mut Rows::of_rollup(&sums, has_cut), &rows.collect::<Vec<_>>(), None, buffers)?;
    }
    if let Some(table) = &tables.alerts {
        copy_alerts(&mut tx, table, pulled, tables.log_id)?;
    }
    place.mark(&mut tx, mark)?;
    tx.commit().map_err(|e| sink_error("commit", &e))
}

/// What writes the rows of a group.
pub(super) fn encoder<'a>(flows: &'a [FlowRows], fields: &[Field]) -> Rows<'a> {
    let batches: Vec<&FlowBatch> = flows.iter().map(FlowRows::batch).collect();
    Rows::of_flows(&batches, fields)
}

/// Sends rows into a table by one COPY, in the order of the numbers given or as they stand; no rows, no COPY.
pub(super) fn copy(
    tx: &mut Transaction<'_>,
    table: &Table,
    encoder: &mut Rows<'_>,
    rows: &[RowOf],
    order: Option<&[u32]>,
    Buffers { encoded, ends, piece }: &mut Buffers,
) -> Result<(), SinkError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut writer = tx.copy_in(&table.copy()).map_err(|e| sink_error(&table.name, &e))?;
    let broken = |error: std::io::Error| copy_error(&table.name, &error);
    piece.clear();
    piece.extend_from_slice(HEADER);
    encoded.clear();
    ends.clear();
    for rows in rows.chunks(ROWS) {
        match order {
            Some(_) => encoder.write(rows, encoded, ends),
            None => encoder.write(rows, piece, ends),
        }
        if piece.len() >= PIECE_BYTES {
            writer.write_all(piece).map_err(broken)?;
            piece.clear();
        }
    }
    for number in order.unwrap_or_default() {
        let number = *number as usize;
        let start = number.checked_sub(1).map_or(0, |before| ends[before]);
        piece.extend_from_slice(&encoded[start..ends[number]]);
        if piece.len() >= PIECE_BYTES {
            writer.write_all(piece).map_err(broken)?;
            piece.clear();
        }
    }
    piece.extend_from_slice(TRAILER);
    writer.write_all(piece).map_err(broken)?;
    writer.finish().map(drop).map_err(|e| sink_error(&table.name, &e))
}

fn copy_alerts(tx: &mut Transaction<'_>, table: &Table, pulled: &Pulled, log: LogId) -> Result<(), SinkError> {
    let mut rows = pulled.alerts.iter().flat_map(|alerts| alerts.rows.iter()).peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let mut writer = tx.copy_in(&table.copy()).map_err(|e| sink_error(&table.name, &e))?;
    let bytes = alerts::copy_bytes(rows, log);
    writer.write_all(&bytes).map_err(|error| copy_error(&table.name, &error))?;
    writer.finish().map(drop).map_err(|e| sink_error(&table.name, &e))
}

/// An error while COPY data were sent: what the server said stands inside it.
fn copy_error(what: &str, error: &std::io::Error) -> SinkError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<postgres::Error>()) {
        Some(error) => sink_error(what, error),
        None => SinkError::retry(format!("{what}: {}", chain(error))),
    }
}
