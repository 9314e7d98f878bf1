//! Fixed-length records as a table of moves from bytes to columns.
//!
//! A layout is executed over a block of datagrams that fits the first-level cache: the records become columns of words (see
//! `words`), then each move is a tight loop over one of these. Times are moved as the exporter's uptime and made absolute
//! afterwards (see `times`).

use super::words::{WORD_BYTES, Words};
use crate::flow::batch::ColumnMut;
use crate::flow::{Field, FlowBatch};
use crate::receive::Frame;
use crate::wire::{self, record_at as at};

/// One field: `width` big-endian bytes at `offset` of the record go to the column of `field`.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Bytes from the start of the record.
    pub offset: usize,
    /// 1 to 4 bytes, within one of the record's words of 4 bytes. 4 for addresses.
    pub width: usize,
    /// The column.
    pub field: Field,
}

/// A fixed-length record.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// Bytes before the first record of a datagram.
    pub header_bytes: usize,
    /// Bytes of a record, whole words.
    pub record_bytes: usize,
    /// Where its fields go; each field at most once, all within `record_bytes`.
    pub moves: &'a [Move],
}

const fn mv(offset: usize, width: usize, field: Field) -> Move {
    Move { offset, width, field }
}

/// What v1, v5 and v7 have in common: 13 fields.
macro_rules! fixed_moves {
    ($($more:expr),*) => {
        &[
            mv(at::SRC_ADDR, 4, Field::SrcIp),
            mv(at::DST_ADDR, 4, Field::DstIp),
            mv(at::NEXT_HOP, 4, Field::NextHop),
            mv(at::INPUT_IF, 2, Field::InputIf),
            mv(at::OUTPUT_IF, 2, Field::OutputIf),
            mv(at::PACKETS, 4, Field::Packets),
            mv(at::BYTES, 4, Field::Bytes),
            mv(at::FIRST, 4, Field::FlowStart),
            mv(at::LAST, 4, Field::Time),
            mv(at::SRC_PORT, 2, Field::SrcPort),
            mv(at::DST_PORT, 2, Field::DstPort),
            mv(at::PROTOCOL, 1, Field::Protocol),
            mv(at::TOS, 1, Field::Tos),
            $($more),*
        ]
    };
}

const V5_MOVES: &[Move] = fixed_moves![
    mv(at::TCP_FLAGS, 1, Field::TcpFlags),
    mv(at::SRC_AS, 2, Field::SrcAs),
    mv(at::DST_AS, 2, Field::DstAs),
    mv(at::SRC_MASK, 1, Field::SrcMask),
    mv(at::DST_MASK, 1, Field::DstMask)
];
const V1_MOVES: &[Move] = fixed_moves![mv(at::V1_TCP_FLAGS, 1, Field::TcpFlags)];

/// NetFlow v1.
pub const V1: Layout<'static> =
    Layout { header_bytes: wire::V1_HEADER_BYTES, record_bytes: wire::V1_RECORD_BYTES, moves: V1_MOVES };
/// NetFlow v5.
pub const V5: Layout<'static> =
    Layout { header_bytes: wire::V5_HEADER_BYTES, record_bytes: wire::V5_RECORD_BYTES, moves: V5_MOVES };
/// NetFlow v7: the fields of v5 and the router behind the switch, which no column holds.
pub const V7: Layout<'static> =
    Layout { header_bytes: wire::V7_HEADER_BYTES, record_bytes: wire::V7_RECORD_BYTES, moves: V5_MOVES };

impl Layout<'static> {
    /// The layout of a fixed-length version.
    pub const fn of_version(version: u16) -> Option<&'static Self> {
        match version {
            1 => Some(&V1),
            5 => Some(&V5),
            7 => Some(&V7),
            _ => None,
        }
    }
}

impl Layout<'_> {
    /// The records of a framed datagram; empty when they are not wholly within `bytes`.
    pub fn records<'b>(&self, bytes: &'b [u8], frame: &Frame) -> &'b [u8] {
        let start = frame.offset as usize + self.header_bytes;
        bytes.get(start..start + usize::from(frame.records) * self.record_bytes).unwrap_or(&[])
    }

    /// Makes room in the columns that the moves name.
    pub fn reserve(&self, rows: usize, batch: &mut FlowBatch) {
        for m in self.moves {
            match batch.column_mut(m.field) {
                ColumnMut::I64(column) => column.reserve(rows),
                ColumnMut::U64(column) => column.reserve(rows),
                ColumnMut::U32(column) => column.reserve(rows),
                ColumnMut::U16(column) => column.reserve(rows),
                ColumnMut::U8(column) => column.reserve(rows),
                ColumnMut::Ip(column) => column.reserve(rows),
                ColumnMut::AddrDict(_) | ColumnMut::Text(_) | ColumnMut::Uuid(_) => {}
            }
        }
    }

    /// Appends every record of the frames to the columns that the moves name.
    pub(super) fn run(&self, bytes: &[u8], frames: &[Frame], words: &mut Words, batch: &mut FlowBatch) {
        for frame in frames {
            let mut records = self.records(bytes, frame);
            while !records.is_empty() {
                records = words.load(records, self.record_bytes);
                if words.is_full() {
                    self.unload(words, batch);
                }
            }
        }
        self.unload(words, batch);
    }

    fn unload(&self, words: &mut Words, batch: &mut FlowBatch) {
        for m in self.moves {
            let (word, low) = (words.column(m.offset / WORD_BYTES), WORD_BYTES - m.offset % WORD_BYTES - m.width);
            let mask = u32::MAX >> (u32::BITS - 8 * m.width as u32);
            let values = word.iter().map(|word| word >> (8 * low) & mask);
            match batch.column_mut(m.field) {
                ColumnMut::I64(column) => column.extend(values.map(i64::from)),
                ColumnMut::U64(column) => column.extend(values.map(u64::from)),
                ColumnMut::U32(column) => column.extend(values),
                ColumnMut::U16(column) => column.extend(values.map(|value| value as u16)),
                ColumnMut::U8(column) => column.extend(values.map(|value| value as u8)),
                ColumnMut::Ip(column) => column.extend_v4(values),
                // No export carries a dictionary; these stay null.
                ColumnMut::AddrDict(_) | ColumnMut::Text(_) | ColumnMut::Uuid(_) => {}
            }
        }
        words.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_lies_within_a_word_of_its_record() {
        for layout in [V1, V5, V7] {
            assert!(Words::can_load(layout.record_bytes));
            for m in layout.moves {
                let words = m.offset / WORD_BYTES..=(m.offset + m.width - 1) / WORD_BYTES;
                assert!(words.start() == words.end() && m.offset + m.width <= layout.record_bytes, "{m:?}");
            }
        }
    }
}
