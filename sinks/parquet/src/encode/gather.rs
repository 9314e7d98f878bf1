//! Columns of many parts brought together, each row in its slot.

use sink_api::Addr;
use sink_api::column::{Column, Dict, IpColumn};

use super::content::{Content, Distinct, settle};
use super::dictionary::Dictionary;
use super::extent::extent;
use super::lanes::Lanes;
use super::numbers::{NumberDictionary, Source};
use super::parts::{Number, Part, bring, pick, presence};
use super::places::Places;
use super::rows::Rows;
use crate::table::{Cells, Layout};

/// Brings a column of all parts together: one leaf, or two for addresses. `layout` is that of numbers.
pub(super) fn gather(parts: &[Cells<'_>], rows: &Rows, layout: Layout) -> Vec<Content> {
    /// The parts of one storage type. A part of another type is left out: it cannot occur, all parts are of one table.
    macro_rules! all {
        ($variant:ident) => {
            parts.iter().filter_map(|c| if let Cells::$variant(c) = c { Some(*c) } else { None })
        };
    }
    macro_rules! numbers {
        ($variant:ident, $part:expr) => {
            vec![numbers(&all!($variant).map($part).collect::<Vec<_>>(), rows, layout)]
        };
    }
    match parts.first() {
        None => vec![Content::Null],
        Some(Cells::I64(_)) => numbers!(I64, Part::new),
        Some(Cells::U64(_)) => numbers!(U64, Part::new),
        Some(Cells::U32(_)) => numbers!(U32, Part::new),
        Some(Cells::U16(_)) => numbers!(U16, Part::new),
        Some(Cells::U8(_)) => numbers!(U8, Part::new),
        Some(Cells::Times(_)) => numbers!(Times, Part::full),
        Some(Cells::Counts(_)) => numbers!(Counts, Part::full),
        Some(Cells::Ip(_)) => addresses(&all!(Ip).collect::<Vec<_>>(), rows, layout),
        Some(Cells::AddrDict(_)) => {
            let plain: Vec<IpColumn> = all!(AddrDict).map(expand).collect();
            addresses(&plain.iter().collect::<Vec<_>>(), rows, layout)
        }
        Some(Cells::Text(_)) => {
            vec![Dictionary::new(all!(Text), rows.picked()).content(rows.places(), Distinct::Texts)]
        }
        Some(Cells::Uuid(_)) => {
            vec![Dictionary::new(all!(Uuid), rows.picked()).content(rows.places(), Distinct::Uuids)]
        }
    }
}

fn numbers<T: Narrowed>(parts: &[Part<'_, T>], rows: &Rows, layout: Layout) -> Content {
    let Some(order) = rows.picked() else {
        return numbers_of(parts, rows.total, rows.places(), layout);
    };
    let (values, present) = pick(parts, order);
    let part = Part { rows: values.len(), values: &values, present: present.as_deref() };
    numbers_of(&[part], order.len(), None, layout)
}

/// All parts' numbers: constant, by a dictionary where the layout wants one and it pays, or as they are.
fn numbers_of<T: Narrowed>(parts: &[Part<'_, T>], rows: usize, places: Option<&Places>, layout: Layout) -> Content {
    let extents = parts.iter().filter_map(|part| extent(part.values));
    let Some((least, most)) = extents.reduce(|(a, b), (c, d)| (a.min(c), b.max(d))) else {
        return Content::Null;
    };
    let full = parts.iter().all(Part::is_full);
    if full && least.bits() == most.bits() {
        return Content::Same(Distinct::Numbers(vec![least.bits() as i64]));
    }
    let present = (!full).then(|| presence(parts, rows, places));
    settle(present, |present| {
        let source = Source { parts, rows, places, least, most };
        let packs = layout == Layout::DictionaryOrDelta;
        if (packs || layout == Layout::DictionaryOrPlain)
            && let Some(NumberDictionary { values, codes }) = NumberDictionary::new(&source, packs)
        {
            let values = values.into_iter().map(|value| value as i64).collect();
            return Content::Coded(Distinct::Numbers(values), codes, present);
        }
        let (base, values) = T::narrowed(&source);
        Content::Numbers { base, values, present }
    })
}

/// Numbers brought together in no more bytes each than they need.
trait Narrowed: Number {
    /// What all numbers are taken above, and how much each is above it.
    fn narrowed(source: &Source<'_, Self>) -> (u64, Lanes);
}

macro_rules! narrowed {
    ($($type:ty: $variant:ident)+) => {
        $(impl Narrowed for $type {
            fn narrowed(source: &Source<'_, Self>) -> (u64, Lanes) {
                (0, Lanes::$variant(source.bring(|value| value)))
            }
        })+
    };
}
narrowed!(u8: U8 u16: U16 u32: U32);

macro_rules! narrowed_by_base {
    ($($type:ty)+) => {
        $(impl Narrowed for $type {
            fn narrowed(source: &Source<'_, Self>) -> (u64, Lanes) {
                let base = source.least.bits();
                let above = |value: Self| value.bits().wrapping_sub(base);
                // Differences of numbers of up to 31 bits are signed ones of 32.
                let lanes = if above(source.most) < 1 << 31 {
                    Lanes::U32(source.bring(|value| above(value) as u32))
                } else {
                    Lanes::U64(source.bring(above))
                };
                (base, lanes)
            }
        })+
    };
}
narrowed_by_base!(i64 u64);

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

fn addresses(parts: &[&IpColumn], rows: &Rows, layout: Layout) -> Vec<Content> {
    let narrow: Option<Vec<Part<'_, u32>>> = parts.iter().map(|part| part.as_v4().map(Part::new)).collect();
    if let Some(narrow) = narrow {
        return vec![numbers(&narrow, rows, layout), Content::Null];
    }
    let total = rows.total;
    let (mut v4, mut has_v4) = (Vec::with_capacity(total), Vec::with_capacity(total));
    let (mut v6, mut has_v6) = (Vec::with_capacity(total), Vec::with_capacity(total));
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
    let v4 = [Part { rows: v4.len(), values: &v4, present: Some(&has_v4) }];
    let v6 = [Part { rows: v6.len(), values: &v6, present: Some(&has_v6) }];
    vec![numbers(&v4, rows, layout), wide_addresses(&v6, rows)]
}

fn wide_addresses(parts: &[Part<'_, u128>], rows: &Rows) -> Content {
    if let Some(order) = rows.picked() {
        let (values, present) = pick(parts, order);
        return settle(present, |present| Content::Fixed16(values, present));
    }
    let present = presence(parts, rows.total, rows.places());
    settle(Some(present), |present| Content::Fixed16(bring(parts, rows.total, rows.places(), |value| value), present))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers of all rows in stored order, as the content says.
    fn named(content: &Content, rows: usize) -> Vec<Option<u64>> {
        let number = |lanes: &Lanes, row: usize| match lanes {
            Lanes::U8(values) => u64::from(values[row]),
            Lanes::U16(values) => u64::from(values[row]),
            Lanes::U32(values) => u64::from(values[row]),
            Lanes::U64(values) => values[row],
        };
        let set = |present: &Option<Vec<u8>>, row: usize| present.as_ref().is_none_or(|present| present[row] != 0);
        let of_row = |row| match content {
            Content::Null => None,
            Content::Same(Distinct::Numbers(values)) => Some(values[0] as u64),
            Content::Coded(Distinct::Numbers(values), codes, present) => {
                set(present, row).then(|| values[number(codes, row) as usize] as u64)
            }
            Content::Numbers { base, values, present } => {
                set(present, row).then(|| base.wrapping_add(number(values, row)))
            }
            _ => panic!("numbers are numbers"),
        };
        (0..rows).map(of_row).collect()
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_the_rows(
            rows in prop::collection::vec(prop::option::of(prop_oneof![3i64..6, any::<i64>(), 0i64..1 << 40]), 1..200),
            part in 1usize..90,
            layout in prop_oneof![Just(Layout::Delta), Just(Layout::Plain), Just(Layout::DictionaryOrPlain), Just(Layout::DictionaryOrDelta)],
        ) {
            let columns: Vec<Column<i64>> = rows.chunks(part).map(|rows| {
                let mut column = Column::default();
                rows.iter().for_each(|row| column.push(*row));
                column
            }).collect();
            let cells: Vec<Cells<'_>> = columns.iter().map(Cells::I64).collect();
            let all = gather(&cells, &Rows::new(rows.len(), None), layout);
            let want: Vec<_> = rows.iter().map(|row| row.map(|value| value as u64)).collect();
            prop_assert_eq!(named(&all[0], rows.len()), want.clone());
            let order: Vec<u32> = (0..rows.len() as u32).rev().filter(|row| row % 3 != 1).collect();
            let picked = gather(&cells, &Rows::new(rows.len(), Some(order.clone())), layout);
            let want: Vec<_> = order.iter().map(|row| want[*row as usize]).collect();
            prop_assert_eq!(named(&picked[0], order.len()), want);
        }
    }
}
