//! The one place where payload bytes are indexed.

/// Why a payload could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at} of the payload")]
pub struct DecodeError {
    /// What is wrong.
    pub problem: &'static str,
    /// Offset in the payload.
    pub at: usize,
}

/// Reads a payload from front to back. Every read checks the bytes left.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error at the present place.
    pub fn fail<T>(&self, problem: &'static str) -> Result<T, DecodeError> {
        Err(DecodeError { problem, at: self.at })
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let taken = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        match taken {
            Some(taken) => {
                self.at += n;
                Ok(taken)
            }
            None => self.fail("it ends too early"),
        }
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[b]| b)
    }

    /// A little-endian number.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian number.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of items, each of which takes at least `item_bytes_min` bytes here, so that what is reserved for them is
    /// proportional to the input.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > self.left() / item_bytes_min.max(1) {
            self.fail("a count larger than what follows")
        } else {
            Ok(count)
        }
    }

    /// Text with its length in 4 bytes before it.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let len = self.u32()? as usize;
        let at = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError { problem: "text that is not UTF-8", at })
    }

    /// A name with its length in 1 byte before it.
    pub fn name(&mut self) -> Result<&'a str, DecodeError> {
        let len = usize::from(self.u8()?);
        let at = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError { problem: "a name that is not UTF-8", at })
    }
}

/// Writes text with its length in 4 bytes before it. Text beyond 4 GiB is cut at a character border.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(u32::MAX as usize);
    out.extend_from_slice(&(end as u32).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// Writes a name of the program's own vocabulary, at most 255 bytes, with its length in 1 byte before it.
pub fn put_name(out: &mut Vec<u8>, name: &str) {
    debug_assert!(name.len() <= usize::from(u8::MAX));
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}
