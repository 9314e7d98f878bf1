//! Emissions of the aggregator.
//!
//! ```text
//! upto u64 | replay_from u64 | open u32 | each: rollup | bucket i64 | drained_upto u64
//! rollups u32 | each: name | bucket_ms i64 | rows u32 | buckets | keys u8 | each: key name | column
//!                     five measures | cut u8 (0, 1) | cut_bytes when 1
//! ```

use super::bytes::{DecodeError, Reader, put_name, put_text};
use super::dict::{put_addrs, put_dict, read_addrs, read_dict};
use super::flows::rows;
use super::plain::{put_column, put_values, read_column, read_values};
use crate::flow::rollup::{KeyColumn, OpenBucket};
use crate::flow::{Key, RollupRows, RollupSums};

/// Appends an emission.
pub fn put(sums: &RollupSums, out: &mut Vec<u8>) {
    out.extend_from_slice(&sums.upto.to_le_bytes());
    out.extend_from_slice(&sums.replay_from.to_le_bytes());
    out.extend_from_slice(&(sums.open.len() as u32).to_le_bytes());
    for open in &sums.open {
        put_text(out, &open.rollup);
        out.extend_from_slice(&open.bucket.to_le_bytes());
        out.extend_from_slice(&open.drained_upto.to_le_bytes());
    }
    out.extend_from_slice(&(sums.rows.len() as u32).to_le_bytes());
    for rows in &sums.rows {
        put_rows(rows, out);
    }
}

/// Reads an emission.
pub fn read(from: &mut Reader) -> Result<RollupSums, DecodeError> {
    let upto = from.u64()?;
    let replay_from = from.u64()?;
    let open = (0..from.count(20)?).map(|_| read_open(from)).collect::<Result<_, _>>()?;
    let rows = (0..from.count(17)?).map(|_| read_rows(from)).collect::<Result<_, _>>()?;
    Ok(RollupSums { upto, replay_from, open, rows })
}

fn read_open(from: &mut Reader) -> Result<OpenBucket, DecodeError> {
    Ok(OpenBucket { rollup: from.text()?.into(), bucket: from.u64()? as i64, drained_upto: from.u64()? })
}

fn put_rows(rows: &RollupRows, out: &mut Vec<u8>) {
    put_text(out, &rows.rollup);
    out.extend_from_slice(&rows.bucket_ms.to_le_bytes());
    out.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    put_values(&rows.bucket, out);
    out.push(rows.keys.len() as u8);
    for (key, column) in &rows.keys {
        put_name(out, key.name());
        put_key(column, out);
    }
    for sums in [&rows.bytes, &rows.packets, &rows.flows, &rows.rtt_ms_sum, &rows.rtt_count] {
        put_values(sums, out);
    }
    out.push(u8::from(!rows.cut_bytes.is_empty()));
    if !rows.cut_bytes.is_empty() {
        put_values(&rows.cut_bytes, out);
    }
}

fn read_rows(from: &mut Reader) -> Result<RollupRows, DecodeError> {
    let rollup = from.text()?.into();
    let bucket_ms = from.u64()? as i64;
    let rows = rows(from)?;
    let bucket = read_values(from, rows)?;
    let keys = (0..from.u8()?).map(|_| read_key(from, rows)).collect::<Result<_, _>>()?;
    Ok(RollupRows {
        rollup,
        bucket_ms,
        bucket,
        keys,
        bytes: read_values(from, rows)?,
        packets: read_values(from, rows)?,
        flows: read_values(from, rows)?,
        rtt_ms_sum: read_values(from, rows)?,
        rtt_count: read_values(from, rows)?,
        cut_bytes: if from.u8()? != 0 { read_values(from, rows)? } else { Vec::new() },
    })
}

fn put_key(column: &KeyColumn, out: &mut Vec<u8>) {
    match column {
        KeyColumn::U8(c) => put_column(c, out),
        KeyColumn::U16(c) => put_column(c, out),
        KeyColumn::U32(c) => put_column(c, out),
        KeyColumn::U64(c) => put_column(c, out),
        KeyColumn::Ip(c) => put_addrs(c, out),
        KeyColumn::Text(c) => put_dict(c, out),
        KeyColumn::Uuid(c) => put_dict(c, out),
    }
}

fn read_key(from: &mut Reader, rows: usize) -> Result<(Key, KeyColumn), DecodeError> {
    let name = from.name()?;
    let Some(key) = Key::from_name(name) else { return from.fail("a key that is not known") };
    let Some(mut column) = KeyColumn::for_key(key) else { return from.fail("a column that cannot be a key") };
    match &mut column {
        KeyColumn::U8(c) => read_column(from, rows, c)?,
        KeyColumn::U16(c) => read_column(from, rows, c)?,
        KeyColumn::U32(c) => read_column(from, rows, c)?,
        KeyColumn::U64(c) => read_column(from, rows, c)?,
        KeyColumn::Ip(c) => *c = read_addrs(from, rows)?,
        KeyColumn::Text(c) => *c = read_dict(from, rows)?,
        KeyColumn::Uuid(c) => *c = read_dict(from, rows)?,
    }
    Ok((key, column))
}
