//! Rollups: additive partial sums. Readers sum the rows of one key and bucket; late data, restarts and several collectors
//! need no upsert.

use std::sync::Arc;

use crate::batch::{Field, Kind, Value};
use crate::column::{Column, Dict, IpColumn, Text, Uuid};
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};

/// What flows are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A column of the flow record.
    Field(Field),
    /// An address of the flow, one row for the source and one for the destination; goes with [`Key::Role`].
    Host,
    /// Which side [`Key::Host`] was: see [`Role`].
    Role,
    /// Country of [`crate::Direction::outer_side`].
    Country,
    /// AS of [`crate::Direction::outer_side`].
    Asn,
}

impl Key {
    /// Its column name in tables, files and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Key::Field(field) => field.name(),
            Key::Host => "host",
            Key::Role => "role",
            Key::Country => "country",
            Key::Asn => "asn",
        }
    }

    /// The key of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        let own = [Key::Host, Key::Role, Key::Country, Key::Asn].into_iter();
        own.chain(Field::ALL.iter().map(|f| Key::Field(*f))).find(|k| k.name() == name)
    }

    /// What its values mean.
    pub const fn kind(self) -> Kind {
        match self {
            Key::Field(field) => field.kind(),
            Key::Host => Kind::Ip,
            Key::Role | Key::Asn => Kind::Number,
            Key::Country => Kind::Country,
        }
    }
}

/// Which side of the flow a host was. The numbers are stored; they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// The flow's source.
    Src = 1,
    /// The flow's destination.
    Dst = 2,
}

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As long as detail: `retention_detail` of the sink (default 30 days).
    Detail,
    /// As long as sums: `retention_aggregate` of the sink (default 12 months).
    Aggregate,
}

/// What a rollup does beyond grouping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One row a key.
    Plain,
    /// `talkers`: every customer host, and at each emission the `others` heaviest hosts that are not, the remainder
    /// folded into one row without host for each combination of the other keys (role among them), whose `cut_bytes` is the
    /// largest sum folded into it.
    Talkers {
        /// How many hosts that are no customers are kept at each emission.
        others: usize,
    },
    /// Flows within the customer networks are booked for the destination's subscriber as well, as `internal_in`.
    PerSubscriber,
}

/// Definition of one rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupDef {
    /// Its name: table, measurement, folder.
    pub name: Text,
    /// Width of a bucket in ms; buckets are aligned to the Unix epoch.
    pub bucket_ms: i64,
    /// Retention class.
    pub keep: Keep,
    /// Grouping, in column order.
    pub by: Vec<Key>,
    /// What it does beyond grouping.
    pub shape: Shape,
}

impl RollupDef {
    /// The five rollups that are always there.
    pub fn defaults() -> Vec<Self> {
        use Field::{App, Direction, NasId, Protocol, ResellerId, ServicePort, Site, SubscriberId};
        let fields = |fields: &[Field]| fields.iter().map(|f| Key::Field(*f)).collect::<Vec<_>>();
        let def = |name: &str, bucket_ms, keep, by, shape| Self { name: name.into(), bucket_ms, keep, by, shape };
        let mut talkers = fields(&[NasId, ResellerId]);
        talkers.extend([Key::Host, Key::Role]);
        let mut geo = fields(&[NasId, ResellerId, Direction]);
        geo.extend([Key::Country, Key::Asn]);
        vec![
            def(
                "traffic",
                MINUTE_MS,
                Keep::Detail,
                fields(&[NasId, Site, ResellerId, Direction, Protocol, ServicePort, App]),
                Shape::Plain,
            ),
            def("talkers", 5 * MINUTE_MS, Keep::Detail, talkers, Shape::Talkers { others: 1000 }),
            def(
                "usage",
                HOUR_MS,
                Keep::Aggregate,
                fields(&[NasId, Site, ResellerId, SubscriberId, Direction]),
                Shape::PerSubscriber,
            ),
            def(
                "usage_apps",
                DAY_MS,
                Keep::Aggregate,
                fields(&[NasId, Site, ResellerId, SubscriberId, Direction, Protocol, ServicePort, App]),
                Shape::PerSubscriber,
            ),
            def("geo", HOUR_MS, Keep::Aggregate, geo, Shape::Plain),
        ]
    }

    /// Whether rows of this rollup carry `cut_bytes`.
    pub fn has_cut_bytes(&self) -> bool {
        matches!(self.shape, Shape::Talkers { .. })
    }
}

/// What is summed. `cut_bytes` is not summed but belongs to [`RollupRows`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Measures {
    /// Layer 3 bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Flows; a flow counts 1 in the bucket in which it ends.
    pub flows: u64,
    /// Sum of rtt_ms over the flows that have one, booked in the bucket in which the flow ends.
    pub rtt_ms_sum: u64,
    /// Number of flows that have rtt_ms.
    pub rtt_count: u64,
}

impl Measures {
    /// Adds another sum to this one. Saturates instead of wrapping.
    pub fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.packets = self.packets.saturating_add(other.packets);
        self.flows = self.flows.saturating_add(other.flows);
        self.rtt_ms_sum = self.rtt_ms_sum.saturating_add(other.rtt_ms_sum);
        self.rtt_count = self.rtt_count.saturating_add(other.rtt_count);
    }

    /// Mean round trip in ms, where any flow had one.
    pub fn avg_latency_ms(&self) -> Option<f64> {
        (self.rtt_count > 0).then(|| self.rtt_ms_sum as f64 / self.rtt_count as f64)
    }
}

/// The values of one key, a row each.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum KeyColumn {
    U8(Column<u8>),
    U16(Column<u16>),
    U32(Column<u32>),
    U64(Column<u64>),
    Ip(IpColumn),
    Text(Dict<Text>),
    Uuid(Dict<Uuid>),
}

impl KeyColumn {
    /// An empty column of the type in which a key is stored. Fields that cannot be keys (times) give `None`.
    pub fn for_key(key: Key) -> Option<Self> {
        use crate::batch::{ColumnRef, FlowBatch};
        Some(match key {
            Key::Host => Self::Ip(IpColumn::default()),
            Key::Role => Self::U8(Column::default()),
            Key::Country => Self::U16(Column::default()),
            Key::Asn => Self::U32(Column::default()),
            Key::Field(field) => match FlowBatch::default().column(field) {
                ColumnRef::I64(_) => return None,
                ColumnRef::U64(_) => Self::U64(Column::default()),
                ColumnRef::U32(_) => Self::U32(Column::default()),
                ColumnRef::U16(_) => Self::U16(Column::default()),
                ColumnRef::U8(_) => Self::U8(Column::default()),
                ColumnRef::Ip(_) | ColumnRef::AddrDict(_) => Self::Ip(IpColumn::default()),
                ColumnRef::Text(_) => Self::Text(Dict::default()),
                ColumnRef::Uuid(_) => Self::Uuid(Dict::default()),
            },
        })
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(c) => c.len(),
            Self::U16(c) => c.len(),
            Self::U32(c) => c.len(),
            Self::U64(c) => c.len(),
            Self::Ip(c) => c.len(),
            Self::Text(c) => c.len(),
            Self::Uuid(c) => c.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends one row. A value of another kind than the column's is null.
    pub fn push(&mut self, value: &Value) {
        let number = value.as_number();
        match self {
            Self::U8(c) => c.push(number.map(|n| n as u8)),
            Self::U16(c) => c.push(number.map(|n| n as u16)),
            Self::U32(c) => c.push(number.map(|n| n as u32)),
            Self::U64(c) => c.push(number),
            Self::Ip(c) => c.push(if let Value::Ip(addr) = value { Some(*addr) } else { None }),
            Self::Text(c) => c.push(if let Value::Text(text) = value { Some(text) } else { None }),
            Self::Uuid(c) => c.push(if let Value::Uuid(uuid) = value { Some(uuid) } else { None }),
        }
    }

    /// The row's value under a kind.
    pub fn value(&self, kind: Kind, row: usize) -> Value {
        let number = |n: Option<u64>| n.map_or(Value::Null, |n| Value::of_number(kind, n));
        match self {
            Self::U8(c) => number(c.get(row).map(u64::from)),
            Self::U16(c) => number(c.get(row).map(u64::from)),
            Self::U32(c) => number(c.get(row).map(u64::from)),
            Self::U64(c) => number(c.get(row)),
            Self::Ip(c) => c.get(row).map_or(Value::Null, Value::Ip),
            Self::Text(c) => c.get(row).map_or(Value::Null, |t| Value::Text(t.clone())),
            Self::Uuid(c) => c.get(row).map_or(Value::Null, |u| Value::Uuid(*u)),
        }
    }
}

/// Rows of one rollup, struct of arrays.
#[derive(Clone, Debug)]
pub struct RollupRows {
    /// Which rollup.
    pub rollup: Text,
    /// Width of its buckets in ms.
    pub bucket_ms: i64,
    /// Start of each row's bucket, ms since the Unix epoch.
    pub bucket: Vec<i64>,
    /// Key columns in the order of [`RollupDef::by`].
    pub keys: Vec<(Key, KeyColumn)>,
    /// One sum a row.
    pub bytes: Vec<u64>,
    /// One sum a row.
    pub packets: Vec<u64>,
    /// One sum a row.
    pub flows: Vec<u64>,
    /// One sum a row.
    pub rtt_ms_sum: Vec<u64>,
    /// One sum a row.
    pub rtt_count: Vec<u64>,
    /// For [`Shape::Talkers`] one a row: the largest sum of bytes folded into the row (0 for a host's own row). Empty
    /// for other rollups.
    pub cut_bytes: Vec<u64>,
}

impl RollupRows {
    /// No rows of a rollup. `None` when one of its keys cannot be a key.
    pub fn new(def: &RollupDef) -> Option<Self> {
        let keys = def.by.iter().map(|k| KeyColumn::for_key(*k).map(|c| (*k, c))).collect::<Option<_>>()?;
        Some(Self::with_keys(def.name.clone(), def.bucket_ms, keys))
    }

    /// No rows of a rollup, with these of its keys.
    pub fn with_keys(rollup: Text, bucket_ms: i64, keys: Vec<(Key, KeyColumn)>) -> Self {
        Self {
            rollup,
            bucket_ms,
            bucket: Vec::new(),
            keys,
            bytes: Vec::new(),
            packets: Vec::new(),
            flows: Vec::new(),
            rtt_ms_sum: Vec::new(),
            rtt_count: Vec::new(),
            cut_bytes: Vec::new(),
        }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.bucket.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.bucket.is_empty()
    }

    /// The row's sums.
    pub fn measures(&self, row: usize) -> Measures {
        Measures {
            bytes: self.bytes[row],
            packets: self.packets[row],
            flows: self.flows[row],
            rtt_ms_sum: self.rtt_ms_sum[row],
            rtt_count: self.rtt_count[row],
        }
    }

    /// One of the rows alone.
    pub fn one_row(&self, row: usize) -> Self {
        let keys = self.keys.iter().filter_map(|(key, column)| {
            let mut one = KeyColumn::for_key(*key)?;
            one.push(&column.value(key.kind(), row));
            Some((*key, one))
        });
        let mut one = Self::with_keys(self.rollup.clone(), self.bucket_ms, keys.collect());
        one.cut_bytes.extend(self.cut_bytes.get(row));
        one.push_measures(self.bucket[row], &self.measures(row));
        one
    }

    /// Appends a bucket start and its sums; the caller appends the keys.
    pub fn push_measures(&mut self, bucket: i64, m: &Measures) {
        self.bucket.push(bucket);
        self.bytes.push(m.bytes);
        self.packets.push(m.packets);
        self.flows.push(m.flows);
        self.rtt_ms_sum.push(m.rtt_ms_sum);
        self.rtt_count.push(m.rtt_count);
    }
}

/// One emission of the aggregator: partial sums, and the log position up to which they hold.
///
/// Everything up to and including `upto` has been added to a row of this or an earlier emission, except what went into
/// the buckets listed in `open`. After a crash the aggregator reads again from `replay_from` and adds a share of the flow
/// at position `p` to bucket `b` only when `p > drained_upto(b)`: the listed value, or `upto` for a bucket not listed.
#[derive(Clone, Debug, Default)]
pub struct RollupSums {
    /// Last log position whose flows have been taken into account.
    pub upto: u64,
    /// First log position that must be read again after a crash; `upto + 1` when no bucket is open.
    pub replay_from: u64,
    /// Buckets that hold sums not emitted yet.
    pub open: Vec<OpenBucket>,
    /// The rows: an entry for each rollup that has any, more when they are very many.
    pub rows: Vec<RollupRows>,
}

/// A bucket that held sums not yet emitted at the time of an emission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBucket {
    /// Which rollup.
    pub rollup: Text,
    /// Start of the bucket, ms since the Unix epoch.
    pub bucket: i64,
    /// Positions up to and including this one have been emitted for this bucket; 0 when none has.
    pub drained_upto: u64,
}

/// What stands at one position of the log.
#[derive(Clone, Debug)]
pub enum Record {
    /// Flows, as a worker made them.
    Flows(Arc<crate::FlowBatch>),
    /// Sums, as the aggregator emitted them.
    Sums(Arc<RollupSums>),
    /// Beginnings and ends of alerts. Stores that have no place for them pass over.
    Alerts(Arc<Vec<crate::AlertRow>>),
}

impl Record {
    /// Rows in this record: flows, rows of all rollups, or alerts.
    pub fn row_count(&self) -> usize {
        match self {
            Record::Flows(batch) => batch.len(),
            Record::Sums(sums) => sums.rows.iter().map(RollupRows::len).sum(),
            Record::Alerts(rows) => rows.len(),
        }
    }

    /// Flow rows in this record.
    pub fn flow_count(&self) -> u64 {
        match self {
            Record::Flows(batch) => batch.len() as u64,
            Record::Sums(_) | Record::Alerts(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_rollup_has_the_reseller_in_its_key_and_can_hold_rows() {
        let defs = RollupDef::defaults();
        let names: Vec<_> = defs.iter().map(|d| &*d.name).collect();
        assert_eq!(names, ["traffic", "talkers", "usage", "usage_apps", "geo"]);
        for def in &defs {
            assert!(def.by.contains(&Key::Field(Field::ResellerId)), "{}", def.name);
            assert!(RollupRows::new(def).is_some(), "{}", def.name);
            for key in &def.by {
                assert_eq!(Key::from_name(key.name()), Some(*key));
            }
        }
    }
}
