//! The Parquet encodings that our files use, as functions over slices: bit packing, the RLE hybrid (definition levels
//! and dictionary codes), and delta packing.
//!
//! Decoders take any bytes: they give an error, never panic, and never give more values than they were asked for.

mod bits;
mod delta;
mod hybrid;
mod pack;

pub use bits::width_of;
pub use delta::{Delta, decode_delta, encode_delta, encode_delta_above};
pub use hybrid::{Stretch, decode_hybrid, encode_hybrid, encode_hybrid_run, visit_hybrid};

/// Bytes that do not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Reads an unsigned LEB128 number and moves past it.
pub(crate) fn read_varint(bytes: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(Malformed("number cut off"))?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("number longer than 64 bits"))
}

pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
