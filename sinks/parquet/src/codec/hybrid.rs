use super::bits::{pack, unpack};
use super::{Malformed, read_varint, write_varint};

/// A run shorter than this is cheaper bit-packed: packed groups hold 8 values.
const RUN_MIN: usize = 8;

/// Encodes codes of `width` bits (0 to 32) in the RLE and bit-packing hybrid, without a length before it.
pub fn encode_hybrid(values: &[u32], width: u32, out: &mut Vec<u8>) {
    let (mut literals, mut at) = (0, 0);
    while at < values.len() {
        let value = values[at];
        let run = values[at..].iter().take_while(|v| **v == value).count();
        // Packed groups are whole: a run first fills up the group before it.
        let fill = (8 - (at - literals) % 8) % 8;
        if run >= RUN_MIN + fill {
            write_literals(&values[literals..at + fill], width, out);
            encode_hybrid_run(value, run - fill, width, out);
            literals = at + run;
        }
        at += run;
    }
    write_literals(&values[literals..], width, out);
}

/// Encodes one value repeated `rows` times.
pub fn encode_hybrid_run(value: u32, rows: usize, width: u32, out: &mut Vec<u8>) {
    write_varint((rows as u64) << 1, out);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

fn write_literals(values: &[u32], width: u32, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    write_varint((groups as u64) << 1 | 1, out);
    let padding = groups * 8 - values.len();
    pack(values.iter().map(|v| u64::from(*v)).chain(std::iter::repeat_n(0, padding)), width, out);
}

/// Decodes `count` codes of `width` bits and appends them.
///
/// # Errors
/// When the bytes end too early or a width is over 32.
pub fn decode_hybrid(bytes: &[u8], width: u32, count: usize, out: &mut Vec<u32>) -> Result<(), Malformed> {
    if width > 32 {
        return Err(Malformed("code width over 32 bits"));
    }
    out.reserve(count);
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
            out.resize(out.len() + rows, u32::from_le_bytes(value));
            left -= rows;
        } else {
            let rows = run.saturating_mul(8).min(left);
            if rows == 0 {
                return Err(Malformed("group of no values"));
            }
            unpack(bytes.get(at..).unwrap_or_default(), width, rows, |v| out.push(v as u32))?;
            at = at.saturating_add(run.saturating_mul(width as usize));
            left -= rows;
        }
    }
    Ok(())
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
        encode_hybrid(&[1; 100_000], 1, &mut bytes);
        assert!(bytes.len() < 8, "{}", bytes.len());
        let mut got = Vec::new();
        decode_hybrid(&bytes, 1, 100_000, &mut got).unwrap();
        assert_eq!(got.len(), 100_000);
    }
}
