//! Packing values into few bits each.
//!
//! Eight values of `width` bits take `width` whole bytes. Values are folded together in 64-bit words, two neighbours at a
//! time, which the compiler makes vector code of.

/// Values that fill whole bytes at any width.
const GROUP: usize = 8;

/// Values packed at once where there are as many: enough for vectors.
const BLOCK: usize = 256;

/// Values packed at once of what is left; as many as a miniblock of differences has.
const SMALL_BLOCK: usize = 32;

/// Bytes that the stores of one group may reach beyond its own.
const BEYOND: usize = 32;

/// Appends values of `width` bits each (0 to 64), least significant bit first, padded with zero bits to a whole byte.
pub(super) fn pack<T: Copy + Default + Into<u64>>(values: &[T], width: u32, out: &mut Vec<u8>) {
    if width > 32 {
        return pack_wide(values, width, out);
    }
    let (start, length) = (out.len(), (values.len() * width as usize).div_ceil(8));
    out.resize(start + length + BEYOND, 0);
    pack_narrow(values, width, &mut out[start..]);
    out.truncate(start + length);
}

/// As [`pack`] for up to 32 bits; `out` has room for [`BEYOND`] bytes more.
fn pack_narrow<T: Copy + Default + Into<u64>>(values: &[T], width: u32, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { pack_by_avx2(values, width, out) };
    }
    pack_by_width(values, width, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn pack_by_avx2<T: Copy + Default + Into<u64>>(values: &[T], width: u32, out: &mut [u8]) {
    pack_by_width(values, width, out);
}

#[inline(always)]
fn pack_by_width<T: Copy + Default + Into<u64>>(values: &[T], width: u32, out: &mut [u8]) {
    macro_rules! by_width {
        ($($width:literal)+) => {
            match width {
                0 => {}
                1..=8 => pack_groups::<Bytes, T>(values, width, out),
                9..=16 => pack_groups::<Shorts, T>(values, width, out),
                $($width => pack_groups::<Words<$width>, T>(values, width, out),)+
                _ => {}
            }
        };
    }
    by_width!(17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

/// Packs blocks, then small ones, then groups, then what is left as a group filled up with zeros.
#[inline(always)]
fn pack_groups<F: Fold, T: Copy + Default + Into<u64>>(values: &[T], width: u32, out: &mut [u8]) {
    let (at, rest) = pack_blocks::<F, BLOCK, T>(values, width, out, 0);
    let (at, rest) = pack_blocks::<F, SMALL_BLOCK, T>(rest, width, out, at);
    let (at, rest) = pack_blocks::<F, GROUP, T>(rest, width, out, at);
    if !rest.is_empty() {
        let mut last = [T::default(); GROUP];
        last[..rest.len()].copy_from_slice(rest);
        F::pack(&last, width, &mut out[at..]);
    }
}

/// Packs all blocks of `N` values from `at` on; gives where they end, and the values left.
#[inline(always)]
fn pack_blocks<'v, F: Fold, const N: usize, T: Copy + Into<u64>>(
    values: &'v [T],
    width: u32,
    out: &mut [u8],
    mut at: usize,
) -> (usize, &'v [T]) {
    let (blocks, rest) = values.as_chunks::<N>();
    for block in blocks {
        F::pack(block, width, &mut out[at..]);
        at += N / 8 * width as usize;
    }
    (at, rest)
}

/// A way of packing.
trait Fold {
    /// Packs a block or a group.
    fn pack<const N: usize, T: Copy + Into<u64>>(values: &[T; N], width: u32, out: &mut [u8]);
}

/// For values of up to 8 bits: a word holds a group.
struct Bytes;

impl Fold for Bytes {
    #[inline(always)]
    fn pack<const N: usize, T: Copy + Into<u64>>(values: &[T; N], width: u32, out: &mut [u8]) {
        let mut bytes = [0u8; N];
        bytes.iter_mut().zip(values).for_each(|(byte, value)| *byte = (*value).into() as u8);
        let mut all = [0u64; BLOCK / 8];
        let words = &mut all[..N / 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            let pairs = fold(u64::from_le_bytes(*bytes), 0x00ff_00ff_00ff_00ff, 8, width);
            let fours = fold(pairs, 0x0000_ffff_0000_ffff, 16, 2 * width);
            *word = fold(fours, 0xffff_ffff, 32, 4 * width);
        }
        for (number, word) in words.iter().enumerate() {
            let at = number * width as usize;
            out[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// For values of up to 16 bits: a word holds half a group.
struct Shorts;

impl Fold for Shorts {
    #[inline(always)]
    fn pack<const N: usize, T: Copy + Into<u64>>(values: &[T; N], width: u32, out: &mut [u8]) {
        let mut bytes = [[0u8; 2]; N];
        bytes.iter_mut().zip(values).for_each(|(bytes, value)| *bytes = ((*value).into() as u16).to_le_bytes());
        let mut all = [0u64; BLOCK / 4];
        let words = &mut all[..N / 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_flattened().as_chunks::<8>().0) {
            let pairs = fold(u64::from_le_bytes(*bytes), 0x0000_ffff_0000_ffff, 16, width);
            *word = fold(pairs, 0xffff_ffff, 32, 2 * width);
        }
        for (number, [low, high]) in words.as_chunks::<2>().0.iter().enumerate() {
            let at = number * width as usize;
            let group = u128::from(*low) | u128::from(*high) << (4 * width);
            out[at..at + 16].copy_from_slice(&group.to_le_bytes());
        }
    }
}

/// For values of 17 to 32 bits: a word holds two. Each step knows its place when it is compiled.
struct Words<const WIDTH: usize>;

impl<const WIDTH: usize> Fold for Words<WIDTH> {
    #[inline(always)]
    fn pack<const N: usize, T: Copy + Into<u64>>(values: &[T; N], _: u32, out: &mut [u8]) {
        for (number, group) in values.as_chunks::<GROUP>().0.iter().enumerate() {
            let mut words = [0u64; GROUP / 2 + 1];
            for (index, two) in group.as_chunks::<2>().0.iter().enumerate() {
                let two = two[0].into() | two[1].into() << WIDTH;
                let (word, shift) = (index * 2 * WIDTH / 64, index * 2 * WIDTH % 64);
                words[word] |= two << shift;
                if shift + 2 * WIDTH > 64 {
                    words[word + 1] = two >> (64 - shift);
                }
            }
            let at = number * WIDTH;
            let out = &mut out[at..at + BEYOND];
            for (slot, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                *slot = word.to_le_bytes();
            }
        }
    }
}

/// Moves each odd field of `bits` bits (`low` are the even ones) down to right above the even one's `width` bits.
#[inline(always)]
fn fold(word: u64, low: u64, bits: u32, width: u32) -> u64 {
    word & low | (word >> bits & low) << width
}

/// Values of any width, one after another.
fn pack_wide<T: Copy + Into<u64>>(values: &[T], width: u32, out: &mut Vec<u8>) {
    out.reserve((values.len() * width as usize).div_ceil(8) + 8);
    let (mut held, mut bits) = (0u128, 0u32);
    for value in values {
        held |= u128::from((*value).into()) << bits;
        bits += width;
        if bits >= 64 {
            out.extend_from_slice(&(held as u64).to_le_bytes());
            held >>= 64;
            bits -= 64;
        }
    }
    out.extend_from_slice(&held.to_le_bytes()[..bits.div_ceil(8) as usize]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What [`pack`] must give, whatever holds the values.
    fn check<T: Copy + Default + Into<u64>>(values: &[T], width: u32) -> Result<(), TestCaseError> {
        let (mut got, mut want) = (vec![7], vec![7]);
        pack(values, width, &mut got);
        pack_wide(values, width, &mut want);
        prop_assert_eq!(got, want);
        Ok(())
    }

    proptest! {
        #[test]
        fn every_width_packs_as_one_value_after_another(width in 0u32..=64, values in prop::collection::vec(any::<u64>(), 0..600)) {
            let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
            let values: Vec<u64> = values.into_iter().map(|value| value & mask).collect();
            check(&values, width)?;
            if width <= 32 {
                check(&values.iter().map(|value| *value as u32).collect::<Vec<_>>(), width)?;
            }
            if width <= 16 {
                check(&values.iter().map(|value| *value as u16).collect::<Vec<_>>(), width)?;
            }
            if width <= 8 {
                check(&values.iter().map(|value| *value as u8).collect::<Vec<_>>(), width)?;
            }
        }
    }
}
