use std::collections::BTreeMap;

use crate::telemetry::ledger::Ledger;

/// How often one line of the log tells what goes on.
pub const INTERVAL_MS: i64 = 30_000;

/// Writes the periodic line: what came since the line before.
#[derive(Debug, Default)]
pub struct StatusLine {
    last: BTreeMap<&'static str, u64>,
    last_at_ms: i64,
}

impl StatusLine {
    /// Writes the line when it is time for one.
    pub fn tick(&mut self, now_ms: i64, ledger: &Ledger, slabs_queued: usize) {
        if self.last_at_ms == 0 {
            self.last_at_ms = now_ms;
        }
        if now_ms - self.last_at_ms < INTERVAL_MS {
            return;
        }
        let totals: BTreeMap<_, _> = ledger.totals().into_iter().collect();
        let since = |name: &str| {
            let now = totals.get(name).copied().unwrap_or(0);
            now - self.last.get(name).copied().unwrap_or(0).min(now)
        };
        let errors = ["malformed", "unknown_version", "not_allowed", "absurd_flows", "torn_flows"].map(since);
        tracing::info!(
            datagrams = since("datagrams"),
            flows = since("flows"),
            logged = since("logged_flows"),
            errors = errors.iter().sum::<u64>(),
            queue_full = since("queue_full_flows"),
            gaps = since("sequence_gap"),
            slabs_queued,
            versions = %versions(ledger),
            "last 30 s"
        );
        self.last = totals;
        self.last_at_ms = now_ms;
    }
}

/// Exporters by the version they send, such as `v5: 3, v1: 1`.
fn versions(ledger: &Ledger) -> String {
    let mut exporters: BTreeMap<i64, u32> = BTreeMap::new();
    for (_, account) in ledger.accounts() {
        *exporters.entry(account.version.get()).or_default() += 1;
    }
    let parts: Vec<_> = exporters.iter().map(|(version, n)| format!("v{version}: {n}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}
