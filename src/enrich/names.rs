//! Names of every kind (subscribers, resellers, access servers, sites, applications) as small numbers that mean the same in
//! every table, every lease and every worker for the life of the process.
//!
//! Numbers are given once and never taken back, so a number in an old table still names the same thing. Number 0 means
//! "none". Reading takes no lock; adding takes one.

use std::hash::Hash;
use std::sync::{Mutex, OnceLock, PoisonError};

use hashbrown::HashMap;

use crate::flow::{Text, Uuid};
use crate::prefetch::prefetch;

/// Names that one pool holds at most: stops a source that makes up names from filling the memory (at 16 bytes a UUID and about
/// 64 bytes a text with its index, 256 MiB).
pub const NAMES_MAX: u32 = 1 << 22;

/// Slots of the first chunk; each further chunk doubles the pool.
const FIRST_CHUNK: u32 = 1 << 10;
const CHUNKS: usize = (NAMES_MAX / FIRST_CHUNK).ilog2() as usize + 2;

/// The process's pools.
#[derive(Debug, Default)]
pub struct Names {
    /// Access servers, sites, applications, categories.
    pub texts: Pool<Text>,
    /// Subscribers and resellers.
    pub uuids: Pool<Uuid>,
}

/// Values numbered from 1.
#[derive(Debug)]
pub struct Pool<T> {
    numbers: Mutex<HashMap<T, u32, foldhash::fast::RandomState>>,
    chunks: [OnceLock<Box<[OnceLock<T>]>>; CHUNKS],
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { numbers: Mutex::default(), chunks: [const { OnceLock::new() }; CHUNKS] }
    }
}

/// A pool holds [`NAMES_MAX`] names already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {NAMES_MAX} different names")]
pub struct TooManyNames;

impl<T: Clone + Eq + Hash> Pool<T> {
    /// The number of a value, given now when the value is new.
    ///
    /// # Errors
    /// When the pool is full.
    pub fn number(&self, value: &T) -> Result<u32, TooManyNames> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = numbers.get(value) {
            return Ok(number);
        }
        let number = numbers.len() as u32 + 1;
        if number > NAMES_MAX {
            return Err(TooManyNames);
        }
        let (chunk, slot) = place(number);
        let slots = self.chunks[chunk].get_or_init(|| (0..chunk_slots(chunk)).map(|_| OnceLock::new()).collect());
        // The slot is empty: numbers are given under the lock, once.
        let _ = slots[slot].set(value.clone());
        numbers.insert(value.clone(), number);
        Ok(number)
    }

    /// The number of a value that has one.
    pub fn find(&self, value: &T) -> Option<u32> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).get(value).copied()
    }

    /// The value of a number; `None` for 0 and for numbers never given.
    pub fn get(&self, number: u32) -> Option<&T> {
        if number == 0 || number > NAMES_MAX {
            return None;
        }
        let (chunk, slot) = place(number);
        self.chunks[chunk].get()?[slot].get()
    }

    /// Has the value of a number fetched into the cache.
    #[inline]
    pub fn prefetch(&self, number: u32) {
        if (1..=NAMES_MAX).contains(&number) {
            let (chunk, slot) = place(number);
            self.chunks[chunk].get().and_then(|slots| slots.get(slot)).inspect(|slot| prefetch(*slot));
        }
    }

    /// How many numbers were given: the largest number.
    pub fn len(&self) -> usize {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no number was given yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Chunk 0 holds the indices below [`FIRST_CHUNK`], chunk `n` those below `FIRST_CHUNK << n` that no earlier chunk holds.
fn place(number: u32) -> (usize, usize) {
    let index = number - 1;
    if index < FIRST_CHUNK {
        return (0, index as usize);
    }
    let chunk = (index / FIRST_CHUNK).ilog2() + 1;
    (chunk as usize, (index - (FIRST_CHUNK << (chunk - 1))) as usize)
}

fn chunk_slots(chunk: usize) -> u32 {
    if chunk == 0 { FIRST_CHUNK } else { FIRST_CHUNK << (chunk - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_keeps_its_value_across_chunks() {
        let pool: Pool<u32> = Pool::default();
        for value in 0..20_000 {
            assert_eq!(pool.number(&value), Ok(value + 1));
        }
        for value in 0..20_000 {
            assert_eq!(pool.number(&value), Ok(value + 1));
            assert_eq!(pool.get(value + 1), Some(&value));
        }
        assert_eq!((pool.get(0), pool.get(20_001), pool.get(u32::MAX)), (None, None, None));
        assert_eq!(place(NAMES_MAX).0, CHUNKS - 2);
    }
}
