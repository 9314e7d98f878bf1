use super::Malformed;

/// Values packed at once.
const BLOCK: usize = 32;

/// Bits needed for values up to `max`.
pub fn width_of(max: u64) -> u32 {
    u64::BITS - max.leading_zeros()
}

/// Appends values of `width` bits each (0 to 64), least significant bit first, padded with zero bits to a whole byte.
pub(super) fn pack<T: Copy + Into<u64>>(values: &[T], width: u32, out: &mut Vec<u8>) {
    out.reserve((values.len() * width as usize).div_ceil(8) + 8);
    let (blocks, values) = if width <= 32 { values.as_chunks() } else { (&[][..], values) };
    pack_blocks(blocks, width, out);
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

/// Appends blocks of values of `width` bits each (0 to 32).
fn pack_blocks<T: Copy + Into<u64>>(blocks: &[[T; BLOCK]], width: u32, out: &mut Vec<u8>) {
    macro_rules! by_width {
        ($($width:literal)+) => {
            match width {
                $($width => blocks.iter().for_each(|block| pack_block::<$width, T>(block, out)),)+
                _ => {}
            }
        };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

/// Appends a block of values, which takes as many words as a value has bits. Each step knows its place when it is compiled:
/// a value takes a few instructions.
fn pack_block<const WIDTH: usize, T: Copy + Into<u64>>(block: &[T; BLOCK], out: &mut Vec<u8>) {
    let mut words = [0u32; WIDTH];
    macro_rules! steps {
        ($($index:literal)+) => {
            $({
                let (value, word, shift) = (block[$index].into() as u32, $index * WIDTH / 32, $index * WIDTH % 32);
                words[word] |= value << shift;
                if shift + WIDTH > 32 {
                    words[word + 1] = value >> (32 - shift);
                }
            })+
        };
    }
    steps!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

/// Fills `slots` with values of `width` bits each (0 to 64) from the start of `bytes`, after `view`.
pub(super) fn unpack<T: Copy>(
    bytes: &[u8],
    width: u32,
    slots: &mut [T],
    view: impl Fn(u64) -> T,
) -> Result<(), Malformed> {
    if width > 64 {
        return Err(Malformed("bit width over 64"));
    }
    let count = slots.len();
    if (count as u64 * u64::from(width)).div_ceil(8) > bytes.len() as u64 {
        return Err(Malformed("packed values cut off"));
    }
    if width == 0 {
        slots.fill(view(0));
        return Ok(());
    }
    let width = width as usize;
    let mask = u64::MAX >> (64 - width);
    // A value of up to 57 bits lies within the 8 bytes that start at its first byte.
    let whole = if width <= 57 && bytes.len() >= 8 { (((bytes.len() - 8) * 8 + 7) / width + 1).min(count) } else { 0 };
    let (within, at_end) = slots.split_at_mut(whole);
    let mut bit = 0usize;
    for slot in within {
        let window: [u8; 8] = bytes[bit / 8..bit / 8 + 8].try_into().unwrap_or_default();
        *slot = view(u64::from_le_bytes(window) >> (bit % 8) & mask);
        bit += width;
    }
    for slot in at_end {
        let rest = &bytes[bit / 8..];
        let mut window = [0u8; 16];
        let take = rest.len().min(16);
        window[..take].copy_from_slice(&rest[..take]);
        *slot = view((u128::from_le_bytes(window) >> (bit % 8)) as u64 & mask);
        bit += width;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_values_come_back(width in 0u32..=64, values in prop::collection::vec(any::<u64>(), 0..200)) {
            let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
            let values: Vec<u64> = values.into_iter().map(|v| v & mask).collect();
            let mut bytes = Vec::new();
            pack(&values, width, &mut bytes);
            prop_assert_eq!(bytes.len(), (values.len() * width as usize).div_ceil(8));
            let mut got = vec![0; values.len()];
            unpack(&bytes, width, &mut got, |v| v).unwrap();
            prop_assert_eq!(got, values);
        }

        #[test]
        fn any_bytes_are_an_error_or_values(bytes in prop::collection::vec(any::<u8>(), 0..40), width in 0u32..=70, count in 0usize..100) {
            let mut slots = vec![u64::MAX; count];
            if unpack(&bytes, width, &mut slots, |v| v).is_ok() && width < 64 {
                prop_assert!(slots.iter().all(|v| *v >> width == 0));
            }
        }
    }
}
