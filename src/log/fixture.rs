//! Records for this module's tests.

use std::sync::Arc;

use crate::flow::{Addr, FlowBatch, Record, RollupSums, StreamProgress};

/// A batch as v5 flows make it, different for each seed; `bytes` of the first row is the seed.
pub fn batch_of(seed: u64, rows: usize) -> FlowBatch {
    let mut batch = FlowBatch::default();
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let start = 1_790_000_000_000;
    for row in 0..rows {
        let end = start + (next() % 60_000) as i64;
        batch.time.push(Some(end));
        batch.flow_start.push(Some(end - (next() % 900_000) as i64));
        batch.received_at.push(Some(start + 60_000 + row as i64 / 30));
        batch.exporter_ip.push(Some(&Addr::v4(0x0a00_0001)));
        batch.src_ip.push(Some(Addr::v4(0x0a00_0000 + (next() % 50_000) as u32)));
        batch.dst_ip.push(Some(Addr::v4(next() as u32)));
        batch.src_port.push(Some(next() as u16));
        batch.dst_port.push(Some(if next() % 2 == 0 { 443 } else { next() as u16 }));
        batch.protocol.push(Some(if next() % 2 == 0 { 6 } else { 17 }));
        batch.bytes.push(Some(if row == 0 { seed } else { next() % (1 << 30) }));
        batch.packets.push(Some(next() % 60_000));
        batch.tcp_flags.push(Some((next() % 32) as u16));
        batch.tos.push(Some(0));
        batch.input_if.push(Some((next() % 8) as u32));
        batch.output_if.push(Some((next() % 8) as u32));
        batch.next_hop.push(Some(Addr::v4(0x0a00_00fe)));
        batch.src_as.push(Some((next() % 65_000) as u32));
        batch.dst_as.push(Some((next() % 65_000) as u32));
        batch.src_mask.push(Some((next() % 33) as u8));
        batch.dst_mask.push(Some((next() % 33) as u8));
        batch.sampling_rate.push(Some(1));
        batch.netflow_version.push(Some(5));
        batch.direction.push(Some((1 + next() % 4) as u8));
        batch.service_port.push((next() % 50 != 0).then_some(443));
    }
    batch.fill_missing();
    batch.streams.push(StreamProgress {
        exporter: Addr::v4(0x0a00_0001),
        source_port: 9999,
        version: 5,
        source_id: 3,
        has_sequence: true,
        first_sequence: seed as u32,
        next_sequence: seed as u32 + rows as u32,
        sequence_units: rows as u32,
        gap: 0,
        datagrams: 1,
        flows: rows as u32,
    });
    batch
}

/// A batch of as few bytes as one can be; `bytes` of the first row is the seed.
pub fn tiny_flows_of(seed: u64, rows: usize) -> Record {
    let mut batch = FlowBatch::default();
    batch.time.push_repeated(1_790_000_000_000, rows);
    batch.bytes.push_repeated(seed, rows);
    batch.fill_missing();
    Record::Flows(Arc::new(batch))
}

/// A record of flows.
pub fn flows_of(seed: u64, rows: usize) -> Record {
    Record::Flows(Arc::new(batch_of(seed, rows)))
}

/// An emission without rows.
pub fn sums_of(upto: u64) -> RollupSums {
    RollupSums { upto, replay_from: upto + 1, ..RollupSums::default() }
}

/// The seed of a record made by [`flows_of`].
pub fn seed_of(record: &Record) -> Option<u64> {
    match record {
        Record::Flows(batch) if !batch.is_empty() => batch.bytes.get(0),
        _ => None,
    }
}
