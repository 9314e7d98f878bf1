//! The order in which a group's flows are written: by subscriber, those of one as they came.
//!
//! Rows of one subscriber then share pages, and the index on subscribers is filled from left to right once a group instead of
//! here and there: a third of the cost of rows as they come. Rows are encoded as they came, reading each column in sequence, and
//! put into order afterwards as bytes: a row is then one place in memory and not one in each column.

use sink_api::Uuid;

use super::pulled::FlowRows;
use crate::encode::RowOf;

/// Every row, batch by batch.
pub(super) fn as_they_came(flows: &[FlowRows]) -> Vec<RowOf> {
    let of_batch =
        |(batch, part): (usize, &FlowRows)| part.rows.iter().map(|row| (batch as u32, *row)).collect::<Vec<_>>();
    flows.iter().enumerate().flat_map(of_batch).collect()
}

/// The numbers of the rows as they came by subscriber, rows without one first. Dictionaries differ from batch to batch, so
/// subscribers are ranked once a group; rows are then counted into their places.
pub(super) fn by_subscriber(flows: &[FlowRows]) -> Vec<u32> {
    let (ranks, distinct) = ranks(flows);
    let rank = |batch: usize, row: u32| {
        let code = flows[batch].batch().subscriber_id.codes()[row as usize];
        ranks[batch][code as usize] as usize
    };
    let all = || flows.iter().enumerate().flat_map(|(batch, part)| part.rows.iter().map(move |row| (batch, *row)));
    // Where the next row of each rank goes.
    let mut places = vec![0_u32; distinct + 2];
    all().for_each(|(batch, row)| places[rank(batch, row) + 1] += 1);
    for rank in 1..places.len() {
        places[rank] += places[rank - 1];
    }
    let mut ordered = vec![0; all().count()];
    for (number, (batch, row)) in (0..).zip(all()) {
        let place = &mut places[rank(batch, row)];
        ordered[*place as usize] = number;
        *place += 1;
    }
    ordered
}

/// For each batch the rank of every code among the subscribers of all batches (0 for null), and how many there are.
fn ranks(flows: &[FlowRows]) -> (Vec<Vec<u32>>, usize) {
    let mut ranks: Vec<Vec<u32>> =
        flows.iter().map(|part| vec![0; part.batch().subscriber_id.values().len() + 1]).collect();
    let mut values: Vec<(Uuid, u32, u32)> = Vec::new();
    for (batch, part) in flows.iter().enumerate() {
        let codes = (1..).zip(part.batch().subscriber_id.values());
        values.extend(codes.map(|(code, id)| (*id, batch as u32, code)));
    }
    values.sort_unstable();
    let mut distinct = 0;
    for (index, (id, batch, code)) in values.iter().enumerate() {
        distinct += usize::from(index == 0 || values[index - 1].0 != *id);
        ranks[*batch as usize][*code as usize] = distinct as u32;
    }
    (ranks, distinct)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use sink_api::rollup::Record;
    use sink_api::{Entry, FlowBatch};

    use super::*;

    fn part(subscribers: &[u8], keep: &[bool]) -> FlowRows {
        let mut batch = FlowBatch::default();
        for subscriber in subscribers {
            batch.time.push(Some(0));
            // Every fifth is nobody's.
            let id = Uuid::from_bytes([*subscriber; 16]);
            batch.subscriber_id.push((subscriber % 5 != 0).then_some(&id));
        }
        batch.fill_missing();
        let batch = Arc::new(batch);
        let rows = (0..batch.len() as u32).filter(|row| keep[*row as usize % keep.len()]).collect();
        FlowRows { entry: Entry { position: 1, record: Record::Flows(Arc::clone(&batch)) }, batch, rows }
    }

    proptest! {
        #[test]
        fn rows_stand_by_subscriber_and_otherwise_as_they_came(
            batches in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<bool>(), 1..5)), 0..6)
        ) {
            let flows: Vec<FlowRows> = batches.iter().map(|(subscribers, keep)| part(subscribers, keep)).collect();
            let subscriber = |(batch, row): &RowOf| flows[*batch as usize].batch().subscriber_id.get(*row as usize);
            let mut expected = as_they_came(&flows);
            expected.sort_by_key(subscriber);
            let came = as_they_came(&flows);
            let ordered: Vec<RowOf> = by_subscriber(&flows).into_iter().map(|number| came[number as usize]).collect();
            prop_assert_eq!(ordered, expected);
        }
    }
}
