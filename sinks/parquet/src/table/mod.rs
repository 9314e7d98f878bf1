//! Tables as Parquet columns: which leaves each column of `flows` or of a rollup has, and the file's schema.
//!
//! An address column `x` is two leaves: `x4` (INT32, the IPv4 address as a number) and `x6` (16 bytes), at most one of
//! which is set in a row. 4-byte addresses cost a third of 16-byte ones, and almost every address is IPv4. Everything may
//! be null; a leaf that is null in a whole row group costs some 60 bytes.

mod cells;

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::Result;
use parquet::schema::types::{SchemaDescriptor, Type};
use sink_api::batch::{ColumnRef, Field, FlowBatch};
use sink_api::rollup::{Key, KeyColumn, RollupDef};

pub use cells::{Cells, flow_cells, rollup_cells};

/// Name of the table of flow records.
pub const FLOWS: &str = "flows";

/// The measures of a rollup, in file order. `cut_bytes` is only in rollups that cut.
pub const MEASURES: [&str; 6] = ["bytes", "packets", "flows", "rtt_ms_sum", "rtt_count", "cut_bytes"];

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// ms since the Unix epoch.
    Time,
    /// A 64-bit count, stored signed.
    Count,
    /// An unsigned number of 8, 16 or 32 bits.
    Unsigned(u8),
    /// An address: two leaves.
    Ip,
    /// Text.
    Text,
    /// A UUID.
    Uuid,
}

/// How a leaf's values are laid out, chosen by measurement (`benches/parquet.rs` prints the figures).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A dictionary while it pays, else values one after another.
    DictionaryOrPlain,
    /// A dictionary while it pays, else differences.
    DictionaryOrDelta,
    /// Values one after another, compressed.
    Plain,
    /// Bit-packed differences.
    Delta,
}

/// One leaf of the file's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its name in the file.
    pub name: String,
    /// Its stored type.
    pub kind: LeafType,
    /// How its values are laid out.
    pub layout: Layout,
}

/// Stored type of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LeafType {
    Time,
    Count,
    Unsigned(u8),
    Fixed16,
    Text,
    Uuid,
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnType,
    layout: Layout,
}

/// A table's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `flows`, or the rollup's name.
    pub name: String,
    /// Its columns in file order.
    pub columns: Vec<TableColumn>,
}

impl Table {
    /// The table of flow records.
    pub fn flows() -> Self {
        let columns = Field::ALL.iter().map(|f| column(f.name(), field_type(*f), field_layout(*f))).collect();
        Self { name: FLOWS.into(), columns }
    }

    /// The table of a rollup.
    pub fn rollup(def: &RollupDef) -> Self {
        let measures = if def.has_cut_bytes() { &MEASURES[..] } else { &MEASURES[..5] };
        let time = std::iter::once(column("bucket", ColumnType::Time, Layout::DictionaryOrDelta));
        let keys = def.by.iter().map(|k| column(k.name(), key_type(*k), Layout::DictionaryOrPlain));
        let sums = measures.iter().map(|m| column(m, ColumnType::Count, Layout::DictionaryOrDelta));
        Self { name: def.name.to_string(), columns: time.chain(keys).chain(sums).collect() }
    }

    /// The leaves in file order.
    pub fn leaves(&self) -> Vec<Leaf> {
        self.columns.iter().flat_map(TableColumn::leaves).collect()
    }

    /// The file's schema.
    ///
    /// # Errors
    /// None for names that are identifiers, as columns' are.
    pub fn schema(&self) -> Result<Arc<SchemaDescriptor>> {
        let fields = self.leaves().iter().map(|leaf| leaf.schema().map(Arc::new)).collect::<Result<Vec<_>>>()?;
        let root = Type::group_type_builder(&self.name).with_fields(fields).build()?;
        Ok(Arc::new(SchemaDescriptor::new(Arc::new(root))))
    }
}

impl TableColumn {
    /// The column's leaves.
    pub fn leaves(&self) -> Vec<Leaf> {
        let leaf = |name: String, kind, layout| Leaf { name, kind, layout };
        let one = |kind| vec![leaf(self.name.clone(), kind, self.layout)];
        match self.kind {
            ColumnType::Ip => {
                let [v4, v6] = ip_leaves(&self.name);
                vec![leaf(v4, LeafType::Unsigned(32), self.layout), leaf(v6, LeafType::Fixed16, Layout::Plain)]
            }
            ColumnType::Time => one(LeafType::Time),
            ColumnType::Count => one(LeafType::Count),
            ColumnType::Unsigned(bits) => one(LeafType::Unsigned(bits)),
            ColumnType::Text => one(LeafType::Text),
            ColumnType::Uuid => one(LeafType::Uuid),
        }
    }
}

/// Names of the two leaves of an address column: IPv4, IPv6.
pub fn ip_leaves(column: &str) -> [String; 2] {
    [format!("{column}4"), format!("{column}6")]
}

impl Leaf {
    fn schema(&self) -> Result<Type> {
        let (physical, logical, length) = match self.kind {
            LeafType::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS)), -1),
            LeafType::Count => (Physical::INT64, None, -1),
            LeafType::Unsigned(bits) => (Physical::INT32, Some(LogicalType::integer(bits as i8, false)), -1),
            LeafType::Fixed16 => (Physical::FIXED_LEN_BYTE_ARRAY, None, 16),
            LeafType::Uuid => (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid), 16),
            LeafType::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String), -1),
        };
        Type::primitive_type_builder(&self.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .with_length(length)
            .build()
    }
}

fn column(name: &str, kind: ColumnType, layout: Layout) -> TableColumn {
    TableColumn { name: name.into(), kind, layout }
}

/// What a field's column holds.
pub fn field_type(field: Field) -> ColumnType {
    match FlowBatch::default().column(field) {
        ColumnRef::I64(_) => ColumnType::Time,
        ColumnRef::U64(_) => ColumnType::Count,
        ColumnRef::U32(_) => ColumnType::Unsigned(32),
        ColumnRef::U16(_) => ColumnType::Unsigned(16),
        ColumnRef::U8(_) => ColumnType::Unsigned(8),
        ColumnRef::Ip(_) | ColumnRef::AddrDict(_) => ColumnType::Ip,
        ColumnRef::Text(_) => ColumnType::Text,
        ColumnRef::Uuid(_) => ColumnType::Uuid,
    }
}

fn field_layout(field: Field) -> Layout {
    match field {
        Field::Time | Field::FlowStart | Field::Bytes => Layout::Delta,
        Field::ReceivedAt | Field::Packets | Field::RttMs | Field::SrcPort | Field::DstPort => {
            Layout::DictionaryOrDelta
        }
        Field::SrcIp | Field::DstIp | Field::NatSrcIp | Field::NatDstIp => Layout::Plain,
        _ => Layout::DictionaryOrPlain,
    }
}

/// What a key's column holds. Times cannot be keys.
pub fn key_type(key: Key) -> ColumnType {
    match KeyColumn::for_key(key) {
        None => ColumnType::Time,
        Some(KeyColumn::U64(_)) => ColumnType::Count,
        Some(KeyColumn::U32(_)) => ColumnType::Unsigned(32),
        Some(KeyColumn::U16(_)) => ColumnType::Unsigned(16),
        Some(KeyColumn::U8(_)) => ColumnType::Unsigned(8),
        Some(KeyColumn::Ip(_)) => ColumnType::Ip,
        Some(KeyColumn::Text(_)) => ColumnType::Text,
        Some(KeyColumn::Uuid(_)) => ColumnType::Uuid,
    }
}
