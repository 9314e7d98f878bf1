//! What a group brings, filtered to the rows that are stored.

use std::ops::Range;
use std::sync::Arc;

use sink_api::rollup::{Keep, Record, RollupRows};
use sink_api::sink::{GROUP_ROWS_MAX, Group, RefusedRow};
use sink_api::{AlertRow, Entry, FlowBatch, RollupSums, SinkError};

use super::parts::Ranges;
use super::{FUTURE_MS_MAX, Tables};
use crate::config::Config;
use crate::encode::unstorable;
use crate::schema;

/// What a group brings.
#[derive(Default)]
pub(super) struct Pulled {
    pub flows: Vec<FlowRows>,
    pub sums: Vec<SumRows>,
    pub alerts: Vec<AlertRows>,
    /// Position of the last entry.
    pub last: Option<u64>,
    /// Flows older than the retention or too far in the future.
    pub expired: u64,
    /// Whether the group may have more, for which there was no room.
    pub is_full: bool,
}

/// Flows of one entry, with the rows that are stored.
pub(super) struct FlowRows {
    pub entry: Entry,
    pub batch: Arc<FlowBatch>,
    pub rows: Vec<u32>,
}

impl FlowRows {
    pub fn batch(&self) -> &FlowBatch {
        &self.batch
    }
}

/// One rollup's rows of one entry that are stored.
pub(super) struct SumRows {
    pub position: u64,
    sums: Arc<RollupSums>,
    index: usize,
    pub rows: Vec<u32>,
}

impl SumRows {
    pub fn rollup(&self) -> &RollupRows {
        &self.sums.rows[self.index]
    }
}

/// Alerts of one entry that are stored.
pub(super) struct AlertRows {
    pub position: u64,
    pub rows: Vec<AlertRow>,
}

/// What decides about rows that come.
pub(super) struct Intake<'a> {
    pub config: &'a Config,
    pub tables: &'a Tables,
    /// What is stored above the cursor.
    pub stored: &'a Ranges,
    pub now_ms: i64,
}

impl Intake<'_> {
    /// Takes a group's entries, but not more than fit into memory well: the next call has the others.
    pub fn pull(&self, group: &mut dyn Group) -> Result<Pulled, SinkError> {
        let mut pulled = Pulled::default();
        let now_ms = self.now_ms;
        let mut row_count = 0;
        while row_count < GROUP_ROWS_MAX
            && let Some(entry) = group.next()?
        {
            pulled.last = Some(entry.position);
            row_count += entry.record.row_count();
            if self.stored.contain(entry.position) {
                // What was set aside when it was stored, above the cursor, has left the quarantine: it is set aside anew.
                if let Record::Flows(batch) = &entry.record {
                    self.storable(&entry, batch, now_ms, group, &mut pulled.expired)?;
                }
                continue;
            }
            match &entry.record {
                Record::Flows(batch) => {
                    let batch = Arc::clone(batch);
                    let rows = self.storable(&entry, &batch, now_ms, group, &mut pulled.expired)?;
                    pulled.flows.push(FlowRows { entry, batch, rows });
                }
                Record::Sums(sums) => {
                    for (index, rollup) in sums.rows.iter().enumerate() {
                        if let Some(table) = self.tables.rollups.get(&*rollup.rollup) {
                            let kept = self.kept(table.keep, now_ms);
                            let rows =
                                (0..rollup.len() as u32).filter(|row| kept.contains(&rollup.bucket[*row as usize]));
                            let (position, sums) = (entry.position, Arc::clone(sums));
                            pulled.sums.push(SumRows { position, sums, index, rows: rows.collect() });
                        }
                    }
                }
                Record::Alerts(rows) => {
                    let kept = self.kept(Keep::Aggregate, now_ms);
                    let rows = rows.iter().filter(|row| kept.contains(&row.time_ms)).cloned();
                    pulled.alerts.push(AlertRows { position: entry.position, rows: rows.collect() });
                }
            }
        }
        pulled.is_full = row_count >= GROUP_ROWS_MAX;
        Ok(pulled)
    }

    /// Times whose rows are stored. Rollups keep the whole bucket in which the retention ends.
    fn kept(&self, keep: Keep, now_ms: i64) -> Range<i64> {
        schema::cutoff_ms(self.config, keep, now_ms).saturating_sub(match keep {
            Keep::Detail => 0,
            Keep::Aggregate => schema::width_ms(keep),
        })..now_ms.saturating_add(FUTURE_MS_MAX)
    }

    /// The rows of an entry that are stored; those that can never be are set aside.
    fn storable(
        &self,
        entry: &Entry,
        batch: &FlowBatch,
        now_ms: i64,
        group: &mut dyn Group,
        expired: &mut u64,
    ) -> Result<Vec<u32>, SinkError> {
        let kept = self.kept(Keep::Detail, now_ms);
        let mut rows = Vec::with_capacity(batch.len());
        let mut refused = Vec::new();
        for (row, time) in batch.time.values().iter().enumerate() {
            if !kept.contains(time) {
                *expired += 1;
            } else if let Some(reason) = unstorable(batch, row) {
                refused.push(RefusedRow { entry, row, reason });
            } else {
                rows.push(row as u32);
            }
        }
        group.set_aside(&refused)?;
        Ok(rows)
    }
}
