//! Flows and rollups in PostgreSQL or TimescaleDB.
//!
//! Written by binary COPY with bytes made by hand, each group of the log in one transaction together with the cursor: so
//! every flow is there exactly once, whatever breaks. Without TimescaleDB, native partitions by day take the place of
//! hypertables.

mod alerts;
mod columns;
mod config;
mod connect;
mod debug_log;
mod encode;
mod schema;
mod sink;
mod store;

pub use config::{Config, KEYS, SAMPLE_POSTGRES, SAMPLE_TIMESCALEDB, SslMode, parse_postgres, parse_timescaledb};
pub use sink_api::Secret;
