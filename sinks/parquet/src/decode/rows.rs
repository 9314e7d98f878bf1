//! Columns of batches and rollup rows out of leaves.

use parquet::errors::Result;
use sink_api::batch::{ColumnMut, Field, FlowBatch};
use sink_api::column::{Column, Dict, DictValue, IpColumn, Uuid};
use sink_api::rollup::{KeyColumn, RollupDef, RollupRows};
use sink_api::{Addr, Key};

use super::{DataReader, Wanted};
use crate::encode::LeafData;
use crate::table::ip_leaves;

/// Reads some fields of a row group's rows; `time` must be among them, for it tells the number of rows. Other columns
/// are null in every row. `same` is a column that is known to have one value in all these rows.
///
/// # Errors
/// Of the file system, or when pages are malformed.
pub fn read_flows(
    reader: &DataReader,
    row_group: usize,
    fields: &[Field],
    wanted: Wanted<'_>,
    same: Option<(Field, Uuid)>,
) -> Result<FlowBatch> {
    let mut batch = FlowBatch::default();
    let rows = wanted_rows(reader, row_group, wanted);
    for field in fields {
        let name = field.name();
        match batch.column_mut(*field) {
            ColumnMut::I64(c) => *c = numbers(reader.read(row_group, name, wanted)?, rows, i64::from, |v| v as i64),
            ColumnMut::U64(c) => *c = numbers(reader.read(row_group, name, wanted)?, rows, u64::from, |v| v),
            ColumnMut::U32(c) => *c = numbers(reader.read(row_group, name, wanted)?, rows, |v| v, |v| v as u32),
            ColumnMut::U16(c) => *c = numbers(reader.read(row_group, name, wanted)?, rows, |v| v as u16, |v| v as u16),
            ColumnMut::U8(c) => *c = numbers(reader.read(row_group, name, wanted)?, rows, |v| v as u8, |v| v as u8),
            ColumnMut::Ip(c) => *c = read_ip(reader, row_group, name, wanted, rows)?,
            ColumnMut::AddrDict(c) => {
                let plain = read_ip(reader, row_group, name, wanted, rows)?;
                (0..rows).for_each(|row| c.push(plain.get(row).as_ref()));
            }
            ColumnMut::Text(c) => match reader.read(row_group, name, wanted)? {
                LeafData::Text(values, codes) => *c = dictionary(values, codes),
                _ => c.push_nulls(rows),
            },
            ColumnMut::Uuid(c) => match same.filter(|(known, _)| known == field) {
                Some((_, value)) => {
                    let code = c.add_value(value);
                    c.push_code_repeated(code, rows);
                }
                None => match reader.read(row_group, name, wanted)? {
                    LeafData::Uuid(values, codes) => *c = dictionary(values, codes),
                    _ => c.push_nulls(rows),
                },
            },
        }
    }
    batch.fill_missing();
    Ok(batch)
}

/// Reads a row group of a rollup: all its keys and sums. `None` when a key of the definition cannot be a key.
///
/// # Errors
/// Of the file system, or when pages are malformed.
pub fn read_rollup(
    reader: &DataReader,
    row_group: usize,
    def: &RollupDef,
    wanted: Wanted<'_>,
) -> Result<Option<RollupRows>> {
    let Some(mut out) = RollupRows::new(def) else {
        return Ok(None);
    };
    let rows = wanted_rows(reader, row_group, wanted);
    let counts = |name: &str| -> Result<Vec<u64>> {
        Ok(match reader.read(row_group, name, wanted)? {
            LeafData::Wide(values, _) => values,
            _ => vec![0; rows],
        })
    };
    out.bucket = counts("bucket")?.into_iter().map(|v| v as i64).collect();
    for (key, column) in &mut out.keys {
        read_key(reader, row_group, *key, column, wanted, rows)?;
    }
    out.bytes = counts("bytes")?;
    out.packets = counts("packets")?;
    out.flows = counts("flows")?;
    out.rtt_ms_sum = counts("rtt_ms_sum")?;
    out.rtt_count = counts("rtt_count")?;
    if def.has_cut_bytes() {
        out.cut_bytes = counts("cut_bytes")?;
    }
    Ok(Some(out))
}

fn read_key(
    reader: &DataReader,
    row_group: usize,
    key: Key,
    column: &mut KeyColumn,
    wanted: Wanted<'_>,
    rows: usize,
) -> Result<()> {
    let name = key.name();
    match column {
        KeyColumn::U8(c) => *c = numbers(reader.read(row_group, name, wanted)?, rows, |v| v as u8, |v| v as u8),
        KeyColumn::U16(c) => *c = numbers(reader.read(row_group, name, wanted)?, rows, |v| v as u16, |v| v as u16),
        KeyColumn::U32(c) => *c = numbers(reader.read(row_group, name, wanted)?, rows, |v| v, |v| v as u32),
        KeyColumn::U64(c) => *c = numbers(reader.read(row_group, name, wanted)?, rows, u64::from, |v| v),
        KeyColumn::Ip(c) => *c = read_ip(reader, row_group, name, wanted, rows)?,
        KeyColumn::Text(c) => match reader.read(row_group, name, wanted)? {
            LeafData::Text(values, codes) => *c = dictionary(values, codes),
            _ => c.push_nulls(rows),
        },
        KeyColumn::Uuid(c) => match reader.read(row_group, name, wanted)? {
            LeafData::Uuid(values, codes) => *c = dictionary(values, codes),
            _ => c.push_nulls(rows),
        },
    }
    Ok(())
}

fn wanted_rows(reader: &DataReader, row_group: usize, wanted: Wanted<'_>) -> usize {
    let all = reader.rows(row_group);
    wanted.map_or(all, |ranges| ranges.iter().map(|r| r.end.min(all).saturating_sub(r.start)).sum())
}

/// A column of numbers; data of another type are null in every row.
fn numbers<T: Copy + Default>(
    data: LeafData,
    rows: usize,
    narrow: impl Fn(u32) -> T,
    wide: impl Fn(u64) -> T,
) -> Column<T> {
    match data {
        LeafData::Narrow(values, present) => Column::from_parts(values.into_iter().map(narrow).collect(), present),
        LeafData::Wide(values, present) => Column::from_parts(values.into_iter().map(wide).collect(), present),
        _ => {
            let mut column = Column::default();
            column.push_nulls(rows);
            column
        }
    }
}

fn read_ip(reader: &DataReader, row_group: usize, name: &str, wanted: Wanted<'_>, rows: usize) -> Result<IpColumn> {
    let [v4, v6] = ip_leaves(name);
    let (v4, v6) = (reader.read(row_group, &v4, wanted)?, reader.read(row_group, &v6, wanted)?);
    let narrow: Column<u32> = numbers(v4, rows, |v| v, |v| v as u32);
    let LeafData::Fixed16(wide, present) = v6 else {
        return Ok(IpColumn::from_v4(narrow));
    };
    let mut column = IpColumn::default();
    for (row, bits) in wide.into_iter().enumerate() {
        let is_v6 = present.as_ref().is_none_or(|p| p[row] != 0);
        column.push(if is_v6 { Some(Addr(bits)) } else { narrow.get(row).map(Addr::v4) });
    }
    Ok(column)
}

/// Codes were checked against the dictionary when they were read.
fn dictionary<T: DictValue>(values: Vec<T>, codes: Vec<u32>) -> Dict<T> {
    let rows = codes.len();
    Dict::from_parts(values, codes).unwrap_or_else(|_| {
        let mut column = Dict::default();
        column.push_nulls(rows);
        column
    })
}
