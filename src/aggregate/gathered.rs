//! What a block of flows adds and where: gathered once, for all rollups.

use std::ops::Range;

use super::share::{Share, Width};
use super::shares::{Flows, Shares};
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
        amounts.fill(amounts_of(batch, rows));
        for index in 0..shares.len() {
            let (before, rest) = shares.split_at_mut(index);
            let Some(own) = rest.first_mut() else { continue };
            let is_narrower = |narrow: &&Shares| own.width().ms() % narrow.width().ms() == 0;
            match before.iter().filter(is_narrower).max_by_key(|narrow| narrow.width().ms()) {
                Some(narrow) => own.fill_from(narrow, flows, amounts),
                None => own.fill(flows, amounts),
            }
        }
        self.spans.iter().filter(|(start, end)| end.saturating_sub(*start) > span_max_ms).count()
    }

    /// The shares of a flow, by its row in the block.
    pub(super) fn share_of(&self, row: usize, width: Width) -> Share {
        let flows = Flows { spans: &self.spans, span_max_ms: self.span_max_ms };
        flows.share(row, width, &self.amounts.of(row).measures())
    }
}

/// What the flows of some rows add.
fn amounts_of(batch: &FlowBatch, rows: Range<usize>) -> impl Iterator<Item = Measures> {
    let (rtt_ms, present) = (&batch.rtt_ms, batch.rtt_ms.validity());
    let alike = u64::from(!rtt_ms.all_null());
    // Whether a flow has a round trip nobody can foresee: no branch asks.
    rows.map(move |row| Measures {
        bytes: batch.bytes.value_or_default(row),
        packets: batch.packets.value_or_default(row),
        flows: 1,
        rtt_ms_sum: rtt_ms.value_or_default(row).into(),
        rtt_count: present.map_or(alike, |present| present[row].into()),
    })
}
