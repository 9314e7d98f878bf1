//! Columns of plain values: frame of reference, packed to whole bytes.
//!
//! ```text
//! values   width u8 (0, 1, 2, 3, 4, 8, 16) | minimum | one `value - minimum` of `width` bytes each
//! column   0 | values of every row
//!          1 | bitmap of ceil(rows / 8) bytes | values of the rows that are present
//!          2   every row is null
//! ```

use super::bytes::{DecodeError, Reader};
use super::pack;
use crate::flow::column::{Column, present_values};

/// Rows up to which a column of one single value takes no bytes a row. Above, each row takes a byte, so that what decoding
/// reserves stays proportional to its input.
pub const CONSTANT_ROWS_MAX: usize = 1 << 16;

const ALL_PRESENT: u8 = 0;
const SOME_PRESENT: u8 = 1;
const ALL_NULL: u8 = 2;

/// A number that is stored as its distance above the smallest of its column.
pub trait Plain: Copy + Default + Ord {
    /// Bytes of the type.
    const WIDTH: usize;
    /// `self - min`, for `min <= self`.
    fn above(self, min: Self) -> u128;
    /// `min + above`, wrapping.
    fn from_above(min: Self, above: u128) -> Self;
    /// Writes the value in full.
    fn put(self, out: &mut Vec<u8>);
    /// Reads a value in full.
    fn read(from: &mut Reader) -> Result<Self, DecodeError>;
}

macro_rules! plain {
    ($($ty:ty, $unsigned:ty;)*) => {$(
        impl Plain for $ty {
            const WIDTH: usize = size_of::<$ty>();
            #[inline(always)]
            fn above(self, min: Self) -> u128 {
                self.wrapping_sub(min) as $unsigned as u128
            }
            #[inline(always)]
            fn from_above(min: Self, above: u128) -> Self {
                min.wrapping_add(above as $ty)
            }
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn read(from: &mut Reader) -> Result<Self, DecodeError> {
                from.array().map(Self::from_le_bytes)
            }
        }
    )*};
}
plain! { u8, u8; u16, u16; u32, u32; u64, u64; i64, u64; u128, u128; }

/// Appends values.
pub fn put_values<T: Plain>(values: &[T], out: &mut Vec<u8>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { put_by_avx2(values, out) };
    }
    put(values, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn put_by_avx2<T: Plain>(values: &[T], out: &mut Vec<u8>) {
    put(values, out);
}

#[inline(always)]
fn put<T: Plain>(values: &[T], out: &mut Vec<u8>) {
    let (min, max) = pack::extent(values);
    let width = begin(min, max, values.len(), out);
    pack::pack(values, min, width, out);
}

/// Values found in a payload, not unpacked yet. Their bytes are known to be there.
struct Packed<'a, T> {
    width: usize,
    min: T,
    bytes: &'a [u8],
}

impl<'a, T: Plain> Packed<'a, T> {
    fn find(from: &mut Reader<'a>, rows: usize) -> Result<Self, DecodeError> {
        let width = usize::from(from.u8()?);
        if !matches!(width, 0 | 1 | 2 | 3 | 4 | 8 | 16) || width > T::WIDTH {
            return from.fail("a width that the column's type does not have");
        }
        if width == 0 && rows > CONSTANT_ROWS_MAX {
            return from.fail("a constant column with more rows than allowed");
        }
        let min = T::read(from)?;
        let Some(len) = rows.checked_mul(width) else { return from.fail("more rows than can be") };
        Ok(Self { width, min, bytes: from.take(len)? })
    }

    /// Writes one value into each slot; there are as many as rows were asked for.
    fn unpack(&self, slots: &mut [T]) {
        match self.width {
            0 => slots.fill(self.min),
            1 => unpack::<T, 1>(self.bytes, self.min, slots),
            2 => unpack::<T, 2>(self.bytes, self.min, slots),
            3 => unpack::<T, 3>(self.bytes, self.min, slots),
            4 => unpack::<T, 4>(self.bytes, self.min, slots),
            8 => unpack::<T, 8>(self.bytes, self.min, slots),
            _ => unpack::<T, 16>(self.bytes, self.min, slots),
        }
    }
}

/// Reads values.
pub fn read_values<T: Plain>(from: &mut Reader, rows: usize) -> Result<Vec<T>, DecodeError> {
    let packed = Packed::<T>::find(from, rows)?;
    let mut values = vec![T::default(); rows];
    packed.unpack(&mut values);
    Ok(values)
}

/// Appends a column with its nulls.
pub fn put_column<T: Plain>(column: &Column<T>, out: &mut Vec<u8>) {
    if column.all_null() {
        out.push(ALL_NULL);
        return;
    }
    let Some(present) = column.validity() else {
        out.push(ALL_PRESENT);
        return put_values(column.values(), out);
    };
    out.push(SOME_PRESENT);
    pack::put_bitmap(present, out);
    let values = present_values(column.values(), present, column.len() - column.null_count());
    put_values(&values, out);
}

/// Appends `rows` rows of a payload to a column.
pub fn read_column<T: Plain>(from: &mut Reader, rows: usize, column: &mut Column<T>) -> Result<(), DecodeError> {
    match from.u8()? {
        ALL_NULL => column.push_nulls(rows),
        ALL_PRESENT => {
            let packed = Packed::<T>::find(from, rows)?;
            packed.unpack(column.extend_slots(rows));
        }
        SOME_PRESENT => {
            let bitmap = from.take(rows.div_ceil(8))?;
            let is_present = |row: usize| bitmap[row / 8] >> (row % 8) & 1 != 0;
            let count = (0..rows).filter(|row| is_present(*row)).count();
            let mut values = read_values::<T>(from, count)?.into_iter();
            for row in 0..rows {
                column.push(if is_present(row) { values.next() } else { None });
            }
        }
        _ => return from.fail("an unknown kind of column"),
    }
    Ok(())
}

/// Writes width and minimum, gives the width.
fn begin<T: Plain>(min: T, max: T, rows: usize, out: &mut Vec<u8>) -> usize {
    let range = max.above(min);
    let width = match 16 - range.leading_zeros() as usize / 8 {
        0 if rows > CONSTANT_ROWS_MAX => 1,
        needed @ 0..=4 => needed,
        5..=8 => 8,
        _ => 16,
    };
    // The types are 1, 2, 4, 8 or 16 bytes wide and the range fits the type, so the width does too.
    out.push(width as u8);
    min.put(out);
    width
}

fn unpack<T: Plain, const N: usize>(bytes: &[u8], min: T, slots: &mut [T]) {
    for (slot, bytes) in slots.iter_mut().zip(bytes.as_chunks::<N>().0) {
        let mut above = [0; 16];
        above[..N].copy_from_slice(bytes);
        *slot = T::from_above(min, u128::from_le_bytes(above));
    }
}
