use super::bits::{pack, unpack, width_of};
use super::{Malformed, read_varint, write_varint};

/// Values in a block and in each of its miniblocks; the sizes that every known writer uses.
const BLOCK: usize = 128;
const MINIBLOCK: usize = 32;

/// Encodes values as DELTA_BINARY_PACKED. `BITS` is 32 or 64, the physical type's width, in which differences wrap.
pub fn encode_delta<const BITS: u32>(values: &[u64], out: &mut Vec<u8>) {
    write_varint(BLOCK as u64, out);
    write_varint((BLOCK / MINIBLOCK) as u64, out);
    write_varint(values.len() as u64, out);
    let Some((first, rest)) = values.split_first() else {
        return write_varint(0, out);
    };
    write_varint(zigzag(signed::<BITS>(*first)), out);
    let mut last = *first;
    let mut deltas = [0i64; BLOCK];
    for block in rest.chunks(BLOCK) {
        let mut least = i64::MAX;
        for (delta, value) in deltas.iter_mut().zip(block) {
            *delta = signed::<BITS>(value.wrapping_sub(last));
            least = least.min(*delta);
            last = *value;
        }
        write_varint(zigzag(least), out);
        let miniblocks = deltas[..block.len()].chunks(MINIBLOCK);
        let widths_at = out.len();
        out.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
        for (index, miniblock) in miniblocks.enumerate() {
            let above = |delta: &i64| unsigned::<BITS>(delta.wrapping_sub(least) as u64);
            let width = width_of(miniblock.iter().map(above).fold(0, |a, b| a | b));
            out[widths_at + index] = width as u8;
            let padding = std::iter::repeat_n(0, MINIBLOCK - miniblock.len());
            pack(miniblock.iter().map(above).chain(padding), width, out);
        }
    }
}

/// Decodes `count` values and appends them, sign-extended from the width in which they were stored.
///
/// # Errors
/// When the bytes end too early, or their header does not fit what was asked for.
pub fn decode_delta<const BITS: u32>(bytes: &[u8], count: usize, out: &mut Vec<u64>) -> Result<(), Malformed> {
    let at = &mut 0;
    let block = read_varint(bytes, at)?;
    let miniblocks = read_varint(bytes, at)?;
    let total = read_varint(bytes, at)?;
    if total != count as u64 {
        return Err(Malformed("number of delta values differs from the page's"));
    }
    if miniblocks == 0 || block == 0 || block > 1 << 20 || !block.is_multiple_of(miniblocks * 8) {
        return Err(Malformed("delta block size"));
    }
    let per_miniblock = (block / miniblocks) as usize;
    let mut last = unzigzag(read_varint(bytes, at)?);
    if count == 0 {
        return Ok(());
    }
    out.reserve(count);
    out.push(last as u64);
    let mut left = count - 1;
    while left > 0 {
        let least = unzigzag(read_varint(bytes, at)?);
        let widths = bytes.get(*at..*at + miniblocks as usize).ok_or(Malformed("delta widths cut off"))?;
        *at += miniblocks as usize;
        for width in widths {
            if left == 0 {
                break;
            }
            let rows = per_miniblock.min(left);
            unpack(bytes.get(*at..).unwrap_or_default(), u32::from(*width), rows, |above| {
                last = signed::<BITS>((last as u64).wrapping_add(least as u64).wrapping_add(above));
                out.push(last as u64);
            })?;
            *at += (per_miniblock * usize::from(*width)).div_ceil(8);
            left -= rows;
        }
    }
    Ok(())
}

/// The low `BITS` bits as a signed number.
fn signed<const BITS: u32>(value: u64) -> i64 {
    if BITS == 32 { i64::from(value as u32 as i32) } else { value as i64 }
}

/// The low `BITS` bits.
fn unsigned<const BITS: u32>(value: u64) -> u64 {
    if BITS == 32 { u64::from(value as u32) } else { value }
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
            let (mut bytes, mut got) = (Vec::new(), Vec::new());
            encode_delta::<64>(&values, &mut bytes);
            decode_delta::<64>(&bytes, values.len(), &mut got).unwrap();
            prop_assert_eq!(got, values);
        }

        #[test]
        fn narrow_values_come_back(values in prop::collection::vec(prop_oneof![any::<u32>(), 0u32..1000], 0..400)) {
            let (mut bytes, mut got) = (Vec::new(), Vec::new());
            let wide: Vec<u64> = values.iter().map(|v| u64::from(*v)).collect();
            encode_delta::<32>(&wide, &mut bytes);
            decode_delta::<32>(&bytes, values.len(), &mut got).unwrap();
            let got: Vec<u32> = got.into_iter().map(|v| v as u32).collect();
            prop_assert_eq!(got, values);
        }

        #[test]
        fn any_bytes_are_an_error_or_as_many_values_as_asked(bytes in prop::collection::vec(any::<u8>(), 0..80), count in 0usize..300) {
            let mut out = Vec::new();
            if decode_delta::<64>(&bytes, count, &mut out).is_ok() {
                prop_assert_eq!(out.len(), count);
            }
            prop_assert!(out.len() <= count);
        }
    }
}
