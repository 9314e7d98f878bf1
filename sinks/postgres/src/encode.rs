//! Rows in the binary form of COPY, made by hand.
//!
//! A row is the number of its columns (16 bits) and for each column its length (32 bits, -1 for null) and its bytes, all
//! big-endian. What is the same in every row of a batch (columns that are all null) is copied as one piece; dictionary
//! values are encoded once a batch.

use sink_api::batch::ColumnRef;
use sink_api::column::{Column, Dict, DictValue, IpColumn};
use sink_api::rollup::{KeyColumn, Role, RollupRows};
use sink_api::value::Value;
use sink_api::{Addr, Direction, Field, FlowBatch, Key, country};

use crate::columns::{self, FAMILY_V4, FAMILY_V6, Sql};

/// What stands before the first row: signature, flags, length of the extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What stands after the last row.
pub const TRAILER: &[u8] = &[0xff, 0xff];

const NULL: [u8; 4] = [0xff; 4];

/// Writes rows of one batch.
#[derive(Debug)]
pub struct Rows<'a> {
    parts: Vec<Part<'a>>,
}

/// What a row is made of, in order.
#[derive(Debug)]
enum Part<'a> {
    /// The same in every row.
    Same(Vec<u8>),
    Time(&'a Column<i64>),
    Bucket(&'a [i64]),
    Sum(&'a [u64]),
    U8(&'a Column<u8>, Sql),
    U16(&'a Column<u16>),
    U32(&'a Column<u32>),
    U64(&'a Column<u64>),
    Mac(&'a Column<u64>),
    Ip(&'a IpColumn),
    Codes(&'a [u32], Pieces),
    /// Small numbers that stand for texts.
    Named(&'a Column<u8>, Pieces),
    Country(&'a Column<u16>),
}

/// Encoded values by code; code 0 is null.
#[derive(Debug)]
struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Pieces {
    fn new() -> Self {
        Self { bytes: NULL.to_vec(), ends: vec![0, NULL.len() as u32] }
    }

    fn push(&mut self, value: &[u8]) {
        put(&mut self.bytes, value);
        self.ends.push(self.bytes.len() as u32);
    }

    #[inline]
    fn get(&self, code: usize) -> &[u8] {
        match (self.ends.get(code), self.ends.get(code + 1)) {
            (Some(start), Some(end)) => &self.bytes[*start as usize..*end as usize],
            _ => &NULL,
        }
    }
}

impl<'a> Rows<'a> {
    /// Rows of `flows`, of these fields.
    pub fn of_flows(batch: &'a FlowBatch, fields: &[Field]) -> Self {
        let mut rows = Self::start(fields.len());
        for field in fields {
            rows.push(of_column(batch.column(*field), columns::field_sql(*field)));
        }
        rows
    }

    /// Rows of a rollup's table.
    pub fn of_rollup(rollup: &'a RollupRows, has_cut_bytes: bool) -> Self {
        let mut rows = Self::start(1 + rollup.keys.len() + columns::SUMS.len() + usize::from(has_cut_bytes));
        rows.push(Part::Bucket(&rollup.bucket));
        for (key, column) in &rollup.keys {
            rows.push(of_key(*key, column));
        }
        let sums = [&rollup.bytes, &rollup.packets, &rollup.flows, &rollup.rtt_ms_sum, &rollup.rtt_count];
        sums.into_iter().for_each(|sums| rows.push(Part::Sum(sums)));
        if has_cut_bytes {
            rows.push(Part::Sum(&rollup.cut_bytes));
        }
        rows
    }

    fn start(columns: usize) -> Self {
        Self { parts: vec![Part::Same((columns as u16).to_be_bytes().to_vec())] }
    }

    /// Adds a part; neighbours that are the same in every row become one.
    fn push(&mut self, part: Part<'a>) {
        match (self.parts.last_mut(), part) {
            (Some(Part::Same(bytes)), Part::Same(more)) => bytes.extend_from_slice(&more),
            (_, part) => self.parts.push(part),
        }
    }

    /// Appends one row.
    #[inline]
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        for part in &self.parts {
            part.write(row, out);
        }
    }
}

fn of_column(column: ColumnRef<'_>, sql: Sql) -> Part<'_> {
    let all_null = match column {
        ColumnRef::I64(c) => c.all_null(),
        ColumnRef::U64(c) => c.all_null(),
        ColumnRef::U32(c) => c.all_null(),
        ColumnRef::U16(c) => c.all_null(),
        ColumnRef::U8(c) => c.all_null(),
        ColumnRef::Ip(c) => c.all_null(),
        ColumnRef::AddrDict(c) => c.all_null(),
        ColumnRef::Text(c) => c.all_null(),
        ColumnRef::Uuid(c) => c.all_null(),
    };
    if all_null {
        return Part::Same(NULL.to_vec());
    }
    match column {
        ColumnRef::I64(c) => Part::Time(c),
        ColumnRef::U64(c) if sql == Sql::Macaddr => Part::Mac(c),
        ColumnRef::U64(c) => Part::U64(c),
        ColumnRef::U32(c) => Part::U32(c),
        ColumnRef::U16(c) if sql == Sql::Country => Part::Country(c),
        ColumnRef::U16(c) => Part::U16(c),
        ColumnRef::U8(c) if sql == Sql::Direction => Part::Named(c, directions()),
        ColumnRef::U8(c) if sql == Sql::Role => Part::Named(c, roles()),
        ColumnRef::U8(c) => Part::U8(c, sql),
        ColumnRef::Ip(c) => Part::Ip(c),
        ColumnRef::AddrDict(c) => dictionary(c, |addr, out| {
            let mut piece = Vec::new();
            put_addr(&mut piece, *addr);
            out.extend_from_slice(&piece[4..]);
        }),
        ColumnRef::Text(c) => dictionary(c, |text, out| out.extend(text.bytes().filter(|b| *b != 0))),
        ColumnRef::Uuid(c) => dictionary(c, |uuid, out| out.extend_from_slice(uuid.as_bytes())),
    }
}

fn of_key(key: Key, column: &KeyColumn) -> Part<'_> {
    of_column(column.as_column(), columns::key_sql(key))
}

fn dictionary<T: DictValue>(column: &Dict<T>, encode: impl Fn(&T, &mut Vec<u8>)) -> Part<'_> {
    let mut pieces = Pieces::new();
    let mut value = Vec::new();
    for entry in column.values() {
        value.clear();
        encode(entry, &mut value);
        pieces.push(&value);
    }
    Part::Codes(column.codes(), pieces)
}

fn directions() -> Pieces {
    let mut pieces = Pieces::new();
    Direction::ALL.iter().for_each(|direction| pieces.push(direction.name().as_bytes()));
    pieces
}

fn roles() -> Pieces {
    let mut pieces = Pieces::new();
    [Role::Src, Role::Dst].iter().for_each(|role| pieces.push(columns::role_name(*role).as_bytes()));
    pieces
}

impl Part<'_> {
    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Part::Same(bytes) => out.extend_from_slice(bytes),
            Part::Time(c) => optional(out, c.get(row), |out, ms| put8(out, columns::to_pg_micros(ms))),
            Part::Bucket(starts) => put8(out, columns::to_pg_micros(starts[row])),
            Part::Sum(sums) => put8(out, bounded(sums.get(row).copied().unwrap_or_default())),
            Part::U8(c, sql) => optional(out, c.get(row), |out, n| match sql {
                Sql::Bool => out.extend_from_slice(&[0, 0, 0, 1, u8::from(n != 0)]),
                Sql::SmallInt => out.extend_from_slice(&[0, 0, 0, 2, 0, n]),
                _ => out.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, n]),
            }),
            Part::U16(c) => optional(out, c.get(row), |out, n| {
                let [high, low] = n.to_be_bytes();
                out.extend_from_slice(&[0, 0, 0, 4, 0, 0, high, low]);
            }),
            Part::U32(c) => optional(out, c.get(row), |out, n| put8(out, n.into())),
            Part::U64(c) => optional(out, c.get(row), |out, n| put8(out, bounded(n))),
            Part::Mac(c) => optional(out, c.get(row), |out, bits| put(out, &bits.to_be_bytes()[2..])),
            Part::Ip(c) => optional(out, c.get(row), put_addr),
            Part::Codes(codes, pieces) => out.extend_from_slice(pieces.get(codes[row] as usize)),
            Part::Named(c, pieces) => out.extend_from_slice(pieces.get(c.value_or_default(row) as usize)),
            Part::Country(c) => {
                optional(out, c.get(row), |out, code| put(out, country::text(code).as_str().as_bytes()));
            }
        }
    }
}

#[inline]
fn optional<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => write(out, value),
        None => out.extend_from_slice(&NULL),
    }
}

/// One value with its length. NUL characters, which TEXT cannot hold, are left out.
pub fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::TimeMs(ms) => put8(out, columns::to_pg_micros(*ms)),
        Value::Number(n) => put8(out, bounded(*n)),
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

#[inline]
fn put8(out: &mut Vec<u8>, value: i64) {
    let mut bytes = [0; 12];
    bytes[3] = 8;
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// BIGINT's largest value for anything above it.
fn bounded(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[inline]
fn put_addr(out: &mut Vec<u8>, addr: Addr) {
    match addr.as_v4() {
        Some(bits) => {
            let [a, b, c, d] = bits.to_be_bytes();
            out.extend_from_slice(&[0, 0, 0, 8, FAMILY_V4, 32, 0, 4, a, b, c, d]);
        }
        None => {
            out.extend_from_slice(&[0, 0, 0, 20, FAMILY_V6, 128, 0, 16]);
            out.extend_from_slice(&addr.0.to_be_bytes());
        }
    }
}

/// Why a row can never be stored, if so: numbers beyond BIGINT. (NUL characters, which TEXT cannot hold, are left out of
/// texts.)
pub fn unstorable(batch: &FlowBatch, row: usize) -> Option<&'static str> {
    let above = |column: &Column<u64>| column.value_or_default(row) > i64::MAX as u64;
    (above(&batch.bytes) || above(&batch.packets)).then_some("bytes or packets above 9223372036854775807")
}
