//! One column of the rows, over all batches.

use sink_api::column::{Column, IpColumn};
use sink_api::{Addr, country};

use super::slots::{Pieces, Slots};
use super::{NULL, RowOf, bounded, eight, inet4, inet6};
use crate::columns;

/// A column of one batch. Without values every row is null; without presence every row has one.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a, T> {
    values: &'a [T],
    present: &'a [u8],
}

impl<'a, T: Copy + Default> Cells<'a, T> {
    /// The cells of a column; without one every row is null.
    pub fn of(column: Option<&'a Column<T>>) -> Self {
        let values = column.map_or(&[][..], Column::values);
        Self { values, present: column.and_then(Column::validity).unwrap_or_default() }
    }

    #[inline]
    fn get(&self, row: usize) -> Option<T> {
        let value = *self.values.get(row)?;
        (self.present.is_empty() || self.present[row] != 0).then_some(value)
    }
}

/// A column of addresses of one batch.
#[derive(Clone, Copy, Debug)]
pub enum IpCells<'a> {
    V4(Cells<'a, u32>),
    Wide(Cells<'a, u128>),
}

impl<'a> IpCells<'a> {
    /// The cells of a column; without one every row is null.
    pub fn of(column: Option<&'a IpColumn>) -> Self {
        match column.and_then(IpColumn::as_wide) {
            Some(wide) => Self::Wide(Cells::of(Some(wide))),
            None => Self::V4(Cells::of(column.and_then(IpColumn::as_v4))),
        }
    }
}

/// What a row is made of, in order; of each batch its cells.
#[derive(Debug)]
pub enum Part<'a> {
    /// Null in every row.
    Null,
    /// Some columns that are the same in every row.
    Same(Pieces),
    Time(Vec<Cells<'a, i64>>),
    Bucket(Vec<&'a [i64]>),
    Sum(Vec<&'a [u64]>),
    Bool(Vec<Cells<'a, u8>>),
    /// As SMALLINT.
    Small(Vec<Cells<'a, u8>>),
    U8(Vec<Cells<'a, u8>>),
    U16(Vec<Cells<'a, u16>>),
    U32(Vec<Cells<'a, u32>>),
    U64(Vec<Cells<'a, u64>>),
    Mac(Vec<Cells<'a, u64>>),
    Ip(Vec<IpCells<'a>>),
    /// Codes, and what is added to those that are not 0.
    Codes(Vec<(&'a [u32], usize)>, Pieces),
    /// Small numbers that stand for texts.
    Named(Vec<Cells<'a, u8>>, Pieces),
    Country(Vec<Cells<'a, u16>>),
}

impl Part<'_> {
    /// The same bytes in every row.
    pub fn same(bytes: &[u8]) -> Self {
        let mut pieces = Pieces::new();
        pieces.push(|out| out.extend_from_slice(bytes));
        Part::Same(pieces)
    }

    /// Most bytes that it has in a row.
    pub fn bytes_max(&self) -> usize {
        match self {
            Part::Same(pieces) | Part::Codes(_, pieces) | Part::Named(_, pieces) => pieces.longest(),
            // An IPv6 address; nothing else is longer.
            _ => inet6(0).len(),
        }
    }

    /// Appends the cells of some rows, each to the slot of its row.
    pub fn write(&self, rows: &[RowOf], slots: &mut Slots) {
        match self {
            Part::Null => (0..rows.len()).for_each(|slot| slots.put(slot, NULL)),
            Part::Same(pieces) => (0..rows.len()).for_each(|slot| slots.put_piece(slot, pieces.get(0))),
            Part::Time(cells) => each(cells, rows, slots, |ms| eight(columns::to_pg_micros(ms))),
            Part::Bucket(starts) => {
                whole(rows, slots, |batch, row| eight(columns::to_pg_micros(starts[batch][row])));
            }
            Part::Sum(sums) => {
                whole(rows, slots, |batch, row| eight(bounded(sums[batch].get(row).copied().unwrap_or_default())));
            }
            Part::Bool(cells) => each(cells, rows, slots, |n| [0, 0, 0, 1, u8::from(n != 0)]),
            Part::Small(cells) => each(cells, rows, slots, |n| [0, 0, 0, 2, 0, n]),
            Part::U8(cells) => each(cells, rows, slots, |n| [0, 0, 0, 4, 0, 0, 0, n]),
            Part::U16(cells) => each(cells, rows, slots, |n: u16| {
                let [high, low] = n.to_be_bytes();
                [0, 0, 0, 4, 0, 0, high, low]
            }),
            Part::U32(cells) => each(cells, rows, slots, |n| eight(n.into())),
            Part::U64(cells) => each(cells, rows, slots, |n| eight(bounded(n))),
            Part::Mac(cells) => each(cells, rows, slots, |bits: u64| {
                let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
                [0, 0, 0, 6, a, b, c, d, e, f]
            }),
            Part::Ip(cells) => addresses(cells, rows, slots),
            Part::Codes(codes, pieces) => {
                for (slot, (batch, row)) in rows.iter().enumerate() {
                    let (codes, first) = codes[*batch as usize];
                    let code = codes.get(*row as usize).map_or(0, |code| *code as usize);
                    slots.put_piece(slot, pieces.get(if code == 0 { 0 } else { first + code }));
                }
            }
            Part::Named(cells, pieces) => {
                for (slot, (batch, row)) in rows.iter().enumerate() {
                    let name = cells[*batch as usize].get(*row as usize).unwrap_or_default();
                    slots.put_piece(slot, pieces.get(name.into()));
                }
            }
            Part::Country(cells) => each(cells, rows, slots, |code| {
                let [a, b] = country::text(code).bytes();
                [0, 0, 0, 2, a, b]
            }),
        }
    }
}

/// Appends cells that are null or `N` bytes.
#[inline]
fn each<T: Copy + Default, const N: usize>(
    cells: &[Cells<'_, T>],
    rows: &[RowOf],
    slots: &mut Slots,
    encode: impl Fn(T) -> [u8; N],
) {
    for (slot, (batch, row)) in rows.iter().enumerate() {
        match cells[*batch as usize].get(*row as usize) {
            Some(value) => slots.put(slot, encode(value)),
            None => slots.put(slot, NULL),
        }
    }
}

/// Appends cells that are never null.
#[inline]
fn whole<const N: usize>(rows: &[RowOf], slots: &mut Slots, encode: impl Fn(usize, usize) -> [u8; N]) {
    for (slot, (batch, row)) in rows.iter().enumerate() {
        slots.put(slot, encode(*batch as usize, *row as usize));
    }
}

fn addresses(cells: &[IpCells<'_>], rows: &[RowOf], slots: &mut Slots) {
    for (slot, (batch, row)) in rows.iter().enumerate() {
        match &cells[*batch as usize] {
            IpCells::V4(cells) => match cells.get(*row as usize) {
                Some(bits) => slots.put(slot, inet4(bits)),
                None => slots.put(slot, NULL),
            },
            IpCells::Wide(cells) => match cells.get(*row as usize).map(|bits| (Addr(bits).as_v4(), bits)) {
                Some((Some(bits), _)) => slots.put(slot, inet4(bits)),
                Some((None, bits)) => slots.put(slot, inet6(bits)),
                None => slots.put(slot, NULL),
            },
        }
    }
}
