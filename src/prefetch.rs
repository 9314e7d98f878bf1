//! Fetching memory before it is needed.

/// Asks the processor to load what is there into its cache: sums and what is known of addresses lie scattered over MiBs, and
/// waiting for them one by one costs several times the rest of the work.
#[inline]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(place).cast::<i8>();
        // SAFETY: both addresses are within `place`; a prefetch changes nothing that a program can see.
        unsafe {
            _mm_prefetch(first, _MM_HINT_T0);
            _mm_prefetch(first.add(size_of::<T>().saturating_sub(1)), _MM_HINT_T0);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
