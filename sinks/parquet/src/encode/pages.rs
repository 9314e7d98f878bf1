//! How a leaf's values become the bytes of pages.

use std::borrow::Cow;
use std::ops::Range;

use parquet::basic::Encoding;
use sink_api::column::present_values;

use super::content::{Content, Distinct};
use super::extent::{all_bits, contains, extent, ones};
use super::lanes::{Lane, Lanes, each_width};
use super::places::{self, Places};
use crate::codec::{encode_delta, encode_delta_above, encode_hybrid, encode_hybrid_run, width_of};
use crate::table::{Layout, Leaf, LeafType};

/// Numbers that are each searched for among a page's codes; more are marked.
const SEARCHED_MAX: usize = 16;

/// Smallest and largest value of some rows.
#[derive(Clone, Copy)]
pub(super) enum Bounds {
    Number(i64, i64),
    Fixed16(u128, u128),
    /// Of values in an ordered dictionary, by their place in it.
    Code(usize, usize),
}

impl Bounds {
    /// The bounds of both.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Number(a, b), Self::Number(c, d)) => Self::Number(a.min(c), b.max(d)),
            (Self::Fixed16(a, b), Self::Fixed16(c, d)) => Self::Fixed16(a.min(c), b.max(d)),
            (Self::Code(a, b), Self::Code(c, d)) => Self::Code(a.min(c), b.max(d)),
            // Bounds of one leaf are of one kind.
            (first, _) => first,
        }
    }
}

/// A page: levels, the values of the rows that are set, and what the page index says of them.
pub(super) struct Page {
    pub levels: Vec<u8>,
    pub values: Vec<u8>,
    pub encoding: Encoding,
    pub rows: usize,
    pub nulls: usize,
    pub bounds: Option<Bounds>,
}

/// How one chunk is laid out.
pub(super) struct Plan<'a> {
    pub content: &'a Content,
    pub places: Option<&'a Places>,
    /// Codes of numbers in the order of the numbers.
    ordered: Vec<u32>,
    layout: Layout,
    kind: LeafType,
}

impl<'a> Plan<'a> {
    pub(super) fn new(leaf: &Leaf, content: &'a Content, places: Option<&'a Places>) -> Self {
        let ordered = match content {
            Content::Coded(Distinct::Numbers(numbers), ..) => by_number(numbers),
            _ => Vec::new(),
        };
        Self { content, places, ordered, layout: leaf.layout, kind: leaf.kind }
    }

    /// Bytes of the dictionary page and its number of values.
    pub(super) fn dictionary_page(&self) -> Option<(Vec<u8>, usize)> {
        let mut bytes = Vec::new();
        match self.content.distinct()? {
            Distinct::Texts(values) => {
                for value in values {
                    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(value.as_bytes());
                }
                Some((bytes, values.len()))
            }
            Distinct::Uuids(values) => {
                values.iter().for_each(|v| bytes.extend_from_slice(v.as_bytes()));
                Some((bytes, values.len()))
            }
            Distinct::Numbers(values) => {
                values.iter().for_each(|v| bytes.extend_from_slice(&self.number_bytes(*v)));
                Some((bytes, values.len()))
            }
        }
    }

    /// The page of a range of rows. Ranges are pages, from the first row on.
    pub(super) fn page(&self, rows: Range<usize>) -> Page {
        let count = rows.len();
        match self.content {
            Content::Null => same_page(count, 0, Vec::new(), Encoding::PLAIN, None),
            Content::Same(distinct) => one_code(distinct, 0, count),
            Content::Coded(distinct, codes, present) => {
                each_width!(codes, codes => self.coded_page(distinct, codes, present.as_deref(), rows))
            }
            Content::Numbers { base, values, present } => {
                each_width!(values, values => self.number_page(*base, values, present.as_deref(), rows))
            }
            Content::Fixed16(values, present) => self.page_of(values, present.as_deref(), rows, |set| {
                let bytes = set.iter().flat_map(|v| v.to_be_bytes()).collect();
                (bytes, Encoding::PLAIN, extent(set).map(|(a, b)| Bounds::Fixed16(a, b)))
            }),
        }
    }

    fn coded_page<T: Lane>(
        &self,
        distinct: &Distinct,
        codes: &[T],
        present: Option<&[u8]>,
        rows: Range<usize>,
    ) -> Page {
        if present.is_none()
            && let Some((code, most)) = extent(&codes[rows.clone()])
            && code == most
        {
            return one_code(distinct, code.into(), rows.len());
        }
        self.page_of(codes, present, rows, |set| {
            let bounds = match distinct {
                Distinct::Numbers(values) => {
                    ends_by_code(&self.ordered, set).map(|(a, b)| Bounds::Number(values[a], values[b]))
                }
                _ => extent(set).map(|(a, b)| Bounds::Code(a.into() as usize, b.into() as usize)),
            };
            (coded(set), Encoding::RLE_DICTIONARY, bounds)
        })
    }

    fn number_page<T: Lane>(&self, base: u64, above: &[T], present: Option<&[u8]>, rows: Range<usize>) -> Page {
        self.page_of(above, present, rows, |set| {
            let number = |above: T| base.wrapping_add(above.into()) as i64;
            let bounds = extent(set).map(|(a, b)| Bounds::Number(number(a), number(b)));
            let (bytes, encoding) = self.numbers(base, set);
            (bytes, encoding, bounds)
        })
    }

    /// A page of which `encode` gives bytes, encoding and bounds by the values that are set.
    fn page_of<T: Copy + Default>(
        &self,
        values: &[T],
        present: Option<&[u8]>,
        rows: Range<usize>,
        encode: impl FnOnce(&[T]) -> (Vec<u8>, Encoding, Option<Bounds>),
    ) -> Page {
        let count = rows.len();
        let present = present.map(|present| places::page(self.places, present, rows.clone()));
        let values = places::page(self.places, values, rows);
        let set = match &present {
            None => values,
            Some(present) => Cow::Owned(present_values(&values, present, ones(present))),
        };
        let (bytes, encoding, bounds) = encode(&set);
        match present {
            Some(present) if !set.is_empty() && set.len() != count => {
                let mut levels = Vec::new();
                encode_hybrid(&present, 1, &mut levels);
                Page { levels, values: bytes, encoding, rows: count, nulls: count - set.len(), bounds }
            }
            _ => same_page(count, u32::from(!set.is_empty()), bytes, encoding, bounds),
        }
    }

    /// Numbers above `base`, as differences or one after another. Those of 32 bits stand as they are, above 0.
    fn numbers<T: Lane>(&self, base: u64, above: &[T]) -> (Vec<u8>, Encoding) {
        let wide = !matches!(self.kind, LeafType::Unsigned(_));
        if matches!(self.layout, Layout::Delta | Layout::DictionaryOrDelta) {
            let mut bytes = Vec::with_capacity(size_of_val(above));
            match T::words(above) {
                Some(words) if wide => encode_delta_above(base, &words, &mut bytes),
                Some(words) => encode_delta(&words, &mut bytes),
                None => encode_delta(&numbers_above(base, above), &mut bytes),
            }
            return (bytes, Encoding::DELTA_BINARY_PACKED);
        }
        let bytes = match T::words(above) {
            Some(words) if !wide => words.iter().map(|word| word.to_le_bytes()).collect::<Vec<_>>().into_flattened(),
            _ => numbers_above(base, above).iter().flat_map(|number| number.to_le_bytes()).collect(),
        };
        (bytes, Encoding::PLAIN)
    }

    /// Bounds as Parquet stores them.
    pub(super) fn min_max(&self, bounds: Bounds) -> (Vec<u8>, Vec<u8>) {
        match (bounds, self.content.distinct()) {
            (Bounds::Number(a, b), _) => (self.number_bytes(a), self.number_bytes(b)),
            (Bounds::Fixed16(a, b), _) => (a.to_be_bytes().into(), b.to_be_bytes().into()),
            (Bounds::Code(a, b), Some(Distinct::Texts(values))) => {
                (values[a].as_bytes().into(), values[b].as_bytes().into())
            }
            (Bounds::Code(a, b), Some(Distinct::Uuids(values))) => {
                (values[a].as_bytes().into(), values[b].as_bytes().into())
            }
            // Codes are bounds of texts and UUIDs only.
            (Bounds::Code(..), _) => (Vec::new(), Vec::new()),
        }
    }

    fn number_bytes(&self, value: i64) -> Vec<u8> {
        match self.kind {
            LeafType::Unsigned(_) => (value as u32).to_le_bytes().into(),
            _ => value.to_le_bytes().into(),
        }
    }
}

/// A page of which all rows are set (`level` 1) or none (0).
fn same_page(rows: usize, level: u32, values: Vec<u8>, encoding: Encoding, bounds: Option<Bounds>) -> Page {
    let mut levels = Vec::new();
    encode_hybrid_run(level, rows, 1, &mut levels);
    Page { levels, values, encoding, rows, nulls: if level == 0 { rows } else { 0 }, bounds }
}

/// A page of which all rows have the same code.
fn one_code(distinct: &Distinct, code: u64, rows: usize) -> Page {
    let width = width_of(code);
    let mut codes = vec![width as u8];
    encode_hybrid_run(code as u32, rows, width, &mut codes);
    let bounds = match distinct {
        Distinct::Numbers(values) => Bounds::Number(values[code as usize], values[code as usize]),
        Distinct::Texts(_) | Distinct::Uuids(_) => Bounds::Code(code as usize, code as usize),
    };
    same_page(rows, 1, codes, Encoding::RLE_DICTIONARY, Some(bounds))
}

fn numbers_above<T: Lane>(base: u64, above: &[T]) -> Vec<u64> {
    above.iter().map(|value| base.wrapping_add((*value).into())).collect()
}

/// A page of dictionary codes: their width, then the codes.
fn coded<T: Lane>(codes: &[T]) -> Vec<u8> {
    let width = width_of(all_bits(codes));
    let mut bytes = Vec::with_capacity(codes.len() * width as usize / 8 + 64);
    bytes.push(width as u8);
    encode_hybrid(codes, width, &mut bytes);
    bytes
}

/// Codes in the order of the numbers that they name.
fn by_number(numbers: &[i64]) -> Vec<u32> {
    let mut codes: Vec<u32> = (0..numbers.len() as u32).collect();
    // Most are in order already, of which this sort makes use.
    codes.sort_by_key(|code| numbers[*code as usize]);
    codes
}

/// The codes of the smallest and the largest number among these; `ordered` are all codes in the order of their numbers. Looks
/// from both ends: the first numbers that occur end the search.
fn ends_by_code<T: Lane>(ordered: &[u32], codes: &[T]) -> Option<(usize, usize)> {
    let ends = |occurs: &dyn Fn(&&u32) -> bool| {
        let (least, most) = (ordered.iter().find(occurs)?, ordered.iter().rev().find(occurs)?);
        Some((*least as usize, *most as usize))
    };
    if ordered.len() <= SEARCHED_MAX {
        return ends(&|code| T::try_from(**code).is_ok_and(|code| contains(codes, code)));
    }
    let occurs = marked(ordered.len(), codes);
    ends(&|code| occurs[**code as usize] != 0)
}

/// By code, whether it occurs (1).
fn marked<T: Lane>(count: usize, codes: &[T]) -> Vec<u8> {
    let mut occurs = vec![0; if size_of::<T>() == 1 { 0x100 } else { count }];
    match occurs.first_chunk_mut::<0x100>() {
        // A byte is always within: no code needs a check.
        Some(occurs) if size_of::<T>() == 1 => {
            codes.iter().for_each(|code| occurs[usize::from((*code).into() as u8)] = 1)
        }
        _ => codes.iter().for_each(|code| occurs[(*code).into() as usize] = 1),
    }
    occurs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bounds_are_those_of_the_named_numbers(numbers in prop::collection::vec(any::<i64>(), 1..200), codes in prop::collection::vec(any::<u8>(), 0..50)) {
            let codes: Vec<u8> = codes.iter().map(|code| (usize::from(*code) % numbers.len()) as u8).collect();
            let named = || codes.iter().map(|code| numbers[usize::from(*code)]);
            let ends = ends_by_code(&by_number(&numbers), &codes).map(|(least, most)| (numbers[least], numbers[most]));
            prop_assert_eq!(ends, named().min().zip(named().max()));
        }
    }
}
