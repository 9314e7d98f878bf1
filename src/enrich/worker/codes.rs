use super::ROWS_AHEAD;
use crate::enrich::names::Pool;
use crate::flow::column::{Dict, DictValue};
use crate::prefetch::prefetch;

/// Turns numbers of names into the codes of one batch's dictionary, without hashing and, once warm, without allocation:
/// one slot a number says in which round (batch) it got which code.
#[derive(Debug, Default)]
pub(super) struct Codes {
    slots: Vec<Slot>,
    round: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    round: u32,
    code: u32,
}

impl Codes {
    /// Fills a column anew with the names of these numbers; 0 is null.
    pub fn fill<T: DictValue>(&mut self, column: &mut Dict<T>, pool: &Pool<T>, numbers: impl Iterator<Item = u32>) {
        column.clear();
        self.begin_round();
        numbers.for_each(|number| self.push(column, pool, number));
    }

    /// As [`Codes::fill`], for names that are so many that their slots and values lie outside the cache.
    pub fn fill_many<T: DictValue>(
        &mut self,
        column: &mut Dict<T>,
        pool: &Pool<T>,
        numbers: impl Iterator<Item = u32> + Clone,
    ) {
        column.clear();
        self.begin_round();
        let mut ahead = numbers.clone().skip(ROWS_AHEAD);
        for number in numbers {
            if let Some(ahead) = ahead.next() {
                self.slots.get(ahead as usize).inspect(|slot| prefetch(*slot));
                pool.prefetch(ahead);
            }
            self.push(column, pool, number);
        }
    }

    #[inline]
    fn push<T: DictValue>(&mut self, column: &mut Dict<T>, pool: &Pool<T>, number: u32) {
        let code = if number == 0 { 0 } else { self.code(column, pool, number) };
        column.push_code(code);
    }

    fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.slots.fill(Slot::default());
            self.round = 1;
        }
    }

    #[inline]
    fn code<T: DictValue>(&mut self, column: &mut Dict<T>, pool: &Pool<T>, number: u32) -> u32 {
        match self.slots.get(number as usize) {
            Some(slot) if slot.round == self.round => slot.code,
            _ => self.new_code(column, pool, number),
        }
    }

    #[cold]
    #[inline(never)]
    fn new_code<T: DictValue>(&mut self, column: &mut Dict<T>, pool: &Pool<T>, number: u32) -> u32 {
        let Some(value) = pool.get(number) else { return 0 };
        let code = column.add_numbered(value.clone(), number);
        if number as usize >= self.slots.len() {
            self.slots.resize((number as usize + 1).next_power_of_two(), Slot::default());
        }
        self.slots[number as usize] = Slot { round: self.round, code };
        code
    }
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
        codes.fill(&mut column, &pool, [99].into_iter());
        assert!(column.get(0).is_none());
    }
}
