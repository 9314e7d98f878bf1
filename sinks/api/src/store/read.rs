//! What is read of batches and rollups' rows to sum them up.

use super::plan::InternalIn;
use crate::batch::{ColumnRef, Field};
use crate::filter::{Filter, Side, Test};
use crate::rollup::{Key, KeyColumn, Measures};
use crate::{Direction, FlowBatch, RollupRows};

/// The columns of a batch that are summed up. Values of a column that is null in every row are missing.
pub(super) struct MeasureColumns<'b> {
    bytes: &'b [u64],
    packets: &'b [u64],
    rtt_ms: &'b [u32],
    has_rtt: Option<&'b [u8]>,
}

impl<'b> MeasureColumns<'b> {
    pub fn of(batch: &'b FlowBatch) -> Self {
        Self {
            bytes: batch.bytes.values(),
            packets: batch.packets.values(),
            rtt_ms: batch.rtt_ms.values(),
            has_rtt: batch.rtt_ms.validity(),
        }
    }

    #[inline]
    pub fn row(&self, row: usize) -> Measures {
        let rtt_count = u64::from(row < self.rtt_ms.len() && self.has_rtt.is_none_or(|present| present[row] != 0));
        Measures {
            bytes: self.bytes.get(row).copied().unwrap_or_default(),
            packets: self.packets.get(row).copied().unwrap_or_default(),
            flows: 1,
            // A null row's value is 0.
            rtt_ms_sum: self.rtt_ms.get(row).copied().map_or(0, u64::from) * rtt_count,
            rtt_count,
        }
    }
}

/// The code of the country or AS of the side that is not the customer's.
pub(super) fn outer_code(batch: &FlowBatch, key: Key, row: usize) -> u64 {
    let direction = batch.direction.get(row).and_then(Direction::from_code);
    let src = Direction::outer_side(direction) == Side::Src;
    let value = match (key, src) {
        (Key::Country, true) => batch.src_country.get(row).map(u64::from),
        (Key::Country, false) => batch.dst_country.get(row).map(u64::from),
        (_, true) => batch.src_as.get(row).map(u64::from),
        (_, false) => batch.dst_as.get(row).map(u64::from),
    };
    value.map_or(0, |n| n + 1)
}

fn key_column(rows: &RollupRows, key: Key) -> Option<&KeyColumn> {
    rows.keys.iter().find(|(k, _)| *k == key).map(|(_, column)| column)
}

pub(super) fn role_of(rows: &RollupRows, row: u32) -> Option<u8> {
    match key_column(rows, Key::Role) {
        Some(KeyColumn::U8(column)) => column.get(row as usize),
        _ => None,
    }
}

/// Whether a row stands for hosts that were cut.
pub(super) fn is_rest(rows: &RollupRows, row: usize) -> bool {
    matches!(key_column(rows, Key::Host), Some(KeyColumn::Ip(hosts)) if hosts.get(row).is_none())
}

/// One mark a row of direction `internal_in`; empty when there are none or they count like all others.
pub(super) fn internal_in_rows(rows: &RollupRows, internal_in: InternalIn) -> Vec<bool> {
    let direction = key_column(rows, Key::Field(Field::Direction)).map(KeyColumn::as_column);
    let Some(ColumnRef::U8(_)) = direction else { return Vec::new() };
    if internal_in == InternalIn::Counted {
        return Vec::new();
    }
    let mut found = Vec::new();
    Filter::Test(Test::Direction(Direction::InternalIn)).select_rollup(rows, None, &mut found);
    let mut marks = vec![false; if found.is_empty() { 0 } else { rows.len() }];
    found.into_iter().for_each(|row| marks[row as usize] = true);
    marks
}

pub(super) fn is_marked(marks: &[bool], row: u32) -> bool {
    marks.get(row as usize).copied().unwrap_or(false)
}
