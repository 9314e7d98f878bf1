use super::Malformed;

/// Bits needed for values up to `max`.
pub fn width_of(max: u64) -> u32 {
    u64::BITS - max.leading_zeros()
}

/// Appends values of `width` bits each (0 to 64), least significant bit first, padded with zero bits to a whole byte.
pub(super) fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width <= 32 {
        let (mut held, mut bits) = (0u64, 0u32);
        for value in values {
            held |= value << bits;
            bits += width;
            if bits >= 32 {
                out.extend_from_slice(&(held as u32).to_le_bytes());
                held >>= 32;
                bits -= 32;
            }
        }
        out.extend_from_slice(&held.to_le_bytes()[..bits.div_ceil(8) as usize]);
        return;
    }
    let (mut held, mut bits) = (0u128, 0u32);
    for value in values {
        held |= u128::from(value) << bits;
        bits += width;
        if bits >= 64 {
            out.extend_from_slice(&(held as u64).to_le_bytes());
            held >>= 64;
            bits -= 64;
        }
    }
    out.extend_from_slice(&held.to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// Calls `visit` for `count` values of `width` bits each (0 to 64) at the start of `bytes`.
pub(super) fn unpack(bytes: &[u8], width: u32, count: usize, mut visit: impl FnMut(u64)) -> Result<(), Malformed> {
    if width > 64 {
        return Err(Malformed("bit width over 64"));
    }
    if (count as u64 * u64::from(width)).div_ceil(8) > bytes.len() as u64 {
        return Err(Malformed("packed values cut off"));
    }
    if width == 0 {
        (0..count).for_each(|_| visit(0));
        return Ok(());
    }
    let width = width as usize;
    let mask = u64::MAX >> (64 - width);
    // A value of up to 57 bits lies within the 8 bytes that start at its first byte.
    let whole = if width <= 57 && bytes.len() >= 8 { (((bytes.len() - 8) * 8 + 7) / width + 1).min(count) } else { 0 };
    let mut bit = 0usize;
    for _ in 0..whole {
        let window: [u8; 8] = bytes[bit / 8..bit / 8 + 8].try_into().unwrap_or_default();
        visit(u64::from_le_bytes(window) >> (bit % 8) & mask);
        bit += width;
    }
    for _ in whole..count {
        let rest = &bytes[bit / 8..];
        let mut window = [0u8; 16];
        let take = rest.len().min(16);
        window[..take].copy_from_slice(&rest[..take]);
        visit((u128::from_le_bytes(window) >> (bit % 8)) as u64 & mask);
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
            pack(values.iter().copied(), width, &mut bytes);
            prop_assert_eq!(bytes.len(), (values.len() * width as usize).div_ceil(8));
            let mut got = Vec::new();
            unpack(&bytes, width, values.len(), |v| got.push(v)).unwrap();
            prop_assert_eq!(got, values);
        }

        #[test]
        fn any_bytes_are_an_error_or_values(bytes in prop::collection::vec(any::<u8>(), 0..40), width in 0u32..=70, count in 0usize..100) {
            let mut seen = 0;
            let result = unpack(&bytes, width, count, |_| seen += 1);
            prop_assert_eq!(seen, if result.is_ok() { count } else { 0 });
        }
    }
}
