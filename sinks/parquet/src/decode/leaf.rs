//! One leaf's rows out of a column chunk.
//!
//! A page that is wanted whole is decoded straight to the rows' place. Of a page that is wanted in part all is decoded, and
//! the rest cut out again: pages are short.

use std::ops::Range;

use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result};
use sink_api::Text;
use uuid::Uuid;

use super::values::{self, Number};
use crate::codec::{Malformed, Stretch, visit_hybrid};
use crate::encode::LeafData;

impl From<Malformed> for ParquetError {
    fn from(malformed: Malformed) -> Self {
        ParquetError::General(malformed.to_string())
    }
}

/// A leaf's values, one a row; a null row's value is zero.
enum Values {
    Narrow(Column<u32>),
    Wide(Column<u64>),
    Fixed(Column<u128>),
    Text(Vec<Text>, Column<u32>),
    Uuid(Vec<Uuid>, Column<u32>),
}

/// Rows decoded so far, and the chunk's dictionary (for texts and UUIDs the codes themselves, 1 = the first value).
struct Column<T> {
    rows: Vec<T>,
    dictionary: Vec<T>,
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), dictionary: Vec::new() }
    }
}

/// What was decoded so far.
struct Decoded {
    values: Values,
    /// One byte a row, 1 = set, once a page had nulls; else empty.
    present: Vec<u8>,
}

/// The parts of a data page of version 2.
struct DataPage<'a> {
    levels: &'a [u8],
    values: &'a [u8],
    encoding: Encoding,
    rows: usize,
    set: usize,
}

/// Decodes the rows of a chunk that lie in `wanted` (ascending, disjoint; `None` is all).
pub(super) fn read_chunk(
    pages: &mut dyn PageReader,
    physical: Physical,
    is_text: bool,
    rows: usize,
    wanted: Option<&[Range<usize>]>,
) -> Result<LeafData> {
    let mut out = Decoded { values: empty(physical, is_text), present: Vec::new() };
    let mut at = 0;
    while at < rows {
        if let (Some(wanted), Some(next)) = (wanted, pages.peek_next_page()?)
            && let Some(page_rows) = next.num_rows.filter(|_| !next.is_dict)
            && !wanted.iter().any(|w| w.start < at.saturating_add(page_rows) && at < w.end)
        {
            pages.skip_next_page()?;
            at = at.saturating_add(page_rows);
            continue;
        }
        let page = pages.get_next_page()?.ok_or_else(|| malformed("pages end before their rows"))?;
        if let Page::DictionaryPage { buf, num_values, encoding, .. } = &page {
            if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
                return Err(malformed("encoding of a dictionary"));
            }
            out.values.read_dictionary(buf, *num_values as usize)?;
            continue;
        }
        let page = data_page(&page, rows - at)?;
        let before = out.values.rows();
        out.append(&page)?;
        if let Some(wanted) = wanted {
            let end = at + page.rows;
            let within = |w: &Range<usize>| w.start.clamp(at, end) - at..w.end.clamp(at, end) - at;
            out.keep(before, wanted.iter().map(within));
        }
        at += page.rows;
    }
    Ok(out.finish())
}

/// The parts of a data page of at most `rows_max` rows.
fn data_page(page: &Page, rows_max: usize) -> Result<DataPage<'_>> {
    let Page::DataPageV2 { buf, num_rows, num_nulls, encoding, def_levels_byte_len, rep_levels_byte_len, .. } = page
    else {
        return Err(malformed("data page of version 1"));
    };
    let rows = *num_rows as usize;
    let set = rows.checked_sub(*num_nulls as usize).ok_or_else(|| malformed("nulls of a page"))?;
    if rows == 0 || rows > rows_max || *rep_levels_byte_len != 0 {
        return Err(malformed("rows of a page"));
    }
    let split = buf.split_at_checked(*def_levels_byte_len as usize);
    let (levels, values) = split.ok_or_else(|| malformed("levels of a page"))?;
    Ok(DataPage { levels, values, encoding: *encoding, rows, set })
}

pub(super) fn malformed(what: &'static str) -> ParquetError {
    Malformed(what).into()
}

fn empty(physical: Physical, is_text: bool) -> Values {
    match physical {
        Physical::INT32 => Values::Narrow(Column::default()),
        Physical::INT64 => Values::Wide(Column::default()),
        Physical::FIXED_LEN_BYTE_ARRAY if !is_text => Values::Fixed(Column::default()),
        Physical::FIXED_LEN_BYTE_ARRAY => Values::Uuid(Vec::new(), Column::default()),
        _ => Values::Text(Vec::new(), Column::default()),
    }
}

impl Values {
    fn rows(&self) -> usize {
        match self {
            Self::Narrow(column) | Self::Text(_, column) | Self::Uuid(_, column) => column.rows.len(),
            Self::Wide(column) => column.rows.len(),
            Self::Fixed(column) => column.rows.len(),
        }
    }

    fn read_dictionary(&mut self, bytes: &[u8], count: usize) -> Result<()> {
        match self {
            Self::Narrow(column) => column.dictionary = values::plain(bytes, count)?,
            Self::Wide(column) => column.dictionary = values::plain(bytes, count)?,
            Self::Fixed(_) => return Err(malformed("dictionary of a column that has none")),
            Self::Uuid(uuids, column) => {
                *uuids = bytes.as_chunks::<16>().0.iter().take(count).map(|bytes| Uuid::from_bytes(*bytes)).collect();
                if uuids.len() != count {
                    return Err(malformed("dictionary cut off"));
                }
                column.dictionary = (1..=count as u32).collect();
            }
            Self::Text(texts, column) => {
                *texts = values::texts(bytes, count)?;
                column.dictionary = (1..=count as u32).collect();
            }
        }
        Ok(())
    }
}

impl<T: Number> Column<T> {
    /// Appends a page's rows.
    fn append(&mut self, page: &DataPage<'_>, present: Option<&[u8]>) -> Result<()> {
        let start = self.rows.len();
        values::append(page.values, page.set, page.encoding, &self.dictionary, &mut self.rows)?;
        if let Some(present) = present {
            // Values stand one after another: move each to its row, from the last on.
            let mut next = start + page.set;
            self.rows.resize(start + page.rows, T::default());
            for (row, present) in (start..start + page.rows).zip(present).rev() {
                next -= usize::from(*present != 0);
                self.rows[row] = if *present != 0 { self.rows[next] } else { T::default() };
            }
        }
        Ok(())
    }

    /// Keeps only `ranges` of the rows from `start` on.
    fn keep(&mut self, start: usize, ranges: impl Iterator<Item = Range<usize>>) {
        keep(&mut self.rows, start, ranges);
    }
}

fn keep<T: Copy>(rows: &mut Vec<T>, start: usize, ranges: impl Iterator<Item = Range<usize>>) {
    let mut end = start;
    for range in ranges {
        rows.copy_within(start + range.start..start + range.end, end);
        end += range.len();
    }
    rows.truncate(end);
}

impl Decoded {
    fn append(&mut self, page: &DataPage<'_>) -> Result<()> {
        let before = self.values.rows();
        let full = page.set == page.rows;
        if !full {
            self.present.resize(before, 1);
            self.read_levels(page)?;
        } else if !self.present.is_empty() {
            self.present.resize(before + page.rows, 1);
        }
        let present = (!full).then(|| &self.present[before..]);
        match &mut self.values {
            Values::Narrow(column) => column.append(page, present),
            Values::Wide(column) => column.append(page, present),
            Values::Fixed(column) => column.append(page, present),
            Values::Text(..) | Values::Uuid(..) if page.set != 0 && page.encoding != Encoding::RLE_DICTIONARY => {
                Err(malformed("encoding of a page"))
            }
            Values::Text(_, column) | Values::Uuid(_, column) => column.append(page, present),
        }
    }

    /// Appends which rows of a page with nulls are set.
    fn read_levels(&mut self, page: &DataPage<'_>) -> Result<()> {
        let before = self.present.len();
        if page.set == 0 {
            self.present.resize(before + page.rows, 0);
            return Ok(());
        }
        let present = &mut self.present;
        visit_hybrid(page.levels, 1, page.rows, |stretch| match stretch {
            Stretch::Run(level, rows) => present.resize(present.len() + rows, (level & 1) as u8),
            Stretch::Codes(levels) => present.extend(levels.iter().map(|level| *level as u8)),
        })?;
        let set: usize = self.present[before..].iter().map(|p| usize::from(*p)).sum();
        if set == page.set { Ok(()) } else { Err(malformed("levels of a page")) }
    }

    /// Keeps only `ranges` of the rows from `start` on.
    fn keep(&mut self, start: usize, ranges: impl Iterator<Item = Range<usize>> + Clone) {
        if !self.present.is_empty() {
            keep(&mut self.present, start, ranges.clone());
        }
        match &mut self.values {
            Values::Narrow(column) | Values::Text(_, column) | Values::Uuid(_, column) => column.keep(start, ranges),
            Values::Wide(column) => column.keep(start, ranges),
            Values::Fixed(column) => column.keep(start, ranges),
        }
    }

    fn finish(self) -> LeafData {
        let present = Some(self.present).filter(|p| !p.is_empty());
        match self.values {
            Values::Narrow(column) => LeafData::Narrow(column.rows, present),
            Values::Wide(column) => LeafData::Wide(column.rows, present),
            Values::Fixed(column) => LeafData::Fixed16(column.rows, present),
            Values::Text(texts, column) => LeafData::Text(texts, column.rows),
            Values::Uuid(uuids, column) => LeafData::Uuid(uuids, column.rows),
        }
    }
}
