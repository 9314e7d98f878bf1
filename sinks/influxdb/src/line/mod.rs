//! Points in line protocol, made by hand.
//!
//! A line is the measurement, tags in the order of their names, fields, timestamp in ns. What belongs to a value of a dictionary
//! is made once a batch, name and escapes included; what is null is absent.

mod alert;
mod part;
mod text;

pub use alert::alert_line;

use hashbrown::HashSet;
use sink_api::batch::ColumnRef;
use sink_api::column::Dict;
use sink_api::rollup::{Key, RollupRows};
use sink_api::{Field, FlowBatch, Kind, LogId, Uuid};

use crate::schema::{self, COLLECTOR, FLOWS, OTHER, OTHER_FIELD};
use part::{Part, Pieces, field, tag};
use text::{escaped, signed};

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

#[cfg(test)]
mod tests;
