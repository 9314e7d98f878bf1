//! Smallest and largest of many values, and all their bits: each is asked for of every page and chunk.
//!
//! Loops of one step: the compiler makes vector code of them, which with AVX2 takes an eighth of the instructions.

/// Smallest and largest value; none of no values.
pub(crate) fn extent<T: Copy + Ord>(values: &[T]) -> Option<(T, T)> {
    let first = *values.first()?;
    Some(fold(values, (first, first), |(least, most), value| (least.min(value), most.max(value))))
}

/// Whether a value is among them. Looks at all of them: no step depends on the one before.
pub(super) fn contains<T: Copy + Eq>(values: &[T], wanted: T) -> bool {
    fold(values, 0, |found, value| found | u8::from(value == wanted)) != 0
}

/// All bits that any value has.
pub(super) fn all_bits<T: Copy + Default + Into<u64> + std::ops::BitOr<Output = T>>(values: &[T]) -> u64 {
    fold(values, T::default(), |all, value| all | value).into()
}

/// How many rows have a 1; rows have 0 or 1.
pub(super) fn ones(rows: &[u8]) -> usize {
    // Fewer rows than a byte counts to.
    rows.chunks(255).map(|rows| usize::from(fold(rows, 0u8, u8::wrapping_add))).sum()
}

fn fold<T: Copy, U>(values: &[T], first: U, step: impl Fn(U, T) -> U) -> U {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { fold_by_avx2(values, first, step) };
    }
    fold_from(values, first, step)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fold_by_avx2<T: Copy, U>(values: &[T], first: U, step: impl Fn(U, T) -> U) -> U {
    fold_from(values, first, step)
}

#[inline(always)]
fn fold_from<T: Copy, U>(values: &[T], first: U, step: impl Fn(U, T) -> U) -> U {
    values.iter().fold(first, |sum, value| step(sum, *value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_those_of_the_iterator(values in prop::collection::vec(any::<u64>(), 0..600)) {
            prop_assert_eq!(extent(&values), values.iter().copied().min().zip(values.iter().copied().max()));
            prop_assert_eq!(all_bits(&values), values.iter().fold(0, |all, value| all | value));
            let signed: Vec<i64> = values.iter().map(|value| *value as i64).collect();
            prop_assert_eq!(extent(&signed), signed.iter().copied().min().zip(signed.iter().copied().max()));
            let rows: Vec<u8> = values.iter().map(|value| (value % 7 != 0) as u8).collect();
            let bytes: Vec<u8> = values.iter().map(|value| *value as u8).collect();
            prop_assert!((0..=u8::MAX).all(|byte| super::contains(&bytes, byte) == bytes.contains(&byte)));
            prop_assert_eq!(ones(&rows), rows.iter().filter(|row| **row != 0).count());
        }
    }
}
