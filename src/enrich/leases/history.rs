use super::Lease;

/// Intervals kept of one address; older ones are forgotten. A flow is at most an hour or two late.
pub const INTERVALS_MAX: usize = 8;

/// The intervals of one address. Never empty, never overlapping; neighbours of one holder are one interval, so that a lease
/// that is renewed begins when it was first given.
#[derive(Clone, Debug)]
pub struct History {
    latest: Lease,
    /// Apart, as few addresses have any: what every flow asks is in one line of the cache.
    earlier: Option<Box<Earlier>>,
}

/// Newest first.
#[derive(Clone, Debug)]
struct Earlier(Vec<Lease>);

impl History {
    pub(super) fn new(lease: Lease) -> Self {
        Self { latest: lease, earlier: None }
    }

    /// The lease at a time.
    #[inline]
    pub fn at(&self, time_ms: i64) -> Option<&Lease> {
        if self.latest.holder.holds_at(time_ms) {
            return Some(&self.latest);
        }
        self.earlier().iter().find(|lease| lease.holder.holds_at(time_ms))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lease> {
        std::iter::once(&self.latest).chain(self.earlier())
    }

    fn earlier(&self) -> &[Lease] {
        self.earlier.as_deref().map_or(&[], |Earlier(leases)| leases)
    }

    /// Puts an interval in. The one that holds its begin ends there and does not come back after it; those that begin
    /// later keep what lies after it. An empty interval changes nothing.
    pub(super) fn insert(&mut self, lease: Lease) {
        if lease.is_empty() {
            return;
        }
        let new = lease.holder;
        let rest = |old: &Lease| match old.holder.from_ms <= new.from_ms {
            true => old.between(old.holder.from_ms, old.holder.to_ms.min(new.from_ms)),
            false => old.between(old.holder.from_ms.max(new.to_ms), old.holder.to_ms),
        };
        let kept: Vec<Lease> = self.iter().map(rest).chain([lease]).collect();
        self.keep(kept);
    }

    /// Cuts everything from a time on. Gives whether there was anything, and whether nothing is left.
    pub(super) fn end(&mut self, at_ms: i64) -> (bool, bool) {
        let ended = self.iter().any(|lease| lease.holder.to_ms > at_ms);
        let kept =
            self.iter().map(|lease| lease.between(lease.holder.from_ms, lease.holder.to_ms.min(at_ms))).collect();
        (ended, !self.keep(kept))
    }

    /// Drops intervals that ended before a time. Gives whether any was dropped, and whether nothing is left.
    pub(super) fn forget_before(&mut self, time_ms: i64) -> (bool, bool) {
        if self.iter().all(|lease| lease.holder.to_ms >= time_ms) {
            return (false, false);
        }
        let kept = self.iter().filter(|lease| lease.holder.to_ms >= time_ms).copied().collect();
        (true, !self.keep(kept))
    }

    /// Takes over the non-empty ones of these intervals. Gives whether there is any; without one it stays as it was.
    fn keep(&mut self, mut kept: Vec<Lease>) -> bool {
        kept.retain(|lease| !lease.is_empty());
        kept.sort_by_key(|lease| std::cmp::Reverse(lease.holder.from_ms));
        kept.dedup_by(|earlier, later| {
            let joins = earlier.holder.to_ms == later.holder.from_ms && earlier.is_of_the_same(later);
            if joins {
                later.holder.from_ms = earlier.holder.from_ms;
            }
            joins
        });
        kept.truncate(INTERVALS_MAX);
        let mut kept = kept.into_iter();
        let Some(latest) = kept.next() else { return false };
        self.latest = latest;
        let earlier: Vec<Lease> = kept.collect();
        self.earlier = (!earlier.is_empty()).then(|| Box::new(Earlier(earlier)));
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::enrich::table::Holder;

    proptest! {
        /// Against a plain array of ms: the latest put decides, and what held its begin is over. No more puts than
        /// [`INTERVALS_MAX`].
        #[test]
        fn the_latest_put_holds_in_its_interval(puts in prop::collection::vec((0i64..40, 1i64..40), 1..8)) {
            let mut want = [0u32; 100];
            let mut history: Option<History> = None;
            for (i, &(from_ms, len)) in puts.iter().enumerate() {
                let subscriber = i as u32 + 1;
                let over = want[from_ms as usize];
                want[from_ms as usize..].iter_mut().filter(|holder| **holder == over).for_each(|holder| *holder = 0);
                want[from_ms as usize..(from_ms + len) as usize].fill(subscriber);
                let holder = Holder { from_ms, to_ms: from_ms + len, subscriber, reseller: 0, nas: 0, site: 0 };
                let lease = Lease { holder, mac: 0 };
                match &mut history {
                    Some(history) => history.insert(lease),
                    None => history = Some(History::new(lease)),
                }
            }
            let history = history.expect("one put at least");
            for (at, want) in want.iter().enumerate() {
                prop_assert_eq!(history.at(at as i64).map_or(0, |lease| lease.holder.subscriber), *want);
            }
        }
    }

    #[test]
    fn a_renewed_lease_begins_when_it_was_first_given() {
        let lease = |subscriber, from_ms, to_ms| Lease {
            holder: Holder { from_ms, to_ms, subscriber, reseller: 0, nas: 0, site: 0 },
            mac: 7,
        };
        let mut history = History::new(lease(1, 0, 100));
        (1..50).for_each(|i| history.insert(lease(1, 50 * i, 50 * i + 100)));
        assert_eq!(history.iter().copied().collect::<Vec<_>>(), [lease(1, 0, 2550)]);
        history.insert(lease(2, 2000, i64::MAX));
        history.insert(Lease { mac: 8, ..lease(2, 3000, i64::MAX) });
        let froms: Vec<_> = history.iter().map(|lease| lease.holder.from_ms).collect();
        assert_eq!(froms, [3000, 2000, 0]);
    }
}
