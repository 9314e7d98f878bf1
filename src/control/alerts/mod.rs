//! Alerts: conditions on what flows through and on the collector itself, and who is told of them.
//!
//! [`Runner`] reads the log as one more consumer into [`counters`], and judges counters and [`Facts`] at every interval
//! (`evaluate`) by the rules in force (`policy`). The [`Board`] holds what fires and what is remembered; `deliver` brings it
//! to the receivers. `docs/alerts.md` defines every rule.
//!
//! Invariants:
//!
//! - Counters, the log cursor up to which they hold, alerts and what waits for receivers are saved in one step, so that a
//!   crash neither forgets nor repeats. Nobody is told of anything that is not saved.
//! - Each beginning and end gets into the log once (`outbox`), and from there into the sinks.
//! - Of one condition there is at most one active alert; it ends when the condition has been over for the hold-down.
//! - What cannot be judged (flows not read yet, an exporter not heard since the start) changes nothing.

mod alert;
mod board;
mod config;
pub mod counters;
mod deliver;
mod engine;
mod evaluate;
mod expose;
mod facts;
mod kind;
mod outbox;
mod policy;
mod receiver_config;
mod runner;
mod summary;
#[cfg(test)]
mod tests;
mod view;

pub use alert::{Acknowledged, Alert, AlertKey, Measured, Subject};
pub use board::{ALERTS_MAX, Board, Counts, Event, Wanted};
pub use config::{Config, DurationMs, Hosts, RuleConfig, Threshold};
pub use deliver::{Deliveries, Notification, Plan, test as test_receiver};
pub use engine::{Alerts, Engine};
pub use evaluate::{Evaluator, Finding, Findings};
pub use facts::{DatabaseFact, ExporterFact, Facts, SinkFact};
pub use kind::{Kind, Scope, Severity, Unit};
pub use policy::{Policy, Terms};
pub use receiver_config::{ReceiverConfig, ReceiverKind, Tls};
pub use runner::{CURSOR, Gather, Runner};
pub use view::AlertItem;
