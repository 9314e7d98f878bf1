use super::bits::unpack;
use super::pack::pack;
use super::{Malformed, read_varint, write_varint};

/// Values in a packed group.
const GROUP: usize = 8;

/// Values that are compared at once within a run.
const RUN_BLOCK: usize = 32;

/// A run that would take fewer bits than this packed is packed: its header and that of the packed values after it cost more.
const RUN_BITS_MIN: usize = 40;

/// Encodes codes of `width` bits (0 to 32) in the RLE and bit-packing hybrid, without a length before it.
pub fn encode_hybrid<T: Copy + Default + Eq + Into<u64>>(values: &[T], width: u32, out: &mut Vec<u8>) {
    let run_min = RUN_BITS_MIN.div_ceil(width.max(1) as usize).next_multiple_of(GROUP);
    let (mut literals, mut at) = (0, 0);
    // Packed groups are whole, so runs are looked for where a group begins.
    while let Some(group) = values[at..].first_chunk::<GROUP>() {
        let value = group[0];
        if !all_are(group, value) {
            at += GROUP;
            continue;
        }
        let run = GROUP + run_length(&values[at + GROUP..], value);
        if run >= run_min {
            write_literals(&values[literals..at], width, out);
            encode_hybrid_run(value.into() as u32, run, width, out);
            at += run;
            literals = at;
        } else {
            at += run / GROUP * GROUP;
        }
    }
    write_literals(&values[literals..], width, out);
}

/// How many values at the start are this one.
fn run_length<T: Copy + Eq>(values: &[T], value: T) -> usize {
    let (blocks, _) = values.as_chunks::<RUN_BLOCK>();
    let whole = RUN_BLOCK * blocks.iter().take_while(|block| all_are(block, value)).count();
    whole + values[whole..].iter().take_while(|other| **other == value).count()
}

/// Whether all values are this one. Looks at all of them, which takes fewer steps than to stop at the first other.
#[inline(always)]
fn all_are<const N: usize, T: Copy + Eq>(values: &[T; N], value: T) -> bool {
    values.iter().fold(true, |all, other| all & (*other == value))
}

/// Encodes one value repeated `rows` times.
pub fn encode_hybrid_run(value: u32, rows: usize, width: u32, out: &mut Vec<u8>) {
    write_varint((rows as u64) << 1, out);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

fn write_literals<T: Copy + Default + Into<u64>>(values: &[T], width: u32, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(GROUP);
    write_varint((groups as u64) << 1 | 1, out);
    let start = out.len();
    pack(values, width, out);
    out.resize(start + groups * width as usize, 0);
}

/// A stretch of decoded codes.
pub enum Stretch<'a> {
    /// One code, this many times.
    Run(u32, usize),
    /// Codes one by one.
    Codes(&'a [u32]),
}

/// Codes that are unpacked together.
const CODES_AT_ONCE: usize = 512;

/// Decodes `count` codes of `width` bits, stretch by stretch.
///
/// # Errors
/// When the bytes end too early or a width is over 32; stretches before that have been given.
pub fn visit_hybrid(
    bytes: &[u8],
    width: u32,
    count: usize,
    mut visit: impl FnMut(Stretch<'_>),
) -> Result<(), Malformed> {
    if width > 32 {
        return Err(Malformed("code width over 32 bits"));
    }
    let mut buffer = [0u32; CODES_AT_ONCE];
    let (mut at, mut left) = (0, count);
    while left > 0 {
        let header = read_varint(bytes, &mut at)?;
        let run = usize::try_from(header >> 1).unwrap_or(usize::MAX);
        if header & 1 == 0 {
            let size = width.div_ceil(8) as usize;
            let stored = bytes.get(at..at + size).ok_or(Malformed("run cut off"))?;
            at += size;
            let mut value = [0u8; 4];
            value[..size].copy_from_slice(stored);
            let rows = run.min(left);
            if rows == 0 {
                return Err(Malformed("run of no values"));
            }
            visit(Stretch::Run(u32::from_le_bytes(value), rows));
            left -= rows;
        } else {
            let rows = run.saturating_mul(8).min(left);
            if rows == 0 {
                return Err(Malformed("group of no values"));
            }
            let packed = bytes.get(at..).unwrap_or_default();
            for first in (0..rows).step_by(CODES_AT_ONCE) {
                let slots = &mut buffer[..CODES_AT_ONCE.min(rows - first)];
                // A multiple of 8 codes fills whole bytes.
                unpack(packed.get(first / 8 * width as usize..).unwrap_or_default(), width, slots, |v| v as u32)?;
                visit(Stretch::Codes(slots));
            }
            at = at.saturating_add(run.saturating_mul(width as usize));
            left -= rows;
        }
    }
    Ok(())
}

/// Decodes `count` codes of `width` bits and appends them.
///
/// # Errors
/// See [`visit_hybrid`].
pub fn decode_hybrid(bytes: &[u8], width: u32, count: usize, out: &mut Vec<u32>) -> Result<(), Malformed> {
    out.reserve(count);
    visit_hybrid(bytes, width, count, |stretch| match stretch {
        Stretch::Run(code, rows) => out.resize(out.len() + rows, code),
        Stretch::Codes(codes) => out.extend_from_slice(codes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_come_back(runs in prop::collection::vec((0u32..9, 1usize..30), 0..40), width in 4u32..20) {
            let values: Vec<u32> = runs.iter().flat_map(|(v, n)| std::iter::repeat_n(*v, *n)).collect();
            let mut bytes = Vec::new();
            encode_hybrid(&values, width, &mut bytes);
            let mut got = Vec::new();
            decode_hybrid(&bytes, width, values.len(), &mut got).unwrap();
            prop_assert_eq!(got, values);
        }

        #[test]
        fn any_bytes_are_an_error_or_as_many_codes_as_asked(bytes in prop::collection::vec(any::<u8>(), 0..60), width in 0u32..40, count in 0usize..500) {
            let mut out = Vec::new();
            if decode_hybrid(&bytes, width, count, &mut out).is_ok() {
                prop_assert_eq!(out.len(), count);
            }
            prop_assert!(out.len() <= count);
        }
    }

    #[test]
    fn long_runs_cost_a_few_bytes() {
        let mut bytes = Vec::new();
        encode_hybrid(&[1u32; 100_000], 1, &mut bytes);
        assert!(bytes.len() < 8, "{}", bytes.len());
        let mut got = Vec::new();
        decode_hybrid(&bytes, 1, 100_000, &mut got).unwrap();
        assert_eq!(got.len(), 100_000);
    }
}
