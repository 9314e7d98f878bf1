//! The stage `receive`: UDP datagrams into pooled, packed slabs, framed and accounted for.
//!
//! Each socket has a thread that drains it with `recvmmsg` and does the ordered work of each datagram: allow-list, version
//! and header check, sequence accounting. The slab then goes into a bounded queue, from which any worker takes any slab.
//! A receiver never waits for a worker: when every slab is in use, what it holds is dropped and counted.
//!
//! Invariants: a stream is read by one framer only, in order; every datagram that a socket gives is counted in exactly one
//! place of its exporter's account (see `telemetry::ledger`); every frame of a slab names records that lie wholly within
//! the slab's bytes.

mod config;
mod framer;
mod inject;
mod procfs;
mod receiver;
mod sequence;
mod slab;
mod socket;
mod stream;
mod sys;
mod untold;

pub use config::{Config, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MIN, Protocol, SLAB_BYTES_MAX, SOCKETS_MAX};
pub use framer::{Admission, Framer, Reject, Restored, STREAMS_MAX, StreamKey};
pub use inject::{BodyReject, Busy, Ingested, Injector, Rejected};
pub use receiver::{Receivers, StartError};
pub use sequence::{Numbering, REORDER_HOLD_MS};
pub use slab::{Frame, Losses, Pool, Receipt, Slab, SlabQueue, SlabStream, Taken};
pub use socket::{ListenError, SocketCounters};
pub use untold::Untold;

#[cfg(test)]
mod tests;
