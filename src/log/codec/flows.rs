//! Batches of flows.
//!
//! ```text
//! rows u32 | streams u32 | each 48 bytes | columns u8 | each: name | bytes u32 | column
//! ```
//! Columns that are null in every row are left out. A column whose name the reader does not know is skipped, so that a log
//! outlives a change of the columns. The destinations of internal flows stand among the columns, under a name of their own:
//!
//! ```text
//! entries u32 | each its row u32 | subscriber_id | reseller_id | site
//! ```
//! and so do the rows whose span is cut for pro-rating:
//!
//! ```text
//! entries u32 | each: row u32, start i64 (ms)
//! ```

use super::bytes::{DecodeError, Reader, put_name};
use super::dict::{put_addrs, put_dict, read_addrs, read_dict};
use super::plain::{CONSTANT_ROWS_MAX, put_column, read_column};
use super::{ROWS_MAX, streams};
use crate::flow::batch::{ColumnMut, ColumnRef};
use crate::flow::{CutSpan, Field, FlowBatch, InternalDestinations};

/// The name under which [`InternalDestinations`] stand. No column has it.
const INTERNAL: &str = "internal_destinations";

/// The name under which [`CutSpan`]s stand.
const CUT_SPANS: &str = "cut_spans";

/// Appends a batch.
pub fn put(batch: &FlowBatch, out: &mut Vec<u8>) {
    out.extend_from_slice(&(batch.len() as u32).to_le_bytes());
    streams::put(&batch.streams, out);
    let count_at = out.len();
    out.push(0);
    for &field in Field::ALL {
        let column = batch.column(field);
        if column.all_null() {
            continue;
        }
        out[count_at] += 1;
        put_named(field.name(), out, |out| put_any(column, out));
    }
    if !batch.internal.rows.is_empty() && batch.internal.is_sound(batch.len()) {
        out[count_at] += 1;
        put_named(INTERNAL, out, |out| put_internal(&batch.internal, out));
    }
    if !batch.cut_spans.is_empty() && CutSpan::are_sound(&batch.cut_spans, batch.len()) {
        out[count_at] += 1;
        put_named(CUT_SPANS, out, |out| put_cut_spans(&batch.cut_spans, out));
    }
}

fn put_named(name: &str, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    put_name(out, name);
    let bytes_at = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out);
    let bytes = (out.len() - bytes_at - 4) as u32;
    out[bytes_at..bytes_at + 4].copy_from_slice(&bytes.to_le_bytes());
}

fn put_internal(internal: &InternalDestinations, out: &mut Vec<u8>) {
    out.extend_from_slice(&(internal.rows.len() as u32).to_le_bytes());
    internal.rows.iter().for_each(|row| out.extend_from_slice(&row.to_le_bytes()));
    put_dict(&internal.subscriber_id, out);
    put_dict(&internal.reseller_id, out);
    put_dict(&internal.site, out);
}

fn read_internal(from: &mut Reader, rows: usize, internal: &mut InternalDestinations) -> Result<(), DecodeError> {
    let entries = from.count(4)?;
    internal.rows.clear();
    for _ in 0..entries {
        internal.rows.push(from.u32()?);
    }
    internal.subscriber_id = read_dict(from, entries)?;
    internal.reseller_id = read_dict(from, entries)?;
    internal.site = read_dict(from, entries)?;
    if internal.is_sound(rows) && from.left() == 0 { Ok(()) } else { from.fail("destinations that fit no rows") }
}

fn put_cut_spans(cut_spans: &[CutSpan], out: &mut Vec<u8>) {
    out.extend_from_slice(&(cut_spans.len() as u32).to_le_bytes());
    for cut in cut_spans {
        out.extend_from_slice(&cut.row.to_le_bytes());
        out.extend_from_slice(&cut.start_ms.to_le_bytes());
    }
}

fn read_cut_spans(from: &mut Reader, rows: usize, cut_spans: &mut Vec<CutSpan>) -> Result<(), DecodeError> {
    cut_spans.clear();
    for _ in 0..from.count(12)? {
        cut_spans.push(CutSpan { row: from.u32()?, start_ms: from.u64()? as i64 });
    }
    if CutSpan::are_sound(cut_spans, rows) && from.left() == 0 { Ok(()) } else { from.fail("spans that fit no rows") }
}

/// Reads a batch into an empty one.
pub fn read(from: &mut Reader, batch: &mut FlowBatch) -> Result<(), DecodeError> {
    let rows = rows(from)?;
    batch.streams = streams::read(from)?;
    let columns = from.u8()?;
    let mut seen = [false; Field::ALL.len()];
    for _ in 0..columns {
        let name = from.name()?;
        let bytes = from.u32()? as usize;
        let mut body = Reader::new(from.take(bytes)?);
        if name == INTERNAL {
            read_internal(&mut body, rows, &mut batch.internal)?;
            continue;
        }
        if name == CUT_SPANS {
            read_cut_spans(&mut body, rows, &mut batch.cut_spans)?;
            continue;
        }
        let Some(index) = Field::ALL.iter().position(|f| f.name() == name) else { continue };
        if std::mem::replace(&mut seen[index], true) {
            return from.fail("a column that is there twice");
        }
        read_any(&mut body, rows, batch.column_mut(Field::ALL[index]))?;
        if body.left() > 0 {
            return from.fail("a column longer than its rows");
        }
    }
    if batch.time.len() != rows || batch.time.null_count() > 0 {
        return from.fail("a batch without times");
    }
    batch.fill_missing();
    Ok(())
}

/// The number of rows, bounded: every row beyond [`CONSTANT_ROWS_MAX`] takes at least one byte.
pub fn rows(from: &mut Reader) -> Result<usize, DecodeError> {
    let rows = from.u32()? as usize;
    if rows > ROWS_MAX {
        return from.fail("more rows than a record may have");
    }
    if rows > CONSTANT_ROWS_MAX && rows > from.left() {
        return from.fail("more rows than bytes");
    }
    Ok(rows)
}

fn put_any(column: ColumnRef, out: &mut Vec<u8>) {
    match column {
        ColumnRef::I64(c) => put_column(c, out),
        ColumnRef::U64(c) => put_column(c, out),
        ColumnRef::U32(c) => put_column(c, out),
        ColumnRef::U16(c) => put_column(c, out),
        ColumnRef::U8(c) => put_column(c, out),
        ColumnRef::Ip(c) => put_addrs(c, out),
        ColumnRef::AddrDict(c) => put_dict(c, out),
        ColumnRef::Text(c) => put_dict(c, out),
        ColumnRef::Uuid(c) => put_dict(c, out),
    }
}

fn read_any(from: &mut Reader, rows: usize, column: ColumnMut) -> Result<(), DecodeError> {
    match column {
        ColumnMut::I64(c) => read_column(from, rows, c)?,
        ColumnMut::U64(c) => read_column(from, rows, c)?,
        ColumnMut::U32(c) => read_column(from, rows, c)?,
        ColumnMut::U16(c) => read_column(from, rows, c)?,
        ColumnMut::U8(c) => read_column(from, rows, c)?,
        ColumnMut::Ip(c) => *c = read_addrs(from, rows)?,
        ColumnMut::AddrDict(c) => *c = read_dict(from, rows)?,
        ColumnMut::Text(c) => *c = read_dict(from, rows)?,
        ColumnMut::Uuid(c) => *c = read_dict(from, rows)?,
    }
    Ok(())
}
