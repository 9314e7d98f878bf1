//! Memory in which some rows are made side by side, column by column.

/// Rows that are made together: their memory stays in the first-level cache.
pub const ROWS: usize = 64;

/// Bytes that are copied at once, whatever is wanted of them: a copy of a known length is a move or two.
const STEP: usize = 32;

/// One slot a row; what was put into a slot stands without gaps.
#[derive(Debug)]
pub struct Slots {
    bytes: Vec<u8>,
    ends: [usize; ROWS],
    stride: usize,
}

impl Slots {
    /// Slots for rows of at most `row_bytes`.
    pub fn new(row_bytes: usize) -> Self {
        let stride = row_bytes + STEP;
        Self { bytes: vec![0; stride * ROWS], ends: [0; ROWS], stride }
    }

    /// Empties every slot.
    pub fn clear(&mut self) {
        for (slot, end) in self.ends.iter_mut().enumerate() {
            *end = slot * self.stride;
        }
    }

    /// Appends to a slot.
    #[inline]
    pub fn put<const N: usize>(&mut self, slot: usize, bytes: [u8; N]) {
        let end = self.ends[slot];
        self.bytes[end..end + N].copy_from_slice(&bytes);
        self.ends[slot] = end + N;
    }

    /// Appends a piece to a slot.
    #[inline]
    pub fn put_piece(&mut self, slot: usize, piece: Piece<'_>) {
        let end = self.ends[slot];
        self.bytes[end..end + STEP].copy_from_slice(&piece.bytes[..STEP]);
        if piece.len > STEP {
            self.bytes[end + STEP..end + piece.len].copy_from_slice(&piece.bytes[STEP..piece.len]);
        }
        self.ends[slot] = end + piece.len;
    }

    /// Appends the first slots, one after the other, and where each ends.
    pub fn append_to(&self, out: &mut Vec<u8>, ends: &mut Vec<usize>, slots: usize) {
        for slot in 0..slots {
            out.extend_from_slice(&self.bytes[slot * self.stride..self.ends[slot]]);
            ends.push(out.len());
        }
    }
}

/// The first `len` of at least [`STEP`] bytes.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    bytes: &'a [u8],
    len: usize,
}

/// Texts of any length, by number.
#[derive(Debug)]
pub struct Pieces {
    /// With [`STEP`] bytes more than there are.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Pieces {
    /// None.
    pub fn new() -> Self {
        Self { bytes: vec![0; STEP], ends: vec![0] }
    }

    /// Appends one that `write` appends to the bytes; gives its number.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        self.bytes.truncate(self.bytes.len() - STEP);
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        self.bytes.resize(self.bytes.len() + STEP, 0);
        self.ends.len() - 2
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// One of them; the first for a number that there is none of.
    #[inline]
    pub fn get(&self, number: usize) -> Piece<'_> {
        let number = if number + 1 < self.ends.len() { number } else { 0 };
        let (start, end) = (self.ends[number], self.ends[number + 1]);
        Piece { bytes: &self.bytes[start..], len: end - start }
    }

    /// The longest, bytes.
    pub fn longest(&self) -> usize {
        self.ends.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0)
    }
}
