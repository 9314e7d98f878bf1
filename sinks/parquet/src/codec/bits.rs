use super::Malformed;

/// Bits needed for values up to `max`.
pub fn width_of(max: u64) -> u32 {
    u64::BITS - max.leading_zeros()
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
    use crate::codec::pack::pack;
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
