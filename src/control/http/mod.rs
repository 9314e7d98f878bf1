//! The admin endpoint: the API, the metrics and the health checks.

mod config;

pub use config::{Config, OPEN_TO_EVERYONE, Role, TokenConfig};
