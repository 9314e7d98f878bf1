//! One column of many parts, as it stands in memory.

use sink_api::column::Column;

use super::places::{Bring, Places};

/// A column of one part.
#[derive(Clone, Copy)]
pub(super) struct Part<'a, T> {
    pub rows: usize,
    /// One a row; none when every row is null. What stands for a null row is zero.
    pub values: &'a [T],
    /// One byte a row (1 = set), unless rows are alike.
    pub present: Option<&'a [u8]>,
}

impl<'a, T: Copy + Default> Part<'a, T> {
    pub(super) fn new(column: &'a Column<T>) -> Self {
        Self { rows: column.len(), values: column.values(), present: column.validity() }
    }

    /// A part of which every row is set.
    pub(super) fn full(values: &'a [T]) -> Self {
        Self { rows: values.len(), values, present: None }
    }

    pub(super) fn is_full(&self) -> bool {
        self.present.is_none() && self.values.len() == self.rows
    }

    pub(super) fn is_present(&self, row: usize) -> bool {
        self.present.map_or(!self.values.is_empty(), |present| present[row] != 0)
    }
}

/// A number that columns hold.
pub(super) trait Number: Copy + Default + Ord {
    /// Bytes that a value takes in a file.
    const STORED_BYTES: usize;
    /// The number as it is stored.
    fn bits(self) -> u64;
}

macro_rules! unsigned {
    ($($type:ty)+) => {
        $(impl Number for $type {
            const STORED_BYTES: usize = 4;
            #[inline(always)]
            fn bits(self) -> u64 {
                self.into()
            }
        })+
    };
}
unsigned!(u8 u16 u32);

impl Number for i64 {
    const STORED_BYTES: usize = 8;
    #[inline(always)]
    fn bits(self) -> u64 {
        self as u64
    }
}

impl Number for u64 {
    const STORED_BYTES: usize = 8;
    /// Stored signed: what is larger is the largest that can be stored.
    #[inline(always)]
    fn bits(self) -> u64 {
        self.min(i64::MAX as u64)
    }
}

/// All parts' values in their slots, after `view`.
pub(super) fn bring<T: Copy, U: Copy + Default>(
    parts: &[Part<'_, T>],
    rows: usize,
    places: Option<&Places>,
    view: impl Fn(T) -> U,
) -> Vec<U> {
    let mut all = Bring::new(places, rows);
    for part in parts {
        match part.values {
            [] => all.same(U::default(), part.rows),
            values => all.part(values, &view),
        }
    }
    all.finish()
}

/// All parts' presence in their slots.
pub(super) fn presence<T>(parts: &[Part<'_, T>], rows: usize, places: Option<&Places>) -> Vec<u8> {
    let mut all = Bring::new(places, rows);
    for part in parts {
        match part.present {
            Some(present) => all.part(present, |row| row),
            None => all.same(u8::from(!part.values.is_empty()), part.rows),
        }
    }
    all.finish()
}

/// Rows fetched one by one, in the order given: values, and presence unless every row of all parts is set.
pub(super) fn pick<T: Copy + Default>(parts: &[Part<'_, T>], rows: &[u32]) -> (Vec<T>, Option<Vec<u8>>) {
    let total = parts.iter().map(|part| part.rows).sum();
    let values = bring(parts, total, None, |value| value);
    let picked = rows.iter().map(|row| values[*row as usize]).collect();
    if parts.iter().all(Part::is_full) {
        return (picked, None);
    }
    let present = presence(parts, total, None);
    (picked, Some(rows.iter().map(|row| present[*row as usize]).collect()))
}
