//! Rows of a rollup: keys and sums, struct of arrays.

#[cfg(doc)]
use super::Shape;
use super::{Key, RollupDef};
use crate::batch::{ColumnRef, FlowBatch};
use crate::column::{Column, Dict, IpColumn, Text, Uuid};
use crate::value::{Kind, Value};

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

    /// Some of the rows, in the order given.
    fn some_rows(&self, rows: &[u32]) -> Self {
        fn some<T: Copy + Default>(column: &Column<T>, rows: &[u32]) -> Column<T> {
            let mut some = Column::with_capacity(rows.len());
            some.append_rows(column, rows);
            some
        }
        match self {
            Self::U8(c) => Self::U8(some(c, rows)),
            Self::U16(c) => Self::U16(some(c, rows)),
            Self::U32(c) => Self::U32(some(c, rows)),
            Self::U64(c) => Self::U64(some(c, rows)),
            Self::Ip(c) => {
                let mut some = IpColumn::default();
                some.append_rows(c, rows);
                Self::Ip(some)
            }
            Self::Text(c) => Self::Text(c.some_rows(rows)),
            Self::Uuid(c) => Self::Uuid(c.some_rows(rows)),
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

    /// Some of the rows, in the order given.
    pub fn some_rows(&self, rows: &[u32]) -> Self {
        let keys = self.keys.iter().map(|(key, column)| (*key, column.some_rows(rows)));
        let mut some = Self::with_keys(self.rollup.clone(), self.bucket_ms, keys.collect());
        for row in rows.iter().map(|row| *row as usize) {
            some.push_measures(self.bucket[row], &self.measures(row));
            some.cut_bytes.extend(self.cut_bytes.get(row));
        }
        some
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
