//! Pro-rating: how much of a flow belongs to which bucket.
//!
//! A flow covers the half-open span `[flow_start, time)`, or only its end where the address was another's before
//! ([`crate::flow::FlowBatch::span_start_ms`]). The *last* bucket is the one that contains `time` in half-open
//! ranges, so that sums and detail (which selects by `time`) agree on ranges that contain whole flows; it takes what the
//! integer shares of the others leave. A flow that ends exactly on a boundary has no overlap with its last bucket and
//! leaves only that remainder (and its count) there.

use crate::flow::Measures;

/// Times that the fast path of [`Width::bucket_of`] divides exactly: below 2^43 ms (year 2248).
const FAST_TIME_MS: u64 = 1 << 43;
/// Values below this, times an overlap below [`FAST_SPAN_MS`], stay below 2^53, where an f64 quotient has the right floor.
const FAST_VALUE: u64 = 1 << 31;
/// See [`FAST_VALUE`]. The quotient's distance from the next integer is at least 1 / span, more than f64 rounds.
const FAST_SPAN_MS: u64 = 1 << 22;

/// Buckets between a span's first and last that are booked one by one; more are booked as steps.
pub(super) const MIDDLES_MAX: u32 = 3;

/// Width of a rollup's buckets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Width {
    ms: i64,
    reciprocal: f64,
}

impl Width {
    /// `ms` is positive.
    pub(crate) fn new(ms: i64) -> Self {
        Self { ms, reciprocal: 1.0 / ms as f64 }
    }

    pub(crate) fn ms(self) -> i64 {
        self.ms
    }

    /// Number of the bucket that contains a time, and the time's offset in it.
    #[inline]
    pub(crate) fn bucket_of(self, time: i64) -> (i64, i64) {
        if (time as u64) < FAST_TIME_MS {
            // The product is off by less than one, so one step mends it.
            let guess = (time as f64 * self.reciprocal) as i64;
            let offset = time - guess * self.ms;
            let step = i64::from(offset >= self.ms) - i64::from(offset < 0);
            (guess + step, offset - step * self.ms)
        } else {
            (time.div_euclid(self.ms), time.rem_euclid(self.ms))
        }
    }
}

/// What one flow gives to the buckets of one width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Number of the bucket that contains the flow's end.
    pub(crate) last: i64,
    /// Buckets before it that the flow covers as well.
    pub(crate) before: u32,
    pub(crate) first_bytes: u64,
    pub(crate) first_packets: u64,
    /// For each bucket between the first and the last.
    pub(crate) middle_bytes: u64,
    pub(crate) middle_packets: u64,
    /// For the last bucket.
    pub(crate) rest_bytes: u64,
    pub(crate) rest_packets: u64,
}

impl Share {
    /// The shares of a flow. Spans that are not positive, or longer than `span_max_ms`, are booked whole at the end.
    #[inline]
    pub(crate) fn of(width: Width, start: i64, end: i64, span_max_ms: i64, bytes: u64, packets: u64) -> Self {
        let (last, _) = width.bucket_of(end);
        let whole = Self::whole(last, bytes, packets);
        let span = end.saturating_sub(start);
        if span <= 0 || span > span_max_ms {
            return whole;
        }
        let (first, offset) = width.bucket_of(start);
        let before = last - first;
        if before == 0 {
            return whole;
        }
        let (span, overlap) = (span as u64, (width.ms - offset) as u64);
        let first_bytes = scaled(bytes, overlap, span);
        let first_packets = scaled(packets, overlap, span);
        let middle = before as u64 - 1;
        let (middle_bytes, middle_packets) = if middle == 0 {
            (0, 0)
        } else {
            (scaled(bytes, width.ms as u64, span), scaled(packets, width.ms as u64, span))
        };
        Self {
            last,
            before: before as u32,
            first_bytes,
            first_packets,
            middle_bytes,
            middle_packets,
            rest_bytes: bytes - first_bytes - middle_bytes * middle,
            rest_packets: packets - first_packets - middle_packets * middle,
        }
    }

    /// The share of a flow that lies wholly in one bucket.
    #[inline]
    pub(super) fn whole(last: i64, bytes: u64, packets: u64) -> Self {
        Self { last, rest_bytes: bytes, rest_packets: packets, ..Self::default() }
    }

    /// Number of the first bucket.
    #[inline]
    pub(crate) fn first(&self) -> i64 {
        self.last - i64::from(self.before)
    }

    /// Whether the buckets between its first and last are too many to be booked one by one.
    #[inline]
    pub(super) fn has_steps(&self) -> bool {
        self.before > MIDDLES_MAX + 1
    }

    /// Bytes and packets of one of its buckets.
    pub(crate) fn at(&self, bucket: i64) -> (u64, u64) {
        if bucket == self.last {
            (self.rest_bytes, self.rest_packets)
        } else if bucket == self.first() {
            (self.first_bytes, self.first_packets)
        } else {
            (self.middle_bytes, self.middle_packets)
        }
    }

    /// What one of its buckets gets of a flow, which counts where it ends.
    #[inline]
    pub(super) fn amount(&self, bucket: i64, whole: &Measures) -> Measures {
        let (bytes, packets) = self.at(bucket);
        let rest = if bucket == self.last { *whole } else { Measures::default() };
        Measures { bytes, packets, ..rest }
    }

    /// Gives what a flow adds to each of its buckets; buckets that get nothing are left out.
    #[inline]
    pub(super) fn each(&self, whole: &Measures, mut add: impl FnMut(i64, &Measures)) {
        for number in self.first()..=self.last {
            let amount = self.amount(number, whole);
            if amount != Measures::default() {
                add(number, &amount);
            }
        }
    }
}

/// Where a flow belongs.
pub(crate) enum Spread {
    /// Whole in the bucket of this number.
    Whole(i64),
    /// In several.
    Split(Share),
}

/// Gives where flows belong that come one after another: most lie wholly in the bucket of the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spreader {
    width: Width,
    span_max_ms: i64,
    /// The last flow's bucket, and from when up to when it is.
    number: i64,
    begun: i64,
    until: i64,
}

impl Spreader {
    pub(crate) fn new(width: Width, span_max_ms: i64) -> Self {
        Self { width, span_max_ms, number: 0, begun: 0, until: 0 }
    }

    /// Where a flow belongs; see [`Share::of`].
    #[inline]
    pub(crate) fn of(&mut self, start: i64, end: i64, bytes: u64, packets: u64) -> Spread {
        if start >= self.begun && end >= self.begun && end < self.until {
            return Spread::Whole(self.number);
        }
        let share = Share::of(self.width, start, end, self.span_max_ms, bytes, packets);
        self.number = share.last;
        self.begun = share.last.saturating_mul(self.width.ms);
        self.until = self.begun.saturating_add(self.width.ms);
        if share.before > 0 { Spread::Split(share) } else { Spread::Whole(share.last) }
    }
}

/// `floor(value * part / whole)`, for `part <= whole`.
#[inline]
fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    if value < FAST_VALUE && whole < FAST_SPAN_MS {
        ((value * part) as f64 / whole as f64) as u64
    } else {
        (u128::from(value) * u128::from(part) / u128::from(whole)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_MS: i64 = 3_600_000;

    /// The definition, bucket by bucket.
    fn naive(width: i64, start: i64, end: i64, value: u64) -> Shares {
        let (first, last) = (start.div_euclid(width), end.div_euclid(width));
        let mut left = value;
        let mut shares = Vec::new();
        for bucket in first..last {
            let overlap = end.min((bucket + 1) * width) - start.max(bucket * width);
            let share = (u128::from(value) * overlap as u128 / (end - start) as u128) as u64;
            left -= share;
            shares.push((bucket, share));
        }
        shares.push((last, left));
        shares
    }

    type Shares = Vec<(i64, u64)>;

    /// Bytes and packets by bucket.
    fn got(share: &Share) -> (Shares, Shares) {
        let buckets = share.first()..=share.last;
        (buckets.clone().map(|b| (b, share.at(b).0)).collect(), buckets.map(|b| (b, share.at(b).1)).collect())
    }

    proptest! {
        #[test]
        fn shares_equal_the_definition_and_sum_to_the_byte(
            width in prop::sample::select(vec![1i64, 7, 1000, 60_000, 300_000, 3_600_000, 86_400_000]),
            end in prop_oneof![0i64..4_000_000_000_000, -1_000_000_000_000i64..1_000_000_000_000, Just(1_700_000_040_000)],
            span in prop_oneof![0i64..5000, Just(60_000i64), Just(HOUR_MS)],
            bytes in prop_oneof![0u64..5000, any::<u64>(), Just(FAST_VALUE - 1), Just(u64::MAX)],
            packets in prop_oneof![0u64..10, any::<u64>()],
        ) {
            let share = Share::of(Width::new(width), end - span, end, HOUR_MS, bytes, packets);
            let (got_bytes, got_packets) = got(&share);
            prop_assert_eq!(got_bytes, naive(width, end - span, end, bytes));
            prop_assert_eq!(got_packets, naive(width, end - span, end, packets));
        }

        #[test]
        fn any_times_give_the_whole_flow(start in any::<i64>(), end in any::<i64>(), bytes in any::<u64>()) {
            let share = Share::of(Width::new(60_000), start, end, HOUR_MS, bytes, 1);
            prop_assert_eq!(got(&share).0.iter().map(|(_, b)| *b).sum::<u64>(), bytes);
        }
    }

    #[test]
    fn a_flow_that_ends_on_a_boundary_leaves_only_the_remainder_in_its_last_bucket() {
        let share = Share::of(Width::new(60_000), 0, 180_000, HOUR_MS, 100, 3);
        assert_eq!(got(&share), (vec![(0, 33), (1, 33), (2, 33), (3, 1)], vec![(0, 1), (1, 1), (2, 1), (3, 0)]));
    }

    #[test]
    fn forged_spans_are_booked_whole_at_the_end() {
        for (start, end) in [(0, HOUR_MS + 1), (100, 50), (i64::MIN, i64::MAX)] {
            let share = Share::of(Width::new(60_000), start, end, HOUR_MS, 100, 3);
            assert_eq!((share.before, share.rest_bytes, share.rest_packets), (0, 100, 3));
        }
    }
}
