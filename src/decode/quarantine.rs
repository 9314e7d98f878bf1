//! Records that cannot be true, set aside with their bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::times;
use crate::flow::{Addr, StreamProgress};
use crate::receive::Frame;
use crate::wire;

/// Records kept for inspection; older ones go. All are counted in their exporter's account.
pub const SET_ASIDE_MAX: usize = 1024;
/// Longest record kept whole, bytes.
const RECORD_BYTES_MAX: usize =
    if wire::V1_RECORD_BYTES > wire::V7_RECORD_BYTES { wire::V1_RECORD_BYTES } else { wire::V7_RECORD_BYTES };
/// An IPv4 header: no packet has fewer layer 3 bytes.
const PACKET_BYTES_MIN: u64 = 20;
/// The largest IP packet.
const PACKET_BYTES_MAX: u64 = 65_535;

/// Why a record cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Absurdity {
    /// Bytes without packets.
    BytesWithoutPackets,
    /// Fewer than 20 bytes a packet.
    PacketsTooSmall,
    /// More than 65,535 bytes a packet.
    PacketsTooLarge,
    /// The end is before the start.
    EndsBeforeStart,
}

impl Absurdity {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::BytesWithoutPackets => "bytes without packets",
            Self::PacketsTooSmall => "fewer than 20 bytes a packet",
            Self::PacketsTooLarge => "more than 65,535 bytes a packet",
            Self::EndsBeforeStart => "the end is before the start",
        }
    }
}

/// A record set aside.
#[derive(Clone, Copy, Debug)]
pub struct SetAside {
    /// Its number, from 1 on since the start.
    pub number: u64,
    /// When its datagram came, ms since the Unix epoch.
    pub received_at_ms: i64,
    /// Who sent it.
    pub exporter: Addr,
    /// The exporter's UDP source port.
    pub source_port: u16,
    /// Version of the export protocol.
    pub version: u16,
    /// Why.
    pub why: Absurdity,
    bytes: [u8; RECORD_BYTES_MAX],
    length: usize,
}

impl SetAside {
    /// The record as it came.
    pub fn record(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The records set aside lately, of all workers.
#[derive(Debug, Default)]
pub struct Quarantine(Mutex<Asides>);

#[derive(Debug, Default)]
struct Asides {
    /// All that were ever set aside.
    count: u64,
    kept: VecDeque<SetAside>,
}

impl Quarantine {
    /// The records kept, oldest first.
    pub fn list(&self) -> Vec<SetAside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).kept.iter().copied().collect()
    }

    pub(super) fn push(&self, aside: SetAside) {
        let mut asides = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asides.kept.len() >= SET_ASIDE_MAX {
            asides.kept.pop_front();
        }
        asides.count += 1;
        let number = asides.count;
        asides.kept.push_back(SetAside { number, ..aside });
    }
}

impl SetAside {
    pub(super) fn new(why: Absurdity, frame: &Frame, from: &StreamProgress, record: &[u8]) -> Self {
        let mut bytes = [0; RECORD_BYTES_MAX];
        let length = record.len().min(RECORD_BYTES_MAX);
        bytes[..length].copy_from_slice(&record[..length]);
        Self {
            number: 0,
            received_at_ms: frame.received_at_ms,
            exporter: from.exporter,
            source_port: from.source_port,
            version: frame.header.version,
            why,
            bytes,
            length,
        }
    }
}

/// Whether any of the records is absurd; starts and ends as uptimes. Branch-free, for the usual case of none.
pub fn any_absurd(starts: &[i64], ends: &[i64], bytes: &[u64], packets: &[u64]) -> bool {
    let rows = starts.len().min(ends.len()).min(bytes.len()).min(packets.len());
    let (starts, ends, bytes, packets) = (&starts[..rows], &ends[..rows], &bytes[..rows], &packets[..rows]);
    let mut absurd = false;
    for row in 0..rows {
        absurd |= is_absurd(starts[row], ends[row], bytes[row], packets[row]);
    }
    absurd
}

#[inline]
fn is_absurd(start: i64, end: i64, bytes: u64, packets: u64) -> bool {
    // Bytes without packets are more than 65,535 times none.
    (bytes < packets.wrapping_mul(PACKET_BYTES_MIN))
        | (bytes > packets.wrapping_mul(PACKET_BYTES_MAX))
        | times::ends_before_start(start, end)
}

/// Why a record is absurd, if it is; start and end as uptimes, counts before scaling.
pub fn absurdity(start: i64, end: i64, bytes: u64, packets: u64) -> Option<Absurdity> {
    if !is_absurd(start, end, bytes, packets) {
        None
    } else if packets == 0 && bytes > 0 {
        Some(Absurdity::BytesWithoutPackets)
    } else if bytes < packets.wrapping_mul(PACKET_BYTES_MIN) {
        Some(Absurdity::PacketsTooSmall)
    } else if bytes > packets.wrapping_mul(PACKET_BYTES_MAX) {
        Some(Absurdity::PacketsTooLarge)
    } else {
        Some(Absurdity::EndsBeforeStart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_records_are_told_with_their_reason() {
        let cases = [
            ((1, 2, 40, 1), None),
            ((1, 1, 0, 0), None),
            ((1, 2, 20, 1), None),
            ((1, 2, 65_535, 1), None),
            ((1, 2, 40, 0), Some(Absurdity::BytesWithoutPackets)),
            ((1, 2, 19, 1), Some(Absurdity::PacketsTooSmall)),
            ((1, 2, 0, 1), Some(Absurdity::PacketsTooSmall)),
            ((1, 2, 65_536, 1), Some(Absurdity::PacketsTooLarge)),
            ((2, 1, 40, 1), Some(Absurdity::EndsBeforeStart)),
            ((0xffff_ffff, 1, 40, 1), None),
        ];
        for ((start, end, bytes, packets), want) in cases {
            assert_eq!(absurdity(start, end, bytes, packets), want, "{start} {end} {bytes} {packets}");
            assert_eq!(any_absurd(&[1, start], &[1, end], &[20, bytes], &[1, packets]), want.is_some());
        }
    }
}
