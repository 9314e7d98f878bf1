//! Fixed-length records as a table of moves from bytes to columns.
//!
//! A layout is executed column by column over a block of datagrams that fits the first-level cache: each move is a tight
//! loop over a strided block. Times are moved as the exporter's uptime and made absolute afterwards (see `times`).

use crate::flow::batch::ColumnMut;
use crate::flow::column::Column;
use crate::flow::{Addr, Field, FlowBatch};
use crate::receive::Frame;
use crate::wire::{self, record_at as at};

/// One field: `width` big-endian bytes at `offset` of the record go to the column of `field`.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Bytes from the start of the record.
    pub offset: usize,
    /// 1 to 8 bytes. 4 for addresses.
    pub width: usize,
    /// The column.
    pub field: Field,
}

/// A fixed-length record.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// Bytes before the first record of a datagram.
    pub header_bytes: usize,
    /// Bytes of a record.
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

    /// Appends every record of the frames to the columns that the moves name.
    pub fn run(&self, bytes: &[u8], frames: &[Frame], batch: &mut FlowBatch) {
        let block = Block { layout: self, bytes, frames };
        let rows = frames.iter().map(|frame| self.records(bytes, frame).len() / self.record_bytes).sum();
        for m in self.moves {
            match batch.column_mut(m.field) {
                ColumnMut::I64(column) => block.fill(m, column.extend_slots(rows)),
                ColumnMut::U64(column) => block.fill(m, column.extend_slots(rows)),
                ColumnMut::U32(column) => block.fill(m, column.extend_slots(rows)),
                ColumnMut::U16(column) => block.fill(m, column.extend_slots(rows)),
                ColumnMut::U8(column) => block.fill(m, column.extend_slots(rows)),
                ColumnMut::Ip(column) => match column.as_v4_mut() {
                    Some(narrow) => block.fill(m, narrow.extend_slots(rows)),
                    None => {
                        let mut addresses: Column<u32> = Column::default();
                        block.fill(m, addresses.extend_slots(rows));
                        addresses.values().iter().for_each(|bits| column.push(Some(Addr::v4(*bits))));
                    }
                },
                // No export carries a dictionary; these stay null.
                ColumnMut::AddrDict(_) | ColumnMut::Text(_) | ColumnMut::Uuid(_) => {}
            }
        }
    }
}

struct Block<'a> {
    layout: &'a Layout<'a>,
    bytes: &'a [u8],
    frames: &'a [Frame],
}

impl Block<'_> {
    fn fill<T: FromBits>(&self, m: &Move, slots: &mut [T]) {
        match m.width {
            1 => self.fill_width::<T, 1>(m.offset, slots),
            2 => self.fill_width::<T, 2>(m.offset, slots),
            3 => self.fill_width::<T, 3>(m.offset, slots),
            4 => self.fill_width::<T, 4>(m.offset, slots),
            6 => self.fill_width::<T, 6>(m.offset, slots),
            8 => self.fill_width::<T, 8>(m.offset, slots),
            // No field of any export has another width that a column takes.
            _ => {}
        }
    }

    fn fill_width<T: FromBits, const W: usize>(&self, offset: usize, mut slots: &mut [T]) {
        for frame in self.frames {
            let records = self.layout.records(self.bytes, frame).chunks_exact(self.layout.record_bytes);
            let (these, rest) = std::mem::take(&mut slots).split_at_mut(records.len());
            for (slot, record) in these.iter_mut().zip(records) {
                if let Some(field) = record[offset..].first_chunk::<W>() {
                    *slot = T::from_bits(field.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)));
                }
            }
            slots = rest;
        }
    }
}

/// A column's value from the number on the wire, cut to its width.
trait FromBits {
    fn from_bits(bits: u64) -> Self;
}

macro_rules! from_bits {
    ($($ty:ty),*) => { $(impl FromBits for $ty {
        #[inline]
        fn from_bits(bits: u64) -> Self {
            bits as $ty
        }
    })* };
}
from_bits!(u8, u16, u32, u64, i64);
