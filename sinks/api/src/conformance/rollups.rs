//! Rollups of a batch by the letter of their definition: one flow, one bucket, one key at a time.

use std::collections::BTreeMap;

use crate::batch::Field;
use crate::filter::Side;
use crate::rollup::{Key, Measures, Role, RollupDef, RollupRows, RollupSums, Shape};
use crate::value::Value;
use crate::{Direction, FlowBatch};

/// Sums by bucket and key.
type Sums = BTreeMap<(i64, Vec<Value>), (Measures, u64)>;

/// The pro-rated sums of one batch, as one emission that leaves no bucket open.
pub fn pro_rated(defs: &[RollupDef], batch: &FlowBatch, position: u64) -> RollupSums {
    let rows = defs.iter().filter_map(|def| rows_of(def, batch)).collect();
    RollupSums { upto: position, replay_from: position + 1, open: Vec::new(), rows }
}

/// Which side of a flow is booked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Booking {
    Src,
    Dst,
    InternalIn,
}

fn rows_of(def: &RollupDef, batch: &FlowBatch) -> Option<RollupRows> {
    let mut sums = Sums::new();
    let by_host = def.by.contains(&Key::Host);
    for row in 0..batch.len() {
        book(def, batch, row, Booking::Src, &mut sums);
        if by_host {
            book(def, batch, row, Booking::Dst, &mut sums);
        }
        let internal = batch.direction.get(row) == Some(Direction::Internal as u8);
        if def.shape == Shape::PerSubscriber && internal {
            book(def, batch, row, Booking::InternalIn, &mut sums);
        }
    }
    if let Shape::Talkers { others } = def.shape {
        sums = cut(def, sums, others);
    }
    let mut rows = RollupRows::new(def)?;
    for ((bucket, keys), (measures, cut_bytes)) in sums {
        rows.push_measures(bucket, &measures);
        for ((_, column), value) in rows.keys.iter_mut().zip(&keys) {
            column.push(value);
        }
        if def.has_cut_bytes() {
            rows.cut_bytes.push(cut_bytes);
        }
    }
    (!rows.is_empty()).then_some(rows)
}

/// Spreads one flow over the buckets of its span, the remainder in the last.
fn book(def: &RollupDef, batch: &FlowBatch, row: usize, booking: Booking, sums: &mut Sums) {
    let keys: Vec<Value> = def.by.iter().map(|key| value(batch, row, *key, booking)).collect();
    let (end, width) = (batch.time.value_or_default(row), def.bucket_ms);
    let start = batch.span_start_ms(row).min(end);
    let (bytes, packets) = (batch.bytes.value_or_default(row), batch.packets.value_or_default(row));
    let (mut bytes_left, mut packets_left) = (bytes, packets);
    let last = end.div_euclid(width);
    for bucket in start.div_euclid(width)..last {
        let overlap = ((bucket + 1) * width).min(end) - (bucket * width).max(start);
        let share = |total: u64| (u128::from(total) * overlap as u128 / (end - start).max(1) as u128) as u64;
        let measures = Measures { bytes: share(bytes), packets: share(packets), ..Measures::default() };
        bytes_left -= measures.bytes;
        packets_left -= measures.packets;
        sums.entry((bucket * width, keys.clone())).or_default().0.add(&measures);
    }
    let rtt_ms = batch.rtt_ms.get(row);
    let measures = Measures {
        bytes: bytes_left,
        packets: packets_left,
        flows: 1,
        rtt_ms_sum: rtt_ms.map_or(0, u64::from),
        rtt_count: u64::from(rtt_ms.is_some()),
    };
    sums.entry((last * width, keys)).or_default().0.add(&measures);
}

fn value(batch: &FlowBatch, row: usize, key: Key, booking: Booking) -> Value {
    let outer = Direction::outer_side(batch.direction.get(row).and_then(Direction::from_code));
    let far = |src, dst| batch.value(if outer == Side::Src { src } else { dst }, row);
    match key {
        Key::Host => batch.value(if booking == Booking::Dst { Field::DstIp } else { Field::SrcIp }, row),
        Key::Role => Value::Number(if booking == Booking::Dst { Role::Dst } else { Role::Src } as u64),
        Key::Country => far(Field::SrcCountry, Field::DstCountry),
        Key::Asn => far(Field::SrcAs, Field::DstAs),
        Key::Field(field) if booking == Booking::InternalIn => internal_in(batch, row, field),
        Key::Field(field) => batch.value(field, row),
    }
}

/// The destination's side of an internal flow.
fn internal_in(batch: &FlowBatch, row: usize, field: Field) -> Value {
    let internal = &batch.internal;
    let entry = internal.rows.binary_search(&(row as u32)).ok();
    match field {
        Field::Direction => Value::Direction(Direction::InternalIn),
        Field::SubscriberId => {
            entry.and_then(|e| internal.subscriber_id.get(e)).map_or(Value::Null, |u| Value::Uuid(*u))
        }
        Field::ResellerId => entry.and_then(|e| internal.reseller_id.get(e)).map_or(Value::Null, |u| Value::Uuid(*u)),
        Field::Site => entry.and_then(|e| internal.site.get(e)).map_or(Value::Null, |t| Value::Text(t.clone())),
        field => batch.value(field, row),
    }
}

/// Keeps customer hosts and the heaviest `others` in each bucket; folds the rest.
fn cut(def: &RollupDef, sums: Sums, others: usize) -> Sums {
    let Some(host) = def.by.iter().position(|key| *key == Key::Host) else { return sums };
    let mut kept = Sums::new();
    let mut heaviest: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    for ((bucket, keys), sum) in sums {
        if is_customer(&keys[host]) {
            kept.insert((bucket, keys), sum);
        } else {
            heaviest.entry(bucket).or_default().push((keys, sum));
        }
    }
    for (bucket, mut hosts) in heaviest {
        hosts.sort_by_key(|(_, (measures, _))| std::cmp::Reverse(measures.bytes));
        for (rank, (mut keys, (measures, _))) in hosts.into_iter().enumerate() {
            if rank >= others {
                keys[host] = Value::Null;
            }
            let (sum, cut_bytes) = kept.entry((bucket, keys)).or_default();
            sum.add(&measures);
            if rank >= others {
                *cut_bytes = (*cut_bytes).max(measures.bytes);
            }
        }
    }
    kept
}

/// Customers of the data set: 10.0.0.0/8 and 2001:db8::/32.
fn is_customer(host: &Value) -> bool {
    match host {
        Value::Ip(addr) => addr.as_v4().map_or(addr.0 >> 96 == 0x2001_0db8, |bits| bits >> 24 == 10),
        _ => false,
    }
}
