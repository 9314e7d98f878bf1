//! Flow records one by one, compared with the reference's.

use super::data::DataSet;
use super::questions::{FILTERS, question, ranges};
use super::{Failures, Report};
use crate::batch::Field;
use crate::store::memory::MemoryStore;
use crate::store::{FlowStore, FlowsQuestion, Question, StoreError, TimeRange};
use crate::{FlowBatch, Value};

/// Flow records one by one, with every column that is stored.
pub(super) fn compare(
    store: &dyn FlowStore,
    reference: &MemoryStore,
    set: &DataSet,
    (columns, step): (&[Field], usize),
    report: &mut Report,
) -> Failures {
    let mut failures = Failures::new();
    for (n, filter) in FILTERS.iter().enumerate().step_by(3 * step) {
        report.questions += 1;
        let range = ranges(set)[n % 4];
        let Question { filter: parsed, deadline, .. } = question(&[], filter, range);
        if !parsed.fields().iter().all(|field| columns.contains(field)) {
            let refused = store.flows(&FlowsQuestion { range, filter: parsed, deadline }, &mut |_, _| true);
            if !matches!(refused, Err(StoreError::Unsupported { .. })) {
                failures.push(format!("flows {filter} without its columns: {refused:?}"));
            }
            continue;
        }
        let (got, want) = (records(store, filter, range, Field::ALL), records(reference, filter, range, columns));
        let first = (0..got.len().max(want.len())).find(|row| got.get(*row) != want.get(*row));
        if let Some(row) = first {
            let counts = (got.len(), want.len());
            failures.push(format!("flows {filter}: {counts:?}: {:?} instead of {:?}", got.get(row), want.get(row)));
        }
    }
    failures.extend(stops(store, set));
    failures
}

/// Every column of every flow as text, sorted; those that are not among `columns` as null.
fn records(store: &dyn FlowStore, filter: &str, range: TimeRange, columns: &[Field]) -> Vec<String> {
    let Question { filter, deadline, .. } = question(&[], filter, range);
    let mut records = Vec::new();
    let visit = &mut |batch: &FlowBatch, rows: &[u32]| {
        for row in rows {
            let value = |field: &Field| match columns.contains(field) {
                true => format!("{:?}", batch.value(*field, *row as usize)),
                false => format!("{:?}", Value::Null),
            };
            records.push(Field::ALL.iter().map(value).collect::<Vec<_>>().join("|"));
        }
        true
    };
    match store.flows(&FlowsQuestion { range, filter, deadline }, visit) {
        Ok(summary) if summary.rows != records.len() as u64 => records.push(format!("summary says {}", summary.rows)),
        Ok(_) => {}
        Err(error) => records.push(error.to_string()),
    }
    records.sort_unstable();
    records
}

fn stops(store: &dyn FlowStore, set: &DataSet) -> Option<String> {
    let Question { filter, deadline, range, .. } = question(&[], "any", ranges(set)[0]);
    let mut visits = 0;
    let stop = &mut |_: &FlowBatch, _: &[u32]| {
        visits += 1;
        false
    };
    match store.flows(&FlowsQuestion { range, filter, deadline }, stop) {
        Ok(_) if visits == 1 => None,
        other => Some(format!("a visitor that stops was called {visits} times: {other:?}")),
    }
}
