//! Which row groups and pages a question can leave out, by the smallest and largest values that files give for them.
//!
//! Only conditions that must all hold are used, each of the form "this column lies in this range". A null fails every
//! such condition, as everywhere in filters.

use std::cmp::Ordering;
use std::ops::Range;

use parquet::errors::Result;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use sink_api::Direction;
use sink_api::batch::Field;
use sink_api::column::Uuid;
use sink_api::filter::{Compare, Filter, Side, Test};
use sink_api::store::TimeRange;

use crate::decode::{DataReader, Wanted};
use crate::encode::LeafData;
use crate::table::{ColumnType, field_type, ip_leaves};

/// Pages are chosen one by one when that leaves out at least half of the rows; else reading straight through is faster.
const CHOSEN_PERCENT_MAX: usize = 50;

/// A leaf's values must lie within two bounds, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    leaf: String,
    bounds: Bounds,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bounds {
    /// Of a leaf of 32 bits, unsigned.
    Narrow(u32, u32),
    /// Of a leaf of 64 bits, signed.
    Wide(i64, i64),
    /// Of a leaf of bytes.
    Bytes(Vec<u8>, Vec<u8>),
}

impl Condition {
    /// The column and its value, where this asks for one UUID.
    fn uuid(&self) -> Option<(Field, Uuid)> {
        let Bounds::Bytes(first, last) = &self.bounds else { return None };
        let field = Field::ALL.iter().copied().find(|field| field.name() == self.leaf)?;
        let uuid = Uuid::from_slice(first).ok().filter(|_| first == last)?;
        (field_type(field) == ColumnType::Uuid).then_some((field, uuid))
    }
}

/// Conditions that follow from a time range on the given leaf and from a filter, for leaves that `has` knows.
pub(super) fn conditions(
    time_leaf: &str,
    range: TimeRange,
    filter: &Filter,
    has: impl Fn(Field) -> bool,
) -> Vec<Condition> {
    let time = Condition { leaf: time_leaf.into(), bounds: Bounds::Wide(range.from, range.to.saturating_sub(1)) };
    let tests = filter.conjuncts().into_iter().filter_map(|f| match f {
        Filter::Test(test) => condition(test).filter(|(field, _)| has(*field)).map(|(_, c)| c),
        _ => None,
    });
    std::iter::once(time).chain(tests).collect()
}

fn condition(test: &Test) -> Option<(Field, Condition)> {
    let number = |field: Field, first: u64, last: u64| {
        let bounds = match field_type(field) {
            ColumnType::Unsigned(_) => Bounds::Narrow(clamp(first), clamp(last)),
            ColumnType::Count => Bounds::Wide(signed(first), signed(last)),
            _ => return None,
        };
        Some((field, Condition { leaf: field.name().into(), bounds }))
    };
    let bytes = |field: Field, value: &[u8]| {
        Some((field, Condition { leaf: field.name().into(), bounds: Bounds::Bytes(value.into(), value.into()) }))
    };
    match test {
        Test::Uuid { field, value } => bytes(*field, value.as_bytes()),
        Test::Text { field, value } => bytes(*field, value.as_bytes()),
        Test::Direction(direction) if *direction != Direction::InternalIn => {
            number(Field::Direction, *direction as u64, *direction as u64)
        }
        Test::Port { side, first, last } => {
            number(of_side(*side, Field::SrcPort, Field::DstPort)?, (*first).into(), (*last).into())
        }
        Test::As { side, asn } => number(of_side(*side, Field::SrcAs, Field::DstAs)?, (*asn).into(), (*asn).into()),
        Test::Country { side, country } => {
            number(of_side(*side, Field::SrcCountry, Field::DstCountry)?, (*country).into(), (*country).into())
        }
        Test::Number { field, compare, value } => {
            let (first, last) = match compare {
                Compare::Eq => (*value, *value),
                Compare::Le => (0, *value),
                Compare::Lt => (0, value.checked_sub(1)?),
                Compare::Ge => (*value, u64::MAX),
                Compare::Gt => (value.checked_add(1)?, u64::MAX),
                Compare::Ne => return None,
            };
            number(*field, first, last)
        }
        Test::Net { side, network, length } => {
            let field = of_side(*side, Field::SrcIp, Field::DstIp)?;
            let first = network.as_v4()?;
            let span = u32::MAX.checked_shr((*length).into()).unwrap_or(0);
            let [leaf, _] = ip_leaves(field.name());
            Some((field, Condition { leaf, bounds: Bounds::Narrow(first, first | span) }))
        }
        _ => None,
    }
}

fn of_side(side: Side, src: Field, dst: Field) -> Option<Field> {
    match side {
        Side::Src => Some(src),
        Side::Dst => Some(dst),
        Side::Either => None,
    }
}

fn clamp(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What is left of a row group.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing.
    None,
    /// Everything, as far as is known.
    All,
    /// Everything, and every row meets all conditions.
    Certain,
    /// These rows.
    Some(Chosen),
}

/// Some rows of a row group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Ascending and disjoint.
    pub(super) ranges: Vec<Range<usize>>,
    /// A column that was read to choose them, and its value in all of them.
    pub(super) same: Option<(Field, Uuid)>,
}

impl Left {
    /// What to read of the row group, or nothing.
    pub(super) fn wanted(&self) -> Option<(Wanted<'_>, Option<(Field, Uuid)>)> {
        match self {
            Self::None => None,
            Self::All | Self::Certain => Some((None, None)),
            Self::Some(chosen) => Some((Some(&chosen.ranges), chosen.same)),
        }
    }
}

/// Applies conditions to a row group: first as a whole, then page by page where that pays.
///
/// # Errors
/// Of the file system, or when an index is malformed.
pub(super) fn prune(reader: &DataReader, row_group: usize, conditions: &[Condition]) -> Result<Left> {
    let mut undecided = Vec::new();
    for condition in conditions {
        let Some(chunk) = reader.chunk(row_group, &condition.leaf) else {
            // The file is older than the column: it is null everywhere.
            return Ok(Left::None);
        };
        let Some(statistics) = chunk.statistics() else {
            undecided.push((condition, chunk));
            continue;
        };
        if statistics.null_count_opt() == Some(reader.rows(row_group) as u64) {
            return Ok(Left::None);
        }
        match condition.bounds.meets(statistics) {
            Some(Meets::Never) => return Ok(Left::None),
            Some(Meets::Always) => {}
            _ => undecided.push((condition, chunk)),
        }
    }
    if undecided.is_empty() {
        return Ok(Left::Certain);
    }
    let rows = reader.rows(row_group);
    let whole = 0..rows;
    let mut left = vec![whole];
    for (condition, chunk) in undecided {
        let (Some(columns), Some(offsets)) = (reader.column_index(chunk)?, reader.offset_index(chunk)?) else {
            continue;
        };
        let starts = offsets.page_locations().iter().map(|p| usize::try_from(p.first_row_index).unwrap_or(0));
        let starts: Vec<usize> = starts.chain([rows]).collect();
        let keeps = |page: &usize| condition.bounds.may_meet_page(&columns, *page);
        let pages = (0..starts.len() - 1).filter(keeps).map(|page| starts[page]..starts[page + 1]);
        left = intersect(&left, &pages.collect::<Vec<_>>());
    }
    let kept: usize = left.iter().map(Range::len).sum();
    Ok(match kept {
        0 => Left::None,
        kept if kept * 100 > rows * CHOSEN_PERCENT_MAX => Left::All,
        _ => narrow(reader, row_group, conditions, left)?,
    })
}

/// Chooses the very rows where the question is for one subscriber or reseller: theirs are few, and every other column is
/// then read for these alone.
fn narrow(reader: &DataReader, row_group: usize, conditions: &[Condition], ranges: Vec<Range<usize>>) -> Result<Left> {
    let Some((field, wanted)) = conditions.iter().find_map(Condition::uuid) else {
        return Ok(Left::Some(Chosen { ranges, same: None }));
    };
    let LeafData::Uuid(values, codes) = reader.read(row_group, field.name(), Some(&ranges))? else {
        return Ok(Left::None);
    };
    let code = values.iter().position(|value| *value == wanted).map_or(0, |place| place as u32 + 1);
    if code == 0 {
        return Ok(Left::None);
    }
    let mut chosen: Vec<Range<usize>> = Vec::new();
    for (row, _) in ranges.into_iter().flatten().zip(&codes).filter(|(_, of)| **of == code) {
        match chosen.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => chosen.push(row..row + 1),
        }
    }
    let same = Some((field, wanted));
    Ok(if chosen.is_empty() { Left::None } else { Left::Some(Chosen { ranges: chosen, same }) })
}

/// The common rows of two ascending lists of disjoint ranges, neighbours joined.
fn intersect(a: &[Range<usize>], b: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for left in a {
        for right in b {
            let common = left.start.max(right.start)..left.end.min(right.end);
            match out.last_mut() {
                _ if common.is_empty() => {}
                Some(last) if last.end == common.start => last.end = common.end,
                _ => out.push(common),
            }
        }
    }
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meets {
    Never,
    Perhaps,
    /// Every row that is not null.
    Always,
}

impl Bounds {
    /// Whether a chunk's values meet the bounds; `None` when nothing is known.
    fn meets(&self, statistics: &Statistics) -> Option<Meets> {
        Some(match (self, statistics) {
            (Bounds::Narrow(first, last), Statistics::Int32(s)) => {
                compare((*s.min_opt()? as u32, *s.max_opt()? as u32), (*first, *last), no_nulls(statistics))
            }
            (Bounds::Wide(first, last), Statistics::Int64(s)) => {
                compare((*s.min_opt()?, *s.max_opt()?), (*first, *last), no_nulls(statistics))
            }
            (Bounds::Bytes(first, last), _) => {
                let (min, max) = (statistics.min_bytes_opt()?, statistics.max_bytes_opt()?);
                compare((min, max), (first.as_slice(), last.as_slice()), no_nulls(statistics))
            }
            _ => return None,
        })
    }

    fn may_meet_page(&self, index: &ColumnIndexMetaData, page: usize) -> bool {
        if index.num_pages() <= page as u64 {
            return true;
        }
        if index.is_null_page(page) {
            return false;
        }
        let overlap = |min: Ordering, max: Ordering| min != Ordering::Greater && max != Ordering::Less;
        match (self, index) {
            (Bounds::Narrow(first, last), ColumnIndexMetaData::INT32(index)) => {
                match (index.min_value(page), index.max_value(page)) {
                    (Some(min), Some(max)) => overlap((*min as u32).cmp(last), (*max as u32).cmp(first)),
                    _ => true,
                }
            }
            (Bounds::Wide(first, last), ColumnIndexMetaData::INT64(index)) => {
                match (index.min_value(page), index.max_value(page)) {
                    (Some(min), Some(max)) => overlap(min.cmp(last), max.cmp(first)),
                    _ => true,
                }
            }
            (
                Bounds::Bytes(first, last),
                ColumnIndexMetaData::BYTE_ARRAY(index) | ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index),
            ) => match (index.min_value(page), index.max_value(page)) {
                (Some(min), Some(max)) => overlap(min.cmp(last.as_slice()), max.cmp(first.as_slice())),
                _ => true,
            },
            _ => true,
        }
    }
}

fn no_nulls(statistics: &Statistics) -> bool {
    statistics.null_count_opt() == Some(0)
}

fn compare<T: Ord>((min, max): (T, T), (first, last): (T, T), full: bool) -> Meets {
    if min > last || max < first {
        Meets::Never
    } else if full && min >= first && max <= last {
        Meets::Always
    } else {
        Meets::Perhaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_intersect_and_join() {
        let (a, b) = (vec![0..10, 20..30], vec![5..22, 22..25, 29..40]);
        assert_eq!(intersect(&a, &b), [5..10, 20..25, 29..30]);
        assert!(intersect(&a, &[]).is_empty());
    }

    #[test]
    fn a_prefix_is_a_range_of_addresses() {
        let net = |text: &str, length| Test::Net { side: Side::Src, network: text.parse().unwrap(), length };
        let bounds = |test: &Test| condition(test).map(|(_, c)| c.bounds);
        assert_eq!(bounds(&net("10.0.0.0", 8)), Some(Bounds::Narrow(0x0a00_0000, 0x0aff_ffff)));
        assert_eq!(bounds(&net("10.1.2.3", 32)), Some(Bounds::Narrow(0x0a01_0203, 0x0a01_0203)));
        assert_eq!(bounds(&net("0.0.0.0", 0)), Some(Bounds::Narrow(0, u32::MAX)));
        assert_eq!(bounds(&net("2001:db8::", 32)), None);
    }
}
