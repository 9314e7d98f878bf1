//! Dictionary columns and address columns.
//!
//! ```text
//! dictionary   count u32 | values | codes as plain values
//! addresses    0 | plain column of 4-byte addresses, or 1 | plain column of 16-byte addresses
//! ```

use super::bytes::{DecodeError, Reader, put_text};
use super::plain::{put_column, put_values, read_column, read_values};
use crate::flow::column::{Column, Dict, DictValue, IpColumn};
use crate::flow::{Addr, Text, Uuid};

const NARROW: u8 = 0;
const WIDE: u8 = 1;

/// A dictionary's value in a payload.
pub trait Item: DictValue {
    /// Bytes it takes at least.
    const BYTES_MIN: usize;
    /// Writes it.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads it.
    fn read(from: &mut Reader) -> Result<Self, DecodeError>;
}

impl Item for Text {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        put_text(out, self);
    }
    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        from.text().map(Text::from)
    }
}

impl Item for Uuid {
    const BYTES_MIN: usize = 16;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        from.array().map(Uuid::from_bytes)
    }
}

impl Item for Addr {
    const BYTES_MIN: usize = 16;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        from.array().map(|bytes| Addr(u128::from_le_bytes(bytes)))
    }
}

/// Appends a dictionary column.
pub fn put_dict<T: Item>(dict: &Dict<T>, out: &mut Vec<u8>) {
    out.extend_from_slice(&(dict.values().len() as u32).to_le_bytes());
    for value in dict.values() {
        value.put(out);
    }
    put_values(dict.codes(), out);
}

/// Reads `rows` rows of a dictionary column.
pub fn read_dict<T: Item>(from: &mut Reader, rows: usize) -> Result<Dict<T>, DecodeError> {
    let count = from.count(T::BYTES_MIN)?;
    let values = (0..count).map(|_| T::read(from)).collect::<Result<Vec<T>, _>>()?;
    let codes = read_values(from, rows)?;
    Dict::from_parts(values, codes).or_else(|_| from.fail("a code that names no value"))
}

/// Appends an address column.
pub fn put_addrs(column: &IpColumn, out: &mut Vec<u8>) {
    if let Some(rows) = column.as_v4() {
        out.push(NARROW);
        put_column(rows, out);
    } else if let Some(rows) = column.as_wide() {
        out.push(WIDE);
        put_column(rows, out);
    }
}

/// Reads `rows` rows of an address column.
pub fn read_addrs(from: &mut Reader, rows: usize) -> Result<IpColumn, DecodeError> {
    match from.u8()? {
        NARROW => {
            let mut column = Column::default();
            read_column(from, rows, &mut column)?;
            Ok(IpColumn::from_v4(column))
        }
        WIDE => {
            let mut column = Column::default();
            read_column(from, rows, &mut column)?;
            Ok(IpColumn::from_wide(column))
        }
        _ => from.fail("an unknown kind of address column"),
    }
}
