//! The stage `deliver`: one thread a sink brings the log's entries to it. The only code that decides what follows an
//! error: try again (exponential backoff with jitter), set aside (what the store refuses), or wait for a person.
//!
//! One slow or dead sink stalls neither the others nor the receivers: it only falls behind in the log.
//!
//! Invariants: a sink gets entries in order of position; after any error it is dropped, opened anew and asked for its
//! cursor before anything is sent again; a position is released in the log only when the sink has it durably, or it was
//! set aside; what was set aside comes to the sink again, each record once, when somebody asks for it (`replay`).

mod backoff;
mod config;
mod group;
mod quarantine;
mod replay;
mod run;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod thread;

pub use config::Config;
pub use group::Source;
pub use quarantine::{DropError, Head, Kept, Listed, Quarantine, Totals};
pub use replay::{Replayed, Wish};
pub use source::LogSource;
pub use status::{Problem, State, Status};
pub use thread::Deliverer;

/// Memory of a sink's quarantine at most, bytes: its index, and one group that is replayed.
pub const QUARANTINE_MEMORY_BYTES_MAX: u64 = quarantine::INDEX_BYTES_MAX + replay::GROUP_BYTES;
