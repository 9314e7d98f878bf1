//! Counters, the loss ledger and the text that Prometheus scrapes. Every stage keeps its own counters and gives them to an
//! [`Exposition`]; nothing here knows a stage.
//! [`units`] reads durations and sizes for every stage's configuration.

mod counter;
mod exposition;
pub mod ledger;
pub mod logging;
pub mod panics;
pub mod units;

pub use counter::{Counter, Gauge};
pub use exposition::{Exposition, Format, MetricKind};
