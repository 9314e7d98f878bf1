//! The order of flows within a row group: by subscriber, or by the customer's address where no row has a subscriber.
//!
//! All rows of one subscriber then stand together: the page index leads a search for one subscriber to a page or two of each
//! row group, and the columns that go with the subscriber (address, reseller, site, NAS) become runs.

use std::sync::Arc;

use sink_api::{Addr, Direction, FlowBatch};

use super::Rows;
use super::gather::dictionary;

/// Puts rows of these batches (`rows` by number over all batches, or all of them) into stored order. Rows that are equal in
/// it keep the order in which they came.
pub fn flow_order(batches: &[Arc<FlowBatch>], total: usize, rows: Option<Vec<u32>>) -> Rows {
    let chosen = Rows { total, order: rows };
    let (values, codes) = dictionary(batches.iter().map(|b| &b.subscriber_id), &chosen);
    let keys = if values.is_empty() { customer_keys(batches, &chosen) } else { codes };
    // Key above, place below: one sort of plain numbers that keeps equal keys in order.
    let place = |index: usize| chosen.order.as_ref().map_or(index as u32, |order| order[index]);
    let mut packed: Vec<u64> = Vec::with_capacity(keys.len());
    packed.extend(keys.iter().enumerate().map(|(index, key)| (u64::from(*key) << 32) | index as u64));
    if !packed.is_sorted() {
        packed.sort_unstable();
    }
    Rows { total, order: Some(packed.into_iter().map(|p| place(p as u32 as usize)).collect()) }
}

/// The customer's address of each row as a number; IPv6 by its network part.
fn customer_keys(batches: &[Arc<FlowBatch>], chosen: &Rows) -> Vec<u32> {
    let key = |addr: Addr| addr.as_v4().unwrap_or((addr.0 >> 64) as u32);
    let of_batch = |batch: &Arc<FlowBatch>| -> Vec<u32> {
        let inward = |row| batch.direction.get(row) == Some(Direction::In as u8);
        let side = |row| if inward(row) { batch.dst_ip.get(row) } else { batch.src_ip.get(row) };
        (0..batch.len()).map(|row| side(row).map_or(0, key)).collect()
    };
    chosen.apply(batches.iter().flat_map(of_batch).collect())
}
