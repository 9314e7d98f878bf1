use proptest::prelude::*;

use super::*;
use crate::flow::batch::ColumnMut;
use crate::flow::column::Column;
use crate::flow::rollup::{Measures, OpenBucket};
use crate::flow::{Addr, CutSpan, Field, RollupDef, RollupRows, Uuid, Value};
use crate::log::fixture::{batch_of, sums_of};

fn rows_of(batch: &FlowBatch) -> Vec<Vec<Value>> {
    (0..batch.len()).map(|row| Field::ALL.iter().map(|f| batch.value(*f, row)).collect()).collect()
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    encode(record, &mut out).unwrap();
    out
}

/// A batch whose columns are filled from a stream of random numbers, every storage type with every mix of nulls.
fn any_batch(seed: u64, rows: usize) -> FlowBatch {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.rotate_left(31)
    };
    let mut batch = FlowBatch::default();
    batch.time.extend((0..rows).map(|_| next() as i64));
    for &field in &Field::ALL[1..] {
        let (nulls, bits) = (next() % 3, next() % 65);
        let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        for _ in 0..rows {
            let null = nulls == 2 || nulls == 1 && next() % 2 == 0;
            let n = (!null).then(|| next() & mask);
            match batch.column_mut(field) {
                ColumnMut::I64(c) => c.push(n.map(|n| n as i64)),
                ColumnMut::U64(c) => c.push(n),
                ColumnMut::U32(c) => c.push(n.map(|n| n as u32)),
                ColumnMut::U16(c) => c.push(n.map(|n| n as u16)),
                ColumnMut::U8(c) => c.push(n.map(|n| n as u8)),
                ColumnMut::Ip(c) if bits > 32 => c.push(n.map(|n| Addr(u128::from(n) << 40))),
                ColumnMut::Ip(c) => c.push(n.map(|n| Addr::v4(n as u32))),
                ColumnMut::AddrDict(c) => c.push(n.map(|n| Addr(n.into())).as_ref()),
                ColumnMut::Text(c) => c.push(n.map(|n| n.to_string().into()).as_ref()),
                ColumnMut::Uuid(c) => c.push(n.map(|n| Uuid::from_u128(n.into())).as_ref()),
            }
        }
    }
    batch.streams = batch_of(1, 1).streams;
    for row in (0..rows as u32).filter(|row| (seed >> (row % 64)) & 1 == 1) {
        batch.internal.rows.push(row);
        batch.internal.subscriber_id.push(Some(&Uuid::from_u128(u128::from(row % 3))));
        batch.internal.reseller_id.push((row % 2 == 0).then_some(&Uuid::from_u128(9)));
        batch.internal.site.push(None);
        batch.cut_spans.push(CutSpan { row, start_ms: (seed >> (row % 32)) as i64 });
    }
    batch
}

fn internal_of(batch: &FlowBatch) -> Vec<String> {
    let of = &batch.internal;
    let entry =
        |e: usize| format!("{:?}", (of.rows[e], of.subscriber_id.get(e), of.reseller_id.get(e), of.site.get(e)));
    (0..of.rows.len()).map(entry).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flows_come_back_as_they_went(seed: u64, rows in 0usize..80) {
        let batch = any_batch(seed, rows);
        let bytes = encoded(&Record::Flows(Arc::new(batch.clone())));
        let mut back = FlowBatch::default();
        decode_flows(&bytes, &mut back).unwrap();
        prop_assert_eq!(rows_of(&back), rows_of(&batch));
        prop_assert_eq!(&back.streams, &batch.streams);
        prop_assert_eq!(internal_of(&back), internal_of(&batch));
        prop_assert_eq!(&back.cut_spans, &batch.cut_spans);
        prop_assert_eq!(decode_streams(&bytes).unwrap(), batch.streams);
    }

    #[test]
    fn any_bytes_decode_or_say_why_not(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for kind in [PayloadKind::Flows, PayloadKind::Sums] {
            if let Err(error) = decode(kind, &bytes) {
                prop_assert!(error.at <= bytes.len(), "{}", error);
            }
        }
    }

    #[test]
    fn a_damaged_payload_never_panics(seed: u64, cut in 0usize..2000, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let mut bytes = encoded(&Record::Flows(Arc::new(any_batch(seed, 9))));
        bytes.truncate(bytes.len().saturating_sub(cut % 50));
        for (at, xor) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= xor;
        }
        if let Ok(Record::Flows(batch)) = decode(PayloadKind::Flows, &bytes) {
            prop_assert_eq!(batch.ragged_column(), None);
        }
    }
}

#[test]
fn sums_come_back_as_they_went() {
    let mut sums = sums_of(7);
    sums.open.push(OpenBucket { rollup: "geo".into(), bucket: -5, drained_upto: 3 });
    for def in &RollupDef::defaults() {
        let mut rows = RollupRows::new(def).unwrap();
        for n in 0..5u64 {
            let m = Measures { bytes: n << 40, packets: n, flows: 1, rtt_ms_sum: 9, rtt_count: u64::MAX - n };
            rows.push_measures(n as i64 * 60_000, &m);
            for (_, column) in &mut rows.keys {
                use crate::flow::rollup::KeyColumn::{Ip, Text, U8, U16, U32, U64, Uuid};
                match column {
                    U8(c) => c.push((n % 2 == 0).then_some(n as u8)),
                    U16(c) => c.push(Some(n as u16)),
                    U32(c) => c.push(None),
                    U64(c) => c.push(Some(n)),
                    Ip(c) => c.push(Some(Addr(u128::from(n)))),
                    Text(c) => c.push((n % 2 == 0).then(|| n.to_string().into()).as_ref()),
                    Uuid(c) => c.push(Some(&crate::flow::Uuid::from_u128(n.into()))),
                }
            }
            if def.has_cut_bytes() {
                rows.cut_bytes.push(n * 3);
            }
        }
        sums.rows.push(rows);
    }
    let bytes = encoded(&Record::Sums(Arc::new(sums.clone())));
    let Record::Sums(back) = decode(PayloadKind::Sums, &bytes).unwrap() else { panic!("not sums") };
    assert_eq!(format!("{back:?}"), format!("{sums:?}"));
    for cut in 0..bytes.len() {
        assert!(decode(PayloadKind::Sums, &bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn counts_that_promise_more_than_follows_are_refused_before_memory_is_taken() {
    let mut bytes = u32::MAX.to_le_bytes().to_vec();
    bytes.extend([0; 20]);
    assert!(decode(PayloadKind::Flows, &bytes).is_err());
    bytes[..4].copy_from_slice(&(ROWS_MAX as u32).to_le_bytes());
    assert_eq!(decode(PayloadKind::Flows, &bytes).unwrap_err().problem, "more rows than bytes");
}

#[test]
fn more_rows_than_a_constant_may_have_still_come_back() {
    let rows = plain::CONSTANT_ROWS_MAX + 1;
    let mut column: Column<u64> = Column::default();
    column.push_repeated(77, rows);
    let mut bytes = Vec::new();
    plain::put_column(&column, &mut bytes);
    assert!(bytes.len() > rows);
    let mut back: Column<u64> = Column::default();
    plain::read_column(&mut Reader::new(&bytes), rows, &mut back).unwrap();
    assert_eq!(back.values(), column.values());
}

#[test]
fn a_v5_flow_takes_at_most_60_bytes() {
    let batch = batch_of(1, 10_000);
    let bytes = encoded(&Record::Flows(Arc::new(batch)));
    assert!(bytes.len() <= 60 * 10_000, "{} bytes a flow", bytes.len() as f64 / 10_000.0);
}

#[test]
fn ragged_batches_are_refused() {
    let mut batch = batch_of(1, 3);
    batch.src_port.push(Some(1));
    assert!(encode_flows(&batch, &mut Vec::new()).is_err());
}
