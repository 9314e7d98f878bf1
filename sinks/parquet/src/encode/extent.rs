//! Smallest and largest of many values: each is asked for of every page and chunk.
//!
//! A loop of one step: the compiler makes vector code of it, which with AVX2 takes an eighth of the instructions.

/// The smallest value, after `view`; none of no values.
pub(super) fn least<T: Copy, U: Copy + Ord>(values: &[T], view: impl Fn(T) -> U) -> Option<U> {
    reduce(values, view, Ord::min)
}

/// The largest value, after `view`; none of no values.
pub(super) fn most<T: Copy, U: Copy + Ord>(values: &[T], view: impl Fn(T) -> U) -> Option<U> {
    reduce(values, view, Ord::max)
}

fn reduce<T: Copy, U: Copy>(values: &[T], view: impl Fn(T) -> U, step: impl Fn(U, U) -> U) -> Option<U> {
    let first = view(*values.first()?);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return Some(unsafe { reduce_by_avx2(values, first, view, step) });
    }
    Some(reduce_from(values, first, view, step))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn reduce_by_avx2<T: Copy, U>(values: &[T], first: U, view: impl Fn(T) -> U, step: impl Fn(U, U) -> U) -> U {
    reduce_from(values, first, view, step)
}

#[inline(always)]
fn reduce_from<T: Copy, U>(values: &[T], first: U, view: impl Fn(T) -> U, step: impl Fn(U, U) -> U) -> U {
    values.iter().fold(first, |sum, value| step(sum, view(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_those_of_the_iterator(values in prop::collection::vec(any::<u64>(), 0..200)) {
            prop_assert_eq!(least(&values, |value| value), values.iter().copied().min());
            prop_assert_eq!(most(&values, |value| value as i64), values.iter().map(|value| *value as i64).max());
            let narrow: Vec<u32> = values.iter().map(|value| *value as u32).collect();
            prop_assert_eq!(least(&narrow, |value| value.wrapping_sub(1)), narrow.iter().map(|v| v.wrapping_sub(1)).min());
            prop_assert_eq!(most(&narrow, |value| value), narrow.iter().copied().max());
        }
    }
}
