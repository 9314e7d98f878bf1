//! How a leaf's values become the bytes of pages.

use std::ops::Range;

use hashbrown::HashMap;
use parquet::basic::Encoding;

use super::gather::LeafData;
use crate::codec::{encode_delta, encode_hybrid, width_of};
use crate::table::{Layout, Leaf, LeafType};

/// A dictionary of numbers is given up when the first rows show more distinct values than this share of them.
const SAMPLE_ROWS: usize = 4096;
const SAMPLE_DISTINCT_MAX: usize = SAMPLE_ROWS / 4;

/// Distinct numbers that a dictionary holds at the most: codes of up to 16 bits.
const DISTINCT_MAX: usize = 1 << 16;

/// Codes stand for numbers below this by a table without hashing.
const DIRECT_MAX: usize = 1 << 16;

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

/// Distinct numbers in order of appearance, and one code a row (null rows have the code of nothing and are not written).
struct NumberDictionary {
    values: Vec<u64>,
    codes: Vec<u32>,
}

impl<'a> Plan<'a> {
    pub fn new(leaf: &Leaf, data: &'a LeafData) -> Self {
        let wants = matches!(leaf.layout, Layout::DictionaryOrPlain | Layout::DictionaryOrDelta);
        let numbers = match data {
            LeafData::Narrow(values, present) if wants => {
                NumberDictionary::new(values.iter().map(|v| u64::from(*v)), present.as_deref())
            }
            LeafData::Wide(values, present) if wants => {
                NumberDictionary::new(values.iter().copied(), present.as_deref())
            }
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
            let codes = chosen(&numbers.codes, self.present(), range);
            return coded(&codes, numbers.values.len());
        }
        match self.data {
            LeafData::Null => Encoded { bytes: Vec::new(), encoding: Encoding::PLAIN },
            LeafData::Text(values, codes) => coded(&set_codes(&codes[range]), values.len()),
            LeafData::Uuid(values, codes) => coded(&set_codes(&codes[range]), values.len()),
            LeafData::Fixed16(values, present) => {
                let set = chosen(values, present.as_deref(), range);
                let bytes = set.iter().flat_map(|v| v.to_be_bytes()).collect();
                Encoded { bytes, encoding: Encoding::PLAIN }
            }
            LeafData::Narrow(values, present) => {
                let set = chosen(values, present.as_deref(), range);
                if self.is_delta() {
                    let wide: Vec<u64> = set.iter().map(|v| u64::from(*v)).collect();
                    return delta::<32>(&wide);
                }
                let bytes = set.iter().flat_map(|v| v.to_le_bytes()).collect();
                Encoded { bytes, encoding: Encoding::PLAIN }
            }
            LeafData::Wide(values, present) => {
                let set = chosen(values, present.as_deref(), range);
                if self.is_delta() {
                    return delta::<64>(&set);
                }
                let bytes = set.iter().flat_map(|v| v.to_le_bytes()).collect();
                Encoded { bytes, encoding: Encoding::PLAIN }
            }
        }
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

    fn is_delta(&self) -> bool {
        matches!(self.layout, Layout::Delta | Layout::DictionaryOrDelta)
    }

    fn plain_number(&self, value: u64, out: &mut Vec<u8>) {
        match self.kind {
            LeafType::Unsigned(_) => out.extend_from_slice(&(value as u32).to_le_bytes()),
            _ => out.extend_from_slice(&value.to_le_bytes()),
        }
    }
}

impl NumberDictionary {
    /// The dictionary, unless there are too many distinct values for it to pay.
    fn new(values: impl ExactSizeIterator<Item = u64> + Clone, present: Option<&[u8]>) -> Option<Self> {
        let rows = values.len();
        if let (None, Some(first)) = (present, values.clone().next())
            && values.clone().all(|value| value == first)
        {
            return Some(Self { values: vec![first], codes: vec![0; rows] });
        }
        let mut dictionary = Self { values: Vec::new(), codes: Vec::with_capacity(rows) };
        let mut direct = vec![u32::MAX; DIRECT_MAX];
        let mut hashed: HashMap<u64, u32, foldhash::fast::RandomState> = HashMap::default();
        let mut last = None;
        for (row, value) in values.enumerate() {
            if let Some((same, code)) = last
                && same == value
            {
                dictionary.codes.push(code);
                continue;
            }
            if present.is_some_and(|p| p[row] == 0) {
                dictionary.codes.push(0);
                continue;
            }
            let next = dictionary.values.len() as u32;
            let code = match direct.get_mut(usize::try_from(value).unwrap_or(usize::MAX)) {
                Some(slot) if *slot == u32::MAX => {
                    *slot = next;
                    next
                }
                Some(slot) => *slot,
                None => *hashed.entry(value).or_insert(next),
            };
            if code == next {
                dictionary.values.push(value);
                let sampled = rows > SAMPLE_ROWS && row < SAMPLE_ROWS;
                if next as usize >= DISTINCT_MAX || (sampled && next as usize >= SAMPLE_DISTINCT_MAX) {
                    return None;
                }
            }
            dictionary.codes.push(code);
            last = Some((value, code));
        }
        // A dictionary of values that hardly repeat costs more than it saves.
        (dictionary.values.len() <= rows.div_ceil(2).max(1)).then_some(dictionary)
    }
}

/// The rows of a range that are set.
fn chosen<T: Copy>(values: &[T], present: Option<&[u8]>, range: Range<usize>) -> Vec<T> {
    match present {
        None => values[range].to_vec(),
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
fn coded(codes: &[u32], distinct: usize) -> Encoded {
    let width = width_of(distinct.saturating_sub(1) as u64);
    let mut bytes = vec![width as u8];
    encode_hybrid(codes, width, &mut bytes);
    Encoded { bytes, encoding: Encoding::RLE_DICTIONARY }
}

fn delta<const BITS: u32>(values: &[u64]) -> Encoded {
    let mut bytes = Vec::new();
    encode_delta::<BITS>(values, &mut bytes);
    Encoded { bytes, encoding: Encoding::DELTA_BINARY_PACKED }
}

/// Smallest and largest set value of a range, after `view`.
fn least_and_most<T: Copy, U: Copy + Ord>(
    values: &[T],
    present: Option<&[u8]>,
    range: Range<usize>,
    view: impl Fn(T) -> U,
) -> Option<(U, U)> {
    let widen = |(a, b): (U, U), v: U| (a.min(v), b.max(v));
    match present {
        None => {
            let mut values = values[range].iter().map(|v| view(*v));
            let first = values.next()?;
            Some(values.fold((first, first), widen))
        }
        Some(present) => {
            let pairs = values[range.clone()].iter().zip(&present[range]);
            let mut set = pairs.filter(|(_, p)| **p != 0).map(|(v, _)| view(*v));
            let first = set.next()?;
            Some(set.fold((first, first), widen))
        }
    }
}

/// Smallest and largest value (by index) among codes; codes order as values do.
fn code_bounds(codes: &[u32]) -> Option<(usize, usize)> {
    let set = codes.iter().filter(|c| **c != 0).map(|c| *c as usize - 1);
    Some((set.clone().min()?, set.max()?))
}
