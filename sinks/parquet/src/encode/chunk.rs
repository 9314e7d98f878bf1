//! One leaf's column chunk: pages, statistics and page index.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, Type as Physical, ZstdLevel};
use parquet::column::page::{CompressedPage, Page as Stored, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::pages::{Bounds, Page, Plan};

/// Rows in a page. Small enough that the page index prunes a search for one subscriber to little work, large enough that
/// headers and index stay under 0.1 bytes a row over all columns.
pub const PAGE_ROWS: usize = 16 * 1024;

/// A page that compression shrinks to no less than this share (in percent) is stored as it is, and compression is left out
/// for the pages after it.
const COMPRESSED_PERCENT_MAX: usize = 85;

/// Shorter pages are not worth a frame's header.
const COMPRESSED_BYTES_MIN: usize = 64;

/// How many pages are left uncompressed before compression is tried again: pages of one direction are alike.
const UNCOMPRESSED_PAGES: usize = 7;

/// Encoder with buffers that are reused from chunk to chunk.
pub struct ChunkEncoder {
    zstd: zstd::bulk::Compressor<'static>,
    codec: Compression,
}

/// A finished chunk: its bytes, and what the file's footer says about it.
pub struct Chunk {
    pub bytes: Bytes,
    pub close: ColumnCloseResult,
}

/// State while a chunk is written.
struct Open<'a> {
    sink: TrackedWrite<Vec<u8>>,
    column: &'a ColumnDescPtr,
    uncompressed: i64,
    encodings: Vec<PageEncodingStats>,
    index: ColumnIndexBuilder,
    offsets: OffsetIndexBuilder,
    /// Pages of data to come.
    pages: usize,
    /// Pages until compression is tried again.
    uncompressed_pages: usize,
}

impl ChunkEncoder {
    /// An encoder for a zstd level (1 to 22).
    ///
    /// # Errors
    /// When zstd refuses the level or has no memory.
    pub fn new(level: i32) -> Result<Self> {
        let zstd = zstd::bulk::Compressor::new(level)?;
        Ok(Self { zstd, codec: Compression::ZSTD(ZstdLevel::try_new(level)?) })
    }

    /// Encodes a leaf's `rows` rows.
    ///
    /// # Errors
    /// When the parts do not fit together, which no input can cause.
    pub fn encode(&mut self, plan: &Plan<'_>, column: &ColumnDescPtr, rows: usize) -> Result<Chunk> {
        let mut open = Open {
            sink: TrackedWrite::new(Vec::new()),
            column,
            uncompressed: 0,
            encodings: Vec::new(),
            index: ColumnIndexBuilder::new(column.physical_type()),
            offsets: OffsetIndexBuilder::new(),
            pages: 0,
            uncompressed_pages: 0,
        };
        let mut dictionary_offset = None;
        if let Some((values, count)) = plan.dictionary_page() {
            dictionary_offset = Some(0);
            self.write_dictionary(&mut open, values, count)?;
        }
        let data_offset = open.sink.bytes_written() as i64;
        let page_rows = if plan.content.is_uniform() { rows.max(1) } else { PAGE_ROWS };
        open.pages = rows.div_ceil(page_rows);
        let (mut nulls, mut bounds) = (0, None::<Bounds>);
        for start in (0..rows).step_by(page_rows) {
            let page = plan.page(start..rows.min(start + page_rows));
            bounds = bounds.zip(page.bounds).map(|(a, b)| a.and(b)).or(bounds).or(page.bounds);
            nulls += page.nulls;
            match page.bounds.map(|bounds| plan.min_max(bounds)) {
                Some((min, max)) => open.index.append(false, min, max, page.nulls as i64, None),
                None => open.index.append(true, Vec::new(), Vec::new(), page.nulls as i64, None),
            }
            open.offsets.append_row_count(page.rows as i64);
            self.write_page(&mut open, page)?;
        }
        let min_max = bounds.map(|bounds| plan.min_max(bounds));
        let statistics = chunk_statistics(column.physical_type(), min_max, nulls);
        self.finish(open, rows, data_offset, dictionary_offset, statistics)
    }

    fn write_dictionary(&mut self, open: &mut Open<'_>, values: Vec<u8>, count: usize) -> Result<()> {
        let uncompressed = values.len();
        let buf = Bytes::from(self.zstd.compress(&values)?);
        let page =
            Stored::DictionaryPage { buf, num_values: count as u32, encoding: Encoding::PLAIN, is_sorted: false };
        open.write(CompressedPage::new(page, uncompressed), PageType::DICTIONARY_PAGE, Encoding::PLAIN)?;
        Ok(())
    }

    fn write_page(&mut self, open: &mut Open<'_>, page: Page) -> Result<()> {
        let uncompressed = page.levels.len() + page.values.len();
        let mut stored = None;
        if open.uncompressed_pages > 0 {
            open.uncompressed_pages -= 1;
        } else if page.values.len() >= COMPRESSED_BYTES_MIN {
            let compressed = self.zstd.compress(&page.values)?;
            if compressed.len() * 100 < page.values.len() * COMPRESSED_PERCENT_MAX {
                stored = Some(compressed);
            } else {
                open.uncompressed_pages = UNCOMPRESSED_PAGES;
            }
        }
        let is_compressed = stored.is_some();
        let levels_len = page.levels.len() as u32;
        let values = stored.as_deref().unwrap_or(&page.values);
        let mut buf = page.levels;
        buf.reserve_exact(values.len());
        buf.extend_from_slice(values);
        let data = Stored::DataPageV2 {
            buf: Bytes::from(buf),
            num_values: page.rows as u32,
            encoding: page.encoding,
            num_nulls: page.nulls as u32,
            num_rows: page.rows as u32,
            def_levels_byte_len: levels_len,
            rep_levels_byte_len: 0,
            is_compressed,
            statistics: None,
        };
        let (offset, size) =
            open.write(CompressedPage::new(data, uncompressed), PageType::DATA_PAGE_V2, page.encoding)?;
        open.offsets.append_offset_and_size(offset, size);
        // Pages are alike: so much room at once spares growing to it, which copies what is there.
        open.pages -= 1;
        let room = open.pages * size as usize;
        open.sink.inner_mut().reserve(room);
        Ok(())
    }

    fn finish(
        &self,
        open: Open<'_>,
        rows: usize,
        data_page_offset: i64,
        dictionary_page_offset: Option<i64>,
        statistics: Statistics,
    ) -> Result<Chunk> {
        let Open { sink, column, uncompressed, encodings, index, offsets, .. } = open;
        let bytes = sink.into_inner()?;
        let metadata = ColumnChunkMetaData::builder(column.clone())
            .set_compression(self.codec)
            .set_encodings(encodings.iter().map(|e| e.encoding).chain([Encoding::RLE]).collect())
            .set_page_encoding_stats(encodings)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(uncompressed)
            .set_num_values(rows as i64)
            .set_data_page_offset(data_page_offset)
            .set_dictionary_page_offset(dictionary_page_offset)
            .set_statistics(statistics)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: Some(index.build()?),
            offset_index: Some(offsets.build()),
        };
        Ok(Chunk { bytes: Bytes::from(bytes), close })
    }
}

impl Open<'_> {
    /// Writes a page and counts it; gives its offset in the chunk and its size with header.
    fn write(&mut self, page: CompressedPage, page_type: PageType, encoding: Encoding) -> Result<(i64, i32)> {
        let spec = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.uncompressed += spec.uncompressed_size as i64;
        match self.encodings.iter_mut().find(|e| e.page_type == page_type && e.encoding == encoding) {
            Some(entry) => entry.count += 1,
            None => self.encodings.push(PageEncodingStats { page_type, encoding, count: 1 }),
        }
        Ok((spec.offset as i64, spec.compressed_size as i32))
    }
}

fn chunk_statistics(physical: Physical, min_max: Option<(Vec<u8>, Vec<u8>)>, nulls: usize) -> Statistics {
    let (min, max) = min_max.unzip();
    let nulls = Some(nulls as u64);
    match physical {
        Physical::INT32 => {
            let read = |b: Vec<u8>| b.try_into().map(i32::from_le_bytes).unwrap_or_default();
            Statistics::int32(min.map(read), max.map(read), None, nulls, false)
        }
        Physical::INT64 => {
            let read = |b: Vec<u8>| b.try_into().map(i64::from_le_bytes).unwrap_or_default();
            Statistics::int64(min.map(read), max.map(read), None, nulls, false)
        }
        Physical::FIXED_LEN_BYTE_ARRAY => {
            let read = |b: Vec<u8>| FixedLenByteArray::from(b);
            Statistics::fixed_len_byte_array(min.map(read), max.map(read), None, nulls, false)
        }
        _ => Statistics::byte_array(min.map(ByteArray::from), max.map(ByteArray::from), None, nulls, false),
    }
}
