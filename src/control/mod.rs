//! Everything off the data path: configuration, the admin endpoint, what the process remembers.

pub mod config;
pub mod http;
mod nearest;
pub mod state;
