//! What a block of flows adds and where: gathered once, for all rollups.

use std::ops::Range;

use super::share::{Share, Width};
use super::shares::{Flows, Shares};
use super::sums::Amounts;
use crate::flow::column::Column;
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
    span_max_ms: i64,
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
        self.span_max_ms = span_max_ms;
        let Self { shares, amounts, spans, .. } = self;
        let flows = Flows { spans, span_max_ms };
        amounts.fill(|measures| {
            fill_measures(batch, rows, measures);
            for index in 0..shares.len() {
                let (before, rest) = shares.split_at_mut(index);
                let Some(own) = rest.first_mut() else { continue };
                let is_narrower = |narrow: &&Shares| own.width().ms() % narrow.width().ms() == 0;
                match before.iter().filter(is_narrower).max_by_key(|narrow| narrow.width().ms()) {
                    Some(narrow) => own.fill_from(narrow, flows, measures),
                    None => own.fill(flows, measures),
                }
            }
        });
        self.spans.iter().filter(|(start, end)| end.saturating_sub(*start) > span_max_ms).count()
    }

    /// The shares of a flow, by its row in the block.
    pub(super) fn share_of(&self, row: usize, width: Width) -> Share {
        let flows = Flows { spans: &self.spans, span_max_ms: self.span_max_ms };
        flows.share(row, width, &self.amounts.measures()[row])
    }
}

/// What the flows of some rows add.
fn fill_measures(batch: &FlowBatch, rows: Range<usize>, measures: &mut Vec<Measures>) {
    fn part<'a>(column: &'a Column<u64>, rows: &Range<usize>) -> &'a [u64] {
        column.values().get(rows.clone()).unwrap_or_default()
    }
    let (bytes, packets) = (part(&batch.bytes, &rows), part(&batch.packets, &rows));
    let of = |values: &[u64], row: usize| values.get(row).copied().unwrap_or_default();
    measures.clear();
    measures.extend((0..rows.len()).map(|row| Measures {
        bytes: of(bytes, row),
        packets: of(packets, row),
        flows: 1,
        ..Measures::default()
    }));
    if !batch.rtt_ms.all_null() {
        for (measures, row) in measures.iter_mut().zip(rows) {
            if let Some(rtt_ms) = batch.rtt_ms.get(row) {
                (measures.rtt_ms_sum, measures.rtt_count) = (u64::from(rtt_ms), 1);
            }
        }
    }
}
