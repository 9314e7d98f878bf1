//! What lines are made of: a piece for each tag and field, made once a batch where its values are few.

use sink_api::batch::ColumnRef;
use sink_api::column::{Column, Dict, DictValue, IpColumn};
use sink_api::{Kind, country};

use super::text::{address, escaped, quoted, signed, whole};
use crate::schema;

/// What a line is made of, in order.
#[derive(Debug)]
pub enum Part<'a> {
    /// The same in every line.
    Same(Vec<u8>),
    /// A piece by code; code 0 is null.
    Codes(&'a [u32], Pieces),
    /// A piece by number.
    Small(&'a Column<u8>, Pieces),
    /// A whole number with its name before it, such as `,src_port=`.
    I64(&'a Column<i64>, Vec<u8>),
    U64(&'a Column<u64>, Vec<u8>),
    U32(&'a Column<u32>, Vec<u8>),
    U16(&'a Column<u16>, Vec<u8>),
    U8(&'a Column<u8>, Vec<u8>),
    Ip(&'a IpColumn, Vec<u8>),
    Mac(&'a Column<u64>, Vec<u8>),
    Country(&'a Column<u16>, Vec<u8>),
    /// A sum; left out when it is 0, unless it is the first field.
    Sum(&'a [u64], Vec<u8>, bool),
}

/// Bytes by code.
#[derive(Debug)]
pub struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Pieces {
    /// Code 0: nothing.
    pub fn new() -> Self {
        Self { bytes: Vec::new(), ends: vec![0, 0] }
    }

    /// Adds the next code's bytes.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    #[inline]
    fn get(&self, code: usize) -> &[u8] {
        match (self.ends.get(code), self.ends.get(code + 1)) {
            (Some(start), Some(end)) => &self.bytes[*start as usize..*end as usize],
            _ => &[],
        }
    }
}

/// A tag; none when no row has it.
pub fn tag<'a>(name: &str, kind: Kind, column: ColumnRef<'a>) -> Option<Part<'a>> {
    let start = format!(",{name}=");
    Some(match column {
        ColumnRef::U8(c) if !c.all_null() => {
            let mut pieces = Pieces::new();
            for value in 0..=u8::MAX {
                let text = if kind == Kind::Direction {
                    schema::direction_name(value).map(str::to_owned)
                } else {
                    Some(value.to_string())
                };
                let piece = text.map_or_else(String::new, |text| format!("{start}{text}"));
                pieces.push(|out| out.extend_from_slice(piece.as_bytes()));
            }
            Part::Small(c, pieces)
        }
        ColumnRef::Text(c) => dictionary(c, |text, out| {
            out.extend_from_slice(start.as_bytes());
            escaped(out, &schema::tag_text(text));
        }),
        ColumnRef::Uuid(c) => dictionary(c, |id, out| out.extend_from_slice(format!("{start}{id}").as_bytes())),
        _ => return None,
    })
}

/// A field; none when no row has it.
pub fn field<'a>(name: &str, kind: Kind, column: ColumnRef<'a>) -> Option<Part<'a>> {
    let start = format!(",{name}=").into_bytes();
    let text = |out: &mut Vec<u8>, value: &str| {
        out.extend_from_slice(&start);
        quoted(out, value);
    };
    let part = match column {
        ColumnRef::I64(c) if !c.all_null() => Part::I64(c, start),
        ColumnRef::U64(c) if c.all_null() => return None,
        ColumnRef::U64(c) if kind == Kind::Mac => Part::Mac(c, start),
        ColumnRef::U64(c) => Part::U64(c, start),
        ColumnRef::U32(c) if !c.all_null() => Part::U32(c, start),
        ColumnRef::U16(c) if c.all_null() => return None,
        ColumnRef::U16(c) if kind == Kind::Country => Part::Country(c, start),
        ColumnRef::U16(c) => Part::U16(c, start),
        ColumnRef::U8(c) if c.all_null() => return None,
        ColumnRef::U8(c) if kind == Kind::Bool => {
            let mut pieces = Pieces::new();
            for value in 0..=u8::MAX {
                pieces.push(|out| {
                    out.extend_from_slice(&start);
                    out.push(if value == 0 { b'f' } else { b't' });
                });
            }
            Part::Small(c, pieces)
        }
        ColumnRef::U8(c) => Part::U8(c, start),
        ColumnRef::Ip(c) if !c.all_null() => Part::Ip(c, start),
        ColumnRef::AddrDict(c) => dictionary(c, |addr, out| text(out, &addr.to_string())),
        ColumnRef::Text(c) => dictionary(c, |value, out| text(out, value)),
        ColumnRef::Uuid(c) => dictionary(c, |id, out| text(out, &id.to_string())),
        _ => return None,
    };
    Some(part)
}

fn dictionary<T: DictValue>(column: &Dict<T>, write: impl Fn(&T, &mut Vec<u8>)) -> Part<'_> {
    let mut pieces = Pieces::new();
    column.values().iter().for_each(|value| pieces.push(|out| write(value, out)));
    Part::Codes(column.codes(), pieces)
}

impl Part<'_> {
    #[inline]
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Part::Same(bytes) => out.extend_from_slice(bytes),
            Part::Codes(codes, pieces) => out.extend_from_slice(pieces.get(codes[row] as usize)),
            Part::Small(c, pieces) => {
                out.extend_from_slice(c.get(row).map_or(&[][..], |n| pieces.get(usize::from(n) + 1)));
            }
            Part::I64(c, name) => optional(out, name, c.get(row), |out, n| {
                signed(out, n);
                out.push(b'i');
            }),
            Part::U64(c, name) => optional(out, name, c.get(row), whole),
            Part::U32(c, name) => optional(out, name, c.get(row).map(u64::from), whole),
            Part::U16(c, name) => optional(out, name, c.get(row).map(u64::from), whole),
            Part::U8(c, name) => optional(out, name, c.get(row).map(u64::from), whole),
            Part::Ip(c, name) => optional(out, name, c.get(row), address),
            Part::Mac(c, name) => optional(out, name, c.get(row), |out, bits| {
                quoted(out, &sink_api::Value::Mac(bits).to_string());
            }),
            Part::Country(c, name) => optional(out, name, c.get(row), |out, code| {
                quoted(out, country::text(code).as_str());
            }),
            Part::Sum(sums, name, always) => {
                let sum = sums.get(row).copied().unwrap_or_default();
                optional(out, name, (*always || sum > 0).then_some(sum), whole);
            }
        }
    }
}

#[inline]
fn optional<T>(out: &mut Vec<u8>, name: &[u8], value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        write(out, value);
    }
}
