//! Columns of many parts brought together, in the order in which they are stored.

use std::hash::Hash;

use hashbrown::HashMap;
use sink_api::Addr;
use sink_api::column::{Column, Dict, DictValue, IpColumn};

use crate::table::Cells;

/// Which rows are stored, and in which order.
#[derive(Debug)]
pub struct Rows {
    /// Rows of all parts together.
    pub total: usize,
    /// Row numbers over all parts, in stored order; `None` stores every row as it comes.
    pub order: Option<Vec<u32>>,
    /// A column that was brought together to find the order, by its name.
    pub known: Option<(&'static str, LeafData)>,
}

impl Rows {
    /// Every row as it comes, or these.
    pub fn new(total: usize, order: Option<Vec<u32>>) -> Self {
        Self { total, order, known: None }
    }

    /// Rows stored.
    pub fn stored(&self) -> usize {
        self.order.as_ref().map_or(self.total, Vec::len)
    }

    pub(super) fn apply<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        match &self.order {
            None => values,
            Some(order) => order.iter().map(|row| values[*row as usize]).collect(),
        }
    }
}

/// A leaf's rows. `present` has one byte a row (1 = set), or is `None` when every row is set; a null row's value is zero.
#[derive(Debug)]
pub enum LeafData {
    /// Every row is null.
    Null,
    /// Numbers of up to 32 bits.
    Narrow(Vec<u32>, Option<Vec<u8>>),
    /// Numbers of up to 64 bits; times are stored as they are, in two's complement.
    Wide(Vec<u64>, Option<Vec<u8>>),
    /// IPv6 addresses.
    Fixed16(Vec<u128>, Option<Vec<u8>>),
    /// Texts in order, and codes: 0 is null, `n` is value `n - 1`.
    Text(Vec<sink_api::Text>, Vec<u32>),
    /// UUIDs, likewise.
    Uuid(Vec<uuid::Uuid>, Vec<u32>),
}

impl LeafData {
    /// Rows held; 0 for [`LeafData::Null`], which does not know.
    pub fn rows(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Narrow(values, _) => values.len(),
            Self::Wide(values, _) => values.len(),
            Self::Fixed16(values, _) => values.len(),
            Self::Text(_, codes) | Self::Uuid(_, codes) => codes.len(),
        }
    }
}

/// Brings a column of all parts together: one leaf, or two for addresses.
pub fn gather(parts: &[Cells<'_>], rows: &Rows) -> Vec<LeafData> {
    /// The parts of one storage type. A part of another type is left out: it cannot occur, all parts are of one table.
    macro_rules! all {
        ($variant:ident) => {
            parts.iter().filter_map(|c| if let Cells::$variant(c) = c { Some(*c) } else { None })
        };
    }
    match parts.first() {
        None => vec![LeafData::Null],
        Some(Cells::I64(_)) => vec![wide(all!(I64), rows, |v| v as u64)],
        Some(Cells::U64(_)) => vec![wide(all!(U64), rows, |v: u64| v.min(i64::MAX as u64))],
        Some(Cells::U32(_)) => vec![narrow(all!(U32), rows, |v| v)],
        Some(Cells::U16(_)) => vec![narrow(all!(U16), rows, u32::from)],
        Some(Cells::U8(_)) => vec![narrow(all!(U8), rows, u32::from)],
        Some(Cells::Ip(_)) => addresses(all!(Ip), rows),
        Some(Cells::AddrDict(_)) => {
            let plain: Vec<IpColumn> = all!(AddrDict).map(expand).collect();
            addresses(plain.iter(), rows)
        }
        Some(Cells::Text(_)) => {
            let (values, codes) = dictionary(all!(Text), rows);
            vec![if values.is_empty() { LeafData::Null } else { LeafData::Text(values, codes) }]
        }
        Some(Cells::Uuid(_)) => {
            let (values, codes) = dictionary(all!(Uuid), rows);
            vec![if values.is_empty() { LeafData::Null } else { LeafData::Uuid(values, codes) }]
        }
        Some(Cells::Times(_)) => {
            let mut values = Vec::with_capacity(rows.total);
            all!(Times).for_each(|part| values.extend(part.iter().map(|v| *v as u64)));
            vec![LeafData::Wide(rows.apply(values), None)]
        }
        Some(Cells::Counts(_)) => {
            let mut values = Vec::with_capacity(rows.total);
            all!(Counts).for_each(|part| values.extend(part.iter().map(|v| (*v).min(i64::MAX as u64))));
            vec![LeafData::Wide(rows.apply(values), None)]
        }
    }
}

fn wide<'a, T: Copy + Default + 'a>(
    parts: impl Iterator<Item = &'a Column<T>> + Clone,
    rows: &Rows,
    widen: impl Fn(T) -> u64,
) -> LeafData {
    match together(parts, rows, widen) {
        None => LeafData::Null,
        Some((values, present)) => LeafData::Wide(values, present),
    }
}

fn narrow<'a, T: Copy + Default + 'a>(
    parts: impl Iterator<Item = &'a Column<T>> + Clone,
    rows: &Rows,
    widen: impl Fn(T) -> u32,
) -> LeafData {
    match together(parts, rows, widen) {
        None => LeafData::Null,
        Some((values, present)) => LeafData::Narrow(values, present),
    }
}

type Together<T> = Option<(Vec<T>, Option<Vec<u8>>)>;

/// All parts' values and presence in stored order; `None` when every row is null.
fn together<'a, T: Copy + Default + 'a, U: Copy + Default + PartialEq>(
    parts: impl Iterator<Item = &'a Column<T>> + Clone,
    rows: &Rows,
    widen: impl Fn(T) -> U,
) -> Together<U> {
    if parts.clone().all(Column::all_null) {
        return None;
    }
    let full = parts.clone().all(|c| c.null_count() == 0);
    let mut values = Vec::with_capacity(rows.total);
    let mut present = Vec::new();
    for part in parts {
        if part.all_null() {
            values.resize(values.len() + part.len(), U::default());
        } else {
            values.extend(part.values().iter().map(|v| widen(*v)));
        }
        if !full {
            match part.validity() {
                Some(bytes) => present.extend_from_slice(bytes),
                None => present.resize(present.len() + part.len(), u8::from(!part.all_null())),
            }
        }
    }
    // A constant column (version, sampling rate, masks) needs no reordering; others differ within a few rows.
    if full && values.first().is_some_and(|first| values.iter().all(|v| v == first)) {
        values.truncate(rows.stored());
        return Some((values, None));
    }
    settle(rows.apply(values), (!full).then(|| rows.apply(present)))
}

/// Settles presence for the rows that are stored: `None` when none is set.
fn settle<T>(values: Vec<T>, present: Option<Vec<u8>>) -> Together<T> {
    match present {
        Some(present) if present.iter().all(|p| *p == 0) => None,
        Some(present) if present.iter().all(|p| *p != 0) => Some((values, None)),
        present => Some((values, present)),
    }
}

fn expand(dict: &Dict<Addr>) -> IpColumn {
    let narrow: Option<Vec<u32>> = dict.values().iter().map(|addr| addr.as_v4()).collect();
    if let Some(narrow) = narrow
        && !dict.codes().contains(&0)
    {
        let mut column = Column::with_capacity(dict.len());
        column.extend(dict.codes().iter().map(|code| narrow[*code as usize - 1]));
        return IpColumn::from_v4(column);
    }
    let mut column = IpColumn::default();
    dict.codes().iter().for_each(|code| column.push(dict.value(*code).copied()));
    column
}

fn addresses<'a>(parts: impl Iterator<Item = &'a IpColumn> + Clone, rows: &Rows) -> Vec<LeafData> {
    let narrow: Option<Vec<&Column<u32>>> = parts.clone().map(IpColumn::as_v4).collect();
    if let Some(narrow_parts) = narrow {
        return vec![self::narrow(narrow_parts.into_iter(), rows, |v| v), LeafData::Null];
    }
    let (mut v4, mut has_v4, mut v6, mut has_v6) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        for row in 0..part.len() {
            let addr = part.get(row);
            let bits = addr.and_then(Addr::as_v4);
            let other = addr.filter(|a| !a.is_v4());
            v4.push(bits.unwrap_or(0));
            has_v4.push(u8::from(bits.is_some()));
            v6.push(other.map_or(0, |a| a.0));
            has_v6.push(u8::from(other.is_some()));
        }
    }
    let v4 = settle(rows.apply(v4), Some(rows.apply(has_v4)));
    let v6 = settle(rows.apply(v6), Some(rows.apply(has_v6)));
    vec![
        v4.map_or(LeafData::Null, |(values, present)| LeafData::Narrow(values, present)),
        v6.map_or(LeafData::Null, |(values, present)| LeafData::Fixed16(values, present)),
    ]
}

/// One dictionary for all parts, holding only values that occur in stored rows, ordered: codes order as values do.
pub(super) fn dictionary<'a, T: DictValue + Hash + 'a>(
    parts: impl Iterator<Item = &'a Dict<T>>,
    rows: &Rows,
) -> (Vec<T>, Vec<u32>) {
    let mut known: HashMap<T, u32, foldhash::fast::RandomState> = HashMap::default();
    let mut values: Vec<&T> = Vec::new();
    let mut codes: Vec<u32> = Vec::with_capacity(rows.total);
    for part in parts {
        let mut own = Vec::with_capacity(part.values().len() + 1);
        own.push(0);
        for value in part.values() {
            own.push(match known.get(value) {
                Some(code) => *code,
                None => {
                    values.push(value);
                    known.insert(value.clone(), values.len() as u32);
                    values.len() as u32
                }
            });
        }
        codes.extend(part.codes().iter().map(|code| own[*code as usize]));
    }
    let mut codes = rows.apply(codes);
    let mut used = vec![false; values.len() + 1];
    codes.iter().for_each(|code| used[*code as usize] = true);
    let mut by_value: Vec<u32> = (1..=values.len() as u32).filter(|code| used[*code as usize]).collect();
    by_value.sort_unstable_by_key(|code| values[*code as usize - 1]);
    let mut renamed = vec![0u32; values.len() + 1];
    for (rank, code) in by_value.iter().enumerate() {
        renamed[*code as usize] = rank as u32 + 1;
    }
    codes.iter_mut().for_each(|code| *code = renamed[*code as usize]);
    (by_value.iter().map(|code| values[*code as usize - 1].clone()).collect(), codes)
}
