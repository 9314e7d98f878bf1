//! Counters, the loss ledger and the text that Prometheus scrapes. Every stage keeps its own counters and gives them to an
//! [`Exposition`]; nothing here knows a stage.

mod counter;
mod exposition;
pub mod ledger;

pub use counter::{Counter, Gauge};
pub use exposition::{Exposition, Format, MetricKind};
