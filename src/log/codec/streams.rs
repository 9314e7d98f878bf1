//! Progress of export streams: count u32, then 48 bytes each.

use super::bytes::{DecodeError, Reader};
use crate::flow::{Addr, StreamProgress};

const STREAM_BYTES: usize = 16 + 4 + 7 * 4;

/// Appends streams.
pub fn put(streams: &[StreamProgress], out: &mut Vec<u8>) {
    out.extend_from_slice(&(streams.len() as u32).to_le_bytes());
    for stream in streams {
        out.extend_from_slice(&stream.exporter.0.to_le_bytes());
        out.extend_from_slice(&stream.source_port.to_le_bytes());
        out.extend_from_slice(&[stream.version, u8::from(stream.has_sequence)]);
        for number in [
            stream.source_id,
            stream.first_sequence,
            stream.next_sequence,
            stream.sequence_units,
            stream.gap,
            stream.datagrams,
            stream.flows,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// Reads streams.
pub fn read(from: &mut Reader) -> Result<Vec<StreamProgress>, DecodeError> {
    let count = from.count(STREAM_BYTES)?;
    (0..count).map(|_| read_one(from)).collect()
}

fn read_one(from: &mut Reader) -> Result<StreamProgress, DecodeError> {
    Ok(StreamProgress {
        exporter: Addr(u128::from_le_bytes(from.array()?)),
        source_port: u16::from_le_bytes(from.array()?),
        version: from.u8()?,
        has_sequence: from.u8()? != 0,
        source_id: from.u32()?,
        first_sequence: from.u32()?,
        next_sequence: from.u32()?,
        sequence_units: from.u32()?,
        gap: from.u32()?,
        datagrams: from.u32()?,
        flows: from.u32()?,
    })
}
