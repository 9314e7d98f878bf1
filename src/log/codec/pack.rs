//! Numbers as whole bytes: what is done for every value of every column that the log takes in.
//!
//! Loops of one step over groups of values: the compiler makes vector code of them, which with AVX2 takes a fraction of the
//! instructions.

use super::plain::Plain;

/// Values that are packed before their bytes are appended: a few cache lines.
const GROUP: usize = 64;
/// Values of three bytes that fill whole words.
const QUAD: usize = 4;

/// The smallest and the largest of some values; the default value twice for none.
#[inline(always)]
pub(super) fn extent<T: Plain>(values: &[T]) -> (T, T) {
    let first = values.first().copied().unwrap_or_default();
    values.iter().fold((first, first), |(min, max), value| (min.min(*value), max.max(*value)))
}

/// Appends `value - min` of every value in `width` bytes.
#[inline(always)]
pub(super) fn pack<T: Plain>(values: &[T], min: T, width: usize, out: &mut Vec<u8>) {
    out.reserve(values.len() * width);
    match width {
        0 => {}
        1 => each(values, out, |value| (value.above(min) as u8).to_le_bytes()),
        2 => each(values, out, |value| (value.above(min) as u16).to_le_bytes()),
        3 => pack_three(values, min, out),
        4 => each(values, out, |value| (value.above(min) as u32).to_le_bytes()),
        8 => each(values, out, |value| (value.above(min) as u64).to_le_bytes()),
        _ => each(values, out, |value| value.above(min).to_le_bytes()),
    }
}

#[inline(always)]
fn each<T: Plain, const N: usize>(values: &[T], out: &mut Vec<u8>, bytes: impl Fn(T) -> [u8; N]) {
    let mut packed = [[0; N]; GROUP];
    let (groups, rest) = values.as_chunks::<GROUP>();
    for group in groups {
        for (to, value) in packed.iter_mut().zip(group) {
            *to = bytes(*value);
        }
        out.extend_from_slice(packed.as_flattened());
    }
    rest.iter().for_each(|value| out.extend_from_slice(&bytes(*value)));
}

/// Four values are twelve bytes: one word of eight and one of four.
#[inline(always)]
fn pack_three<T: Plain>(values: &[T], min: T, out: &mut Vec<u8>) {
    let mut packed = [[0; 3 * QUAD]; GROUP / QUAD];
    let (groups, rest) = values.as_chunks::<GROUP>();
    for group in groups {
        for (to, quad) in packed.iter_mut().zip(group.as_chunks::<QUAD>().0) {
            let [a, b, c, d] = quad.map(|value| value.above(min) as u64);
            to[..8].copy_from_slice(&(a | b << 24 | c << 48).to_le_bytes());
            to[8..].copy_from_slice(&((c >> 16 | d << 8) as u32).to_le_bytes());
        }
        out.extend_from_slice(packed.as_flattened());
    }
    rest.iter().for_each(|value| out.extend_from_slice(&(value.above(min) as u32).to_le_bytes()[..3]));
}

/// One bit a row from one byte (0 or 1) a row.
pub(super) fn put_bitmap(present: &[u8], out: &mut Vec<u8>) {
    // Moves bit 8 n of a word of eight rows to bit 56 + n; no two bits meet on the way.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (words, rest) = present.as_chunks::<8>();
    out.extend(words.iter().map(|rows| (u64::from_le_bytes(*rows).wrapping_mul(GATHER) >> 56) as u8));
    if !rest.is_empty() {
        out.push(rest.iter().enumerate().fold(0, |bits, (i, row)| bits | row << i));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_takes_its_low_bytes(values in prop::collection::vec(any::<u64>(), 0..200), width in prop::sample::select(vec![1usize, 2, 3, 4, 8])) {
            let values: Vec<u64> = values.iter().map(|value| value >> (64 - 8 * width)).collect();
            let (min, max) = extent(&values);
            prop_assert_eq!((min, max), (values.iter().copied().min().unwrap_or(0), values.iter().copied().max().unwrap_or(0)));
            let (mut out, mut want) = (vec![9], vec![9]);
            pack(&values, min, width, &mut out);
            values.iter().for_each(|value| want.extend_from_slice(&(value - min).to_le_bytes()[..width]));
            prop_assert_eq!(out, want);
        }

        #[test]
        fn rows_that_are_present_are_marked(rows in prop::collection::vec(0u8..2, 0..100)) {
            let mut bitmap = Vec::new();
            put_bitmap(&rows, &mut bitmap);
            prop_assert_eq!(bitmap.len(), rows.len().div_ceil(8));
            for (row, present) in rows.iter().enumerate() {
                prop_assert_eq!(bitmap[row / 8] >> (row % 8) & 1, *present);
            }
        }
    }
}
