//! What a block of flows adds and where: gathered once, for all rollups.

use std::ops::Range;

use super::share::{Shares, Width};
use super::sums::Cell;
use crate::flow::{FlowBatch, Measures};

/// See the module's documentation. Memory is kept from block to block.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Shares of the block's flows, for each distinct width.
    pub(super) shares: Vec<Shares>,
    /// What each flow adds.
    pub(super) amounts: Vec<Measures>,
    /// The same as cells.
    pub(super) cells: Vec<Cell>,
    /// From when to when each flow is spread, ms since the Unix epoch.
    spans: Vec<(i64, i64)>,
}

impl Gathered {
    /// Index of the shares of a width, which are gathered from now on.
    pub(super) fn share(&mut self, width: Width) -> usize {
        let known = self.shares.iter().position(|shares| shares.width().ms() == width.ms());
        known.unwrap_or_else(|| {
            self.shares.push(Shares::new(width));
            self.shares.len() - 1
        })
    }

    /// Gathers a block. Gives how many flows span more than `span_max_ms`.
    pub(super) fn fill(&mut self, batch: &FlowBatch, rows: Range<usize>, span_max_ms: i64) -> usize {
        self.spans.clear();
        self.spans.extend(rows.clone().map(|row| (batch.span_start_ms(row), batch.time.value_or_default(row))));
        self.amounts.clear();
        self.amounts.extend(rows.map(|row| {
            let (bytes, packets) = (batch.bytes.value_or_default(row), batch.packets.value_or_default(row));
            let rtt_ms = batch.rtt_ms.get(row);
            let rtt_ms_sum = u64::from(rtt_ms.unwrap_or_default());
            Measures { bytes, packets, flows: 1, rtt_ms_sum, rtt_count: u64::from(rtt_ms.is_some()) }
        }));
        self.cells.clear();
        self.cells.extend(self.amounts.iter().map(Cell::of));
        for shares in &mut self.shares {
            shares.fill(span_max_ms, &self.spans, &self.amounts);
        }
        self.spans.iter().filter(|(start, end)| end.saturating_sub(*start) > span_max_ms).count()
    }
}
