//! Flow records one by one, read in pieces.

use postgres::Row;
use postgres::types::ToSql;
use sink_api::batch::ColumnMut;
use sink_api::rollup::{Keep, Key};
use sink_api::store::{FlowsQuestion, FlowsSummary, StoreError};
use sink_api::value::Value;
use sink_api::{Field, FlowBatch};

use super::PostgresStore;
use super::raw::Raw;
use super::sql;
use crate::columns::decode;

/// Rows that are read and visited at once.
const PIECE_ROWS: i32 = 10_000;

impl PostgresStore {
    pub(super) fn records(
        &self,
        question: &FlowsQuestion,
        visit: &mut dyn FnMut(&FlowBatch, &[u32]) -> bool,
    ) -> Result<FlowsSummary, StoreError> {
        let left = self.left(question.deadline)?;
        let kept_from = self.kept_from(Keep::Detail);
        let expired_before = (question.range.from < kept_from).then_some(kept_from);
        self.has_columns(question.filter.fields())?;
        let statement = sql::flows(&self.config.flows_table(), &self.config.columns, &question.filter, question.range);
        let params: Vec<&(dyn ToSql + Sync)> = statement.params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        let mut summary = FlowsSummary { rows: 0, expired_before };
        self.with_transaction(left, statement.by_subscriber, |tx| {
            let failed = |error: postgres::Error| self.failed(&error);
            let portal = tx.bind(&statement.text, &params).map_err(failed)?;
            let mut batch = FlowBatch::default();
            loop {
                let rows = tx.query_portal(&portal, PIECE_ROWS).map_err(failed)?;
                if rows.is_empty() {
                    return Ok(());
                }
                batch.clear();
                rows.iter().for_each(|row| push(&mut batch, row));
                let all: Vec<u32> = (0..batch.len() as u32).collect();
                summary.rows += all.len() as u64;
                self.left(question.deadline)?;
                if !visit(&batch, &all) {
                    return Ok(());
                }
            }
        })?;
        Ok(summary)
    }
}

fn push(batch: &mut FlowBatch, row: &Row) {
    for (index, field) in Field::ALL.iter().enumerate() {
        let raw = row.try_get::<_, Option<Raw<'_>>>(index).ok().flatten();
        let value = raw.map_or(Value::Null, |raw| decode(Key::Field(*field), raw.0));
        let number = value.as_number();
        match (batch.column_mut(*field), &value) {
            (ColumnMut::I64(c), Value::TimeMs(ms)) => c.push(Some(*ms)),
            (ColumnMut::I64(c), _) => c.push(None),
            (ColumnMut::U64(c), _) => c.push(number),
            (ColumnMut::U32(c), _) => c.push(number.map(|n| n as u32)),
            (ColumnMut::U16(c), _) => c.push(number.map(|n| n as u16)),
            (ColumnMut::U8(c), _) => c.push(number.map(|n| n as u8)),
            (ColumnMut::Ip(c), Value::Ip(addr)) => c.push(Some(*addr)),
            (ColumnMut::Ip(c), _) => c.push(None),
            (ColumnMut::AddrDict(c), Value::Ip(addr)) => c.push(Some(addr)),
            (ColumnMut::AddrDict(c), _) => c.push(None),
            (ColumnMut::Text(c), Value::Text(text)) => c.push(Some(text)),
            (ColumnMut::Text(c), _) => c.push(None),
            (ColumnMut::Uuid(c), Value::Uuid(uuid)) => c.push(Some(uuid)),
            (ColumnMut::Uuid(c), _) => c.push(None),
        }
    }
}
