//! The fixed-length export formats on the wire: NetFlow v1, v5 and v7.
//!
//! Offsets and lengths stand here once; receive, decode, the generator, tests, benches and fuzz targets all use them. All
//! numbers are big-endian. Nothing here panics on any input.

mod build;
mod header;
mod record;

pub use build::{Builder, datagram};
pub use header::Header;
pub use record::FlowRecord;

/// Length of the v1 header, bytes.
pub const V1_HEADER_BYTES: usize = 16;
/// Length of a v1 record, bytes.
pub const V1_RECORD_BYTES: usize = 52;
/// Length of the v5 header, bytes.
pub const V5_HEADER_BYTES: usize = 24;
/// Length of a v5 record, bytes.
pub const V5_RECORD_BYTES: usize = 48;
/// Length of the v7 header, bytes.
pub const V7_HEADER_BYTES: usize = 24;
/// Length of a v7 record, bytes.
pub const V7_RECORD_BYTES: usize = 52;
/// Records that Cisco's exporters put into one v5 datagram at most. A usage, not a limit that decoding enforces.
pub const V5_RECORDS_USUAL_MAX: usize = 30;

/// What a UDP datagram over IPv4 can hold, bytes.
pub const UDP_PAYLOAD_MAX: usize = 65_507;

/// Bits of the v5 sampling field that hold the interval; the two above are the mode.
pub const V5_SAMPLING_INTERVAL_MASK: u16 = 0x3fff;

/// Offsets of the header's fields, bytes. Those up to `UNIX_NSECS` are alike in v1, v5 and v7.
#[allow(missing_docs)]
pub mod header_at {
    pub const VERSION: usize = 0;
    pub const COUNT: usize = 2;
    pub const SYS_UPTIME: usize = 4;
    pub const UNIX_SECS: usize = 8;
    pub const UNIX_NSECS: usize = 12;
    /// v5 and v7.
    pub const SEQUENCE: usize = 16;
    /// v5.
    pub const ENGINE_TYPE: usize = 20;
    /// v5.
    pub const ENGINE_ID: usize = 21;
    /// v5.
    pub const SAMPLING: usize = 22;
}

/// Offsets of a record's fields, bytes. Those up to `DST_PORT`, and `PROTOCOL` and `TOS`, are alike in v1, v5 and v7.
#[allow(missing_docs)]
pub mod record_at {
    pub const SRC_ADDR: usize = 0;
    pub const DST_ADDR: usize = 4;
    pub const NEXT_HOP: usize = 8;
    pub const INPUT_IF: usize = 12;
    pub const OUTPUT_IF: usize = 14;
    pub const PACKETS: usize = 16;
    pub const BYTES: usize = 20;
    pub const FIRST: usize = 24;
    pub const LAST: usize = 28;
    pub const SRC_PORT: usize = 32;
    pub const DST_PORT: usize = 34;
    /// v5 and v7.
    pub const TCP_FLAGS: usize = 37;
    pub const PROTOCOL: usize = 38;
    pub const TOS: usize = 39;
    /// v1.
    pub const V1_TCP_FLAGS: usize = 40;
    /// v5 and v7.
    pub const SRC_AS: usize = 40;
    /// v5 and v7.
    pub const DST_AS: usize = 42;
    /// v5 and v7.
    pub const SRC_MASK: usize = 44;
    /// v5 and v7.
    pub const DST_MASK: usize = 45;
    /// v7: the router whose shortcut the switch took.
    pub const V7_ROUTER: usize = 48;
}

/// Lengths of header and record of a fixed-length version, bytes; `None` for any other version.
pub const fn lengths(version: u16) -> Option<(usize, usize)> {
    match version {
        1 => Some((V1_HEADER_BYTES, V1_RECORD_BYTES)),
        5 => Some((V5_HEADER_BYTES, V5_RECORD_BYTES)),
        7 => Some((V7_HEADER_BYTES, V7_RECORD_BYTES)),
        _ => None,
    }
}

/// Whole records of a fixed-length version that a datagram of so many bytes has room for; 0 for any other version.
pub fn records_in(version: u16, datagram_bytes: usize) -> usize {
    lengths(version)
        .map_or(0, |(header_bytes, record_bytes)| datagram_bytes.saturating_sub(header_bytes) / record_bytes)
}

fn get_u16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
