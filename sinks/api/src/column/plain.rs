use super::Validity;

/// A column of plain values, any row of which may be null.
#[derive(Clone, Debug, Default)]
pub struct Column<T> {
    /// One value a row; empty while every row is null. A null row's value is `T::default()`.
    values: Vec<T>,
    validity: Validity,
}

impl<T: Copy + Default> Column<T> {
    /// An empty column with room for `rows` rows.
    pub fn with_capacity(rows: usize) -> Self {
        Self { values: Vec::with_capacity(rows), validity: Validity::default() }
    }

    /// A column of these values, of which those with a 0 in `present` (one byte a row) are null.
    pub fn from_parts(mut values: Vec<T>, present: Option<Vec<u8>>) -> Self {
        let mut validity = Validity { len: values.len(), ..Validity::default() };
        if let Some(mut present) = present {
            present.resize(values.len(), 0);
            for (value, present) in values.iter_mut().zip(&mut present) {
                *present = u8::from(*present != 0);
                *value = if *present == 0 { T::default() } else { *value };
            }
            validity.nulls = present.iter().filter(|p| **p == 0).count();
            validity.present = present;
        }
        let mut column = Self { values, validity };
        column.normalise();
        column
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.validity.len
    }

    /// Memory reserved, bytes.
    pub fn capacity_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>() + self.validity.present.capacity()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.validity.len == 0
    }

    /// Whether every row is null. True for an empty column.
    pub fn all_null(&self) -> bool {
        self.validity.all_null()
    }

    /// Number of null rows.
    pub fn null_count(&self) -> usize {
        self.validity.nulls
    }

    /// The row's value, `None` when null.
    #[inline]
    pub fn get(&self, row: usize) -> Option<T> {
        self.validity.is_present(row).then(|| self.values[row])
    }

    /// The row's value, `T::default()` when null.
    #[inline]
    pub fn value_or_default(&self, row: usize) -> T {
        if self.values.is_empty() { T::default() } else { self.values[row] }
    }

    /// All values, one a row, nulls as `T::default()`; empty when every row is null.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// All values for changing in place; empty when every row is null. Validity stays as it is.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// One byte a row (1 = present), or `None` while all rows are alike.
    pub fn validity(&self) -> Option<&[u8]> {
        (!self.validity.present.is_empty()).then_some(&self.validity.present[..])
    }

    /// Forgets all rows, keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.validity.clear();
    }

    /// Appends one row.
    #[inline]
    pub fn push(&mut self, value: Option<T>) {
        match value {
            Some(value) => self.extend_one(value),
            None => self.push_nulls(1),
        }
    }

    #[inline]
    fn extend_one(&mut self, value: T) {
        self.before_present(1);
        self.values.push(value);
    }

    /// Appends `rows` null rows.
    pub fn push_nulls(&mut self, rows: usize) {
        self.validity.push(rows, false);
        if !self.values.is_empty() {
            self.values.resize(self.validity.len, T::default());
        }
    }

    /// Appends `rows` times the same value.
    pub fn push_repeated(&mut self, value: T, rows: usize) {
        self.before_present(rows);
        self.values.resize(self.validity.len, value);
    }

    /// Appends rows that are all present.
    pub fn extend(&mut self, values: impl ExactSizeIterator<Item = T>) {
        self.before_present(values.len());
        self.values.extend(values);
    }

    /// Appends rows of which any may be null, at less than a ns a row.
    pub fn extend_options(&mut self, rows: impl ExactSizeIterator<Item = Option<T>>) {
        let len = self.validity.len;
        let end = len + rows.len();
        let present = &mut self.validity.present;
        if present.is_empty() {
            present.resize(len, u8::from(self.validity.nulls == 0));
        }
        // Room first, so that the loop is one of stores, which the compiler makes vector code of.
        self.values.resize(end, T::default());
        present.resize(end, 0);
        let (values, present) = (&mut self.values[len..], &mut present[len..]);
        for ((value, present), row) in values.iter_mut().zip(&mut *present).zip(rows) {
            *present = u8::from(row.is_some());
            *value = row.unwrap_or_default();
        }
        // So few at a time that their number fits a byte.
        let found: usize = present.chunks(255).map(|some| usize::from(some.iter().sum::<u8>())).sum();
        self.validity.len = end;
        self.validity.nulls += end - len - found;
        self.normalise();
    }

    /// Makes room for so many more rows, for builders that know how many will come.
    pub fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows);
    }

    /// Appends `rows` present rows and gives their slots (set to `T::default()`), to be filled by the caller.
    pub fn extend_slots(&mut self, rows: usize) -> &mut [T] {
        self.before_present(rows);
        let start = self.values.len();
        self.values.resize(start + rows, T::default());
        &mut self.values[start..]
    }

    /// Replaces one row that exists already. Sets validity as needed.
    pub fn set(&mut self, row: usize, value: Option<T>) {
        let present = self.validity.is_present(row);
        if present != value.is_some() {
            if self.validity.present.is_empty() {
                self.validity.present.resize(self.validity.len, u8::from(present));
            }
            if self.values.is_empty() {
                self.values.resize(self.validity.len, T::default());
            }
            self.validity.present[row] = u8::from(!present);
            self.validity.nulls = self.validity.nulls + usize::from(present) - usize::from(!present);
            self.normalise();
        }
        if !self.values.is_empty() {
            self.values[row] = value.unwrap_or_default();
        }
    }

    /// Appends the given rows of another column.
    pub fn append_rows(&mut self, other: &Self, rows: &[u32]) {
        for row in rows {
            self.push(other.get(*row as usize));
        }
    }

    /// Keeps the rows for which `keep` says so; rows beyond `keep` go.
    pub fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.values, keep);
        self.validity.retain(keep);
        self.normalise();
    }

    /// Keeps the invariant: validity only while rows differ, no values when all are null.
    fn normalise(&mut self) {
        if self.validity.nulls == 0 {
            self.validity.present.clear();
        } else if self.validity.all_null() {
            self.validity.present.clear();
            self.values.clear();
        }
    }

    fn before_present(&mut self, rows: usize) {
        if rows == 0 {
            return;
        }
        if self.values.is_empty() && self.validity.len > 0 {
            self.values.resize(self.validity.len, T::default());
        }
        self.validity.push(rows, true);
    }
}

/// Keeps the values for which `keep` says so, in order.
pub(super) fn retain<T>(values: &mut Vec<T>, keep: &[bool]) {
    let mut kept = 0;
    for (row, _) in keep.iter().enumerate().take(values.len()).filter(|(_, keep)| **keep) {
        values.swap(kept, row);
        kept += 1;
    }
    values.truncate(kept);
}

/// The values of rows that are present (1 in `present`), of which there are `count`, in order. Each value is written, and the next one
/// over it unless it is kept: without a branch a row, which columns of few values would mispredict.
pub fn present_values<T: Copy + Default>(values: &[T], present: &[u8], count: usize) -> Vec<T> {
    // One more: what comes after the last one that is present is written there.
    let mut kept = vec![T::default(); count + 1];
    let mut at = 0;
    for (value, present) in values.iter().zip(present) {
        kept[at] = *value;
        at += usize::from(*present);
    }
    kept.truncate(count);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_that_are_present_are_kept_in_order(rows in prop::collection::vec(prop::option::of(any::<i64>()), 0..100)) {
            let values: Vec<i64> = rows.iter().map(|row| row.unwrap_or(7)).collect();
            let present: Vec<u8> = rows.iter().map(|row| u8::from(row.is_some())).collect();
            let want: Vec<i64> = rows.iter().flatten().copied().collect();
            prop_assert_eq!(present_values(&values, &present, want.len()), want);
        }

        #[test]
        fn keeps_what_is_to_be_kept(rows in prop::collection::vec((prop::option::of(any::<u16>()), any::<bool>()), 0..20)) {
            let mut column = Column::default();
            rows.iter().for_each(|(row, _)| column.push(*row));
            let keep: Vec<_> = rows.iter().map(|(_, keep)| *keep).collect();
            column.retain(&keep);
            let want: Vec<_> = rows.iter().filter(|(_, keep)| *keep).map(|(row, _)| *row).collect();
            let got: Vec<_> = (0..column.len()).map(|row| column.get(row)).collect();
            prop_assert_eq!(&got, &want);
            prop_assert_eq!(column.null_count(), want.iter().filter(|v| v.is_none()).count());
            prop_assert_eq!(column.values().is_empty(), column.all_null());
            prop_assert_eq!(column.validity().is_some(), column.null_count() > 0 && !column.all_null());
        }

        #[test]
        fn holds_what_was_extended(before in prop::collection::vec(prop::option::of(any::<u16>()), 0..6), rows in prop::collection::vec(prop::option::of(any::<u16>()), 0..20)) {
            let mut column = Column::default();
            before.iter().for_each(|row| column.push(*row));
            column.extend_options(rows.iter().copied());
            let want: Vec<_> = before.into_iter().chain(rows).collect();
            let got: Vec<_> = (0..column.len()).map(|row| column.get(row)).collect();
            prop_assert_eq!(&got, &want);
            prop_assert_eq!(column.null_count(), want.iter().filter(|v| v.is_none()).count());
            prop_assert_eq!(column.values().is_empty(), column.all_null());
            prop_assert_eq!(column.validity().is_some(), column.null_count() > 0 && !column.all_null());
        }

        #[test]
        fn holds_the_parts_it_is_made_of(rows in prop::collection::vec(prop::option::of(any::<u16>()), 0..20)) {
            let values = rows.iter().map(|row| row.unwrap_or(7)).collect();
            let column = Column::from_parts(values, Some(rows.iter().map(|row| u8::from(row.is_some()) * 3).collect()));
            let mut want = Column::default();
            rows.iter().for_each(|row| want.push(*row));
            prop_assert_eq!(column.values(), want.values());
            prop_assert_eq!(column.validity(), want.validity());
            prop_assert_eq!((column.len(), column.null_count()), (want.len(), want.null_count()));
        }

        #[test]
        fn holds_what_was_pushed(rows in prop::collection::vec(prop::option::of(any::<u16>()), 0..50), sets in prop::collection::vec((0usize..50, prop::option::of(any::<u16>())), 0..20)) {
            let mut want = rows.clone();
            let mut column = Column::default();
            for row in &rows {
                column.push(*row);
            }
            for (row, value) in sets {
                if row < want.len() {
                    want[row] = value;
                    column.set(row, value);
                }
            }
            let got: Vec<_> = (0..column.len()).map(|row| column.get(row)).collect();
            prop_assert_eq!(&got, &want);
            prop_assert_eq!(column.null_count(), want.iter().filter(|v| v.is_none()).count());
            prop_assert_eq!(column.values().is_empty(), column.all_null());
            prop_assert_eq!(column.validity().is_some(), column.null_count() > 0 && !column.all_null());
        }
    }

    #[test]
    fn runs_of_nulls_and_values_mix() {
        let mut column: Column<u32> = Column::default();
        column.push_nulls(2);
        assert!(column.all_null() && column.values().is_empty());
        column.push_repeated(7, 2);
        column.extend([1, 2].into_iter());
        column.extend_slots(1)[0] = 9;
        column.push_nulls(1);
        let got: Vec<_> = (0..column.len()).map(|row| column.get(row)).collect();
        assert_eq!(got, [None, None, Some(7), Some(7), Some(1), Some(2), Some(9), None]);
    }
}
