//! Dictionaries of numbers: when they pay, and which code each number gets.

use hashbrown::HashMap;

use super::chunk::PAGE_ROWS;
use crate::codec::{Delta, width_of};

/// Rows that are looked at first, evenly spread: frequent numbers get low codes, so that pages which hold nothing else
/// (service ports, say) take few bits a row.
const SAMPLE_ROWS: usize = 4096;

/// A dictionary of numbers that are too large for a table is given up when the sample shows more distinct ones.
const SAMPLE_DISTINCT_MAX: usize = SAMPLE_ROWS / 4;

/// Distinct numbers that a dictionary holds at the most: codes of up to 16 bits.
const DISTINCT_MAX: usize = 1 << 16;

/// Codes of numbers below this are found in a table, without hashing.
const DIRECT_MAX: u64 = 1 << 16;

/// The code of a number that has none yet.
const NONE: u32 = u32::MAX;

/// Distinct numbers, and one code a row (null rows have any code and are not written).
pub(super) struct NumberDictionary {
    pub values: Vec<u64>,
    pub codes: Vec<u32>,
}

/// Finds the code of a number.
enum Known {
    Table(Vec<u32>),
    Hashed(HashMap<u64, u32, foldhash::fast::RandomState>),
}

impl Known {
    fn slot(&mut self, value: u64) -> &mut u32 {
        match self {
            Self::Table(codes) => &mut codes[value as usize],
            Self::Hashed(codes) => codes.entry(value).or_insert(NONE),
        }
    }
}

impl NumberDictionary {
    /// The dictionary, unless it would be larger than what the numbers take without: packed differences (`packs`), or one
    /// after another.
    pub fn new<T: Delta + PartialEq + Ord>(values: &[T], present: Option<&[u8]>, packs: bool) -> Option<Self> {
        let (first, most) = (*values.first()?, (*values.iter().max()?).into());
        if present.is_none() && values.iter().all(|value| *value == first) {
            return Some(Self { values: vec![first.into()], codes: vec![0; values.len()] });
        }
        let mut known = if most < DIRECT_MAX {
            Known::Table(vec![NONE; most as usize + 1])
        } else {
            Known::Hashed(HashMap::default())
        };
        let mut distinct = frequent_first(values, present, &mut known)?;
        let codes = match &mut known {
            Known::Table(table) => code_rows(values, present, &mut distinct, |value, new| {
                let slot = &mut table[value as usize];
                *slot = if *slot == NONE { new } else { *slot };
                *slot
            })?,
            Known::Hashed(map) => {
                code_rows(values, present, &mut distinct, |value, new| *map.entry(value).or_insert(new))?
            }
        };
        let pays = if packs {
            size_bits::<T>(&codes, distinct.len()) < values.len() * (width_of(most) as usize + 1)
        } else {
            distinct.len() <= values.len().div_ceil(2)
        };
        pays.then_some(Self { values: distinct, codes })
    }
}

/// The numbers of the sample, the most frequent first; their codes are known then. `None` when there are too many.
fn frequent_first<T: Delta>(values: &[T], present: Option<&[u8]>, known: &mut Known) -> Option<Vec<u64>> {
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
    if matches!(known, Known::Hashed(_)) && values.len() > SAMPLE_ROWS && counted.len() > SAMPLE_DISTINCT_MAX {
        return None;
    }
    counted.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    for (code, (value, _)) in counted.iter().enumerate() {
        *known.slot(*value) = code as u32;
    }
    Some(counted.into_iter().map(|(value, _)| value).collect())
}

/// One code a row: `code` gives a number's, or makes the one it is offered its own. `None` when there are too many.
fn code_rows<T: Delta>(
    values: &[T],
    present: Option<&[u8]>,
    distinct: &mut Vec<u64>,
    mut code: impl FnMut(u64, u32) -> u32,
) -> Option<Vec<u32>> {
    let mut codes = Vec::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        if present.is_some_and(|p| p[row] == 0) {
            codes.push(0);
            continue;
        }
        let (value, new) = ((*value).into(), distinct.len() as u32);
        let code = code(value, new);
        if code == new {
            if distinct.len() >= DISTINCT_MAX {
                return None;
            }
            distinct.push(value);
        }
        codes.push(code);
    }
    Some(codes)
}

/// Bits that dictionary and codes take, before compression.
fn size_bits<T>(codes: &[u32], distinct: usize) -> usize {
    let page = |codes: &[u32]| codes.len() * width_of(codes.iter().copied().max().unwrap_or(0).into()) as usize;
    codes.chunks(PAGE_ROWS).map(page).sum::<usize>() + distinct * size_of::<T>() * 8
}
