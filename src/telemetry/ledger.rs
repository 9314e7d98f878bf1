//! The loss ledger: every datagram and every flow ends in exactly one counted place.
//!
//! Per exporter, and the sums of all exporters:
//!
//! ```text
//! datagrams received = decoded + malformed + unknown version + not allowed + queue full
//! flows announced    = to log + absurd + second view + torn + queue full + log refused
//! ```
//!
//! Sequence gaps and `lost_in_crash` stand beside these sums: they are flows that never arrived.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, RwLock};

use super::{Counter, Exposition, Gauge};
use crate::flow::Addr;
use crate::flow::malformed::MalformedLog;

/// Exporters with an account of their own. One more shares the account of the unspecified address `::`, so that spoofed
/// sources cannot fill the memory.
pub const EXPORTERS_MAX: usize = 4096;

macro_rules! account {
    ($($(#[$doc:meta])* $name:ident: $metric:literal, $reason:literal;)*) => {
        /// What is counted for one exporter.
        #[derive(Debug, Default)]
        pub struct Account {
            $($(#[$doc])* pub $name: Counter,)*
            /// Exporter's clock minus collector's clock at the latest datagram, ms.
            pub clock_skew_ms: Gauge,
            /// Receive time of the first datagram since the start, ms since the Unix epoch; 0 = none.
            pub first_seen_ms: Gauge,
            /// Receive time of the latest datagram, ms since the Unix epoch; 0 = none.
            pub last_seen_ms: Gauge,
            /// Version of the latest datagram.
            pub version: Gauge,
            /// Sampling rate in force, 1 = none.
            pub sampling_rate: Gauge,
            /// 1 when its sequence numbers count datagrams instead of flows.
            pub sequence_counts_datagrams: Gauge,
        }

        impl Account {
            /// Every counter with its name, for the API.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }

            fn expose(&self, exporter: &str, out: &mut Exposition) {
                $(out.counter($metric, help($metric), &[("exporter", exporter), ("kind", $reason)][..if $reason.is_empty() { 1 } else { 2 }], self.$name.get());)*
            }
        }
    };
}

account! {
    /// Datagrams received.
    datagrams: "netflow_exporter_datagrams_total", "";
    /// Bytes of datagrams received (UDP payload).
    datagram_bytes: "netflow_exporter_datagram_bytes_total", "";
    /// Flow records announced by well-formed datagrams.
    flows: "netflow_exporter_flows_total", "";
    /// Layer 3 bytes of the flows that went to the log, scaled by sampling.
    bytes: "netflow_bytes_total", "";
    /// Packets of the flows that went to the log, scaled by sampling.
    packets: "netflow_packets_total", "";
    /// Flows that went to the log.
    logged_flows: "netflow_flows_total", "";
    /// Sequence units (flows for v5) that never arrived, by the exporter's numbering.
    sequence_gap: "netflow_exporter_sequence_gap_total", "";
    /// Datagrams that came later than one numbered after them.
    reordered: "netflow_exporter_sequence_events_total", "reordered";
    /// Restarts of the exporter seen in its uptime or numbering.
    restarts: "netflow_exporter_sequence_events_total", "restart";
    /// Flows that a stop or crash of the collector took, found by the gap after it.
    lost_in_crash: "netflow_lost_in_crash_total", "";
    /// Datagrams dropped whole: not what their header says.
    malformed: "netflow_dropped_datagrams_total", "malformed";
    /// Datagrams dropped whole: a version that is not accepted.
    unknown_version: "netflow_dropped_datagrams_total", "unknown_version";
    /// Datagrams dropped whole: the exporter is not on the allow-list.
    not_allowed: "netflow_dropped_datagrams_total", "not_allowed";
    /// Datagrams dropped whole: the queue to the workers was full.
    queue_full_datagrams: "netflow_dropped_datagrams_total", "queue_full";
    /// Flows dropped: the queue to the workers was full.
    queue_full_flows: "netflow_dropped_flows_total", "queue_full";
    /// Flows dropped: the log refused them (full with policy `drop_newest`, or failed).
    log_refused_flows: "netflow_dropped_flows_total", "log_refused";
    /// Records that the header announces and the datagram does not hold.
    torn_flows: "netflow_dropped_flows_total", "torn";
    /// Records set aside because they cannot be true.
    absurd_flows: "netflow_dropped_flows_total", "absurd";
    /// Records left out because the exporter sends a flow twice.
    second_view_flows: "netflow_dropped_flows_total", "second_view";
    /// Datagrams longer than their records.
    long_datagrams: "netflow_exporter_oddities_total", "long_datagram";
    /// Datagrams whose header announces more records than any datagram holds: those that it holds count instead.
    count_replaced: "netflow_exporter_oddities_total", "count_replaced";
    /// Datagrams without a sampling rate although sampling was expected.
    sampling_missing: "netflow_exporter_oddities_total", "sampling_missing";
    /// Datagrams whose header clock was replaced by the receive time.
    clock_replaced: "netflow_exporter_oddities_total", "clock_replaced";
    /// Records whose times were clamped.
    times_clamped: "netflow_exporter_oddities_total", "times_clamped";
}

fn help(metric: &str) -> &'static str {
    match metric {
        "netflow_exporter_datagrams_total" => "Datagrams received.",
        "netflow_exporter_datagram_bytes_total" => "Bytes of datagrams received.",
        "netflow_exporter_flows_total" => "Flow records announced by well-formed datagrams.",
        "netflow_bytes_total" => "Layer 3 bytes of logged flows, scaled by sampling.",
        "netflow_packets_total" => "Packets of logged flows, scaled by sampling.",
        "netflow_flows_total" => "Flows that went to the log.",
        "netflow_exporter_sequence_gap_total" => "Sequence units that never arrived.",
        "netflow_exporter_sequence_events_total" => "Reordered datagrams and exporter restarts.",
        "netflow_lost_in_crash_total" => "Flows that a stop or crash of the collector took.",
        "netflow_dropped_datagrams_total" => "Datagrams dropped whole, by reason.",
        "netflow_dropped_flows_total" => "Flow records dropped, by reason.",
        _ => "Oddities of the export that lose nothing.",
    }
}

/// All accounts.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: RwLock<HashMap<Addr, Arc<Account>>>,
    /// What could not be read, for sinks that show it. No part of the accounts.
    pub malformed: Arc<MalformedLog>,
}

impl Ledger {
    /// The account of an exporter, opened when it is new. Receivers keep the `Arc`; this takes a lock.
    pub fn account(&self, exporter: IpAddr) -> Arc<Account> {
        let addr = Addr::from(exporter);
        if let Some(account) = self.read().get(&addr) {
            return account.clone();
        }
        let mut accounts = self.accounts.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let addr = if accounts.len() < EXPORTERS_MAX || accounts.contains_key(&addr) { addr } else { Addr::default() };
        accounts.entry(addr).or_default().clone()
    }

    /// Every account, by address.
    pub fn accounts(&self) -> Vec<(Addr, Arc<Account>)> {
        let mut all: Vec<_> = self.read().iter().map(|(addr, account)| (*addr, account.clone())).collect();
        all.sort_by_key(|(addr, _)| *addr);
        all
    }

    /// Sums of every counter over all exporters, in the order of [`Account::counters`].
    pub fn totals(&self) -> Vec<(&'static str, u64)> {
        let mut totals: Vec<_> = Account::default().counters().collect();
        for account in self.read().values() {
            for (total, (_, n)) in totals.iter_mut().zip(account.counters()) {
                total.1 += n;
            }
        }
        totals
    }

    /// Adds all accounts to a scrape. Labels are bounded by [`EXPORTERS_MAX`].
    pub fn expose(&self, out: &mut Exposition) {
        for (addr, account) in self.accounts() {
            let exporter = addr.to_string();
            account.expose(&exporter, out);
            let label = [("exporter", &*exporter)];
            let skew = account.clock_skew_ms.get() as f64 / 1000.0;
            out.gauge("netflow_exporter_clock_skew_seconds", "Exporter's clock minus ours.", &label, skew);
            let seen = account.last_seen_ms.get() as f64 / 1000.0;
            out.gauge("netflow_exporter_last_seen_timestamp_seconds", "Time of the latest datagram.", &label, seen);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Addr, Arc<Account>>> {
        self.accounts.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_bounded_and_summed() {
        let ledger = Ledger::default();
        for i in 0..(EXPORTERS_MAX as u32 + 10) {
            ledger.account(IpAddr::from(i.to_be_bytes())).flows.add(1);
        }
        assert_eq!(ledger.accounts().len(), EXPORTERS_MAX + 1);
        let flows = ledger.totals().into_iter().find(|(name, _)| *name == "flows");
        assert_eq!(flows, Some(("flows", EXPORTERS_MAX as u64 + 10)));
    }
}
