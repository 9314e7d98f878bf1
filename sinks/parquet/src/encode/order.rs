use std::sync::Arc;

use sink_api::FlowBatch;

use super::Rows;

/// The order in which flows are stored in a row group.
pub fn flow_order(_batches: &[Arc<FlowBatch>], total: usize, rows: Option<Vec<u32>>) -> Rows {
    Rows { total, order: rows }
}
