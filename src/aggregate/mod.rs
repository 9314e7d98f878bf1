//! The stage `aggregate`: sums flows up by the keys of the rollups and emits the sums as additive partial rows.
//!
//! It reads the log in order and appends what it emits to the same log, together with the position up to which it holds
//! ([`crate::flow::RollupSums`]). After a crash it reads again from where the last emission says, and leaves out what that
//! emission has: nothing is lost, nothing is counted twice.
//!
//! - Bytes and packets are spread over the buckets of a flow's span (`share`) at constant cost: a few cells a key, however
//!   long the span (`buckets`). `flows` and round trips count in the last bucket.
//! - A rollup's key is two numbers, of the combinations of values that two groups of columns have (`layout`, `combos`,
//!   `groups`), or that follow from those of a wider group (`derived`); names are numbered once a batch (`view`, `intern`).
//!   A bucket holds its sums in a table by key (`table`, `sums`).
//! - Rollups of the same owners, like `usage` and `usage_apps`, share a table that is folded into each when it has to be
//!   emitted (`family`). Buckets wider than an hour get what flows bring by the hour.
//! - When what is emitted: `schedule`. Emitting drains (`out`); a bucket's rows add up.
//! - Memory is bounded (`aggregator`): sums are emitted early when it runs short; new keys beyond the bound are booked under
//!   one `other` row, which keeps direction, role, nas_id and reseller_id.
//! - `geo` groups by the side that is not the customer's: the source of `in` and `transit`, the destination of `out` and
//!   `internal`. `usage` and `usage_apps` book an internal flow twice: for the source's subscriber, and as `internal_in` for
//!   the destination's ([`crate::flow::InternalDestinations`]). `talkers` has its own rules (`talkers`).

mod aggregator;
mod buckets;
mod combos;
mod config;
mod counters;
mod derived;
mod family;
mod gathered;
mod groups;
mod intern;
mod layout;
mod others;
mod out;
mod rollup;
mod runner;
mod scattered;
mod schedule;
mod share;
mod shares;
mod sums;
mod table;
mod talkers;
#[cfg(test)]
mod tests;
mod top;
mod view;

pub use aggregator::Aggregator;
pub use config::{Config, KeepConfig, Problem, RollupConfig};
pub use counters::{Counters, Top};
pub use runner::{Handle, Runner};
pub(crate) use share::{Spread, Spreader, Width};
pub(crate) use table::{Place, Table};
