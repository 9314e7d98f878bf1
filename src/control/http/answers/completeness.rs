//! How much of what was sent is in the store.

use crate::telemetry::ledger::{Account, Ledger};

use super::super::collector::SinkStatus;

/// Flows sent, and flows of them that a store holds or will hold. Records that were left out on purpose (second views, absurd ones)
/// count on neither side.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Completeness {
    /// Flows that are held or will be.
    pub held: f64,
    /// Flows that are lost.
    pub lost: f64,
}

impl Completeness {
    /// Over all exporters, and what the sink that answers has lost.
    pub fn of(ledger: &Ledger, sink: Option<&SinkStatus>) -> Self {
        let mut all = Self::default();
        for (_, account) in ledger.accounts() {
            let one = Self::of_account(&account);
            all.held += one.held;
            all.lost += one.lost;
        }
        if let Some(sink) = sink {
            let lost = (sink.lost_flows() as f64).min(all.held);
            all.held -= lost;
            all.lost += lost;
        }
        all
    }

    /// Of one exporter. Gaps of exporters that number datagrams are turned into flows by the mean flows a datagram.
    pub fn of_account(account: &Account) -> Self {
        let mut gap = account.sequence_gap.get() as f64;
        if account.sequence_counts_datagrams.get() != 0 {
            gap *= account.flows.get() as f64 / account.datagrams.get().max(1) as f64;
        }
        let dropped =
            [&account.queue_full_flows, &account.log_refused_flows, &account.torn_flows, &account.lost_in_crash];
        let lost = gap + dropped.iter().map(|counter| counter.get() as f64).sum::<f64>();
        Self { held: account.logged_flows.get() as f64, lost }
    }

    /// The share held, from 0 to 1; `None` when nothing was sent.
    pub fn ratio(self) -> Option<f64> {
        let sent = self.held + self.lost;
        (sent > 0.0).then(|| self.held / sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_arrived_was_dropped_or_set_aside_lowers_the_figure() {
        let ledger = Ledger::default();
        assert_eq!(Completeness::of(&ledger, None).ratio(), None);
        let account = ledger.account([192, 0, 2, 1].into());
        account.logged_flows.add(80);
        account.second_view_flows.add(1000);
        assert_eq!(Completeness::of(&ledger, None).ratio(), Some(1.0));
        account.sequence_gap.add(15);
        account.queue_full_flows.add(5);
        assert_eq!(Completeness::of(&ledger, None).ratio(), Some(0.8));
        let sink = SinkStatus { set_aside_flows: 30, ..SinkStatus::default() };
        assert_eq!(Completeness::of(&ledger, Some(&sink)).ratio(), Some(0.5));
    }

    #[test]
    fn gaps_counted_in_datagrams_become_flows() {
        let ledger = Ledger::default();
        let account = ledger.account([192, 0, 2, 1].into());
        account.datagrams.add(10);
        account.flows.add(300);
        account.logged_flows.add(300);
        account.sequence_gap.add(10);
        account.sequence_counts_datagrams.set(1);
        assert_eq!(Completeness::of(&ledger, None).ratio(), Some(0.5));
    }
}
