//! Rows in the binary form of COPY, made by hand.
//!
//! A row is the number of its columns (16 bits) and for each column its length (32 bits, -1 for null) and its bytes, all
//! big-endian. Rows of many batches are written in any order, [`ROWS`] at a time and column by column: each column's loop knows
//! its type. What is the same in every row (columns that are all null) is copied as one piece; dictionary values are encoded
//! once.

mod cells;
mod slots;

use sink_api::batch::ColumnRef;
use sink_api::column::{Column, Dict, DictValue};
use sink_api::rollup::{Role, RollupRows};
use sink_api::value::Value;
use sink_api::{Addr, Direction, Field, FlowBatch};

use self::cells::{Cells, IpCells, Part};
use self::slots::{Pieces, Slots};
use crate::columns::{self, FAMILY_V4, FAMILY_V6, Sql};

pub use slots::ROWS;

/// What stands before the first row: signature, flags, length of the extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What stands after the last row.
pub const TRAILER: &[u8] = &[0xff, 0xff];

/// A row to be written: number of its batch, row in the batch.
pub type RowOf = (u32, u32);

const NULL: [u8; 4] = [0xff; 4];

/// Writes rows of some batches.
#[derive(Debug)]
pub struct Rows<'a> {
    parts: Vec<Part<'a>>,
    slots: Slots,
}

impl<'a> Rows<'a> {
    /// Rows of `flows`, of these fields.
    pub fn of_flows(batches: &[&'a FlowBatch], fields: &[Field]) -> Self {
        let columns = fields.iter().map(|field| {
            let of_batches: Vec<_> = batches.iter().map(|batch| Some(batch.column(*field))).collect();
            of_columns(&of_batches, columns::field_sql(*field))
        });
        Self::new(columns.collect())
    }

    /// Rows of a rollup's table.
    pub fn of_rollup(sums: &[&'a RollupRows], has_cut_bytes: bool) -> Self {
        let sum = |of: fn(&RollupRows) -> &[u64]| Part::Sum(sums.iter().map(|sums| of(sums)).collect());
        let mut columns = vec![Part::Bucket(sums.iter().map(|sums| &*sums.bucket).collect())];
        for (key, _) in sums.first().map_or(&[][..], |sums| &sums.keys) {
            let of_key =
                |sums: &&'a RollupRows| sums.keys.iter().find(|(name, _)| name == key).map(|(_, c)| c.as_column());
            let of_batches: Vec<_> = sums.iter().map(of_key).collect();
            columns.push(of_columns(&of_batches, columns::key_sql(*key)));
        }
        columns.extend([sum(|s| &s.bytes), sum(|s| &s.packets), sum(|s| &s.flows)]);
        columns.extend([sum(|s| &s.rtt_ms_sum), sum(|s| &s.rtt_count)]);
        columns.extend(has_cut_bytes.then(|| sum(|s| &s.cut_bytes)));
        Self::new(columns)
    }

    fn new(columns: Vec<Part<'a>>) -> Self {
        let count = (columns.len() as u16).to_be_bytes();
        let mut parts: Vec<Part<'a>> = Vec::new();
        // Neighbours that are the same in every row become one.
        let mut same = count.to_vec();
        for part in columns {
            if let Part::Null = part {
                same.extend_from_slice(&NULL);
                continue;
            }
            if !same.is_empty() {
                parts.push(Part::same(&std::mem::take(&mut same)));
            }
            parts.push(part);
        }
        if !same.is_empty() {
            parts.push(Part::same(&same));
        }
        let row_bytes = parts.iter().map(Part::bytes_max).sum();
        Self { parts, slots: Slots::new(row_bytes) }
    }

    /// Appends rows, at most [`ROWS`], and where each ends.
    pub fn write(&mut self, rows: &[RowOf], out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        self.slots.clear();
        for part in &self.parts {
            part.write(rows, &mut self.slots);
        }
        self.slots.append_to(out, ends, rows.len());
    }
}

/// The column of each batch, which are all of one kind; none where a batch lacks it.
macro_rules! of_kind {
    ($columns:expr, $kind:ident) => {
        $columns.iter().map(|column| if let Some(ColumnRef::$kind(c)) = column { Some(*c) } else { None })
    };
}

/// What writes a column, given as it stands in each batch.
fn of_columns<'a>(columns: &[Option<ColumnRef<'a>>], sql: Sql) -> Part<'a> {
    let Some(first) = columns.iter().flatten().find(|column| !column.all_null()) else { return Part::Null };
    match first {
        ColumnRef::I64(_) => Part::Time(of_kind!(columns, I64).map(Cells::of).collect()),
        ColumnRef::U64(_) if sql == Sql::Macaddr => Part::Mac(of_kind!(columns, U64).map(Cells::of).collect()),
        ColumnRef::U64(_) => Part::U64(of_kind!(columns, U64).map(Cells::of).collect()),
        ColumnRef::U32(_) => Part::U32(of_kind!(columns, U32).map(Cells::of).collect()),
        ColumnRef::U16(_) if sql == Sql::Country => Part::Country(of_kind!(columns, U16).map(Cells::of).collect()),
        ColumnRef::U16(_) => Part::U16(of_kind!(columns, U16).map(Cells::of).collect()),
        ColumnRef::U8(_) => {
            let cells = of_kind!(columns, U8).map(Cells::of).collect();
            match sql {
                Sql::Direction => Part::Named(cells, names(Direction::ALL.iter().map(|direction| direction.name()))),
                Sql::Role => Part::Named(cells, names([Role::Src, Role::Dst].into_iter().map(columns::role_name))),
                Sql::Bool => Part::Bool(cells),
                Sql::SmallInt => Part::Small(cells),
                _ => Part::U8(cells),
            }
        }
        ColumnRef::Ip(_) => Part::Ip(of_kind!(columns, Ip).map(IpCells::of).collect()),
        ColumnRef::AddrDict(_) => dictionary(of_kind!(columns, AddrDict), |addr, out| put_addr(out, *addr)),
        ColumnRef::Text(_) => dictionary(of_kind!(columns, Text), |text, out| {
            // TEXT cannot hold NUL characters.
            put(out, text.replace('\0', "").as_bytes());
        }),
        ColumnRef::Uuid(_) => dictionary(of_kind!(columns, Uuid), |uuid, out| put(out, uuid.as_bytes())),
    }
}

/// Codes into the values of all dictionaries, one after the other behind null.
fn dictionary<'a, T: DictValue + 'a>(
    columns: impl Iterator<Item = Option<&'a Dict<T>>>,
    encode: impl Fn(&T, &mut Vec<u8>),
) -> Part<'a> {
    let mut pieces = Pieces::new();
    pieces.push(|out| out.extend_from_slice(&NULL));
    let codes = columns.map(|column| {
        let first = pieces.len();
        column.map_or(&[][..], |column| column.values()).iter().for_each(|value| {
            pieces.push(|out| encode(value, out));
        });
        // Code 1 is the first value.
        (column.map_or(&[][..], |column| column.codes()), first - 1)
    });
    Part::Codes(codes.collect(), pieces)
}

/// Texts by number from 1 on; 0 is null.
fn names<'n>(names: impl Iterator<Item = &'n str>) -> Pieces {
    let mut pieces = Pieces::new();
    pieces.push(|out| out.extend_from_slice(&NULL));
    names.for_each(|name| {
        pieces.push(|out| put(out, name.as_bytes()));
    });
    pieces
}

/// One value with its length. NUL characters, which TEXT cannot hold, are left out.
pub fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::TimeMs(ms) => out.extend_from_slice(&eight(columns::to_pg_micros(*ms))),
        Value::Number(n) => out.extend_from_slice(&eight(bounded(*n))),
        Value::Ip(addr) => put_addr(out, *addr),
        Value::Uuid(id) => put(out, id.as_bytes()),
        Value::Null => out.extend_from_slice(&NULL),
        other => put(out, other.to_string().replace('\0', "").as_bytes()),
    }
}

fn put(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// A BIGINT or a time, with its length.
#[inline]
fn eight(value: i64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[3] = 8;
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// BIGINT's largest value for anything above it.
fn bounded(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// An INET of an IPv4 address, with its length.
#[inline]
fn inet4(bits: u32) -> [u8; 12] {
    let [a, b, c, d] = bits.to_be_bytes();
    [0, 0, 0, 8, FAMILY_V4, 32, 0, 4, a, b, c, d]
}

/// The same of an IPv6 address.
#[inline]
fn inet6(bits: u128) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&[0, 0, 0, 20, FAMILY_V6, 128, 0, 16]);
    bytes[8..].copy_from_slice(&bits.to_be_bytes());
    bytes
}

fn put_addr(out: &mut Vec<u8>, addr: Addr) {
    match addr.as_v4() {
        Some(bits) => out.extend_from_slice(&inet4(bits)),
        None => out.extend_from_slice(&inet6(addr.0)),
    }
}

/// Why a row can never be stored, if so: numbers beyond BIGINT. (NUL characters, which TEXT cannot hold, are left out of
/// texts.)
pub fn unstorable(batch: &FlowBatch, row: usize) -> Option<&'static str> {
    let above = |column: &Column<u64>| column.value_or_default(row) > i64::MAX as u64;
    (above(&batch.bytes) || above(&batch.packets)).then_some("bytes or packets above 9223372036854775807")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sink_api::conformance::{DataSet, Options};
    use sink_api::rollup::Record;
    use sink_api::{RollupDef, country};

    use super::*;
    use crate::columns::{field_sql, flow_fields, key_sql, to_pg_micros};

    /// One cell by the definition.
    fn cell(value: &Value, sql: Sql) -> Vec<u8> {
        let bytes = match (value, sql) {
            (Value::Null, _) => return NULL.to_vec(),
            (Value::TimeMs(ms), _) => to_pg_micros(*ms).to_be_bytes().to_vec(),
            (Value::Number(n), Sql::SmallInt) => (*n as i16).to_be_bytes().to_vec(),
            (Value::Number(n), Sql::Int) => (*n as i32).to_be_bytes().to_vec(),
            (Value::Number(n), Sql::Role) => vec!["src", "dst"][*n as usize - 1].as_bytes().to_vec(),
            (Value::Number(n), _) => bounded(*n).to_be_bytes().to_vec(),
            (Value::Bool(b), _) => vec![u8::from(*b)],
            (Value::Mac(bits), _) => bits.to_be_bytes()[2..].to_vec(),
            (Value::Uuid(id), _) => id.as_bytes().to_vec(),
            (Value::Country(code), _) => country::text(*code).as_str().as_bytes().to_vec(),
            (Value::Direction(direction), _) => direction.name().as_bytes().to_vec(),
            (Value::Text(text), _) => text.replace('\0', "").into_bytes(),
            (Value::Ip(addr), _) => match addr.as_v4() {
                Some(bits) => [&[FAMILY_V4, 32, 0, 4][..], &bits.to_be_bytes()].concat(),
                None => [&[FAMILY_V6, 128, 0, 16][..], &addr.0.to_be_bytes()].concat(),
            },
        };
        [&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat()
    }

    fn row(cells: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
        let cells: Vec<_> = cells.collect();
        [&(cells.len() as u16).to_be_bytes()[..], &cells.concat()].concat()
    }

    fn written(mut rows: Rows<'_>, order: &[RowOf]) -> Vec<u8> {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        order.chunks(ROWS).for_each(|some| rows.write(some, &mut out, &mut ends));
        assert_eq!((ends.len(), ends.last()), (order.len(), Some(&out.len())));
        out
    }

    /// Every third row, the last batch first, so that batches alternate.
    fn mixed(lengths: &[usize]) -> Vec<RowOf> {
        let most = lengths.iter().copied().max().unwrap_or(0);
        let of_row =
            |row: usize| (0..lengths.len()).rev().filter(move |batch| row < lengths[*batch]).map(move |b| (b, row));
        (0..most).step_by(3).flat_map(of_row).map(|(batch, row)| (batch as u32, row as u32)).collect()
    }

    fn records() -> Vec<Record> {
        let mut defs = RollupDef::defaults();
        defs.push(RollupDef::usage_ports());
        let set = DataSet::new(&Options { flows: 3500, days: 5, detail: true }, &defs);
        set.entries.into_iter().map(|entry| entry.record).collect()
    }

    #[test]
    fn flows_of_many_batches_are_written_as_defined_whatever_is_null() {
        let records = records();
        let flows = records.iter().filter_map(|r| if let Record::Flows(batch) = r { Some(&**batch) } else { None });
        let mut batches: Vec<&FlowBatch> = flows.collect();
        // One that has nearly nothing, and one with a text longer than any step of copying.
        let mut bare = FlowBatch::default();
        (0..70).for_each(|ms| bare.time.push(Some(ms)));
        bare.fill_missing();
        let mut long = bare.clone();
        long.site.clear();
        (0..70).for_each(|n| long.site.push((n % 2 == 0).then(|| Arc::from("x\0y".repeat(40 + n))).as_ref()));
        batches.extend([&bare, &long]);
        let fields = flow_fields();
        let order = mixed(&batches.iter().map(|batch| batch.len()).collect::<Vec<_>>());
        let got = written(Rows::of_flows(&batches, &fields), &order);
        let want = order.iter().map(|(batch, at)| {
            let batch = batches[*batch as usize];
            row(fields.iter().map(|field| cell(&batch.value(*field, *at as usize), field_sql(*field))))
        });
        assert!(got == want.collect::<Vec<_>>().concat());
    }

    #[test]
    fn sums_of_every_rollup_are_written_as_defined() {
        let records = records();
        let sums: Vec<_> =
            records.iter().filter_map(|r| if let Record::Sums(sums) = r { Some(sums) } else { None }).collect();
        for name in ["traffic", "talkers", "usage_ports", "geo"] {
            let parts: Vec<&RollupRows> =
                sums.iter().flat_map(|sums| &sums.rows).filter(|rows| *rows.rollup == *name).collect();
            let has_cut = name == "talkers";
            let order = mixed(&parts.iter().map(|part| part.len()).collect::<Vec<_>>());
            let got = written(Rows::of_rollup(&parts, has_cut), &order);
            let want = order.iter().map(|(part, at)| {
                let (rows, at) = (parts[*part as usize], *at as usize);
                let keys = rows.keys.iter().map(|(key, column)| cell(&column.value(key.kind(), at), key_sql(*key)));
                let sums =
                    [&rows.bytes, &rows.packets, &rows.flows, &rows.rtt_ms_sum, &rows.rtt_count, &rows.cut_bytes];
                let sums = sums
                    .into_iter()
                    .take(5 + usize::from(has_cut))
                    .map(|sum| cell(&Value::Number(sum.get(at).copied().unwrap_or_default()), Sql::BigInt));
                let bucket = cell(&Value::TimeMs(rows.bucket[at]), Sql::Timestamp);
                row([bucket].into_iter().chain(keys).chain(sums))
            });
            assert!(!order.is_empty() && got == want.collect::<Vec<_>>().concat(), "{name}");
        }
    }
}
