//! rgz-netflow: receives flow exports, turns them into columns, says who and where each flow is, sums it up and stores it
//! in the sink that the configuration names. `src/ARCHITECTURE.md` tells how the modules hang together.

pub use sink_api as flow;

pub mod aggregate;
pub mod app;
pub mod cli;
pub mod control;
pub mod decode;
pub mod deliver;
pub mod enrich;
pub mod log;
pub mod pipeline;
mod prefetch;
pub mod receive;
pub mod telemetry;
pub mod threads;
pub mod wire;
