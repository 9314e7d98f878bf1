use std::ops::BitOr;

use super::bits::{unpack, width_of};
use super::pack::pack;
use super::{Malformed, read_varint, write_varint};

/// Values in a block and in each of its miniblocks; the sizes that every known writer uses.
const BLOCK: usize = 128;
const MINIBLOCK: usize = 32;

/// Encodes values as DELTA_BINARY_PACKED. Differences wrap in the width of the physical type.
pub fn encode_delta<T: Delta>(values: &[T], out: &mut Vec<u8>) {
    let first = values.first().map_or(0, |first| signed::<T>((*first).into()));
    encode_from(first, values, out);
}

/// As [`encode_delta`], of 64-bit numbers: `base` and what each is above it, which is less than half of what `T` holds.
pub fn encode_delta_above<T: Delta>(base: u64, values: &[T], out: &mut Vec<u8>) {
    let first = values.first().map_or(0, |first| base.wrapping_add((*first).into()) as i64);
    encode_from(first, values, out);
}

fn encode_from<T: Delta>(first: i64, values: &[T], out: &mut Vec<u8>) {
    write_varint(BLOCK as u64, out);
    write_varint((BLOCK / MINIBLOCK) as u64, out);
    write_varint(values.len() as u64, out);
    write_varint(zigzag(first), out);
    let rest = values.get(1..).unwrap_or_default();
    let mut above = [T::default(); BLOCK];
    for (block, before) in rest.chunks(BLOCK).zip(values.chunks(BLOCK)) {
        let least = differences(block, before, &mut above);
        write_varint(zigzag(signed::<T>(least.into())), out);
        let widths_at = out.len();
        out.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
        for (index, miniblock) in above.chunks_exact(MINIBLOCK).take(block.len().div_ceil(MINIBLOCK)).enumerate() {
            let width = width_of(miniblock.iter().fold(T::default(), |all, value| all | *value).into());
            out[widths_at + index] = width as u8;
            pack(miniblock, width, out);
        }
    }
}

/// The smallest difference of a block's values to those before them. `above` becomes how far each is above it, 0 behind the
/// last one.
fn differences<T: Delta>(block: &[T], before: &[T], above: &mut [T; BLOCK]) -> T {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { differences_by_avx2(block, before, above) };
    }
    differences_of(block, before, above)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn differences_by_avx2<T: Delta>(block: &[T], before: &[T], above: &mut [T; BLOCK]) -> T {
    differences_of(block, before, above)
}

#[inline(always)]
fn differences_of<T: Delta>(block: &[T], before: &[T], above: &mut [T; BLOCK]) -> T {
    let (used, unused) = above.split_at_mut(block.len());
    for (delta, (value, before)) in used.iter_mut().zip(block.iter().zip(before)) {
        *delta = value.minus(*before);
    }
    let first = used.first().copied().unwrap_or_default();
    let least = used.iter().fold(first.flip(), |least, delta| least.min(delta.flip())).flip();
    used.iter_mut().for_each(|delta| *delta = delta.minus(least));
    unused.fill(T::default());
    least
}

/// A number that differences are taken of, modulo its width.
pub trait Delta: Copy + Default + Ord + Into<u64> + BitOr<Output = Self> {
    /// Bits of the physical type.
    const BITS: u32;
    /// The number's low bits.
    fn low(bits: u64) -> Self;
    /// The difference.
    fn minus(self, other: Self) -> Self;
    /// With the other sign bit: signed numbers then order as these do.
    fn flip(self) -> Self;
}

impl Delta for u32 {
    const BITS: u32 = 32;
    fn low(bits: u64) -> Self {
        bits as u32
    }
    fn minus(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }
    fn flip(self) -> Self {
        self ^ 1 << 31
    }
}

impl Delta for u64 {
    const BITS: u32 = 64;
    fn low(bits: u64) -> Self {
        bits
    }
    fn minus(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }
    fn flip(self) -> Self {
        self ^ 1 << 63
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
        fn narrow_offsets_come_back_as_wide_values(base in any::<u64>(), values in prop::collection::vec(0u32..1 << 31, 0..400)) {
            let (mut bytes, mut got) = (Vec::new(), Vec::<u64>::new());
            encode_delta_above(base, &values, &mut bytes);
            decode_delta(&bytes, values.len(), &mut got).unwrap();
            prop_assert_eq!(got, values.iter().map(|value| base.wrapping_add(u64::from(*value))).collect::<Vec<_>>());
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
