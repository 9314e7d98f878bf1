//! What the records of a row's two addresses say.

use super::ROWS_AHEAD;
use crate::enrich::table::{Record, Table};
use crate::flow::column::IpColumn;
use crate::flow::{Direction, FlowBatch};

/// Whose a row is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    /// Number of the source's record.
    pub src: u32,
    /// Number of the destination's record.
    pub dst: u32,
    /// Who has the customer's address, for [`Table::holder`]; 0 where there is no customer.
    pub party: u32,
    pub direction: Direction,
}

impl Side {
    /// The record of the customer, the source's for internal and transit flows.
    #[inline]
    pub fn customer<'a>(&self, table: &'a Table) -> &'a Record {
        table.record(if self.direction == Direction::In { self.dst } else { self.src })
    }
}

/// All rows of a batch, gathered in one pass over the records; each list holds one entry a row.
#[derive(Debug, Default)]
pub(super) struct Sides {
    numbers: [Vec<u32>; 2],
    pub sides: Vec<Side>,
    /// 0 = unknown, as below. The countries and AS are told only where the table has some.
    pub src_countries: Vec<u16>,
    pub dst_countries: Vec<u16>,
    pub src_as: Vec<u32>,
    pub dst_as: Vec<u32>,
}

impl Sides {
    /// Looks up all addresses of a batch.
    pub fn find(&mut self, table: &Table, batch: &FlowBatch) {
        let rows = batch.len();
        for (numbers, addrs) in self.numbers.iter_mut().zip([&batch.src_ip, &batch.dst_ip]) {
            find(table, addrs, numbers);
        }
        self.sides.clear();
        self.src_countries.resize(rows, 0);
        self.dst_countries.resize(rows, 0);
        self.src_as.resize(rows, 0);
        self.dst_as.resize(rows, 0);
        let [srcs, dsts] = self.numbers.each_ref().map(|numbers| &numbers[..rows]);
        let countries = (&mut self.src_countries[..rows], &mut self.dst_countries[..rows]);
        let systems = (&mut self.src_as[..rows], &mut self.dst_as[..rows]);
        self.sides.extend((0..rows).map(|row| {
            for numbers in [srcs, dsts] {
                numbers.get(row + ROWS_AHEAD).inspect(|ahead| table.prefetch_record(**ahead));
            }
            let (src, dst) = (table.record(srcs[row]), table.record(dsts[row]));
            (countries.0[row], countries.1[row]) = (src.country, dst.country);
            (systems.0[row], systems.1[row]) = (src.asn, dst.asn);
            // By arrays: every other flow comes the other way, which no branch foresees.
            let at = usize::from(src.customer) << 1 | usize::from(dst.customer);
            let direction = [Direction::Transit, Direction::In, Direction::Out, Direction::Internal][at];
            Side { src: srcs[row], dst: dsts[row], party: [0, dst.party, src.party, src.party][at], direction }
        }));
    }
}

/// The record number of every row's address. A null address has the record of an unknown one.
fn find(table: &Table, addrs: &IpColumn, numbers: &mut Vec<u32>) {
    numbers.clear();
    match addrs.all_v4() {
        Some(all) => table.find_all_v4(all, numbers),
        None => numbers.extend((0..addrs.len()).map(|row| addrs.get(row).map_or(0, |addr| table.find(addr)))),
    }
}
