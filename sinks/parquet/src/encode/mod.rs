//! From columns in memory to Parquet files.
//!
//! A row group is encoded leaf by leaf from the batches as they came from the log: each column is brought together, put
//! into stored order and encoded before the next one is touched, so the rows are never held a second time.

mod chunk;
mod extent;
mod file;
mod gather;
mod numbers;
mod order;
mod pages;

pub use file::{FileWriter, WrittenFile};
pub use gather::{LeafData, Rows};
pub use order::flow_order;
