//! The frames of the log's files, little-endian throughout.
//!
//! ```text
//! segment header, 64 bytes
//!   magic "rgzflog\n" | version u32 | crc u32 | log id 16 | first u64 | previous u64 | flows_before u64 | created_ms i64
//! record, 40 bytes + payload
//!   len u32 | crc u32 | flags u32 | flows u32 | time_ms i64 | position u64 | flows_before u64 | payload, `len` bytes
//! ```
//! `flags` are three fixed bytes, by which a reader finds its feet after damage, and the payload's kind. A record's CRC32C
//! starts from the log's id and covers length, flags, flows, time, payload, position and flows_before, in this order: so
//! that everything but the last 16 bytes can be summed before the record has its number, and so that no record of another
//! log, nor bytes made to look like one, are taken for ours. `flows_before` counts all flows of the log before
//! the record, which is how the flows in any gap are known exactly. `previous` is the last position given before
//! the segment; positions between it and `first` were never given.

use crate::flow::LogId;

use super::codec::PayloadKind;

/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: usize = 40;
/// Bytes of a payload at most. Bounds what is read at once; the codec's row bound stays far below.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;
/// Offset in a record of the three bytes that mark it.
pub const MARK_OFFSET: usize = 8;
/// The bytes that mark a record.
pub const MARK: [u8; 3] = [0xf1, 0x0e, 0x9d];

const MAGIC: [u8; 8] = *b"rgzflog\n";
const VERSION: u32 = 1;

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log it belongs to.
    pub id: LogId,
    /// Position of its first record.
    pub first: u64,
    /// Last position given before it.
    pub previous: u64,
    /// Flows of the log before it.
    pub flows_before: u64,
    /// When it was made, ms since the epoch.
    pub created_ms: i64,
}

impl SegmentHeader {
    /// Its bytes.
    pub fn to_bytes(self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.id.0);
        out[32..40].copy_from_slice(&self.first.to_le_bytes());
        out[40..48].copy_from_slice(&self.previous.to_le_bytes());
        out[48..56].copy_from_slice(&self.flows_before.to_le_bytes());
        out[56..].copy_from_slice(&self.created_ms.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads them; `None` when they are not a header of this version, or damaged.
    pub fn from_bytes(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Option<Self> {
        let mut blank = *bytes;
        blank[12..16].fill(0);
        let good = bytes[..8] == MAGIC
            && number::<4>(bytes, 8) == u64::from(VERSION)
            && number::<4>(bytes, 12) == u64::from(crc32c::crc32c(&blank));
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[16..32]);
        good.then(|| Self {
            id: LogId(id),
            first: number::<8>(bytes, 32),
            previous: number::<8>(bytes, 40),
            flows_before: number::<8>(bytes, 48),
            created_ms: number::<8>(bytes, 56) as i64,
        })
    }
}

/// The bytes of a record before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the payload.
    pub len: usize,
    /// CRC32C, see the module.
    pub crc: u32,
    /// What the payload is.
    pub kind: PayloadKind,
    /// Flows in the record.
    pub flows: u32,
    /// When it was appended, ms since the epoch.
    pub time_ms: i64,
    /// Its position.
    pub position: u64,
    /// Flows of the log before it.
    pub flows_before: u64,
}

impl RecordHeader {
    /// Reads it; `None` when these bytes cannot be one. Only [`checks`] says that they are.
    pub fn from_bytes(bytes: &[u8; RECORD_HEADER_BYTES]) -> Option<Self> {
        let len = number::<4>(bytes, 0) as usize;
        if bytes[MARK_OFFSET..MARK_OFFSET + 3] != MARK || len > PAYLOAD_BYTES_MAX {
            return None;
        }
        Some(Self {
            len,
            crc: number::<4>(bytes, 4) as u32,
            kind: PayloadKind::from_code(bytes[MARK_OFFSET + 3])?,
            flows: number::<4>(bytes, 12) as u32,
            time_ms: number::<8>(bytes, 16) as i64,
            position: number::<8>(bytes, 24),
            flows_before: number::<8>(bytes, 32),
        })
    }

    /// Bytes of the whole record.
    pub const fn record_bytes(&self) -> u64 {
        (RECORD_HEADER_BYTES + self.len) as u64
    }

    /// Flows of the log up to and including it.
    pub const fn flows_after(&self) -> u64 {
        self.flows_before.saturating_add(self.flows as u64)
    }
}

/// What a log's CRCs start from.
pub fn seed(id: LogId) -> u32 {
    crc32c::crc32c(&id.0)
}

/// A record in the making: header and payload in one buffer, everything but its number summed.
#[derive(Debug)]
pub struct Draft {
    bytes: Vec<u8>,
    crc: u32,
}

impl Draft {
    /// Room for the header, to which the payload is appended.
    pub fn begin(mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.clear();
        buffer.resize(RECORD_HEADER_BYTES, 0);
        buffer
    }

    /// Fills the header but for the number. `bytes` began with [`Draft::begin`].
    pub fn new(mut bytes: Vec<u8>, kind: PayloadKind, flows: u32, time_ms: i64, seed: u32) -> Self {
        let len = (bytes.len() - RECORD_HEADER_BYTES) as u32;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes[MARK_OFFSET..MARK_OFFSET + 3].copy_from_slice(&MARK);
        bytes[MARK_OFFSET + 3] = kind as u8;
        bytes[12..16].copy_from_slice(&flows.to_le_bytes());
        bytes[16..24].copy_from_slice(&time_ms.to_le_bytes());
        let crc = crc_unnumbered(&bytes, seed);
        Self { bytes, crc }
    }

    /// Gives it its number; the bytes are then ready to be written.
    pub fn number(&mut self, position: u64, flows_before: u64) -> &[u8] {
        self.bytes[24..32].copy_from_slice(&position.to_le_bytes());
        self.bytes[32..40].copy_from_slice(&flows_before.to_le_bytes());
        let crc = crc32c::crc32c_append(self.crc, &self.bytes[24..40]);
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        &self.bytes
    }

    /// Bytes of the whole record.
    pub fn record_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The buffer, for the next record.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// Whether these bytes, header and payload, are a whole record of the log.
pub fn checks(bytes: &[u8], header: &RecordHeader, seed: u32) -> bool {
    bytes.len() as u64 == header.record_bytes()
        && crc32c::crc32c_append(crc_unnumbered(bytes, seed), &bytes[24..40]) == header.crc
}

fn crc_unnumbered(bytes: &[u8], seed: u32) -> u32 {
    let crc = crc32c::crc32c_append(seed, &bytes[..4]);
    let crc = crc32c::crc32c_append(crc, &bytes[8..24]);
    crc32c::crc32c_append(crc, &bytes[RECORD_HEADER_BYTES..])
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut le = [0; 8];
    le[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(le)
}
