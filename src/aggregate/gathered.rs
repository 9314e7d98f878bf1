//! What a block of flows adds and where: gathered once, for all rollups.

use std::ops::Range;

use super::share::Width;
use super::shares::Shares;
use super::sums::Amounts;
use crate::flow::{FlowBatch, Measures};

/// See the module's documentation. Memory is kept from block to block.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Shares of the block's flows, for each distinct width.
    pub(super) shares: Vec<Shares>,
    /// What each flow adds, then what its parts do.
    pub(super) amounts: Amounts,
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
        let Self { shares, amounts, spans } = self;
        amounts.fill(|measures| {
            measures.clear();
            measures.extend(rows.map(|row| measures_of(batch, row)));
            shares.iter_mut().for_each(|shares| shares.fill(span_max_ms, spans, measures));
        });
        self.spans.iter().filter(|(start, end)| end.saturating_sub(*start) > span_max_ms).count()
    }
}

/// What a flow adds.
fn measures_of(batch: &FlowBatch, row: usize) -> Measures {
    let (bytes, packets) = (batch.bytes.value_or_default(row), batch.packets.value_or_default(row));
    let rtt_ms = batch.rtt_ms.get(row);
    let rtt_ms_sum = u64::from(rtt_ms.unwrap_or_default());
    Measures { bytes, packets, flows: 1, rtt_ms_sum, rtt_count: u64::from(rtt_ms.is_some()) }
}
