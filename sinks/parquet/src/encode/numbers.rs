//! Dictionaries of numbers: when they pay, and which code each number gets.

use hashbrown::HashMap;

use super::chunk::PAGE_ROWS;
use super::extent::{least, most};
use crate::codec::{Delta, width_of};

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

/// Distinct numbers, and one code a row (null rows have any code and are not written).
pub(super) struct NumberDictionary {
    pub values: Vec<u64>,
    pub codes: Vec<u32>,
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
    pub fn new<T: Delta + Ord>(values: &[T], present: Option<&[u8]>, packs: bool) -> Option<Self> {
        let (least, most) = (least(values, |value| value)?.into(), most(values, |value| value)?.into());
        if present.is_none() && least == most {
            return Some(Self { values: vec![least], codes: vec![0; values.len()] });
        }
        let all_in_table = most - least < DIRECT_MAX;
        let table = vec![NONE; (most - least).min(DIRECT_MAX - 1) as usize + 1];
        let mut known = Known { least, table, hashed: HashMap::default() };
        let mut distinct = frequent_first(values, present, &mut known);
        if !all_in_table && values.len() > SAMPLE_ROWS && distinct.len() > SAMPLE_DISTINCT_MAX {
            return None;
        }
        let codes = if all_in_table {
            code_by_table(values, present, &mut distinct, &mut known)
        } else {
            code_rows(values, present, &mut distinct, &mut known)?
        };
        let pays = if packs {
            size_bits::<T>(&codes, distinct.len()) < values.len() * (width_of(most - least) as usize + 1)
        } else {
            distinct.len() <= values.len().div_ceil(2)
        };
        pays.then_some(Self { values: distinct, codes })
    }
}

/// The numbers of the sample, the most frequent first; their codes are known then.
fn frequent_first<T: Delta>(values: &[T], present: Option<&[u8]>, known: &mut Known) -> Vec<u64> {
    let mut counted: Vec<(u64, u32)> = Vec::new();
    for row in (0..values.len()).step_by((values.len() / SAMPLE_ROWS).max(1)) {
        if present.is_some_and(|p| p[row] == 0) {
            continue;
        }
        let value = values[row].into();
        let slot = known.slot(value);
        match counted.get_mut(*slot as usize) {
            Some((_, times)) => *times += 1,
            None => {
                *slot = counted.len() as u32;
                counted.push((value, 1));
            }
        }
    }
    counted.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    for (code, (value, _)) in counted.iter().enumerate() {
        *known.slot(*value) = code as u32;
    }
    counted.into_iter().map(|(value, _)| value).collect()
}

/// One code a row, when the table holds all numbers: which occur is marked first, so that no row needs a decision.
fn code_by_table<T: Delta>(
    values: &[T],
    present: Option<&[u8]>,
    distinct: &mut Vec<u64>,
    known: &mut Known,
) -> Vec<u32> {
    let (least, table) = (known.least, &mut known.table);
    let place = |value: &T| (Into::<u64>::into(*value) - least) as usize;
    let mut occurs = vec![0u8; table.len()];
    match present {
        None => values.iter().for_each(|value| occurs[place(value)] = 1),
        Some(present) => values.iter().zip(present).for_each(|(value, present)| occurs[place(value)] |= present),
    }
    for (place, slot) in table.iter_mut().enumerate().filter(|(place, slot)| **slot == NONE && occurs[*place] != 0) {
        *slot = distinct.len() as u32;
        distinct.push(least + place as u64);
    }
    let mut codes = Vec::with_capacity(values.len());
    for value in values {
        codes.push(table[place(value)]);
    }
    if let Some(present) = present {
        codes.iter_mut().zip(present).filter(|(_, present)| **present == 0).for_each(|(code, _)| *code = 0);
    }
    codes
}

/// One code a row; numbers that have none get the next one. `None` when there are too many.
fn code_rows<T: Delta>(
    values: &[T],
    present: Option<&[u8]>,
    distinct: &mut Vec<u64>,
    known: &mut Known,
) -> Option<Vec<u32>> {
    let mut codes = Vec::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        if present.is_some_and(|p| p[row] == 0) {
            codes.push(0);
            continue;
        }
        let value = (*value).into();
        let slot = known.slot(value);
        if *slot == NONE {
            if distinct.len() >= DISTINCT_MAX {
                return None;
            }
            *slot = distinct.len() as u32;
            distinct.push(value);
        }
        codes.push(*slot);
    }
    Some(codes)
}

/// Bits that dictionary and codes take, before compression.
fn size_bits<T>(codes: &[u32], distinct: usize) -> usize {
    let width = |codes: &[u32]| width_of(codes.iter().fold(0, |all, code| all | code).into()) as usize;
    let page = |codes: &[u32]| codes.len() * width(codes);
    codes.chunks(PAGE_ROWS).map(page).sum::<usize>() + distinct * size_of::<T>() * 8
}
