//! The aggregator against the definition: random batches, sums by key and bucket computed flow by flow.

mod bounds;
mod crash;
mod equality;
mod timing;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Aggregator, Config, Counters};
use crate::flow::rollup::{Role, Shape};
use crate::flow::{
    Addr, CutSpan, Direction, Field, FlowBatch, Key, Measures, RollupDef, RollupSums, Text, Uuid, Value,
};

const HOUR_MS: i64 = 3_600_000;
/// Some time on an hour's boundary.
const T0: i64 = 1_700_000_000_000 / HOUR_MS * HOUR_MS;

/// One flow of a test.
#[derive(Clone, Debug)]
struct Flow {
    end: i64,
    span: i64,
    bytes: u64,
    packets: u64,
    direction: Direction,
    src: u32,
    dst: u32,
    nas: Option<u8>,
    reseller: Option<u8>,
    subscriber: Option<u8>,
    app: Option<u8>,
    protocol: u8,
    service_port: Option<u16>,
    far: Option<u8>,
    rtt_ms: Option<u32>,
    /// Subscriber of an internal flow's destination.
    internal: Option<u8>,
    /// Whether its address was another's in the first third of the span.
    cut: bool,
}

impl Flow {
    fn plain(end: i64, span: i64, bytes: u64) -> Self {
        Self {
            end,
            span,
            bytes,
            packets: 1,
            direction: Direction::Out,
            src: 1,
            dst: 2,
            nas: None,
            reseller: None,
            subscriber: None,
            app: None,
            protocol: 6,
            service_port: None,
            far: None,
            rtt_ms: None,
            internal: None,
            cut: false,
        }
    }
}

fn text(n: u8) -> Text {
    format!("name{n}").into()
}

fn uuid(n: u8) -> Uuid {
    Uuid::from_u128(u128::from(n) + 1)
}

fn batch(flows: &[Flow]) -> FlowBatch {
    let mut batch = FlowBatch::default();
    for (row, flow) in flows.iter().enumerate() {
        batch.time.push(Some(flow.end));
        batch.flow_start.push(Some(flow.end.saturating_sub(flow.span)));
        batch.bytes.push(Some(flow.bytes));
        batch.packets.push(Some(flow.packets));
        batch.direction.push(Some(flow.direction as u8));
        // Every seventh host is IPv6.
        let addr = |n: u32| if n % 7 == 6 { Addr(u128::from(n) << 64) } else { Addr::v4(n) };
        batch.src_ip.push(Some(addr(flow.src)));
        batch.dst_ip.push(Some(addr(flow.dst)));
        batch.nas_id.push(flow.nas.map(text).as_ref());
        batch.site.push(flow.nas.map(|n| text(n + 100)).as_ref());
        batch.reseller_id.push(flow.reseller.map(uuid).as_ref());
        batch.subscriber_id.push(flow.subscriber.map(|n| uuid(n + 100)).as_ref());
        batch.app.push(flow.app.map(text).as_ref());
        batch.protocol.push(Some(flow.protocol));
        batch.service_port.push(flow.service_port);
        batch.src_country.push(flow.far.map(u16::from));
        batch.dst_country.push(flow.far.map(|n| u16::from(n) + 1000));
        batch.src_as.push(flow.far.map(u32::from));
        batch.dst_as.push(flow.far.map(|n| u32::from(n) + 1000));
        batch.rtt_ms.push(flow.rtt_ms);
        if let Some(n) = flow.internal.filter(|_| flow.direction == Direction::Internal) {
            batch.internal.rows.push(row as u32);
            batch.internal.subscriber_id.push(Some(&uuid(n + 100)));
            batch.internal.reseller_id.push(Some(&uuid(n)));
            batch.internal.site.push(None);
        }
    }
    let cut = flows.iter().enumerate().filter(|(_, flow)| flow.cut && flow.span > 0);
    let start_ms = |flow: &Flow| flow.end - flow.span + flow.span / 3;
    batch.cut_spans = cut.map(|(row, flow)| CutSpan { row: row as u32, start_ms: start_ms(flow) }).collect();
    batch.fill_missing();
    batch
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let when = (
        prop_oneof![5 => -7_200_000i64..600_000, 1 => -40_000_000i64..40_000_000, 1 => Just(0i64)],
        prop_oneof![Just(0i64), 0i64..1000, 0i64..900_000, 0i64..5_000_000, Just(HOUR_MS), Just(-5)],
    );
    let much = (0u64..2_000_000, 0u64..500, prop::option::weighted(0.3, 0u32..10_000));
    let who = (0u32..20, 0u32..20, prop::option::of(0u8..3), prop::option::of(0u8..3), prop::option::of(0u8..8));
    let what = (prop::option::of(0u8..3), 1u8..4, prop::option::of(0u16..4), prop::option::of(0u8..3));
    let direction = prop::sample::select(Direction::ALL[..4].to_vec());
    (when, much, who, what, direction, (prop::option::of(0u8..8), any::<bool>())).prop_map(
        |((end, span), (bytes, packets, rtt_ms), who, what, direction, (internal, cut))| Flow {
            end: T0 + end,
            span,
            bytes,
            packets,
            direction,
            src: who.0,
            dst: who.1,
            nas: who.2,
            reseller: who.3,
            subscriber: who.4,
            app: what.0,
            protocol: what.1,
            service_port: what.2,
            far: what.3,
            rtt_ms,
            internal,
            cut,
        },
    )
}

/// Sums by rollup, bucket start and key.
/// The default rollups and the one that sinks may want.
fn with_ports() -> Vec<RollupDef> {
    RollupDef::defaults().into_iter().chain([RollupDef::usage_ports()]).collect()
}

type Sums = BTreeMap<(String, i64, Vec<Value>), Measures>;

fn key_of(def: &RollupDef, batch: &FlowBatch, row: usize, role: Role, internal_in: bool) -> Vec<Value> {
    let direction = batch.direction.get(row).and_then(Direction::from_code).unwrap();
    let far_is_src = matches!(direction, Direction::In | Direction::Transit);
    let far = |src: Field, dst: Field| batch.value(if far_is_src { src } else { dst }, row);
    let entry = batch.internal.rows.iter().position(|r| *r as usize == row);
    let uuid_or_null = |u: Option<&Uuid>| u.map_or(Value::Null, |u| Value::Uuid(*u));
    let value = |key: &Key| match key {
        Key::Role => Value::Number(role as u64),
        Key::Host => batch.value(if role == Role::Src { Field::SrcIp } else { Field::DstIp }, row),
        Key::Country => far(Field::SrcCountry, Field::DstCountry),
        Key::Asn => far(Field::SrcAs, Field::DstAs),
        Key::Field(Field::Direction) if internal_in => Value::Direction(Direction::InternalIn),
        Key::Field(Field::SubscriberId) if internal_in => {
            entry.map_or(Value::Null, |e| uuid_or_null(batch.internal.subscriber_id.get(e)))
        }
        Key::Field(Field::ResellerId) if internal_in => {
            entry.map_or(Value::Null, |e| uuid_or_null(batch.internal.reseller_id.get(e)))
        }
        Key::Field(Field::Site) if internal_in => Value::Null,
        Key::Field(field) => batch.value(*field, row),
    };
    def.by.iter().map(value).collect()
}

/// The definition: flow by flow, bucket by bucket.
fn expected(defs: &[RollupDef], batch: &FlowBatch, sums: &mut Sums) {
    for def in defs {
        for row in 0..batch.len() {
            let mut keys = vec![key_of(def, batch, row, Role::Src, false)];
            if def.by.contains(&Key::Host) {
                keys.push(key_of(def, batch, row, Role::Dst, false));
            }
            if def.shape == Shape::PerSubscriber && batch.direction.get(row) == Some(Direction::Internal as u8) {
                keys.push(key_of(def, batch, row, Role::Src, true));
            }
            for key in keys {
                book_naively(def, batch, row, &key, sums);
            }
        }
    }
}

fn book_naively(def: &RollupDef, batch: &FlowBatch, row: usize, key: &[Value], sums: &mut Sums) {
    let cut = batch.cut_spans.iter().find(|cut| cut.row as usize == row);
    let start = cut.map_or(batch.flow_start.get(row).unwrap(), |cut| cut.start_ms);
    let end = batch.time.get(row).unwrap();
    let (bytes, packets) = (batch.bytes.get(row).unwrap(), batch.packets.get(row).unwrap());
    let (span, width) = (end - start, def.bucket_ms);
    let last = end.div_euclid(width);
    let mut add = |bucket: i64, m: Measures| {
        if m != Measures::default() {
            sums.entry((def.name.to_string(), bucket * width, key.to_vec())).or_default().add(&m);
        }
    };
    let mut rest = Measures { bytes, packets, flows: 1, ..Measures::default() };
    if let Some(rtt_ms) = batch.rtt_ms.get(row) {
        (rest.rtt_ms_sum, rest.rtt_count) = (u64::from(rtt_ms), 1);
    }
    if span > 0 && span <= HOUR_MS {
        for bucket in start.div_euclid(width)..last {
            let overlap = ((bucket + 1) * width).min(end) - (bucket * width).max(start);
            let share = |v: u64| v * overlap as u64 / span as u64;
            add(bucket, Measures { bytes: share(bytes), packets: share(packets), ..Measures::default() });
            rest.bytes -= share(bytes);
            rest.packets -= share(packets);
        }
    }
    add(last, rest);
}

/// Adds the rows of an emission.
fn collect(sums: &RollupSums, into: &mut Sums) {
    for rows in &sums.rows {
        for row in 0..rows.len() {
            let key = rows.keys.iter().map(|(key, column)| column.value(key.kind(), row)).collect();
            into.entry((rows.rollup.to_string(), rows.bucket[row], key)).or_default().add(&rows.measures(row));
        }
    }
}

fn aggregator(defs: Vec<RollupDef>, config: Config) -> (Aggregator, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Aggregator::new(Arc::new(defs), config, counters.clone()).unwrap(), counters)
}

/// Everything that is pending.
fn flushed(aggregator: &mut Aggregator, now_ms: i64) -> Vec<RollupSums> {
    aggregator.flush();
    std::iter::from_fn(|| aggregator.emit(now_ms)).collect()
}
