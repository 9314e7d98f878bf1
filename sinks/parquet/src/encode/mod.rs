//! From columns in memory to Parquet files.
//!
//! A row group is encoded leaf by leaf from the batches as they came from the log: each column is brought together, put
//! into stored order and encoded before the next one is touched, so the rows are never held a second time.

mod chunk;
mod content;
mod dictionary;
mod extent;
mod file;
mod gather;
mod lanes;
mod leaf_data;
mod numbers;
mod order;
mod pages;
mod parts;
mod places;
mod rows;

pub(crate) use extent::extent;
pub use file::{FileWriter, WrittenFile};
pub use leaf_data::LeafData;
pub use order::flow_order;
pub use rows::Rows;
