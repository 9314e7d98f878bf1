//! Numbers held in as few bytes each as they need.

use std::borrow::Cow;
use std::ops::BitOr;

use super::chunk::PAGE_ROWS;
use super::extent::all_bits;
use crate::codec::width_of;

/// Numbers, all of one width.
#[derive(Debug)]
pub(super) enum Lanes {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
}

/// Runs the expression with `$values` as the vector that the lanes are.
macro_rules! each_width {
    ($lanes:expr, $values:ident => $then:expr) => {
        match $lanes {
            Lanes::U8($values) => $then,
            Lanes::U16($values) => $then,
            Lanes::U32($values) => $then,
            Lanes::U64($values) => $then,
        }
    };
}
pub(super) use each_width;

impl Lanes {
    /// Bits that the numbers take, page by page at the width of the page's largest one.
    pub(super) fn packed_bits(&self) -> usize {
        each_width!(self, values => {
            values.chunks(PAGE_ROWS).map(|page| page.len() * width_of(all_bits(page)) as usize).sum()
        })
    }
}

/// A number in lanes.
pub(super) trait Lane: Copy + Default + Ord + Into<u64> + TryFrom<u32> + BitOr<Output = Self> {
    /// The numbers in 32 bits, when they are no wider.
    fn words(values: &[Self]) -> Option<Cow<'_, [u32]>>;
}

impl Lane for u8 {
    fn words(values: &[Self]) -> Option<Cow<'_, [u32]>> {
        Some(values.iter().map(|value| u32::from(*value)).collect())
    }
}

impl Lane for u16 {
    fn words(values: &[Self]) -> Option<Cow<'_, [u32]>> {
        Some(values.iter().map(|value| u32::from(*value)).collect())
    }
}

impl Lane for u32 {
    fn words(values: &[Self]) -> Option<Cow<'_, [u32]>> {
        Some(Cow::Borrowed(values))
    }
}

impl Lane for u64 {
    fn words(_: &[Self]) -> Option<Cow<'_, [u32]>> {
        None
    }
}
