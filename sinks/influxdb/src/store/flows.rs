//! Flow records one by one, read in pieces, in the order of their seconds.

use sink_api::rollup::Keep;
use sink_api::store::{FlowsQuestion, FlowsSummary, StoreError};
use sink_api::{Field, FlowBatch};

use super::InfluxStore;
use super::conditions::{Source, necessary};
use super::points::Flows;

impl InfluxStore {
    pub(super) fn records(
        &self,
        question: &FlowsQuestion,
        visit: &mut dyn FnMut(&FlowBatch, &[u32]) -> bool,
    ) -> Result<FlowsSummary, StoreError> {
        let kept_from = self.kept_from(Keep::Detail);
        let expired_before = (question.range.from < kept_from).then_some(kept_from);
        let mut summary = FlowsSummary { rows: 0, expired_before };
        let mut flows = Flows::new(Field::ALL);
        let condition = necessary(&question.filter, Source::Flows);
        let statement = flows.statement(question.range, condition.as_deref());
        let mut rows = Vec::new();
        self.run(Keep::Detail, &statement, question.deadline, &mut |series| {
            flows.fill(series);
            question.filter.select(&flows.batch, &mut rows);
            let times = flows.batch.time.values();
            rows.retain(|row| times.get(*row as usize).is_some_and(|time| question.range.contains(*time)));
            summary.rows += rows.len() as u64;
            Ok(rows.is_empty() || visit(&flows.batch, &rows))
        })?;
        Ok(summary)
    }
}
