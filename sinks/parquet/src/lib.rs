//! The embedded store: columnar files on local disk by day, scanned in-process.
//!
//! `sink` writes, `store` answers; they meet only in the manifest on the disk, so a reader needs no writer in its process.
//! `table` says which columns there are, `encode` and `decode` turn them into Parquet files and back, on top of `codec`.

pub mod codec;
mod compact;
mod config;
pub mod decode;
pub mod encode;
mod layout;
pub mod manifest;
mod sink;
mod store;
pub mod table;

// The tests' fixtures name this crate as its users do.
#[cfg(test)]
extern crate self as sink_parquet;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

pub use config::{Config, KEYS, SAMPLE, parse};
pub use sink::ParquetSink;
pub use store::ParquetStore;
