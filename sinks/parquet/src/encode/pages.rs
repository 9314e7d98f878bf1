//! How a leaf's values become the bytes of pages.

use std::borrow::Cow;
use std::ops::Range;

use parquet::basic::Encoding;

use super::extent::{least, most};
use super::gather::LeafData;
use super::numbers::NumberDictionary;
use crate::codec::{Delta, encode_delta, encode_hybrid, width_of};
use crate::table::{Layout, Leaf, LeafType};

/// The values of a page.
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub encoding: Encoding,
}

/// Smallest and largest value of some rows.
#[derive(Clone, Copy)]
pub enum Bounds {
    Narrow(u32, u32),
    Wide(i64, i64),
    Fixed16(u128, u128),
    /// Of values in a dictionary, by their place in it: they are ordered.
    Code(usize, usize),
}

impl Bounds {
    /// The bounds of both.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Narrow(a, b), Self::Narrow(c, d)) => Self::Narrow(a.min(c), b.max(d)),
            (Self::Wide(a, b), Self::Wide(c, d)) => Self::Wide(a.min(c), b.max(d)),
            (Self::Fixed16(a, b), Self::Fixed16(c, d)) => Self::Fixed16(a.min(c), b.max(d)),
            (Self::Code(a, b), Self::Code(c, d)) => Self::Code(a.min(c), b.max(d)),
            // Bounds of one leaf are of one kind.
            (first, _) => first,
        }
    }
}

/// How one chunk is laid out: its data, and its dictionary when it has one.
pub struct Plan<'a> {
    data: &'a LeafData,
    layout: Layout,
    kind: LeafType,
    numbers: Option<NumberDictionary>,
}

impl<'a> Plan<'a> {
    pub fn new(leaf: &Leaf, data: &'a LeafData) -> Self {
        let wants = matches!(leaf.layout, Layout::DictionaryOrPlain | Layout::DictionaryOrDelta);
        let packs = leaf.layout == Layout::DictionaryOrDelta;
        let numbers = match data {
            LeafData::Narrow(values, present) if wants => NumberDictionary::new(values, present.as_deref(), packs),
            LeafData::Wide(values, present) if wants => NumberDictionary::new(values, present.as_deref(), packs),
            _ => None,
        };
        Self { data, layout: leaf.layout, kind: leaf.kind, numbers }
    }

    pub fn all_null(&self) -> bool {
        matches!(self.data, LeafData::Null)
    }

    /// Whether one page holds any number of rows in a few bytes: all null, or all the same value.
    pub fn is_uniform(&self) -> bool {
        match self.data {
            LeafData::Null => true,
            LeafData::Text(values, codes) => values.len() == 1 && !codes.contains(&0),
            LeafData::Uuid(values, codes) => values.len() == 1 && !codes.contains(&0),
            LeafData::Narrow(_, None) | LeafData::Wide(_, None) => {
                self.numbers.as_ref().is_some_and(|n| n.values.len() == 1)
            }
            _ => false,
        }
    }

    /// One byte a row, 1 = set, when rows differ. For dictionaries the codes themselves: 0 is null.
    pub fn present(&self) -> Option<&[u8]> {
        match self.data {
            LeafData::Narrow(_, p) | LeafData::Wide(_, p) | LeafData::Fixed16(_, p) => p.as_deref(),
            LeafData::Null | LeafData::Text(..) | LeafData::Uuid(..) => None,
        }
    }

    /// The codes of a text or UUID leaf, 0 = null.
    pub fn codes(&self) -> Option<&[u32]> {
        match self.data {
            LeafData::Text(_, codes) | LeafData::Uuid(_, codes) => Some(codes),
            _ => None,
        }
    }

    /// Bytes of the dictionary page and its number of values.
    pub fn dictionary_page(&self) -> Option<(Vec<u8>, usize)> {
        let mut bytes = Vec::new();
        match self.data {
            LeafData::Text(values, _) => {
                for value in values {
                    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(value.as_bytes());
                }
                Some((bytes, values.len()))
            }
            LeafData::Uuid(values, _) => {
                values.iter().for_each(|v| bytes.extend_from_slice(v.as_bytes()));
                Some((bytes, values.len()))
            }
            _ => self.numbers.as_ref().map(|numbers| {
                numbers.values.iter().for_each(|v| self.plain_number(*v, &mut bytes));
                (bytes, numbers.values.len())
            }),
        }
    }

    /// Encodes the set rows of a range.
    pub fn encode(&self, range: Range<usize>) -> Encoded {
        if let Some(numbers) = &self.numbers {
            return coded(&chosen(&numbers.codes, self.present(), range));
        }
        match self.data {
            LeafData::Null => Encoded { bytes: Vec::new(), encoding: Encoding::PLAIN },
            LeafData::Text(_, codes) | LeafData::Uuid(_, codes) => coded(&set_codes(&codes[range])),
            LeafData::Fixed16(values, present) => {
                let set = chosen(values, present.as_deref(), range);
                let bytes = set.iter().flat_map(|v| v.to_be_bytes()).collect();
                Encoded { bytes, encoding: Encoding::PLAIN }
            }
            LeafData::Narrow(values, present) => self.plain_or_delta(&chosen(values, present.as_deref(), range)),
            LeafData::Wide(values, present) => self.plain_or_delta(&chosen(values, present.as_deref(), range)),
        }
    }

    fn plain_or_delta<T: Delta>(&self, values: &[T]) -> Encoded {
        let mut bytes = Vec::with_capacity(std::mem::size_of_val(values));
        if matches!(self.layout, Layout::Delta | Layout::DictionaryOrDelta) {
            encode_delta(values, &mut bytes);
            return Encoded { bytes, encoding: Encoding::DELTA_BINARY_PACKED };
        }
        let width = size_of::<T>();
        for value in values {
            bytes.extend_from_slice(&Into::<u64>::into(*value).to_le_bytes()[..width]);
        }
        Encoded { bytes, encoding: Encoding::PLAIN }
    }

    /// Smallest and largest set value of a range; `None` when no row is set.
    pub fn bounds(&self, range: Range<usize>) -> Option<Bounds> {
        match self.data {
            LeafData::Null => None,
            LeafData::Narrow(values, present) => {
                least_and_most(values, present.as_deref(), range, |v| v).map(|(a, b)| Bounds::Narrow(a, b))
            }
            LeafData::Wide(values, present) => {
                least_and_most(values, present.as_deref(), range, |v| v as i64).map(|(a, b)| Bounds::Wide(a, b))
            }
            LeafData::Fixed16(values, present) => {
                least_and_most(values, present.as_deref(), range, |v| v).map(|(a, b)| Bounds::Fixed16(a, b))
            }
            LeafData::Text(_, codes) | LeafData::Uuid(_, codes) => {
                code_bounds(&codes[range]).map(|(a, b)| Bounds::Code(a, b))
            }
        }
    }

    /// Bounds as Parquet stores them.
    pub fn min_max(&self, bounds: Bounds) -> (Vec<u8>, Vec<u8>) {
        match (bounds, self.data) {
            (Bounds::Narrow(a, b), _) => (a.to_le_bytes().into(), b.to_le_bytes().into()),
            (Bounds::Wide(a, b), _) => (a.to_le_bytes().into(), b.to_le_bytes().into()),
            (Bounds::Fixed16(a, b), _) => (a.to_be_bytes().into(), b.to_be_bytes().into()),
            (Bounds::Code(a, b), LeafData::Text(values, _)) => {
                (values[a].as_bytes().into(), values[b].as_bytes().into())
            }
            (Bounds::Code(a, b), LeafData::Uuid(values, _)) => {
                (values[a].as_bytes().into(), values[b].as_bytes().into())
            }
            // Codes are bounds of texts and UUIDs only.
            (Bounds::Code(..), _) => (Vec::new(), Vec::new()),
        }
    }

    fn plain_number(&self, value: u64, out: &mut Vec<u8>) {
        match self.kind {
            LeafType::Unsigned(_) => out.extend_from_slice(&(value as u32).to_le_bytes()),
            _ => out.extend_from_slice(&value.to_le_bytes()),
        }
    }
}

/// The rows of a range that are set.
fn chosen<'v, T: Copy>(values: &'v [T], present: Option<&[u8]>, range: Range<usize>) -> Cow<'v, [T]> {
    match present {
        None => Cow::Borrowed(&values[range]),
        Some(present) => {
            let pairs = values[range.clone()].iter().zip(&present[range]);
            pairs.filter(|(_, p)| **p != 0).map(|(v, _)| *v).collect()
        }
    }
}

fn set_codes(codes: &[u32]) -> Vec<u32> {
    codes.iter().filter(|c| **c != 0).map(|c| c - 1).collect()
}

/// A page of dictionary codes: their width, then the codes.
fn coded(codes: &[u32]) -> Encoded {
    let width = width_of(codes.iter().fold(0, |all, code| all | code).into());
    let mut bytes = vec![width as u8];
    encode_hybrid(codes, width, &mut bytes);
    Encoded { bytes, encoding: Encoding::RLE_DICTIONARY }
}

/// Smallest and largest set value of a range, after `view`.
fn least_and_most<T: Copy, U: Copy + Ord>(
    values: &[T],
    present: Option<&[u8]>,
    range: Range<usize>,
    view: impl Fn(T) -> U,
) -> Option<(U, U)> {
    let set = chosen(values, present, range);
    Some((least(&set, &view)?, most(&set, &view)?))
}

/// Smallest and largest value (by index) among codes; codes order as values do.
fn code_bounds(codes: &[u32]) -> Option<(usize, usize)> {
    // Null is 0 and becomes the largest.
    let (least, most) = (least(codes, |code| code.wrapping_sub(1))?, most(codes, |code| code)?);
    (most > 0).then(|| (least as usize, most as usize - 1))
}
