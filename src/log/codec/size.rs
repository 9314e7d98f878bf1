//! How much memory a record takes, for the bounds of the memory ring.

use crate::flow::batch::ColumnRef;
use crate::flow::column::{Column, Dict, IpColumn};
use crate::flow::rollup::KeyColumn;
use crate::flow::{Field, Record};

/// Fixed cost of a record: the struct itself and allocation overhead.
const RECORD_BYTES: usize = 4096;
/// Assumed size of an alert with its texts.
const ALERT_BYTES: usize = 1024;
/// Assumed average length of a dictionary's text with its header.
const TEXT_BYTES: usize = 40;

/// Bytes of memory of a record's rows, estimated from row counts.
pub fn memory_bytes(record: &Record) -> usize {
    RECORD_BYTES
        + match record {
            Record::Flows(batch) => Field::ALL.iter().map(|f| of_column(batch.column(*f))).sum::<usize>(),
            Record::Sums(sums) => sums
                .rows
                .iter()
                .map(|rows| 7 * 8 * rows.len() + rows.keys.iter().map(|(_, c)| of_key(c)).sum::<usize>())
                .sum(),
            Record::Alerts(rows) => rows.len() * ALERT_BYTES,
        }
}

fn of_column(column: ColumnRef) -> usize {
    match column {
        ColumnRef::I64(c) => plain(c),
        ColumnRef::U64(c) => plain(c),
        ColumnRef::U32(c) => plain(c),
        ColumnRef::U16(c) => plain(c),
        ColumnRef::U8(c) => plain(c),
        ColumnRef::Ip(c) => addrs(c),
        ColumnRef::AddrDict(c) => dict(c, 0),
        ColumnRef::Text(c) => dict(c, TEXT_BYTES),
        ColumnRef::Uuid(c) => dict(c, 0),
    }
}

fn of_key(column: &KeyColumn) -> usize {
    match column {
        KeyColumn::U8(c) => plain(c),
        KeyColumn::U16(c) => plain(c),
        KeyColumn::U32(c) => plain(c),
        KeyColumn::U64(c) => plain(c),
        KeyColumn::Ip(c) => addrs(c),
        KeyColumn::Text(c) => dict(c, TEXT_BYTES),
        KeyColumn::Uuid(c) => dict(c, 0),
    }
}

fn plain<T: Copy + Default>(column: &Column<T>) -> usize {
    size_of_val(column.values()) + column.validity().map_or(0, <[u8]>::len)
}

fn addrs(column: &IpColumn) -> usize {
    column.as_v4().map_or(0, plain) + column.as_wide().map_or(0, plain)
}

fn dict<T: crate::flow::column::DictValue>(column: &Dict<T>, heap_bytes: usize) -> usize {
    size_of_val(column.codes()) + column.values().len() * (size_of::<T>() + heap_bytes)
}
