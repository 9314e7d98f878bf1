//! Sums by key and interval.

use postgres::Row;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use sink_api::Value;
use sink_api::rollup::{Keep, Measures};
use sink_api::store::group::{GROUPS_MAX, Grouper};
use sink_api::store::plan::Plan;
use sink_api::store::{Answer, Question, StoreError};

use super::PostgresStore;
use super::raw::Raw;
use super::sql::{self, FRAME_COLUMNS};
use crate::columns::{decode, from_pg_micros, integer};

impl PostgresStore {
    pub(super) fn sums(&self, question: &Question) -> Result<Answer, StoreError> {
        let left = self.left(question.deadline)?;
        let plan = self.plan(question)?;
        let (table, keep) = match &plan.rollup {
            Some(def) => (self.config.quoted(&self.config.rollup_name(&def.name)), def.keep),
            None => (self.config.flows_table(), Keep::Detail),
        };
        let statement = sql::sums(&table, &self.config.columns, question, &plan, GROUPS_MAX);
        let params: Vec<&(dyn ToSql + Sync)> = statement.params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        let mut grouper = Grouper::new(&self.name, question, &plan, GROUPS_MAX);
        let mut total_rows = 0;
        self.with_transaction(left, statement.by_subscriber, |tx| {
            let failed = |error: postgres::Error| self.failed(&error);
            let mut rows = tx.query_raw(&statement.text, params.iter().copied()).map_err(failed)?;
            let mut first = true;
            while let Some(row) = rows.next().map_err(failed)? {
                if std::mem::take(&mut first) {
                    total_rows = number(&row, 0);
                    grouper.add_matched(&measures(&row, 1), number(&row, FRAME_COLUMNS - 1));
                }
                add(&mut grouper, &row, question, &plan)?;
            }
            Ok(())
        })?;
        Ok(Answer { total_rows, ..grouper.finish(plan.held_from(self.kept_from(keep))) })
    }
}

/// Adds the group of a row, when it has one.
fn add(grouper: &mut Grouper<'_>, row: &Row, question: &Question, plan: &Plan) -> Result<(), StoreError> {
    let mut column = FRAME_COLUMNS;
    if raw(row, column).is_none() {
        return Ok(());
    }
    column += 1;
    let mut interval = None;
    if question.interval_ms.is_some() {
        interval = raw(row, column).and_then(integer).map(from_pg_micros);
        column += 1;
    }
    let keys: Vec<Value> = plan
        .columns
        .iter()
        .enumerate()
        .map(|(index, key)| raw(row, column + index).map_or(Value::Null, |bytes| decode(*key, bytes)))
        .collect();
    grouper.add_row(interval, &keys, &measures(row, column + keys.len()))
}

fn raw(row: &Row, column: usize) -> Option<&[u8]> {
    row.try_get::<_, Option<Raw<'_>>>(column).ok().flatten().map(|raw| raw.0)
}

/// A count or sum, which is never negative.
fn number(row: &Row, column: usize) -> u64 {
    raw(row, column).and_then(integer).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

fn measures(row: &Row, first: usize) -> Measures {
    Measures {
        bytes: number(row, first),
        packets: number(row, first + 1),
        flows: number(row, first + 2),
        rtt_ms_sum: number(row, first + 3),
        rtt_count: number(row, first + 4),
    }
}
