use super::bits::{unpack, width_of};
use super::pack::pack;
use super::{Malformed, read_varint, write_varint};

/// Values in a block and in each of its miniblocks; the sizes that every known writer uses.
const BLOCK: usize = 128;
const MINIBLOCK: usize = 32;

/// Encodes values as DELTA_BINARY_PACKED. Differences wrap in the width of the physical type.
pub fn encode_delta<T: Delta>(values: &[T], out: &mut Vec<u8>) {
    write_varint(BLOCK as u64, out);
    write_varint((BLOCK / MINIBLOCK) as u64, out);
    write_varint(values.len() as u64, out);
    let Some((first, rest)) = values.split_first() else {
        return write_varint(0, out);
    };
    write_varint(zigzag(signed::<T>((*first).into())), out);
    let mut last: u64 = (*first).into();
    let mut deltas = [0i64; BLOCK];
    let mut above = [0u64; BLOCK];
    for block in rest.chunks(BLOCK) {
        let mut least = i64::MAX;
        for (delta, value) in deltas.iter_mut().zip(block) {
            let value: u64 = (*value).into();
            *delta = signed::<T>(value.wrapping_sub(last));
            least = least.min(*delta);
            last = value;
        }
        write_varint(zigzag(least), out);
        for (above, delta) in above.iter_mut().zip(&deltas[..block.len()]) {
            *above = T::low(delta.wrapping_sub(least) as u64).into();
        }
        above[block.len()..].fill(0);
        let widths_at = out.len();
        out.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
        for (index, miniblock) in above.chunks_exact(MINIBLOCK).take(block.len().div_ceil(MINIBLOCK)).enumerate() {
            let width = width_of(miniblock.iter().fold(0, |a, b| a | b));
            out[widths_at + index] = width as u8;
            pack(miniblock, width, out);
        }
    }
}

/// A number that differences are taken of, modulo its width.
pub trait Delta: Copy + Default + Into<u64> {
    /// Bits of the physical type.
    const BITS: u32;
    /// The number's low bits.
    fn low(bits: u64) -> Self;
}

impl Delta for u32 {
    const BITS: u32 = 32;
    fn low(bits: u64) -> Self {
        bits as u32
    }
}

impl Delta for u64 {
    const BITS: u32 = 64;
    fn low(bits: u64) -> Self {
        bits
    }
}

/// Decodes `count` values and appends them.
///
/// # Errors
/// When the bytes end too early, or their header does not fit what was asked for.
pub fn decode_delta<T: Delta>(bytes: &[u8], count: usize, out: &mut Vec<T>) -> Result<(), Malformed> {
    let at = &mut 0;
    let block = read_varint(bytes, at)?;
    let miniblocks = read_varint(bytes, at)?;
    let total = read_varint(bytes, at)?;
    if total != count as u64 {
        return Err(Malformed("number of delta values differs from the page's"));
    }
    if miniblocks == 0 || miniblocks > block || block > 1 << 20 || !block.is_multiple_of(miniblocks * 8) {
        return Err(Malformed("delta block size"));
    }
    let per_miniblock = (block / miniblocks) as usize;
    let mut last = unzigzag(read_varint(bytes, at)?) as u64;
    if count == 0 {
        return Ok(());
    }
    out.reserve(count);
    out.push(T::low(last));
    let mut buffer = [0u64; MINIBLOCK];
    let mut left = count - 1;
    while left > 0 {
        let least = unzigzag(read_varint(bytes, at)?) as u64;
        let widths = bytes.get(*at..*at + miniblocks as usize).ok_or(Malformed("delta widths cut off"))?;
        *at += miniblocks as usize;
        for width in widths {
            if left == 0 {
                break;
            }
            let rows = per_miniblock.min(left);
            let packed = bytes.get(*at..).unwrap_or_default();
            for first in (0..rows).step_by(MINIBLOCK) {
                let slots = &mut buffer[..MINIBLOCK.min(rows - first)];
                // A multiple of 8 values fills whole bytes.
                unpack(
                    packed.get(first / 8 * usize::from(*width)..).unwrap_or_default(),
                    u32::from(*width),
                    slots,
                    |v| v,
                )?;
                out.extend(slots.iter().map(|above| {
                    last = last.wrapping_add(least).wrapping_add(*above);
                    T::low(last)
                }));
            }
            *at += (per_miniblock * usize::from(*width)).div_ceil(8);
            left -= rows;
        }
    }
    Ok(())
}

/// The low bits as a signed number.
fn signed<T: Delta>(value: u64) -> i64 {
    let above = u64::BITS - T::BITS;
    (value << above) as i64 >> above
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn wide_values_come_back(values in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..1000], 0..400)) {
            let (mut bytes, mut got) = (Vec::new(), Vec::<u64>::new());
            encode_delta(&values, &mut bytes);
            decode_delta(&bytes, values.len(), &mut got).unwrap();
            prop_assert_eq!(got, values);
        }

        #[test]
        fn narrow_values_come_back(values in prop::collection::vec(prop_oneof![any::<u32>(), 0u32..1000], 0..400)) {
            let (mut bytes, mut got) = (Vec::new(), Vec::<u32>::new());
            encode_delta(&values, &mut bytes);
            decode_delta(&bytes, values.len(), &mut got).unwrap();
            prop_assert_eq!(got, values);
        }

        #[test]
        fn any_bytes_are_an_error_or_as_many_values_as_asked(bytes in prop::collection::vec(any::<u8>(), 0..80), count in 0usize..300) {
            let mut out = Vec::<u64>::new();
            if decode_delta(&bytes, count, &mut out).is_ok() {
                prop_assert_eq!(out.len(), count);
            }
            prop_assert!(out.len() <= count);
        }
    }
}
