use sink_api::batch::{ColumnRef, Field, FlowBatch};
use sink_api::column::{Column, Dict, IpColumn};
use sink_api::rollup::{KeyColumn, RollupRows};
use sink_api::{Addr, Text};
use uuid::Uuid;

/// One column of one part (a batch, or a rollup's rows), as it stands in memory.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Cells<'a> {
    I64(&'a Column<i64>),
    U64(&'a Column<u64>),
    U32(&'a Column<u32>),
    U16(&'a Column<u16>),
    U8(&'a Column<u8>),
    Ip(&'a IpColumn),
    AddrDict(&'a Dict<Addr>),
    Text(&'a Dict<Text>),
    Uuid(&'a Dict<Uuid>),
    Times(&'a [i64]),
    Counts(&'a [u64]),
}

/// A batch's column.
pub fn flow_cells(batch: &FlowBatch, field: Field) -> Cells<'_> {
    match batch.column(field) {
        ColumnRef::I64(c) => Cells::I64(c),
        ColumnRef::U64(c) => Cells::U64(c),
        ColumnRef::U32(c) => Cells::U32(c),
        ColumnRef::U16(c) => Cells::U16(c),
        ColumnRef::U8(c) => Cells::U8(c),
        ColumnRef::Ip(c) => Cells::Ip(c),
        ColumnRef::AddrDict(c) => Cells::AddrDict(c),
        ColumnRef::Text(c) => Cells::Text(c),
        ColumnRef::Uuid(c) => Cells::Uuid(c),
    }
}

/// Column `index` of [`super::Table::rollup`] for these rows, `None` past the last one.
pub fn rollup_cells(rows: &RollupRows, index: usize) -> Option<Cells<'_>> {
    if index == 0 {
        return Some(Cells::Times(&rows.bucket));
    }
    if let Some((_, key)) = rows.keys.get(index - 1) {
        return Some(match key {
            KeyColumn::U8(c) => Cells::U8(c),
            KeyColumn::U16(c) => Cells::U16(c),
            KeyColumn::U32(c) => Cells::U32(c),
            KeyColumn::U64(c) => Cells::U64(c),
            KeyColumn::Ip(c) => Cells::Ip(c),
            KeyColumn::Text(c) => Cells::Text(c),
            KeyColumn::Uuid(c) => Cells::Uuid(c),
        });
    }
    let sums: [&[u64]; 6] =
        [&rows.bytes, &rows.packets, &rows.flows, &rows.rtt_ms_sum, &rows.rtt_count, &rows.cut_bytes];
    sums.get(index - 1 - rows.keys.len()).map(|sums| Cells::Counts(sums))
}
