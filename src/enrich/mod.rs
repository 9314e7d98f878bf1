//! The stage `enrich`: who and where each flow is.
//!
//! Slow knowledge (country, AS, customer networks, sites, static subscribers, names of ports) is compiled by `sources` into
//! one immutable [`table::Table`], published by [`Enrichment`]; [`leases`] are beside it and change in place. Each worker
//! has an [`Enricher`] that fills the columns of a batch, then [`pairing`] finds the two directions of conversations.
//! Enrichment never drops a flow and never waits for a source.

pub mod app;
mod config;
pub mod dpi;
pub mod leases;
pub mod names;
pub mod pairing;
mod reload;
pub mod sites;
mod sources;
pub mod sql;
pub mod table;
mod watch;
mod worker;

pub use config::Config;
pub use reload::{Enrichment, ReloadError, ReloadReport, SiteInfo};
pub use sources::{LeaseRow, SourceError, SourceReport};
pub use watch::Watch;
pub use worker::Enricher;
