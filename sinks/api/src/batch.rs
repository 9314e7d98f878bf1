//! Flow records as columns: the one type that every stage after `decode` speaks.

use crate::column::{Column, Dict, IpColumn, Text, Uuid};
use crate::value::{Kind, Value};
use crate::{Addr, SourceRun, StreamProgress};

/// One row per column of the flow record: `(field name, Field variant, column type, ColumnRef variant, kind, description)`.
/// Everything that walks over columns (codec, stores, export, docs) walks over this table.
macro_rules! flow_columns {
    ($($name:ident, $variant:ident, $ty:ty, $repr:ident, $kind:ident, $doc:literal;)*) => {
        /// A batch of flows, struct of arrays. Every column holds [`FlowBatch::len`] rows.
        #[derive(Clone, Debug, Default)]
        pub struct FlowBatch {
            $(#[doc = $doc] pub $name: $ty,)*
            /// Progress of each export stream that has flows in this batch: how a crash's loss is found afterwards.
            pub streams: Vec<StreamProgress>,
            /// Who the destinations of internal flows are. No column: not stored with the flows, only kept in the log.
            pub internal: InternalDestinations,
            /// Which engine, source or domain the rows came from, in row order; may be shorter than the rows. Only for the
            /// stages before the log, which does not keep it.
            pub sources: Vec<SourceRun>,
            /// Rows of which only the end of the span counts when they are spread over time; rows ascend. No column: not
            /// stored with the flows, only kept in the log.
            pub cut_spans: Vec<CutSpan>,
        }

        impl FlowBatch {
            /// Forgets all rows, keeps the memory.
            pub fn clear(&mut self) {
                $(self.$name.clear();)*
                self.streams.clear();
                self.internal.clear();
                self.sources.clear();
                self.cut_spans.clear();
            }

            /// Memory reserved by the columns, bytes.
            pub fn capacity_bytes(&self) -> usize {
                0 $(+ self.$name.capacity_bytes())*
            }

            /// Appends the given rows of another batch. Its stream progress is not taken over.
            pub fn append_rows(&mut self, other: &Self, rows: &[u32]) {
                $(self.$name.append_rows(&other.$name, rows);)*
            }

            /// Keeps the rows for which `keep` says so; all columns and `keep` are of one length. Stream progress and sources
            /// stay as they are.
            pub fn retain(&mut self, keep: &[bool]) {
                $(self.$name.retain(keep);)*
            }

            /// The column of a field.
            pub fn column(&self, field: Field) -> ColumnRef<'_> {
                match field { $(Field::$variant => ColumnRef::$repr(&self.$name),)* }
            }

            /// The column of a field, for filling it.
            pub fn column_mut(&mut self, field: Field) -> ColumnMut<'_> {
                match field { $(Field::$variant => ColumnMut::$repr(&mut self.$name),)* }
            }

            /// Appends null rows to every column that is shorter than `time`. For builders that fill only what a protocol
            /// carries.
            pub fn fill_missing(&mut self) {
                let rows = self.time.len();
                $(let missing = rows - self.$name.len().min(rows);
                  if missing > 0 { self.$name.push_nulls(missing); })*
            }

            /// The first column whose length differs from that of `time`, if any.
            pub fn ragged_column(&self) -> Option<Field> {
                $(if self.$name.len() != self.time.len() { return Some(Field::$variant); })*
                None
            }
        }

        /// Names a column of the flow record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Field { $(#[doc = $doc] $variant,)* }

        impl Field {
            /// Every column, in the order in which they are stored and exported.
            pub const ALL: &'static [Field] = &[$(Field::$variant,)*];

            /// The column's name in tables, files, exports and filters.
            pub const fn name(self) -> &'static str {
                match self { $(Field::$variant => stringify!($name),)* }
            }

            /// What its values mean and how they are written as text.
            pub const fn kind(self) -> Kind {
                match self { $(Field::$variant => Kind::$kind,)* }
            }

            /// One line for documentation.
            pub const fn description(self) -> &'static str {
                match self { $(Field::$variant => $doc,)* }
            }
        }
    };
}

flow_columns! {
    time, Time, Column<i64>, I64, TimeMs, "end of the flow, ms since the Unix epoch, UTC; never null";
    flow_start, FlowStart, Column<i64>, I64, TimeMs, "start of the flow, ms since the Unix epoch, UTC; never null";
    received_at, ReceivedAt, Column<i64>, I64, TimeMs, "when the datagram reached the collector, ms since the Unix epoch; never null";
    exporter_ip, ExporterIp, Dict<Addr>, AddrDict, Ip, "address of the exporter; never null";
    nas_id, NasId, Dict<Text>, Text, Text, "name of the access server (from `sites`)";
    src_ip, SrcIp, IpColumn, Ip, Ip, "source address; never null";
    dst_ip, DstIp, IpColumn, Ip, Ip, "destination address; never null";
    src_port, SrcPort, Column<u16>, U16, Number, "source port; 0 for protocols without ports";
    dst_port, DstPort, Column<u16>, U16, Number, "destination port; ICMP type * 256 + code; 0 for protocols without ports";
    protocol, Protocol, Column<u8>, U8, Number, "IP protocol number (IANA); never null";
    bytes, Bytes, Column<u64>, U64, Number, "layer 3 bytes, scaled by the sampling rate; never null";
    packets, Packets, Column<u64>, U64, Number, "packets, scaled by the sampling rate; never null";
    tcp_flags, TcpFlags, Column<u16>, U16, Number, "TCP flags of all packets, ORed";
    tos, Tos, Column<u8>, U8, Number, "IP type of service (DSCP and ECN)";
    input_if, InputIf, Column<u32>, U32, Number, "SNMP index of the input interface";
    output_if, OutputIf, Column<u32>, U32, Number, "SNMP index of the output interface";
    next_hop, NextHop, IpColumn, Ip, Ip, "next router's address";
    src_as, SrcAs, Column<u32>, U32, Number, "source AS: the exporter's, else from the ASN database";
    dst_as, DstAs, Column<u32>, U32, Number, "destination AS: the exporter's, else from the ASN database";
    src_mask, SrcMask, Column<u8>, U8, Number, "prefix length of the source's route";
    dst_mask, DstMask, Column<u8>, U8, Number, "prefix length of the destination's route";
    vlan_id, VlanId, Column<u16>, U16, Number, "VLAN id";
    src_mac, SrcMac, Column<u64>, U64, Mac, "source MAC address, 48 bits";
    dst_mac, DstMac, Column<u64>, U64, Mac, "destination MAC address, 48 bits";
    nat_src_ip, NatSrcIp, IpColumn, Ip, Ip, "source address after translation";
    nat_dst_ip, NatDstIp, IpColumn, Ip, Ip, "destination address after translation";
    nat_src_port, NatSrcPort, Column<u16>, U16, Number, "source port after translation";
    nat_dst_port, NatDstPort, Column<u16>, U16, Number, "destination port after translation";
    sampling_rate, SamplingRate, Column<u32>, U32, Number, "1 in N packets was seen; bytes and packets are scaled by it already";
    netflow_version, NetflowVersion, Column<u8>, U8, Number, "version of the export protocol";
    direction, Direction, Column<u8>, U8, Direction, "in, out, internal or transit, seen from the customers; never null";
    src_country, SrcCountry, Column<u16>, U16, Country, "ISO 3166 country of the source";
    dst_country, DstCountry, Column<u16>, U16, Country, "ISO 3166 country of the destination";
    service_port, ServicePort, Column<u16>, U16, Number, "the side's port that the service table knows, else 0; null for ICMP and protocols without ports";
    app, App, Dict<Text>, Text, Text, "application, null when unknown";
    app_category, AppCategory, Dict<Text>, Text, Text, "category of the application";
    subscriber_id, SubscriberId, Dict<Uuid>, Uuid, Uuid, "subscriber of the customer's address";
    reseller_id, ResellerId, Dict<Uuid>, Uuid, Uuid, "reseller of the subscriber or the site";
    site, Site, Dict<Text>, Text, Text, "site of the flow";
    bidirectional, Bidirectional, Column<u8>, U8, Bool, "1 on the later record of a conversation seen in both directions; else null";
    rtt_ms, RttMs, Column<u32>, U32, Number, "ms between the first packets of the two directions of a TCP conversation, on its later record";
}

/// The destination's side of the flows with direction `internal`, whose own columns carry the source's subscriber: what the
/// rollups `usage` and `usage_apps` book as `internal_in`.
///
/// Filled by enrichment, one entry for each internal flow whose destination is known (a missing entry means that nothing is
/// known about it); carried by the log's codec, so that sums after a crash equal those without; not written by sinks.
#[derive(Clone, Debug, Default)]
pub struct InternalDestinations {
    /// Row in the batch of each entry, strictly ascending.
    pub rows: Vec<u32>,
    /// Subscriber of the destination, one an entry.
    pub subscriber_id: Dict<Uuid>,
    /// Reseller of the destination, one an entry.
    pub reseller_id: Dict<Uuid>,
    /// Site of the destination, one an entry.
    pub site: Dict<Text>,
}

impl InternalDestinations {
    /// Forgets all entries, keeps the memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.subscriber_id.clear();
        self.reseller_id.clear();
        self.site.clear();
    }

    /// Whether it belongs to a batch of `batch_rows` rows: rows ascend and exist, every column holds one value an entry.
    pub fn is_sound(&self, batch_rows: usize) -> bool {
        let entries = self.rows.len();
        self.rows.is_sorted_by(|a, b| a < b)
            && self.rows.last().is_none_or(|row| (*row as usize) < batch_rows)
            && [self.subscriber_id.len(), self.reseller_id.len(), self.site.len()] == [entries; 3]
    }
}

/// A flow that began before its address belonged to whom it is attributed to: all of it is spread over the part of its span
/// from `start_ms` on, never over time in which the address was another's. Its `flow_start` stays as exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutSpan {
    /// Row in the batch.
    pub row: u32,
    /// Where its span begins for pro-rating, ms since the Unix epoch; not before its `flow_start`, not after its `time`.
    pub start_ms: i64,
}

impl CutSpan {
    /// Whether a list belongs to a batch of `batch_rows` rows: rows ascend and exist.
    pub fn are_sound(all: &[Self], batch_rows: usize) -> bool {
        all.is_sorted_by(|a, b| a.row < b.row) && all.last().is_none_or(|last| (last.row as usize) < batch_rows)
    }
}

/// A column of a batch, by storage type.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum ColumnRef<'a> {
    I64(&'a Column<i64>),
    U64(&'a Column<u64>),
    U32(&'a Column<u32>),
    U16(&'a Column<u16>),
    U8(&'a Column<u8>),
    Ip(&'a IpColumn),
    AddrDict(&'a Dict<Addr>),
    Text(&'a Dict<Text>),
    Uuid(&'a Dict<Uuid>),
}

impl ColumnRef<'_> {
    /// Whether every row is null. True for an empty column.
    pub fn all_null(self) -> bool {
        match self {
            ColumnRef::I64(c) => c.all_null(),
            ColumnRef::U64(c) => c.all_null(),
            ColumnRef::U32(c) => c.all_null(),
            ColumnRef::U16(c) => c.all_null(),
            ColumnRef::U8(c) => c.all_null(),
            ColumnRef::Ip(c) => c.all_null(),
            ColumnRef::AddrDict(c) => c.all_null(),
            ColumnRef::Text(c) => c.all_null(),
            ColumnRef::Uuid(c) => c.all_null(),
        }
    }
}

/// A column of a batch for filling, by storage type.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum ColumnMut<'a> {
    I64(&'a mut Column<i64>),
    U64(&'a mut Column<u64>),
    U32(&'a mut Column<u32>),
    U16(&'a mut Column<u16>),
    U8(&'a mut Column<u8>),
    Ip(&'a mut IpColumn),
    AddrDict(&'a mut Dict<Addr>),
    Text(&'a mut Dict<Text>),
    Uuid(&'a mut Dict<Uuid>),
}

impl FlowBatch {
    /// Rows held.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the row's span begins for pro-rating, ms since the Unix epoch: its `flow_start`, or later ([`CutSpan`]).
    #[inline]
    pub fn span_start_ms(&self, row: usize) -> i64 {
        let start = self.flow_start.value_or_default(row);
        if self.cut_spans.is_empty() {
            return start;
        }
        let cut = self.cut_spans.binary_search_by_key(&(row as u32), |cut| cut.row);
        cut.map_or(start, |at| self.cut_spans[at].start_ms)
    }

    /// The row's value of a field. For answers and exports, not for hot loops.
    pub fn value(&self, field: Field, row: usize) -> Value {
        let number = |n: Option<u64>| n.map_or(Value::Null, |n| Value::of_number(field.kind(), n));
        match self.column(field) {
            ColumnRef::I64(c) => c.get(row).map_or(Value::Null, Value::TimeMs),
            ColumnRef::U64(c) => number(c.get(row)),
            ColumnRef::U32(c) => number(c.get(row).map(u64::from)),
            ColumnRef::U16(c) => number(c.get(row).map(u64::from)),
            ColumnRef::U8(c) => number(c.get(row).map(u64::from)),
            ColumnRef::Ip(c) => c.get(row).map_or(Value::Null, Value::Ip),
            ColumnRef::AddrDict(c) => c.get(row).map_or(Value::Null, |a| Value::Ip(*a)),
            ColumnRef::Text(c) => c.get(row).map_or(Value::Null, |t| Value::Text(t.clone())),
            ColumnRef::Uuid(c) => c.get(row).map_or(Value::Null, |u| Value::Uuid(*u)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> FlowBatch {
        let mut batch = FlowBatch::default();
        for i in 0..4u64 {
            batch.time.push(Some(1_700_000_000_000 + i as i64));
            batch.bytes.push(Some(i));
            batch.src_ip.push(Some(Addr::v4(i as u32)));
            batch.app.push((i % 2 == 0).then(|| Text::from("web")).as_ref());
        }
        batch.fill_missing();
        batch
    }

    #[test]
    fn every_field_is_named_once_and_found_as_a_column() {
        let mut names: Vec<_> = Field::ALL.iter().map(|f| f.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Field::ALL.len());
        assert_eq!(sample().ragged_column(), None);
    }

    #[test]
    fn chosen_rows_are_copied_with_their_values() {
        let batch = sample();
        let mut copy = FlowBatch::default();
        copy.append_rows(&batch, &[3, 0]);
        copy.append_rows(&batch, &[2]);
        for (row, from) in [(0, 3), (1, 0), (2, 2)] {
            for field in Field::ALL {
                assert_eq!(copy.value(*field, row), batch.value(*field, from), "{}", field.name());
            }
        }
        assert_eq!(copy.ragged_column(), None);
    }
}
