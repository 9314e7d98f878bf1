//! Records of a block of datagrams as columns of words: each record is read once, front to back, and what fields need of it
//! lies side by side afterwards.

use crate::wire::{V5_RECORD_BYTES, V7_RECORD_BYTES};

/// Bytes of a word.
pub(super) const WORD_BYTES: usize = 4;
/// The two lengths of records that there are: v5's, and v1's and v7's.
const SHORT_BYTES: usize = V5_RECORD_BYTES;
const LONG_BYTES: usize = V7_RECORD_BYTES;
const WORDS_MAX: usize = LONG_BYTES / WORD_BYTES;
/// Records that are held at most: with a block of datagrams and the columns they go to they stay in the second-level cache.
const ROWS_MAX: usize = 512;

/// Words by place in the record, then by record.
#[derive(Debug)]
pub(super) struct Words {
    words: Box<[[u32; ROWS_MAX]; WORDS_MAX]>,
    rows: usize,
}

impl Default for Words {
    fn default() -> Self {
        Self { words: Box::new([[0; ROWS_MAX]; WORDS_MAX]), rows: 0 }
    }
}

impl Words {
    /// Whether records of this many bytes can be held.
    #[cfg(test)]
    pub fn can_load(record_bytes: usize) -> bool {
        matches!(record_bytes, SHORT_BYTES | LONG_BYTES)
    }

    /// Takes in as many records as there is room for; gives the others. Records of a length that no export has are not held.
    pub fn load<'a>(&mut self, records: &'a [u8], record_bytes: usize) -> &'a [u8] {
        let room = (ROWS_MAX - self.rows) * record_bytes;
        let (these, others) = records.split_at(records.len().min(room));
        match record_bytes {
            SHORT_BYTES => self.load_each::<SHORT_BYTES>(these),
            LONG_BYTES => self.load_each::<LONG_BYTES>(these),
            _ => return &[],
        }
        others
    }

    fn load_each<const BYTES: usize>(&mut self, records: &[u8]) {
        let records = records.as_chunks::<BYTES>().0;
        for (row, record) in (self.rows..ROWS_MAX).zip(records) {
            for (words, bytes) in self.words.iter_mut().zip(record.as_chunks::<WORD_BYTES>().0) {
                words[row] = u32::from_be_bytes(*bytes);
            }
        }
        self.rows += records.len();
    }

    /// Whether there is no room for another record.
    pub fn is_full(&self) -> bool {
        self.rows == ROWS_MAX
    }

    /// The words at one place of all records held.
    pub fn column(&self, word: usize) -> &[u32] {
        &self.words[word][..self.rows]
    }

    /// Forgets all records.
    pub fn clear(&mut self) {
        self.rows = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_word_of_every_record_is_found(counts in prop::collection::vec(0usize..400, 1..4), long: bool) {
            let record_bytes = if long { LONG_BYTES } else { SHORT_BYTES };
            let mut words = Words::default();
            let bytes: Vec<u8> = (0..counts.iter().sum::<usize>() * record_bytes).map(|at| (at % 251) as u8).collect();
            let mut columns = vec![Vec::new(); record_bytes / WORD_BYTES];
            let unload = |words: &mut Words, columns: &mut [Vec<u32>]| {
                columns.iter_mut().enumerate().for_each(|(at, column)| column.extend(words.column(at)));
                words.clear();
            };
            let mut rest = &bytes[..];
            for count in counts {
                let mut records;
                (records, rest) = rest.split_at(count * record_bytes);
                while !records.is_empty() {
                    records = words.load(records, record_bytes);
                    if words.is_full() {
                        unload(&mut words, &mut columns);
                    }
                }
            }
            unload(&mut words, &mut columns);
            for (row, record) in bytes.chunks(record_bytes).enumerate() {
                for (at, word) in record.chunks(WORD_BYTES).enumerate() {
                    prop_assert_eq!(columns[at][row].to_be_bytes(), word);
                }
            }
        }
    }
}
