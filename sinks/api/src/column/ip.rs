use crate::Addr;

use super::Column;

/// A column of addresses: 4 bytes a row while every address is IPv4, 16 bytes a row once one is not. Readers see
/// [`Addr`] either way.
#[derive(Clone, Debug, Default)]
pub struct IpColumn {
    rows: Rows,
}

#[derive(Clone, Debug)]
enum Rows {
    V4(Column<u32>),
    /// IPv4-mapped where the address is IPv4.
    Wide(Column<u128>),
}

impl Default for Rows {
    fn default() -> Self {
        Self::V4(Column::default())
    }
}

impl IpColumn {
    /// Rows held.
    pub fn len(&self) -> usize {
        match &self.rows {
            Rows::V4(rows) => rows.len(),
            Rows::Wide(rows) => rows.len(),
        }
    }

    /// Memory reserved, bytes.
    pub fn capacity_bytes(&self) -> usize {
        match &self.rows {
            Rows::V4(rows) => rows.capacity_bytes(),
            Rows::Wide(rows) => rows.capacity_bytes(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every row is null. True for an empty column.
    pub fn all_null(&self) -> bool {
        match &self.rows {
            Rows::V4(rows) => rows.all_null(),
            Rows::Wide(rows) => rows.all_null(),
        }
    }

    /// The row's address, `None` when null.
    #[inline]
    pub fn get(&self, row: usize) -> Option<Addr> {
        match &self.rows {
            Rows::V4(rows) => rows.get(row).map(Addr::v4),
            Rows::Wide(rows) => rows.get(row).map(Addr),
        }
    }

    /// The IPv4 form, when every row is IPv4 or null: the fast path.
    pub fn as_v4(&self) -> Option<&Column<u32>> {
        match &self.rows {
            Rows::V4(rows) => Some(rows),
            Rows::Wide(_) => None,
        }
    }

    /// The addresses, when every row has one and all are IPv4.
    pub fn all_v4(&self) -> Option<&[u32]> {
        self.as_v4().filter(|rows| rows.null_count() == 0).map(Column::values)
    }

    /// The wide form (IPv4-mapped addresses in 128 bits), when some row has been IPv6.
    pub fn as_wide(&self) -> Option<&Column<u128>> {
        match &self.rows {
            Rows::V4(_) => None,
            Rows::Wide(rows) => Some(rows),
        }
    }

    /// The IPv4 form for appending to, when the column is narrow.
    pub fn as_v4_mut(&mut self) -> Option<&mut Column<u32>> {
        match &mut self.rows {
            Rows::V4(rows) => Some(rows),
            Rows::Wide(_) => None,
        }
    }

    /// A column of the given IPv4 rows.
    pub fn from_v4(rows: Column<u32>) -> Self {
        Self { rows: Rows::V4(rows) }
    }

    /// A column of the given 128-bit rows (IPv4 as IPv4-mapped).
    pub fn from_wide(rows: Column<u128>) -> Self {
        Self { rows: Rows::Wide(rows) }
    }

    /// Forgets all rows, keeps the memory, becomes narrow again.
    pub fn clear(&mut self) {
        match &mut self.rows {
            Rows::V4(rows) => rows.clear(),
            Rows::Wide(_) => *self = Self::default(),
        }
    }

    /// Appends one row; an IPv6 address makes the column wide.
    #[inline]
    pub fn push(&mut self, addr: Option<Addr>) {
        if let Rows::V4(rows) = &mut self.rows {
            match addr.map(Addr::as_v4) {
                None => return rows.push_nulls(1),
                Some(Some(bits)) => return rows.push(Some(bits)),
                Some(None) => self.widen(),
            }
        }
        if let Rows::Wide(rows) = &mut self.rows {
            rows.push(addr.map(|a| a.0));
        }
    }

    /// Appends `rows` null rows.
    pub fn push_nulls(&mut self, rows: usize) {
        match &mut self.rows {
            Rows::V4(column) => column.push_nulls(rows),
            Rows::Wide(column) => column.push_nulls(rows),
        }
    }

    /// Makes room for so many more rows.
    pub fn reserve(&mut self, rows: usize) {
        match &mut self.rows {
            Rows::V4(column) => column.reserve(rows),
            Rows::Wide(column) => column.reserve(rows),
        }
    }

    /// Appends `n` IPv4 rows from numbers in host byte order.
    pub fn extend_v4(&mut self, addrs: impl ExactSizeIterator<Item = u32>) {
        match &mut self.rows {
            Rows::V4(rows) => rows.extend(addrs),
            Rows::Wide(rows) => rows.extend(addrs.map(|bits| Addr::v4(bits).0)),
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
        match &mut self.rows {
            Rows::V4(rows) => rows.retain(keep),
            Rows::Wide(rows) => rows.retain(keep),
        }
    }

    fn widen(&mut self) {
        if let Rows::V4(narrow) = &self.rows {
            let mut wide = Column::with_capacity(narrow.len() + 1);
            for row in 0..narrow.len() {
                wide.push(narrow.get(row).map(|bits| Addr::v4(bits).0));
            }
            self.rows = Rows::Wide(wide);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widens_on_the_first_ipv6_address_and_keeps_its_rows() {
        let rows: Vec<Option<Addr>> = vec![
            Some("10.0.0.1".parse().unwrap()),
            None,
            Some("2001:db8::1".parse().unwrap()),
            Some("10.0.0.2".parse().unwrap()),
        ];
        let mut column = IpColumn::default();
        for (row, addr) in rows.iter().enumerate() {
            column.push(*addr);
            assert_eq!(column.as_v4().is_some(), row < 2);
        }
        column.extend_v4([1].into_iter());
        let got: Vec<_> = (0..4).map(|row| column.get(row)).collect();
        assert_eq!(got, rows);
        assert_eq!(column.get(4), Some(Addr::v4(1)));
        column.clear();
        assert!(column.is_empty() && column.as_v4().is_some());
    }
}
