use crate::enrich::table::Holder;

/// Intervals kept of one address; older ones are forgotten. A flow is at most an hour or two late.
pub const INTERVALS_MAX: usize = 8;

/// The intervals of one address. Never empty, never overlapping.
#[derive(Clone, Debug)]
pub(super) struct History {
    latest: Holder,
    /// Newest first.
    earlier: Vec<Holder>,
}

impl History {
    pub fn new(holder: Holder) -> Self {
        Self { latest: holder, earlier: Vec::new() }
    }

    #[inline]
    pub fn at(&self, time_ms: i64) -> Option<&Holder> {
        if self.latest.holds_at(time_ms) {
            return Some(&self.latest);
        }
        self.earlier.iter().find(|holder| holder.holds_at(time_ms))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Holder> {
        std::iter::once(&self.latest).chain(&self.earlier)
    }

    /// Puts an interval in; the others keep what lies outside it. An empty interval changes nothing.
    pub fn insert(&mut self, holder: Holder) {
        if holder.from_ms >= holder.to_ms {
            return;
        }
        let parts = |old: &Holder| {
            let after = Holder { from_ms: old.from_ms.max(holder.to_ms), ..*old };
            let before = Holder { to_ms: old.to_ms.min(holder.from_ms), ..*old };
            [after, before]
        };
        let kept: Vec<Holder> = self.iter().flat_map(parts).chain([holder]).collect();
        self.keep(kept);
    }

    /// Cuts everything from a time on. Gives whether there was anything, and whether nothing is left.
    pub fn end(&mut self, at_ms: i64) -> (bool, bool) {
        let ended = self.iter().any(|holder| holder.to_ms > at_ms);
        let kept = self.iter().map(|holder| Holder { to_ms: holder.to_ms.min(at_ms), ..*holder }).collect();
        (ended, !self.keep(kept))
    }

    /// Drops intervals that ended before a time. Gives whether any is left.
    pub fn forget_before(&mut self, time_ms: i64) -> bool {
        if self.earlier.is_empty() && self.latest.to_ms >= time_ms {
            return true;
        }
        let kept = self.iter().filter(|holder| holder.to_ms >= time_ms).copied().collect();
        self.keep(kept)
    }

    /// Takes over the non-empty ones of these intervals. Gives whether there is any; without one it stays as it was.
    fn keep(&mut self, mut kept: Vec<Holder>) -> bool {
        kept.retain(|holder| holder.from_ms < holder.to_ms);
        kept.sort_by_key(|holder| std::cmp::Reverse(holder.from_ms));
        kept.truncate(INTERVALS_MAX);
        let mut kept = kept.into_iter();
        let Some(latest) = kept.next() else { return false };
        self.latest = latest;
        self.earlier = kept.collect();
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain array of ms: the latest put decides. At most [`INTERVALS_MAX`] parts, so few puts.
        #[test]
        fn the_latest_put_holds_in_its_interval(puts in prop::collection::vec((0i64..40, 1i64..40), 1..4)) {
            let mut want = [0u32; 100];
            let mut history: Option<History> = None;
            for (i, &(from_ms, len)) in puts.iter().enumerate() {
                let subscriber = i as u32 + 1;
                want[from_ms as usize..(from_ms + len) as usize].fill(subscriber);
                let holder = Holder { from_ms, to_ms: from_ms + len, subscriber, reseller: 0, nas: 0, site: 0 };
                match &mut history {
                    Some(history) => history.insert(holder),
                    None => history = Some(History::new(holder)),
                }
            }
            let history = history.expect("one put at least");
            for (at, want) in want.iter().enumerate() {
                prop_assert_eq!(history.at(at as i64).map_or(0, |h| h.subscriber), *want);
            }
        }
    }
}
