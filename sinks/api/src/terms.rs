//! Small vocabulary: directions, countries, times, export streams.

use serde::{Deserialize, Serialize};

use crate::Addr;

/// Where a flow goes, seen from the customer networks. The numbers are stored; they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Direction {
    /// The destination is a customer.
    In = 1,
    /// The source is a customer.
    Out = 2,
    /// Both are customers; the row carries the source's subscriber.
    Internal = 3,
    /// Neither is a customer.
    Transit = 4,
    /// Only in the rollups `usage` and `usage_apps`: the destination's side of an internal flow. Totals leave it out.
    InternalIn = 5,
}

impl Direction {
    /// Every direction, by number.
    pub const ALL: [Direction; 5] = [Self::In, Self::Out, Self::Internal, Self::Transit, Self::InternalIn];

    /// The direction of a stored number.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::In),
            2 => Some(Self::Out),
            3 => Some(Self::Internal),
            4 => Some(Self::Transit),
            5 => Some(Self::InternalIn),
            _ => None,
        }
    }

    /// Its name in tables, filters and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Internal => "internal",
            Self::Transit => "transit",
            Self::InternalIn => "internal_in",
        }
    }

    /// The side that rollups by country and AS look at: the one that is not the customer's; the destination within the
    /// customer networks, the source of transit and of flows without a direction.
    pub const fn outer_side(direction: Option<Self>) -> crate::filter::Side {
        match direction {
            Some(Self::Out | Self::Internal) => crate::filter::Side::Dst,
            _ => crate::filter::Side::Src,
        }
    }

    /// The direction of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }
}

/// Progress of one export stream within one batch. A stream is (exporter, source port, version, engine or source id).
///
/// The flows that a crash took are those between what the batches tell and the next datagram: its number is
/// `first_sequence` of the stream's first batch + the sum of `sequence_units` and `gap` of all, in wrapping 32-bit arithmetic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamProgress {
    /// The exporter's address.
    pub exporter: Addr,
    /// The exporter's UDP source port.
    pub source_port: u16,
    /// Export protocol version.
    pub version: u8,
    /// Engine type and id (v5), source id (v9) or observation domain (IPFIX).
    pub source_id: u32,
    /// Whether the protocol numbers its exports (v1 does not: then the sequence fields are 0).
    pub has_sequence: bool,
    /// Sequence number up to which the batches before tell everything: that of this batch's first datagram, unless `gap` or
    /// open holes precede it.
    pub first_sequence: u32,
    /// Sequence number expected after the latest datagram in this batch.
    pub next_sequence: u32,
    /// Sequence units (flows for v5) that this batch's datagrams cover.
    pub sequence_units: u32,
    /// Sequence units that are told although no datagram here covers them, wrapping: lost and counted as such, dropped and
    /// counted, or jumped over by an exporter's restart.
    pub gap: u32,
    /// Datagrams of this stream in this batch.
    pub datagrams: u32,
    /// Flow rows of this stream in this batch.
    pub flows: u32,
}

/// A run of rows from one engine (v5: engine type * 256 + engine id), source id (v9) or observation domain (IPFIX).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRun {
    /// Rows of the run, following those of the runs before it.
    pub rows: u32,
    /// As [`StreamProgress::source_id`].
    pub source_id: u32,
}

/// Countries as two ASCII letters in 16 bits, high byte first.
pub mod country {
    /// The number of a two-letter code; letters are made upper case. `None` for anything else.
    pub fn code(text: &str) -> Option<u16> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric() => {
                Some(u16::from_be_bytes([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => None,
        }
    }

    /// The two letters of a number. Bytes that are not ASCII give `?`.
    pub fn text(code: u16) -> CountryText {
        CountryText(code.to_be_bytes().map(|b| if b.is_ascii_graphic() { b } else { b'?' }))
    }

    /// Two letters, without allocation.
    #[derive(Clone, Copy, Debug)]
    pub struct CountryText([u8; 2]);

    impl CountryText {
        /// The letters, ASCII.
        pub fn bytes(self) -> [u8; 2] {
            self.0
        }

        /// The letters.
        pub fn as_str(&self) -> &str {
            std::str::from_utf8(&self.0).unwrap_or("??")
        }
    }
}

/// Times in ms since the Unix epoch.
pub mod time {
    use std::fmt;
    use std::time::{SystemTime, UNIX_EPOCH};

    /// ms in one second, minute, hour and day.
    pub const SECOND_MS: i64 = 1000;
    #[allow(missing_docs)]
    pub const MINUTE_MS: i64 = 60 * SECOND_MS;
    #[allow(missing_docs)]
    pub const HOUR_MS: i64 = 60 * MINUTE_MS;
    #[allow(missing_docs)]
    pub const DAY_MS: i64 = 24 * HOUR_MS;

    /// The system clock now. A clock before 1970 gives 0.
    pub fn now_ms() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
    }

    /// Writes `2026-01-31T12:00:00.000Z`. Times outside jiff's range are written as their number of ms.
    pub fn write_rfc3339(out: &mut impl fmt::Write, ms: i64) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(ms) {
            Ok(timestamp) => write!(out, "{timestamp:.3}"),
            Err(_) => write!(out, "{ms}"),
        }
    }

    /// The time as text, see [`write_rfc3339`].
    pub fn rfc3339(ms: i64) -> String {
        let mut text = String::with_capacity(24);
        // Writing into a String cannot fail.
        let _ = write_rfc3339(&mut text, ms);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_keep_their_numbers_and_names() {
        for direction in Direction::ALL {
            assert_eq!(Direction::from_code(direction as u8), Some(direction));
            assert_eq!(Direction::from_name(direction.name()), Some(direction));
        }
        assert_eq!(Direction::from_code(0), None);
    }

    #[test]
    fn countries_round_trip() {
        assert_eq!(country::text(country::code("ma").unwrap()).as_str(), "MA");
        assert_eq!(country::code("MAR"), None);
        assert_eq!(country::code("é"), None);
    }

    #[test]
    fn times_print_with_milliseconds() {
        assert_eq!(time::rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time::rfc3339(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
    }
}
