//! The values of a page or of a dictionary, appended to rows without a copy in between.

use parquet::basic::Encoding;
use parquet::errors::Result;
use sink_api::Text;

use super::leaf::malformed;
use crate::codec::{Stretch, decode_delta, visit_hybrid};

/// A stored number.
pub(super) trait Number: Copy + Default {
    /// Appends `count` numbers that stand one after another at the start of `bytes`; false when there are fewer.
    fn plain(bytes: &[u8], count: usize, out: &mut Vec<Self>) -> bool;

    /// Appends `count` numbers out of packed differences.
    ///
    /// # Errors
    /// When the bytes are malformed, or this type is never stored so.
    fn differences(bytes: &[u8], count: usize, out: &mut Vec<Self>) -> Result<()>;
}

impl Number for u32 {
    fn plain(bytes: &[u8], count: usize, out: &mut Vec<Self>) -> bool {
        let words = bytes.as_chunks::<4>().0.get(..count);
        words.inspect(|words| out.extend(words.iter().map(|word| Self::from_le_bytes(*word)))).is_some()
    }

    fn differences(bytes: &[u8], count: usize, out: &mut Vec<Self>) -> Result<()> {
        Ok(decode_delta(bytes, count, out)?)
    }
}

impl Number for u64 {
    fn plain(bytes: &[u8], count: usize, out: &mut Vec<Self>) -> bool {
        let words = bytes.as_chunks::<8>().0.get(..count);
        words.inspect(|words| out.extend(words.iter().map(|word| Self::from_le_bytes(*word)))).is_some()
    }

    fn differences(bytes: &[u8], count: usize, out: &mut Vec<Self>) -> Result<()> {
        Ok(decode_delta(bytes, count, out)?)
    }
}

impl Number for u128 {
    fn plain(bytes: &[u8], count: usize, out: &mut Vec<Self>) -> bool {
        let words = bytes.as_chunks::<16>().0.get(..count);
        words.inspect(|words| out.extend(words.iter().map(|word| Self::from_be_bytes(*word)))).is_some()
    }

    fn differences(_: &[u8], _: usize, _: &mut Vec<Self>) -> Result<()> {
        Err(malformed("encoding of a page"))
    }
}

/// A dictionary of numbers.
pub(super) fn plain<T: Number>(bytes: &[u8], count: usize) -> Result<Vec<T>> {
    let mut out = Vec::new();
    if T::plain(bytes, count, &mut out) { Ok(out) } else { Err(malformed("dictionary cut off")) }
}

/// A dictionary of texts.
pub(super) fn texts(bytes: &[u8], count: usize) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    let mut rest = bytes;
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("dictionary cut off"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (text, after) = after.split_at_checked(length).ok_or_else(|| malformed("dictionary cut off"))?;
        texts.push(std::str::from_utf8(text).map_err(|_| malformed("text that is not UTF-8"))?.into());
        rest = after;
    }
    Ok(texts)
}

/// Appends the `count` values of a page.
///
/// # Errors
/// When the bytes do not hold as many, or name entries that the dictionary has not.
pub(super) fn append<T: Number>(
    bytes: &[u8],
    count: usize,
    encoding: Encoding,
    dictionary: &[T],
    out: &mut Vec<T>,
) -> Result<()> {
    match encoding {
        _ if count == 0 => Ok(()),
        Encoding::PLAIN if T::plain(bytes, count, out) => Ok(()),
        Encoding::PLAIN => Err(malformed("values cut off")),
        Encoding::DELTA_BINARY_PACKED => T::differences(bytes, count, out),
        Encoding::RLE_DICTIONARY => coded(bytes, count, dictionary, out),
        _ => Err(malformed("encoding of a page")),
    }
}

fn coded<T: Number>(bytes: &[u8], count: usize, dictionary: &[T], out: &mut Vec<T>) -> Result<()> {
    let (width, rest) = bytes.split_first().ok_or_else(|| malformed("codes cut off"))?;
    let mut named = true;
    let value = |code: u32| dictionary.get(code as usize).copied();
    out.reserve(count);
    visit_hybrid(rest, u32::from(*width), count, |stretch| match stretch {
        Stretch::Run(code, rows) => {
            named &= value(code).is_some();
            out.resize(out.len() + rows, value(code).unwrap_or_default());
        }
        Stretch::Codes(codes) => {
            named &= codes.iter().all(|code| (*code as usize) < dictionary.len());
            out.extend(codes.iter().map(|code| value(*code).unwrap_or_default()));
        }
    })?;
    if named { Ok(()) } else { Err(malformed("code that names no value")) }
}
