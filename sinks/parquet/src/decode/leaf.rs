//! One leaf's rows out of a column chunk.

use std::ops::Range;

use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result};
use sink_api::Text;
use uuid::Uuid;

use crate::codec::{Malformed, decode_delta, decode_hybrid};
use crate::encode::LeafData;

impl From<Malformed> for ParquetError {
    fn from(malformed: Malformed) -> Self {
        ParquetError::General(malformed.to_string())
    }
}

/// A chunk's dictionary.
enum Dictionary {
    None,
    Numbers(Vec<u64>),
    /// This many texts or UUIDs, which the rows' data hold already.
    Coded(usize),
}

/// The values of one page that are set.
enum Values {
    Numbers(Vec<u64>),
    Fixed(Vec<u128>),
    /// Codes into the chunk's dictionary of texts or UUIDs.
    Codes(Vec<u32>),
}

/// What was decoded so far, one entry a row.
struct Rows {
    data: LeafData,
    present: Vec<u8>,
    any_null: bool,
}

/// Decodes the rows of a chunk that lie in `wanted` (ascending, disjoint; `None` is all).
pub(super) fn read_chunk(
    pages: &mut dyn PageReader,
    physical: Physical,
    is_text: bool,
    rows: usize,
    wanted: Option<&[Range<usize>]>,
) -> Result<LeafData> {
    let mut dictionary = Dictionary::None;
    let mut out = Rows { data: empty(physical, is_text), present: Vec::new(), any_null: false };
    let mut at = 0;
    while at < rows {
        if let (Some(wanted), Some(next)) = (wanted, pages.peek_next_page()?)
            && let Some(page_rows) = next.num_rows.filter(|_| !next.is_dict)
            && !wanted.iter().any(|w| w.start < at + page_rows && at < w.end)
        {
            pages.skip_next_page()?;
            at += page_rows;
            continue;
        }
        let page = pages.get_next_page()?.ok_or_else(|| malformed("pages end before their rows"))?;
        if let Page::DictionaryPage { buf, num_values, encoding, .. } = &page {
            if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
                return Err(malformed("encoding of a dictionary"));
            }
            dictionary = read_dictionary(buf, *num_values as usize, physical, &mut out.data)?;
            continue;
        }
        let (page, values) = read_page(&page, rows - at, physical, &dictionary, &out.data)?;
        let end = at + page.rows;
        match wanted {
            None => out.append(&values, &page, 0..page.rows),
            Some(wanted) => {
                let within = |w: &Range<usize>| w.start.clamp(at, end) - at..w.end.clamp(at, end) - at;
                let ranges = wanted.iter().map(within).filter(|range| !range.is_empty());
                ranges.for_each(|range| out.append(&values, &page, range));
            }
        }
        at = end;
    }
    Ok(out.finish())
}

/// Decodes a data page of at most `rows_max` rows: which rows are set, and their values.
fn read_page(
    page: &Page,
    rows_max: usize,
    physical: Physical,
    dictionary: &Dictionary,
    data: &LeafData,
) -> Result<(PageRows, Values)> {
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
    let (level_bytes, value_bytes) = split.ok_or_else(|| malformed("levels of a page"))?;
    let mut levels = None;
    if set != 0 && set != rows {
        let mut decoded = Vec::new();
        decode_hybrid(level_bytes, 1, rows, &mut decoded)?;
        if decoded.iter().filter(|l| **l == 1).count() != set {
            return Err(malformed("levels of a page"));
        }
        levels = Some(decoded);
    }
    let values =
        if set == 0 { no_values(data) } else { read_values(value_bytes, set, *encoding, physical, dictionary)? };
    Ok((PageRows { levels, rows, set }, values))
}

fn malformed(what: &'static str) -> ParquetError {
    Malformed(what).into()
}

fn empty(physical: Physical, is_text: bool) -> LeafData {
    match physical {
        Physical::INT32 => LeafData::Narrow(Vec::new(), None),
        Physical::INT64 => LeafData::Wide(Vec::new(), None),
        Physical::FIXED_LEN_BYTE_ARRAY if !is_text => LeafData::Fixed16(Vec::new(), None),
        Physical::FIXED_LEN_BYTE_ARRAY => LeafData::Uuid(Vec::new(), Vec::new()),
        _ => LeafData::Text(Vec::new(), Vec::new()),
    }
}

fn no_values(data: &LeafData) -> Values {
    match data {
        LeafData::Fixed16(..) => Values::Fixed(Vec::new()),
        LeafData::Text(..) | LeafData::Uuid(..) => Values::Codes(Vec::new()),
        _ => Values::Numbers(Vec::new()),
    }
}

/// Reads a dictionary page; texts and UUIDs go to the data, whose codes will name them.
fn read_dictionary(bytes: &[u8], count: usize, physical: Physical, data: &mut LeafData) -> Result<Dictionary> {
    match data {
        LeafData::Narrow(..) | LeafData::Wide(..) => plain_numbers(bytes, count, physical).map(Dictionary::Numbers),
        LeafData::Uuid(values, _) => {
            let (uuids, _) = bytes.as_chunks::<16>();
            let uuids = uuids.get(..count).ok_or_else(|| malformed("dictionary cut off"))?;
            *values = uuids.iter().map(|b| Uuid::from_bytes(*b)).collect();
            Ok(Dictionary::Coded(count))
        }
        LeafData::Text(values, _) => {
            values.clear();
            let mut rest = bytes;
            for _ in 0..count {
                let (length, after) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("dictionary cut off"))?;
                let length = u32::from_le_bytes(*length) as usize;
                let (text, after) = after.split_at_checked(length).ok_or_else(|| malformed("dictionary cut off"))?;
                let text: Text = std::str::from_utf8(text).map_err(|_| malformed("text that is not UTF-8"))?.into();
                values.push(text);
                rest = after;
            }
            Ok(Dictionary::Coded(count))
        }
        LeafData::Null | LeafData::Fixed16(..) => Err(malformed("dictionary of a column that has none")),
    }
}

fn plain_numbers(bytes: &[u8], count: usize, physical: Physical) -> Result<Vec<u64>> {
    let values: Vec<u64> = if physical == Physical::INT32 {
        let words = bytes.chunks_exact(4).take(count);
        words.map(|b| u64::from(u32::from_le_bytes(b.try_into().unwrap_or_default()))).collect()
    } else {
        let words = bytes.chunks_exact(8).take(count);
        words.map(|b| u64::from_le_bytes(b.try_into().unwrap_or_default())).collect()
    };
    if values.len() == count { Ok(values) } else { Err(malformed("values cut off")) }
}

fn read_values(
    bytes: &[u8],
    set: usize,
    encoding: Encoding,
    physical: Physical,
    dictionary: &Dictionary,
) -> Result<Values> {
    match (encoding, physical) {
        (Encoding::PLAIN, Physical::INT32 | Physical::INT64) => {
            plain_numbers(bytes, set, physical).map(Values::Numbers)
        }
        (Encoding::PLAIN, Physical::FIXED_LEN_BYTE_ARRAY) => {
            let words = bytes.chunks_exact(16).take(set);
            let values: Vec<u128> = words.map(|b| u128::from_be_bytes(b.try_into().unwrap_or_default())).collect();
            if values.len() == set { Ok(Values::Fixed(values)) } else { Err(malformed("values cut off")) }
        }
        (Encoding::DELTA_BINARY_PACKED, Physical::INT32) => {
            let mut values = Vec::new();
            decode_delta::<32>(bytes, set, &mut values)?;
            values.iter_mut().for_each(|v| *v = u64::from(*v as u32));
            Ok(Values::Numbers(values))
        }
        (Encoding::DELTA_BINARY_PACKED, Physical::INT64) => {
            let mut values = Vec::new();
            decode_delta::<64>(bytes, set, &mut values)?;
            Ok(Values::Numbers(values))
        }
        (Encoding::RLE_DICTIONARY, _) => {
            let (width, rest) = bytes.split_first().ok_or_else(|| malformed("codes cut off"))?;
            let mut codes = Vec::new();
            decode_hybrid(rest, u32::from(*width), set, &mut codes)?;
            coded(codes, dictionary)
        }
        _ => Err(malformed("encoding of a page")),
    }
}

fn coded(codes: Vec<u32>, dictionary: &Dictionary) -> Result<Values> {
    let most = codes.iter().max().map_or(0, |c| *c as usize + 1);
    let size = match dictionary {
        Dictionary::None => 0,
        Dictionary::Numbers(values) => values.len(),
        Dictionary::Coded(count) => *count,
    };
    if most > size {
        return Err(malformed("code that names no value"));
    }
    Ok(match dictionary {
        Dictionary::Numbers(values) => Values::Numbers(codes.iter().map(|c| values[*c as usize]).collect()),
        _ => Values::Codes(codes),
    })
}

/// A decoded page's rows and which of them are set (`None`: all or none).
struct PageRows {
    levels: Option<Vec<u32>>,
    rows: usize,
    set: usize,
}

impl Rows {
    fn append(&mut self, values: &Values, page: &PageRows, range: Range<usize>) {
        let full = page.set == page.rows;
        // The first set value of the range, and one option a row.
        let mut next = match &page.levels {
            Some(levels) => levels[..range.start].iter().map(|l| *l as usize).sum(),
            None if full => range.start,
            None => 0,
        };
        let is_set = |row: usize| page.levels.as_ref().map_or(full, |levels| levels[row] == 1);
        if !full {
            self.present.resize(self.data.rows(), 1);
            self.any_null = true;
            self.present.extend(range.clone().map(|row| u8::from(is_set(row))));
        } else if self.any_null {
            self.present.resize(self.data.rows() + range.len(), 1);
        }
        let mut slot = |row: usize| {
            let here = next;
            let set = is_set(row);
            next += usize::from(set);
            set.then_some(here)
        };
        match (&mut self.data, values) {
            (LeafData::Narrow(out, _), Values::Numbers(v)) if full => out.extend(v[range].iter().map(|v| *v as u32)),
            (LeafData::Wide(out, _), Values::Numbers(v)) if full => out.extend_from_slice(&v[range]),
            (LeafData::Narrow(out, _), Values::Numbers(v)) => {
                out.extend(range.map(|row| slot(row).map_or(0, |at| v[at] as u32)));
            }
            (LeafData::Wide(out, _), Values::Numbers(v)) => {
                out.extend(range.map(|row| slot(row).map_or(0, |at| v[at])));
            }
            (LeafData::Fixed16(out, _), Values::Fixed(v)) => {
                out.extend(range.map(|row| slot(row).map_or(0, |at| v[at])));
            }
            (LeafData::Text(_, out) | LeafData::Uuid(_, out), Values::Codes(v)) => {
                out.extend(range.map(|row| slot(row).map_or(0, |at| v[at] + 1)));
            }
            // Values are read for the leaf's own type, so other pairs do not occur.
            _ => {}
        }
    }

    fn finish(self) -> LeafData {
        let Self { data, present, any_null } = self;
        let present = any_null.then_some(present);
        match data {
            LeafData::Narrow(values, _) => LeafData::Narrow(values, present),
            LeafData::Wide(values, _) => LeafData::Wide(values, present),
            LeafData::Fixed16(values, _) => LeafData::Fixed16(values, present),
            other => other,
        }
    }
}
