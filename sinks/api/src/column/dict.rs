use std::hash::Hash;
use std::sync::Arc;

pub use uuid::Uuid;

/// Shared text, cheap to copy between batches.
pub type Text = Arc<str>;

/// A value that a dictionary can hold.
pub trait DictValue: Clone + Eq + Hash + Ord {}
impl<T: Clone + Eq + Hash + Ord> DictValue for T {}

/// A dictionary column: a small table of distinct values and one code a row. Code 0 is null, code `n` is value `n - 1`.
///
/// The table belongs to the batch, so a batch means the same wherever and whenever it is read.
#[derive(Clone, Debug)]
pub struct Dict<T> {
    values: Vec<T>,
    codes: Vec<u32>,
    /// Numbers of the first values, 0 = none.
    numbers: Vec<u32>,
}

impl<T> Default for Dict<T> {
    fn default() -> Self {
        Self { values: Vec::new(), codes: Vec::new(), numbers: Vec::new() }
    }
}

impl<T: DictValue> Dict<T> {
    /// A column from its parts.
    ///
    /// # Errors
    /// Gives the first code that names no value.
    pub fn from_parts(values: Vec<T>, codes: Vec<u32>) -> Result<Self, u32> {
        match codes.iter().find(|&&code| code as usize > values.len()) {
            Some(&code) => Err(code),
            None => Ok(Self { values, codes, numbers: Vec::new() }),
        }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Memory reserved, bytes, without what the values own elsewhere.
    pub fn capacity_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>() + (self.codes.capacity() + self.numbers.capacity()) * size_of::<u32>()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The row's value, `None` when null.
    #[inline]
    pub fn get(&self, row: usize) -> Option<&T> {
        self.value(self.codes[row])
    }

    /// The value of a code, `None` for code 0 (null).
    #[inline]
    pub fn value(&self, code: u32) -> Option<&T> {
        (code as usize).checked_sub(1).map(|index| &self.values[index])
    }

    /// The distinct values; code of `values()[i]` is `i + 1`.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// One code a row, 0 = null.
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// Whether every row is null.
    pub fn all_null(&self) -> bool {
        self.values.is_empty() || self.codes.iter().all(|&code| code == 0)
    }

    /// Forgets all rows and values, keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.codes.clear();
        self.numbers.clear();
    }

    /// Adds a value that is known not to be in the table yet; gives its code.
    pub fn add_value(&mut self, value: T) -> u32 {
        self.values.push(value);
        self.values.len() as u32
    }

    /// As [`Dict::add_value`], for a value that has a number: see [`Dict::numbered_values`].
    pub fn add_numbered(&mut self, value: T, number: u32) -> u32 {
        self.numbers.resize(self.values.len(), 0);
        self.numbers.push(number);
        self.add_value(value)
    }

    /// As [`Dict::add_numbered`] for many values, each with its number.
    pub fn extend_numbered<'a>(&mut self, values: impl ExactSizeIterator<Item = (&'a T, u32)>)
    where
        T: 'a,
    {
        self.numbers.resize(self.values.len(), 0);
        self.numbers.reserve(values.len());
        self.values.reserve(values.len());
        for (value, number) in values {
            self.values.push(value.clone());
            self.numbers.push(number);
        }
    }

    /// The distinct values, each with a number that stands for it in every column of this type for the life of the process;
    /// 0 = it has none, as in what was read from disk. Whoever keeps something by value finds it by number without hashing.
    pub fn numbered_values(&self) -> impl Iterator<Item = (&T, u32)> {
        self.values.iter().zip(self.numbers.iter().copied().chain(std::iter::repeat(0)))
    }

    /// The code of a value, added when it is new. Searches the table in order: for few values, or not per row.
    pub fn intern(&mut self, value: &T) -> u32 {
        match self.values.iter().position(|v| v == value) {
            Some(index) => index as u32 + 1,
            None => self.add_value(value.clone()),
        }
    }

    /// Appends a row by code. The code must be 0 or one that this column gave.
    #[inline]
    pub fn push_code(&mut self, code: u32) {
        debug_assert!(code as usize <= self.values.len());
        self.codes.push(code);
    }

    /// Makes room for so many more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.codes.reserve(rows);
    }

    /// Appends rows by code. Values of codes that are new may be added afterwards, before anything is read.
    pub fn extend_codes(&mut self, codes: impl ExactSizeIterator<Item = u32>) {
        self.codes.extend(codes);
    }

    /// Appends `rows` rows by code.
    pub fn push_code_repeated(&mut self, code: u32, rows: usize) {
        debug_assert!(code as usize <= self.values.len());
        self.codes.resize(self.codes.len() + rows, code);
    }

    /// Appends a row by value; see [`Dict::intern`] for its cost.
    pub fn push(&mut self, value: Option<&T>) {
        let code = value.map_or(0, |v| self.intern(v));
        self.codes.push(code);
    }

    /// Appends the given rows of another column.
    pub fn append_rows(&mut self, other: &Self, rows: &[u32]) {
        let mut known = vec![None; other.values.len() + 1];
        known[0] = Some(0);
        for row in rows {
            let code = other.codes[*row as usize] as usize;
            let own = match known[code] {
                Some(own) => own,
                None => self.intern(&other.values[code - 1]),
            };
            known[code] = Some(own);
            self.codes.push(own);
        }
    }

    /// Some of the rows, in the order given; the table has only what they name.
    pub fn some_rows(&self, rows: &[u32]) -> Self {
        let mut some = Self::default();
        let mut known = vec![0; self.values.len() + 1];
        for row in rows {
            let code = self.codes[*row as usize];
            if code > 0 && known[code as usize] == 0 {
                known[code as usize] = some.add_value(self.values[code as usize - 1].clone());
            }
            some.codes.push(known[code as usize]);
        }
        some
    }

    /// Keeps the rows for which `keep` says so; rows beyond `keep` go. The table stays.
    pub fn retain(&mut self, keep: &[bool]) {
        super::plain::retain(&mut self.codes, keep);
    }

    /// Appends `rows` null rows.
    pub fn push_nulls(&mut self, rows: usize) {
        self.push_code_repeated(0, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_name_values_and_zero_is_null() {
        let mut column: Dict<Text> = Dict::default();
        column.push(Some(&"a".into()));
        column.push(None);
        column.push(Some(&"b".into()));
        column.push(Some(&"a".into()));
        assert_eq!(column.codes(), [1, 0, 2, 1]);
        let rows: Vec<_> = (0..4).map(|row| column.get(row).map(|t| t.to_string())).collect();
        assert_eq!(rows, [Some("a".into()), None, Some("b".into()), Some("a".into())]);
        assert_eq!(Dict::<Text>::from_parts(vec![], vec![0, 1]).unwrap_err(), 1);
    }

    #[test]
    fn many_values_and_rows_are_added_as_one_by_one() {
        let texts: [Text; 2] = ["a".into(), "b".into()];
        let mut column: Dict<Text> = Dict::default();
        column.push(Some(&"c".into()));
        column.extend_codes([2, 0, 3, 1].into_iter());
        column.extend_numbered(texts.iter().zip([7, 9]));
        let rows: Vec<_> = (0..5).map(|row| column.get(row).map(|t| t.to_string())).collect();
        assert_eq!(rows, [Some("c".into()), Some("a".into()), None, Some("b".into()), Some("c".into())]);
        assert_eq!(column.numbered_values().map(|(_, number)| number).collect::<Vec<_>>(), [0, 7, 9]);
    }
}
