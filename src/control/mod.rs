//! Everything off the data path: configuration, alerts, the admin endpoint, what the process remembers.

pub mod alerts;
pub mod config;
pub mod http;
pub mod leases;
pub mod state;
