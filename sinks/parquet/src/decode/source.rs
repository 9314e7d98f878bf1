use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// How much is read at once where the length wanted is not known: page headers are far shorter.
const READ_AHEAD: u64 = 8 * 1024;

/// A file read at positions, so that threads can share it, with an optional part of it in memory.
#[derive(Clone, Debug)]
pub(super) struct Source {
    file: Arc<File>,
    length: u64,
    window: Option<(u64, Bytes)>,
}

impl Source {
    pub(super) fn new(file: File) -> Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), length, window: None })
    }

    /// The same file with a part of it read into memory, from which reads within it are served.
    pub(super) fn with_window(&self, start: u64, length: u64) -> Result<Self> {
        let bytes = self.read(start, usize::try_from(length)?)?;
        Ok(Self { window: Some((start, bytes)), ..self.clone() })
    }

    fn read(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of a file of {}", self.length)));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(Bytes::from(bytes))
    }

    fn in_window(&self, start: u64) -> Option<Bytes> {
        let (from, bytes) = self.window.as_ref()?;
        let skip = usize::try_from(start.checked_sub(*from)?).ok()?;
        (skip < bytes.len()).then(|| bytes.slice(skip..))
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Source {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        if let Some(bytes) = self.in_window(start) {
            return Ok(bytes.reader());
        }
        let length = READ_AHEAD.min(self.length.saturating_sub(start));
        Ok(self.read(start, usize::try_from(length)?)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        match self.in_window(start) {
            Some(bytes) if bytes.len() >= length => Ok(bytes.slice(..length)),
            _ => self.read(start, length),
        }
    }
}
