//! Dictionaries of numbers: when they pay, and which code each number gets.

use hashbrown::HashMap;

use super::lanes::Lanes;
use super::parts::{self, Number, Part};
use super::places::Places;
use crate::codec::width_of;

/// Rows that are looked at first, evenly spread: frequent numbers get low codes, so that pages which hold nothing else
/// (service ports, say) take few bits a row.
const SAMPLE_ROWS: usize = 4096;

/// A dictionary of numbers that are too large for a table is given up when the sample shows more distinct ones.
const SAMPLE_DISTINCT_MAX: usize = SAMPLE_ROWS / 4;

/// Distinct numbers that a dictionary holds at the most: codes of up to 16 bits.
const DISTINCT_MAX: usize = 1 << 16;

/// Numbers that lie less than this above the smallest one are found in a table, without hashing.
const DIRECT_MAX: u64 = 1 << 16;

/// The code of a number that has none yet.
const NONE: u32 = u32::MAX;

/// Distinct numbers, and one code a row (null rows have any code).
pub(super) struct NumberDictionary {
    pub values: Vec<u64>,
    pub codes: Lanes,
}

/// What a dictionary is made of: a column's parts, and the smallest and largest number of all rows.
pub(super) struct Source<'s, T> {
    pub parts: &'s [Part<'s, T>],
    pub rows: usize,
    pub places: Option<&'s Places>,
    pub least: T,
    pub most: T,
}

impl<T: Copy> Source<'_, T> {
    /// All numbers in their slots, after `view`.
    pub(super) fn bring<U: Copy + Default>(&self, view: impl Fn(T) -> U) -> Vec<U> {
        parts::bring(self.parts, self.rows, self.places, view)
    }
}

/// Finds the code of a number: in a table of those near the smallest one, or by its hash.
struct Known {
    least: u64,
    table: Vec<u32>,
    hashed: HashMap<u64, u32, foldhash::fast::RandomState>,
}

impl Known {
    #[inline]
    fn slot(&mut self, value: u64) -> &mut u32 {
        match self.table.get_mut(usize::try_from(value.wrapping_sub(self.least)).unwrap_or(usize::MAX)) {
            Some(slot) => slot,
            None => self.hashed.entry(value).or_insert(NONE),
        }
    }
}

impl NumberDictionary {
    /// The dictionary, unless it would be larger than what the numbers take without: packed differences (`packs`), or one
    /// after another.
    pub(super) fn new<T: Number>(source: &Source<'_, T>, packs: bool) -> Option<Self> {
        let range = source.most.bits().wrapping_sub(source.least.bits());
        let all_in_table = range < DIRECT_MAX;
        let table = vec![NONE; range.min(DIRECT_MAX - 1) as usize + 1];
        let mut known = Known { least: source.least.bits(), table, hashed: HashMap::default() };
        let mut values = frequent_first(source, &mut known);
        if !all_in_table && source.rows > SAMPLE_ROWS && values.len() > SAMPLE_DISTINCT_MAX {
            return None;
        }
        let by_row = if all_in_table {
            complete_table(source, &mut values, &mut known);
            None
        } else {
            Some(code_rows(source, &mut values, &mut known)?)
        };
        if !packs && values.len() > source.rows.div_ceil(2) {
            return None;
        }
        let codes = match (by_row, values.len() <= 1 << u8::BITS) {
            (None, true) => Lanes::U8(codes_by_table(source, &known, |code| code as u8)),
            (None, false) => Lanes::U16(codes_by_table(source, &known, |code| code as u16)),
            (Some(codes), true) => {
                Lanes::U8(parts::bring(&[Part::full(&codes)], source.rows, source.places, |code| code as u8))
            }
            (Some(codes), false) => {
                Lanes::U16(parts::bring(&[Part::full(&codes)], source.rows, source.places, |code| code))
            }
        };
        let dictionary_bits = || values.len() * T::STORED_BYTES * 8;
        let pays = !packs || codes.packed_bits() + dictionary_bits() < source.rows * (width_of(range) as usize + 1);
        pays.then_some(Self { values, codes })
    }
}

/// The numbers of the sample, the most frequent first; their codes are known then.
fn frequent_first<T: Number>(source: &Source<'_, T>, known: &mut Known) -> Vec<u64> {
    let mut counted: Vec<(u64, u32)> = Vec::new();
    let step = (source.rows / SAMPLE_ROWS).max(1);
    let mut next = 0;
    for part in source.parts {
        for row in (next..part.rows).step_by(step).filter(|row| part.is_present(*row)) {
            let value = part.values[row].bits();
            let slot = known.slot(value);
            match counted.get_mut(*slot as usize) {
                Some((_, times)) => *times += 1,
                None => {
                    *slot = counted.len() as u32;
                    counted.push((value, 1));
                }
            }
        }
        // The first of these rows that lies behind this part.
        next = if next < part.rows { (step - (part.rows - next) % step) % step } else { next - part.rows };
    }
    counted.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    for (code, (value, _)) in counted.iter().enumerate() {
        *known.slot(*value) = code as u32;
    }
    counted.into_iter().map(|(value, _)| value).collect()
}

/// Gives every number its code, when the table holds all: which occur is marked first, so that no row needs a decision.
fn complete_table<T: Number>(source: &Source<'_, T>, distinct: &mut Vec<u64>, known: &mut Known) {
    let occurs = if known.table.len() <= 0x100 { marks::<T, 0x100>(source) } else { marks::<T, 0x1_0000>(source) };
    let slots = known.table.iter_mut().enumerate();
    for (place, slot) in slots.filter(|(place, slot)| **slot == NONE && occurs[*place] != 0) {
        *slot = distinct.len() as u32;
        distinct.push(known.least.wrapping_add(place as u64));
    }
}

/// Which numbers occur (1), by what they are above the smallest one. `N` is a power of two above the largest: the remainder,
/// which is the number itself, spares each row a check.
fn marks<T: Number, const N: usize>(source: &Source<'_, T>) -> Vec<u8> {
    let mut all = vec![0; N];
    let (Some(occurs), least) = (all.first_chunk_mut::<N>(), source.least.bits()) else { return all };
    let place = |value: &T| value.bits().wrapping_sub(least) as usize % N;
    for part in source.parts {
        match part.present {
            None => part.values.iter().for_each(|value| occurs[place(value)] = 1),
            Some(present) => {
                part.values.iter().zip(present).for_each(|(value, present)| occurs[place(value)] |= present);
            }
        }
    }
    all
}

/// One code a row, of a table that holds all.
fn codes_by_table<T: Number, C: Copy + Default>(
    source: &Source<'_, T>,
    known: &Known,
    code: impl Fn(u32) -> C,
) -> Vec<C> {
    // What stands in null rows has any code that fits.
    let codes = known.table.iter().map(|slot| if *slot == NONE { C::default() } else { code(*slot) });
    if known.table.len() <= 0x100 {
        codes_of::<T, C, 0x100>(source, codes)
    } else {
        codes_of::<T, C, 0x1_0000>(source, codes)
    }
}

/// As [`codes_by_table`], with a table of `N` codes: see [`marks`].
fn codes_of<T: Number, C: Copy + Default, const N: usize>(
    source: &Source<'_, T>,
    known: impl Iterator<Item = C>,
) -> Vec<C> {
    let mut table: Vec<C> = known.collect();
    table.resize(N, C::default());
    let (Some(table), least) = (table.first_chunk::<N>(), source.least.bits()) else { return Vec::new() };
    source.bring(|value| table[value.bits().wrapping_sub(least) as usize % N])
}

/// One code a row, in the order in which rows come; numbers that have none get the next one. `None` when there are too many.
fn code_rows<T: Number>(source: &Source<'_, T>, distinct: &mut Vec<u64>, known: &mut Known) -> Option<Vec<u16>> {
    let mut codes: Vec<u16> = Vec::with_capacity(source.rows);
    for part in source.parts {
        for (row, value) in part.values.iter().enumerate() {
            if !part.is_present(row) {
                codes.push(0);
                continue;
            }
            let slot = known.slot(value.bits());
            if *slot == NONE {
                if distinct.len() >= DISTINCT_MAX {
                    return None;
                }
                *slot = distinct.len() as u32;
                distinct.push(value.bits());
            }
            codes.push(*slot as u16);
        }
        codes.resize(codes.len() + part.rows - part.values.len(), 0);
    }
    Some(codes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_name_the_numbers(rows in prop::collection::vec(prop::option::of(prop_oneof![0u64..90, 70_000u64..70_090]), 1..900), part in 1usize..300) {
            let values: Vec<u64> = rows.iter().map(|row| row.unwrap_or(0)).collect();
            let present: Vec<u8> = rows.iter().map(|row| u8::from(row.is_some())).collect();
            let chunks = values.chunks(part).zip(present.chunks(part));
            let parts: Vec<_> =
                chunks.map(|(values, present)| Part { rows: values.len(), values, present: Some(present) }).collect();
            let (least, most) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
            let source = Source { parts: &parts, rows: rows.len(), places: None, least, most };
            if let Some(NumberDictionary { values, codes }) = NumberDictionary::new(&source, false) {
                let Lanes::U8(codes) = codes else { panic!("of up to 180 values") };
                for (row, code) in rows.iter().zip(codes) {
                    prop_assert!(row.is_none_or(|value| values[usize::from(code)] == value));
                }
            }
        }
    }
}
