//! Points in line protocol, made by hand.
//!
//! A line is the measurement, tags in the order of their names, fields, timestamp in ns. What belongs to a value of a dictionary
//! is made once a batch, name and escapes included; what is null is absent.

use hashbrown::HashSet;
use sink_api::batch::ColumnRef;
use sink_api::column::{Column, Dict, DictValue, IpColumn};
use sink_api::rollup::{Key, RollupRows};
use sink_api::{Addr, Field, FlowBatch, Kind, LogId, Uuid, country};

use crate::schema::{self, COLLECTOR, FLOWS, OTHER, OTHER_FIELD};

/// Subscribers that have a tag of their own.
#[derive(Debug, Default)]
pub struct Subscribers {
    known: HashSet<Uuid, foldhash::fast::RandomState>,
    max: usize,
}

impl Subscribers {
    /// Those that are known, and how many there may be.
    pub fn new(known: impl IntoIterator<Item = Uuid>, max: usize) -> Self {
        Self { known: known.into_iter().collect(), max }
    }

    /// Whether a subscriber has a tag: known ones have, new ones get one while there is room.
    fn admit(&mut self, subscriber: &Uuid) -> bool {
        self.known.contains(subscriber) || self.known.len() < self.max && self.known.insert(*subscriber)
    }
}

/// Writes the points of one batch.
#[derive(Debug)]
pub struct Lines<'a> {
    parts: Vec<Part<'a>>,
}

/// What a line is made of, in order.
#[derive(Debug)]
enum Part<'a> {
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
struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Pieces {
    /// Code 0: nothing.
    fn new() -> Self {
        Self { bytes: Vec::new(), ends: vec![0, 0] }
    }

    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
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

impl<'a> Lines<'a> {
    /// Points of flows.
    pub fn of_flows(batch: &'a FlowBatch, log: LogId) -> Self {
        let tag = |field: &Field| schema::is_flow_tag(*field);
        let tags = sorted(Field::ALL.iter().filter(|f| tag(f)).map(|f| (f.name(), f.kind(), batch.column(*f))));
        let mut lines = Self::start(FLOWS, log, tags);
        lines.push(Part::Same(b" bytes=".to_vec()));
        lines.push(Part::U64(&batch.bytes, Vec::new()));
        for field in Field::ALL.iter().filter(|field| !tag(field) && **field != Field::Bytes) {
            lines.push_field(schema::field_name(*field), field.kind(), batch.column(*field));
        }
        lines
    }

    /// Points of a rollup.
    pub fn of_rollup(rows: &'a RollupRows, log: LogId, subscribers: &mut Subscribers) -> Self {
        let rollup = &*rows.rollup;
        let is_tag = |key: Key| schema::is_tag(rollup, key);
        let keys = || rows.keys.iter().map(|(key, column)| (*key, column.as_column()));
        let tags = keys().filter(|(key, _)| is_tag(*key)).map(|(key, column)| (key.name(), key.kind(), column));
        let by_subscriber = keys().find_map(|(key, column)| match (key, column) {
            (Key::Field(Field::SubscriberId), ColumnRef::Uuid(dict)) if is_tag(key) => Some(dict),
            _ => None,
        });
        let admitted =
            by_subscriber.map(|dict| dict.values().iter().map(|id| subscribers.admit(id)).collect::<Vec<_>>());
        let tags = sorted(tags.filter(|(name, ..)| *name != Field::SubscriberId.name()));
        let mut lines = Self::start(rollup, log, tags);
        if let (Some(dict), Some(admitted)) = (by_subscriber, &admitted) {
            lines.push(Part::Codes(dict.codes(), subscriber_tags(dict, admitted)));
        }
        lines.push(Part::Same(b" ".to_vec()));
        lines.push(Part::Sum(&rows.bytes, b"bytes=".to_vec(), true));
        let sums = [
            (&rows.packets, "packets"),
            (&rows.flows, "flows"),
            (&rows.rtt_ms_sum, "rtt_ms_sum"),
            (&rows.rtt_count, "rtt_count"),
            (&rows.cut_bytes, "cut_bytes"),
        ];
        for (sums, name) in sums.into_iter().filter(|(sums, _)| sums.iter().any(|n| *n > 0)) {
            lines.push(Part::Sum(sums, format!(",{name}=").into_bytes(), false));
        }
        for (key, column) in keys().filter(|(key, _)| !is_tag(*key)) {
            lines.push_field(schema::key_name(key), key.kind(), column);
        }
        if let (Some(dict), Some(admitted)) = (by_subscriber, &admitted) {
            lines.push(Part::Codes(dict.codes(), subscriber_fields(dict, admitted)));
        }
        lines
    }

    /// Measurement and tags. The collector's comes second: after `app`, before `direction`.
    fn start(measurement: &str, log: LogId, tags: Vec<(&str, Kind, ColumnRef<'a>)>) -> Self {
        let mut lines = Self { parts: Vec::new() };
        let mut name = Vec::new();
        escaped(&mut name, measurement);
        lines.push(Part::Same(name));
        let after = tags.partition_point(|(name, ..)| *name < COLLECTOR);
        for (index, (name, kind, column)) in tags.iter().enumerate() {
            if index == after {
                lines.push(Part::Same(format!(",{COLLECTOR}={log}").into_bytes()));
            }
            if let Some(part) = tag(name, *kind, *column) {
                lines.push(part);
            }
        }
        if after == tags.len() {
            lines.push(Part::Same(format!(",{COLLECTOR}={log}").into_bytes()));
        }
        lines
    }

    fn push_field(&mut self, name: &str, kind: Kind, column: ColumnRef<'a>) {
        if let Some(part) = field(name, kind, column) {
            self.push(part);
        }
    }

    /// Adds a part; neighbours that are the same in every line become one.
    fn push(&mut self, part: Part<'a>) {
        match (self.parts.last_mut(), part) {
            (Some(Part::Same(bytes)), Part::Same(more)) => bytes.extend_from_slice(&more),
            (_, part) => self.parts.push(part),
        }
    }

    /// Appends the line of a row.
    pub fn write(&self, row: usize, timestamp_ns: i64, out: &mut Vec<u8>) {
        for part in &self.parts {
            part.write(row, out);
        }
        out.push(b' ');
        signed(out, timestamp_ns);
        out.push(b'\n');
    }
}

fn sorted<'a>(
    tags: impl Iterator<Item = (&'static str, Kind, ColumnRef<'a>)>,
) -> Vec<(&'static str, Kind, ColumnRef<'a>)> {
    let mut tags: Vec<_> = tags.collect();
    tags.sort_unstable_by_key(|(name, ..)| *name);
    tags
}

fn subscriber_tags(dict: &Dict<Uuid>, admitted: &[bool]) -> Pieces {
    let mut pieces = Pieces::new();
    let name = Field::SubscriberId.name();
    for (id, admitted) in dict.values().iter().zip(admitted) {
        let value = if *admitted { id.to_string() } else { OTHER.to_owned() };
        pieces.push(|out| out.extend_from_slice(format!(",{name}={value}").as_bytes()));
    }
    pieces
}

fn subscriber_fields(dict: &Dict<Uuid>, admitted: &[bool]) -> Pieces {
    let mut pieces = Pieces::new();
    for (id, admitted) in dict.values().iter().zip(admitted) {
        let field = if *admitted { String::new() } else { format!(",{OTHER_FIELD}=\"{id}\"") };
        pieces.push(|out| out.extend_from_slice(field.as_bytes()));
    }
    pieces
}

/// A tag; none when no row has it.
fn tag<'a>(name: &str, kind: Kind, column: ColumnRef<'a>) -> Option<Part<'a>> {
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
fn field<'a>(name: &str, kind: Kind, column: ColumnRef<'a>) -> Option<Part<'a>> {
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
    fn write(&self, row: usize, out: &mut Vec<u8>) {
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

/// A whole number as a field: the server's are signed, so the largest stands for all above it.
#[inline]
fn whole(out: &mut Vec<u8>, n: u64) {
    unsigned(out, n.min(i64::MAX as u64));
    out.push(b'i');
}

fn signed(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    unsigned(out, n.unsigned_abs());
}

/// Digits of a number.
#[inline]
fn unsigned(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn address(out: &mut Vec<u8>, addr: Addr) {
    out.push(b'"');
    match addr.as_v4() {
        Some(bits) => {
            for (index, byte) in bits.to_be_bytes().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                unsigned(out, byte.into());
            }
        }
        None => out.extend_from_slice(addr.to_string().as_bytes()),
    }
    out.push(b'"');
}

/// A text as a field.
fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// A text as a measurement or a tag's value; it holds no backslash and no control character.
fn escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        if matches!(byte, b',' | b'=' | b' ') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

#[cfg(test)]
mod tests;
