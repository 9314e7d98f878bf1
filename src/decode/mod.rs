//! The stage `decode`: framed datagrams become columns.

mod config;

pub use config::{Config, ExporterConfig, WORKERS_MAX};
