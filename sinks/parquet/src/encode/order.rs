//! The order of flows within a row group: by direction, then by subscriber, or by the customer's address where no row has a
//! subscriber.
//!
//! All rows of one subscriber and direction then stand together: the page index leads a search for one subscriber to a page
//! or two a direction of each row group, and the columns that go with the subscriber (address, reseller, site, NAS) become
//! runs. The direction comes first because it decides which side is the customer's: whole pages then hold service ports only,
//! or the operator's own AS only, and cost next to nothing.

use std::sync::Arc;

use sink_api::batch::Field;
use sink_api::{Addr, Direction, FlowBatch};

use super::content::Distinct;
use super::dictionary::Dictionary;
use super::extent::all_bits;
use super::rows::Rows;
use crate::codec::width_of;

/// Bits of a key that one pass of the sort looks at, at the most.
const DIGIT_BITS: u32 = 11;

/// Puts rows of these batches (`rows` by number over all batches, or all of them) into stored order. Rows that are equal in
/// it keep the order in which they came.
pub fn flow_order(batches: &[Arc<FlowBatch>], total: usize, rows: Option<Vec<u32>>) -> Rows {
    let subscribers = Dictionary::new(batches.iter().map(|b| &b.subscriber_id), rows.as_deref());
    let known = !subscribers.values.is_empty();
    let customers = if known { subscribers.codes() } else { of_rows(customer_keys(batches, total), rows.as_deref()) };
    let directions = of_rows(directions(batches, total), rows.as_deref());
    // Key above, place below: plain numbers that are sorted by the key's bits alone.
    let place_bits = width_of(customers.len() as u64);
    let customer_bits = width_of(all_bits(&customers));
    let direction_bits = width_of(all_bits(&directions));
    let key_bits = (customer_bits + direction_bits).min(u64::BITS - place_bits);
    let packed = customers.iter().zip(&directions).enumerate().map(|(place, (customer, direction))| {
        let key = u64::from(*direction) << customer_bits | u64::from(*customer);
        key << place_bits | place as u64
    });
    let sorted = sort_by_bits(packed.collect(), place_bits, key_bits);
    let known = known.then(|| {
        let codes = sorted.iter().map(|packed| (packed >> place_bits) as u32 & !(u32::MAX << customer_bits));
        (Field::SubscriberId.name(), subscribers.with_codes(codes.collect()).content(None, Distinct::Uuids))
    });
    let places = sorted.iter().map(|packed| (packed & !(u64::MAX << place_bits)) as u32);
    let order = match rows {
        None => places.collect(),
        Some(rows) => places.map(|place| rows[place as usize]).collect(),
    };
    Rows::ordered(total, order, known)
}

/// All rows, or these.
fn of_rows<T: Copy>(values: Vec<T>, rows: Option<&[u32]>) -> Vec<T> {
    match rows {
        None => values,
        Some(rows) => rows.iter().map(|row| values[*row as usize]).collect(),
    }
}

fn directions(batches: &[Arc<FlowBatch>], total: usize) -> Vec<u8> {
    let mut directions = Vec::with_capacity(total);
    for batch in batches {
        match batch.direction.values() {
            // Without a value the direction is not known: 0.
            [] => directions.resize(directions.len() + batch.len(), 0),
            values => directions.extend_from_slice(values),
        }
    }
    directions
}

/// Sorts by the `bits` bits above the `skip` lowest, keeping the order of equal ones: a counting sort a digit, lowest first.
fn sort_by_bits(mut values: Vec<u64>, skip: u32, bits: u32) -> Vec<u64> {
    let mut other = vec![0u64; values.len()];
    // As few bits a pass as passes allow: the places that a pass writes to then stay in the nearest cache.
    let digit_bits = bits.div_ceil(bits.div_ceil(DIGIT_BITS).max(1));
    for shift in (skip..skip + bits).step_by(digit_bits.max(1) as usize) {
        let digit = |value: u64| (value >> shift) as usize & ((1 << digit_bits) - 1);
        let mut starts = [0usize; 1 << DIGIT_BITS];
        values.iter().for_each(|value| starts[digit(*value)] += 1);
        let mut next = 0;
        for start in &mut starts {
            next += std::mem::replace(start, next);
        }
        for value in &values {
            let slot = &mut starts[digit(*value)];
            other[*slot] = *value;
            *slot += 1;
        }
        std::mem::swap(&mut values, &mut other);
    }
    values
}

/// The customer's address of each row as a number; IPv6 by its network part.
fn customer_keys(batches: &[Arc<FlowBatch>], total: usize) -> Vec<u32> {
    let key = |addr: Addr| addr.as_v4().unwrap_or((addr.0 >> 64) as u32);
    let mut keys = Vec::with_capacity(total);
    for batch in batches {
        let inward = |row| batch.direction.get(row) == Some(Direction::In as u8);
        let side = |row| if inward(row) { batch.dst_ip.get(row) } else { batch.src_ip.get(row) };
        keys.extend((0..batch.len()).map(|row| side(row).map_or(0, key)));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digits_sort_as_a_stable_sort_does(keys in prop::collection::vec(0u64..1 << 35, 0..300), narrow in 0u32..30) {
            let place_bits = 9;
            let packed: Vec<u64> =
                keys.iter().enumerate().map(|(place, key)| (key >> narrow) << place_bits | place as u64).collect();
            let mut want = packed.clone();
            want.sort();
            prop_assert_eq!(sort_by_bits(packed, place_bits, 35 - narrow), want);
        }
    }

    #[test]
    fn rows_stand_by_direction_then_subscriber_then_arrival() {
        let batches: Vec<Arc<FlowBatch>> = (0..3).map(|n| Arc::new(crate::support::Isp::new(n).batch(700))).collect();
        let chosen: Vec<u32> = (0..2100).filter(|row| row % 3 != 0).collect();
        let order = flow_order(&batches, 2100, Some(chosen.clone())).order.unwrap();
        let key = |row: u32| {
            let (batch, at) = (&batches[row as usize / 700], row as usize % 700);
            (batch.direction.get(at), batch.subscriber_id.get(at).copied(), row)
        };
        let mut want = chosen;
        want.sort_by_key(|row| key(*row));
        assert_eq!(order, want);
        assert!(batches[0].value(Field::Direction, 0) != sink_api::Value::Null);
    }
}
