//! The stage `receive`: UDP datagrams into pooled, packed slabs, framed and accounted for.

mod config;

pub use config::{Config, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MIN, Protocol, SLAB_BYTES_MAX, SOCKETS_MAX};
