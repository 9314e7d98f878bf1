//! What deep packet inspection says of flows: Suricata's EVE events, joined with flows on the 5-tuple and the time.
//!
//! A verdict names a flow's application where its ports do not. Events arrive before or after the flow record; what comes
//! after it was enriched is of no use any more (what is stored stays). Verdicts are kept in a cache bounded in bytes.

mod cache;
mod eve;
mod protocols;
mod source;
#[cfg(test)]
mod tests;

use super::app::App;
use super::names::Names;
use crate::flow::Addr;
use crate::telemetry::{Counter, Exposition};
use cache::Cache;
pub use source::{DpiSource, Place};

/// Clocks of the inspecting machine and of the exporter differ, and so do their views of when a flow begins and ends, ms.
const SLACK_MS: i64 = 60_000;

/// How long a connection may go on after an event that is not its end, ms.
const OPEN_MS: i64 = 3_600_000;

/// Verdicts and what was read for them.
#[derive(Debug)]
pub struct Dpi {
    cache: Cache,
    used: Counter,
    other: Counter,
    malformed: Counter,
    too_long: Counter,
    hits: Counter,
    reopened: Counter,
}

/// The ends of a conversation, the same for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tuple {
    low: Addr,
    high: Addr,
    low_port: u16,
    high_port: u16,
    protocol: u8,
}

impl Tuple {
    pub fn new(a: (Addr, u16), b: (Addr, u16), protocol: u8) -> Self {
        let ((low, low_port), (high, high_port)) = (a.min(b), a.max(b));
        Self { low, high, low_port, high_port, protocol }
    }
}

/// What is said of a conversation, and when it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub from_ms: i64,
    pub to_ms: i64,
    pub app: App,
}

impl Dpi {
    /// A cache of at most so many bytes.
    pub fn new(memory_max_bytes: u64) -> Self {
        Self {
            cache: Cache::new(memory_max_bytes),
            used: Counter::default(),
            other: Counter::default(),
            malformed: Counter::default(),
            too_long: Counter::default(),
            hits: Counter::default(),
            reopened: Counter::default(),
        }
    }

    /// Whether nothing was ever said: then nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.used.get() == 0
    }

    /// The application of a flow by its conversation, when an event of its time said one.
    pub(super) fn find(&self, tuple: &Tuple, start_ms: i64, end_ms: i64) -> Option<App> {
        let verdict = self.cache.get(tuple)?;
        let meets =
            verdict.from_ms.saturating_sub(SLACK_MS) <= end_ms && start_ms <= verdict.to_ms.saturating_add(SLACK_MS);
        meets.then_some(verdict.app)
    }

    pub(super) fn count_hits(&self, hits: u64) {
        self.hits.add(hits);
    }

    /// Takes one event, a JSON object.
    pub(super) fn take(&self, names: &Names, event: &[u8]) {
        if event.trim_ascii().is_empty() {
            return;
        }
        match eve::read(event, names) {
            Ok(Some((tuple, verdict))) => {
                self.cache.put(tuple, verdict);
                self.used.add(1);
            }
            Ok(None) => self.other.add(1),
            Err(eve::Malformed) => self.malformed.add(1),
        }
    }

    /// Adds its counters to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        let help = "Events of the inspection (EVE), by what became of them.";
        let events = [
            ("used", &self.used),
            ("other", &self.other),
            ("malformed", &self.malformed),
            ("too_long", &self.too_long),
        ];
        for (result, counter) in events {
            out.counter("netflow_dpi_events_total", help, &[("result", result)], counter.get());
        }
        out.counter("netflow_dpi_flows_total", "Flows whose application the inspection named.", &[], self.hits.get());
        out.gauge(
            "netflow_dpi_verdicts",
            "Conversations whose application is remembered.",
            &[],
            self.cache.len() as f64,
        );
        let help = "Times that the events' file was opened or a connection of theirs taken.";
        out.counter("netflow_dpi_opened_total", help, &[], self.reopened.get());
    }
}
