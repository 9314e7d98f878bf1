//! What the collector and its sinks have in common: flow columns, rollups, the sink contract, and the questions that a
//! store answers.
//!
//! Depends on no sink and on nothing of the collector. Lower layers of the collector use it as `flow`.

mod addr;
pub mod alert;
pub mod batch;
pub mod column;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod filter;
pub mod malformed;
mod nearest;
pub mod rollup;
mod secret;
pub mod sink;
pub mod store;
mod terms;
pub mod value;

pub use addr::Addr;
pub use alert::{AlertEvent, AlertRow};
pub use batch::{CutSpan, Field, FlowBatch, InternalDestinations};
pub use column::{Text, Uuid};
pub use filter::Filter;
pub use nearest::nearest;
pub use rollup::{Key, Measures, Record, RollupDef, RollupRows, RollupSums};
pub use secret::Secret;
pub use sink::{Clock, Entry, LogId, Sink, SinkConfig, SinkContext, SinkError};
pub use store::FlowStore;
pub use terms::{Direction, SourceRun, StreamProgress, country, time};
pub use value::{Kind, Value};
