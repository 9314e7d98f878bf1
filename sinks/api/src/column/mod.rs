//! Column types: plain values, addresses and dictionaries, each with nulls.
//!
//! A column that a protocol does not carry is null in every row and then holds no values at all; a column that is never
//! null holds no validity. Both are the normal case, so a batch of NetFlow v5 costs nothing for the columns that v5
//! lacks.

mod dict;
mod ip;
mod plain;

pub use dict::{Dict, DictValue, Text, Uuid};
pub use ip::IpColumn;
pub use plain::{Column, present_values};

/// Row validity. Empty while every row is alike (then `all_null` says which), else one byte a row, 1 = present.
#[derive(Clone, Debug, Default)]
struct Validity {
    len: usize,
    nulls: usize,
    /// One byte a row, only while some rows are null and some are not.
    present: Vec<u8>,
}

impl Validity {
    fn clear(&mut self) {
        self.len = 0;
        self.nulls = 0;
        self.present.clear();
    }

    fn retain(&mut self, keep: &[bool]) {
        let kept = keep.iter().take(self.len).filter(|keep| **keep).count();
        if self.present.is_empty() {
            self.nulls = if self.nulls == 0 { 0 } else { kept };
        } else {
            plain::retain(&mut self.present, keep);
            self.nulls = self.present.iter().filter(|present| **present == 0).count();
        }
        self.len = kept;
    }

    fn all_null(&self) -> bool {
        self.nulls == self.len
    }

    fn is_present(&self, row: usize) -> bool {
        debug_assert!(row < self.len);
        if self.present.is_empty() { self.nulls == 0 } else { self.present[row] != 0 }
    }

    /// Appends `n` rows that are all present or all null. Returns whether the values must now be materialised, that is,
    /// whether the column was all null (without values) and no longer is.
    fn push(&mut self, n: usize, present: bool) {
        if n == 0 {
            return;
        }
        let was_uniform = self.present.is_empty();
        let uniform_after = if present { self.nulls == 0 } else { self.nulls == self.len };
        if !uniform_after || !was_uniform {
            if was_uniform {
                self.present.resize(self.len, u8::from(self.nulls == 0));
            }
            self.present.resize(self.len + n, u8::from(present));
        }
        self.len += n;
        if !present {
            self.nulls += n;
        }
    }
}
