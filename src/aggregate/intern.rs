//! Texts and UUIDs as small numbers, so that keys are packed bits.

use std::hash::Hash;

use hashbrown::HashMap;

use crate::flow::column::{Dict, DictValue};

/// Bits of a number; see [`VALUES_MAX`].
pub(super) const ID_BITS: u32 = 21;
/// Values of one kind that are told apart; one more counts as null until the next time nothing is pending. Stops a flood
/// of made-up names; a platform has 100,000s of subscribers.
const VALUES_MAX: usize = 1 << 20;

/// Numbers from 1; 0 is null.
#[derive(Debug)]
pub(super) struct Interner<T> {
    ids: HashMap<T, u32, foldhash::fast::RandomState>,
    values: Vec<T>,
    /// By the number that a value has in dictionaries: its number here, 0 = not known yet.
    by_number: Vec<u32>,
    /// Values refused so far.
    pub(super) refused: u64,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { ids: HashMap::default(), values: Vec::new(), by_number: Vec::new(), refused: 0 }
    }
}

impl<T: DictValue + Hash> Interner<T> {
    pub(super) fn is_full(&self) -> bool {
        self.values.len() >= VALUES_MAX
    }

    pub(super) fn clear(&mut self) {
        self.ids = HashMap::default();
        self.values = Vec::new();
        self.by_number = Vec::new();
    }

    pub(super) fn id(&mut self, value: &T) -> u32 {
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        if self.is_full() {
            self.refused += 1;
            return 0;
        }
        self.values.push(value.clone());
        let id = self.values.len() as u32;
        self.ids.insert(value.clone(), id);
        id
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        self.ids.contains_key(value)
    }

    /// Bytes held, about: texts are shared with the batches that brought them.
    pub(super) fn used_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>()
            + self.ids.capacity() * size_of::<(T, u32)>()
            + self.by_number.capacity() * size_of::<u32>()
    }

    pub(super) fn value(&self, id: u32) -> Option<&T> {
        self.values.get((id as usize).checked_sub(1)?)
    }

    /// Numbers of a column's codes: `out[code]`.
    pub(super) fn map(&mut self, column: &Dict<T>, out: &mut Vec<u32>) {
        out.clear();
        out.push(0);
        out.extend(column.numbered_values().map(|(value, number)| match self.by_number.get(number as usize) {
            Some(&id) if id != 0 => id,
            _ => self.find(value, number),
        }));
    }

    fn find(&mut self, value: &T, number: u32) -> u32 {
        let id = self.id(value);
        if number != 0 {
            if self.by_number.len() <= number as usize {
                self.by_number.resize(number as usize + 1, 0);
            }
            self.by_number[number as usize] = id;
        }
        id
    }
}
