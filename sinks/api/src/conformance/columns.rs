//! What a store that keeps fewer columns of flows must answer.

use std::time::Instant;

use super::questions::{DEADLINE, shown};
use crate::batch::Field;
use crate::store::plan::Plan;
use crate::store::{Answer, FlowStore, Question, StoreError, Tier};

/// Whether flows with these columns can answer.
pub(super) fn has_columns(question: &Question, columns: &[Field]) -> bool {
    Plan::needed_fields(question).iter().all(|field| columns.contains(field))
}

/// What is wrong when flows answer a question for which they lack columns.
pub(super) fn answered_from_detail(store: &dyn FlowStore, question: &Question) -> Option<String> {
    let deadline = Instant::now() + DEADLINE;
    match store.ask(&Question { deadline, ..question.clone() }) {
        Ok(Answer { tier: Tier::Rollup(_), .. }) | Err(StoreError::Unsupported { .. }) => None,
        other => Some(format!("{} without its columns: {:?}", shown(question), other.map(|a| a.rows.len()))),
    }
}

/// What a store without the column `rtt_ms` answers from detail.
pub(super) fn without_latency(mut answer: Answer) -> Answer {
    let all = answer.rows.iter_mut().map(|row| &mut row.measures).chain([&mut answer.matched]);
    all.for_each(|measures| (measures.rtt_ms_sum, measures.rtt_count) = (0, 0));
    answer
}
