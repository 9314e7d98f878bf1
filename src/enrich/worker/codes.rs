//! Codes of one batch's dictionary from numbers of names.

use std::hint::select_unpredictable;

use super::ROWS_AHEAD;
use crate::enrich::names::Pool;
use crate::flow::column::{Dict, DictValue};
use crate::prefetch::prefetch;

/// Numbers that are looked at together.
const MARKS: usize = 16;

/// Names a row of the batch up to which a pool is gone through once a batch.
const NAMES_A_ROW: usize = 16;

/// Turns numbers of names into the codes of one batch's dictionary, without hashing and, once warm, without allocation. Where
/// the pool is not much larger than the batch, the names that occur are marked first: then no row waits for the one before.
/// Else one slot a number says in which round (batch) it got which code.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// One a number: whether it occurs. All 0 between batches.
    marks: Vec<u8>,
    /// One a number: its code, if it occurs.
    codes: Vec<u32>,
    /// One a number that the pool had given when it was asked last, and one for 0.
    slots: Vec<Slot>,
    round: u32,
    /// The numbers that got a code in this round, in the order of their codes; what is beyond them means nothing.
    numbers: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    round: u32,
    code: u32,
}

/// The codes of one batch in the making.
struct Round<'a> {
    slots: &'a mut [Slot],
    numbers: &'a mut [u32],
    round: u32,
    /// How many numbers have got a code.
    found: usize,
}

impl Codes {
    /// Fills a column anew with the names of these numbers; 0 is null.
    pub fn fill<T: DictValue>(
        &mut self,
        column: &mut Dict<T>,
        pool: &Pool<T>,
        numbers: impl ExactSizeIterator<Item = u32> + Clone,
    ) {
        let names = pool.len();
        if names > numbers.len() * NAMES_A_ROW {
            return self.fill_many(column, pool, numbers);
        }
        column.clear();
        self.find_codes(names, numbers.clone());
        column.extend_codes(numbers.map(|number| self.codes.get(number as usize).copied().unwrap_or(0)));
        add_values(column, pool, &self.numbers);
    }

    /// As [`Codes::fill`], by slots: for names that are so many that their slots and values lie outside the cache.
    pub fn fill_many<T: DictValue>(
        &mut self,
        column: &mut Dict<T>,
        pool: &Pool<T>,
        numbers: impl ExactSizeIterator<Item = u32> + Clone,
    ) {
        column.clear();
        let mut round = self.begin(pool.len(), numbers.len());
        let mut ahead = numbers.clone().skip(ROWS_AHEAD);
        column.extend_codes(numbers.map(|number| {
            if let Some(ahead) = ahead.next() {
                round.slots.get(ahead as usize).inspect(|slot| prefetch(*slot));
            }
            round.code(number)
        }));
        add_values(column, pool, &round.numbers[..round.found]);
    }

    /// Gives the numbers that occur their codes, in their order.
    fn find_codes(&mut self, names: usize, numbers: impl Iterator<Item = u32>) {
        let Self { marks, codes, numbers: found, .. } = self;
        marks.resize((names + 1).next_multiple_of(MARKS), 0);
        codes.resize(marks.len(), 0);
        let known = &mut marks[..=names];
        for number in numbers {
            if let Some(mark) = known.get_mut(number as usize) {
                *mark = 1;
            }
        }
        // 0 is null, and code 0.
        known[0] = 0;
        found.clear();
        for (first, marks) in (0..).step_by(MARKS).zip(marks.as_chunks_mut::<MARKS>().0) {
            if *marks == [0; MARKS] {
                continue;
            }
            for (number, mark) in (first..).zip(std::mem::replace(marks, [0; MARKS])) {
                if mark != 0 {
                    found.push(number);
                    codes[number as usize] = found.len() as u32;
                }
            }
        }
    }

    fn begin(&mut self, names: usize, rows: usize) -> Round<'_> {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.slots.fill(Slot::default());
            self.round = 1;
        }
        if self.slots.len() <= names {
            self.slots.resize(names + 1, Slot::default());
        }
        // 0 has always got its code.
        self.slots[0] = Slot { round: self.round, code: 0 };
        if self.numbers.len() <= rows {
            self.numbers.resize(rows + 1, 0);
        }
        Round { slots: &mut self.slots, numbers: &mut self.numbers, round: self.round, found: 0 }
    }
}

impl Round<'_> {
    /// The code of a number; 0 for one that the pool never gave. Whether it is new is no branch: many rows would mispredict it.
    #[inline(always)]
    fn code(&mut self, number: u32) -> u32 {
        let Some(slot) = self.slots.get_mut(number as usize) else { return 0 };
        let is_new = slot.round != self.round;
        let code = select_unpredictable(is_new, self.found as u32 + 1, slot.code);
        *slot = Slot { round: self.round, code };
        self.numbers[self.found] = number;
        self.found += usize::from(is_new);
        code
    }
}

/// Adds the values of numbers, which have the codes from 1 on.
fn add_values<T: DictValue>(column: &mut Dict<T>, pool: &Pool<T>, numbers: &[u32]) {
    column.extend_numbered(numbers.iter().enumerate().map(|(i, number)| {
        numbers.get(i + ROWS_AHEAD).inspect(|ahead| pool.prefetch(**ahead));
        (pool.get(*number).expect("a number with a code was given to a value"), *number)
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Text;

    #[test]
    fn every_batch_gets_a_dictionary_of_its_own() {
        let pool: Pool<Text> = Pool::default();
        let numbers: Vec<u32> = ["a", "b", "c"].map(|name| pool.number(&name.into()).unwrap()).into();
        let (mut codes, mut column) = (Codes::default(), Dict::default());
        codes.round = u32::MAX - 1;
        for rows in [[2, 0, 2, 1], [0, 0, 1, 2], [1, 1, 1, 0]] {
            codes.fill(&mut column, &pool, rows.iter().map(|i| if *i == 0 { 0 } else { numbers[*i] }));
            let got: Vec<_> = (0..4).map(|row| column.get(row).map(|text| text.to_string())).collect();
            let want = rows.map(|i| [None, Some("b".to_owned()), Some("c".to_owned())][i].clone());
            assert_eq!(got, want);
        }
        for never_given in [4, 99] {
            codes.fill(&mut column, &pool, [never_given].into_iter());
            assert!(column.get(0).is_none());
        }
    }

    #[test]
    fn names_of_every_size_of_pool_come_back() {
        let pool: Pool<u32> = Pool::default();
        let (mut codes, mut column) = (Codes::default(), Dict::default());
        for names in [1, 900, 5000, 5000] {
            let numbers: Vec<u32> = (0..names).map(|value| pool.number(&value).unwrap()).collect();
            let rows: Vec<u32> =
                (0..3 * names).map(|row| if row % 7 == 0 { 0 } else { row * 31 % names + 1 }).collect();
            let numbers = rows.iter().map(|row| if *row == 0 { 0 } else { numbers[*row as usize - 1] });
            let want: Vec<_> = rows.iter().map(|row| row.checked_sub(1)).collect();
            let got = |column: &Dict<u32>| (0..column.len()).map(|row| column.get(row).copied()).collect::<Vec<_>>();
            // Too few rows for going through the pool.
            codes.fill(&mut column, &pool, numbers.clone().take(5));
            assert_eq!(got(&column), want[..want.len().min(5)]);
            codes.fill(&mut column, &pool, numbers.clone());
            assert_eq!(got(&column), want);
            assert!(column.numbered_values().all(|(value, number)| pool.get(number) == Some(value)));
            codes.fill_many(&mut column, &pool, numbers);
            assert_eq!(got(&column), want);
            assert!(column.numbered_values().all(|(value, number)| pool.get(number) == Some(value)));
        }
    }
}
