//! The stage `decode`: framed datagrams become columns.
//!
//! Framing has checked every length, so records are moved without looking at the bytes again: a [`Layout`] names for each
//! field its offset, width and column, and is run over blocks of datagrams. What follows (absurd records,
//! second views, times, sampling) are passes over the columns. Nothing is allocated per flow once a batch is warm.
//!
//! Invariant: every record of a slab ends in the batch, in `absurd_flows` or in `second_view_flows`.

mod config;
mod decoder;
mod layout;
mod quarantine;
mod rules;
mod times;
mod words;

pub use config::{Config, ExporterConfig, WORKERS_MAX};
pub use decoder::{Decoder, Tally};
pub use layout::{Layout, Move};
pub use quarantine::{Absurdity, Quarantine, SET_ASIDE_MAX, SetAside};
pub use rules::{Rule, Rules};
pub use times::AGE_MIN_MS;

#[cfg(test)]
mod tests;
