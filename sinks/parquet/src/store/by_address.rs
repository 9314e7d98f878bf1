//! The commonest question of detail, made fast: sums by source (or destination) address, without filter or interval.
//!
//! Works on decoded leaves without making batches, in a table of 4-byte keys; other questions, IPv6 and row groups at the edge
//! of the range go through the general grouper.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use parquet::errors::Result;
use sink_api::batch::Field;
use sink_api::store::group::Grouper;
use sink_api::store::plan::Plan;
use sink_api::store::{Question, StoreError};
use sink_api::{Addr, Filter, Key, Measures, Value};

use crate::decode::DataReader;
use crate::encode::LeafData;
use crate::table::ip_leaves;

/// Rows whose groups are found before anything is added up, so that the look-ups, which mostly miss the caches, overlap.
const ROWS_AT_ONCE: usize = 256;

/// Sums by IPv4 address.
#[derive(Default)]
pub(super) struct AddressSums {
    groups: Groups,
    /// Bytes, packets and flows of each group.
    sums: Vec<[u64; 3]>,
    /// Sum in ms and number of its round-trip times.
    rtt: Vec<[u64; 2]>,
    matched: Measures,
}

/// Numbers of addresses in order of appearance: a table with open addressing that holds the keys themselves.
#[derive(Default)]
struct Groups {
    /// Address, and group + 1 (0: free). At most half of the places are taken.
    places: Vec<(u32, u32)>,
    addresses: Vec<u32>,
    seed: u32,
}

impl Groups {
    /// Places of the first table.
    const PLACES_MIN: usize = 1 << 12;

    /// The group of an address, a new one when it has none.
    #[inline]
    fn find(&mut self, address: u32) -> u32 {
        let mask = self.places.len().wrapping_sub(1);
        let mut at = self.start(address);
        while let Some((held, group)) = self.places.get(at) {
            match group.checked_sub(1) {
                Some(group) if *held == address => return group,
                Some(_) => at = (at + 1) & mask,
                None => break,
            }
        }
        self.insert(address)
    }

    /// Reads the places where searches will start, one after another without a decision in between: what is not in the caches
    /// is then on its way for many addresses at once.
    fn touch(&self, addresses: &[u32]) {
        let read = |all, address: &u32| all | self.places.get(self.start(*address)).map_or(0, |place| place.1);
        std::hint::black_box(addresses.iter().fold(0, read));
    }

    /// Where the search for an address starts. The seed differs from query to query, so that nobody can send addresses that
    /// all meet in one place.
    #[inline]
    fn start(&self, address: u32) -> usize {
        let mixed = u64::from(address ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let folded = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (folded >> 32) as usize & self.places.len().wrapping_sub(1)
    }

    fn insert(&mut self, address: u32) -> u32 {
        if (self.addresses.len() + 1) * 2 > self.places.len() {
            self.grow();
        }
        let group = self.addresses.len() as u32;
        self.addresses.push(address);
        self.place(address, group);
        group
    }

    fn place(&mut self, address: u32, group: u32) {
        let mask = self.places.len() - 1;
        let mut at = self.start(address);
        while self.places[at].1 != 0 {
            at = (at + 1) & mask;
        }
        self.places[at] = (address, group + 1);
    }

    #[cold]
    fn grow(&mut self) {
        if self.places.is_empty() {
            self.seed = RandomState::default().hash_one(0) as u32;
        }
        let places = (self.places.len() * 2).max(Self::PLACES_MIN);
        self.places = vec![(0, 0); places];
        for group in 0..self.addresses.len() {
            self.place(self.addresses[group], group as u32);
        }
    }
}

impl AddressSums {
    /// The address column that a question groups by, when it is of this kind.
    pub(super) fn fits(question: &Question, plan: &Plan) -> Option<Field> {
        let plain = plan.rollup.is_none() && question.filter == Filter::Any && question.interval_ms.is_none();
        match plan.columns[..] {
            [Key::Field(field @ (Field::SrcIp | Field::DstIp))] if plain => Some(field),
            _ => None,
        }
    }

    /// Adds all rows of a row group. False, and nothing added, when it holds more than IPv4 addresses, or rows
    /// without an address.
    pub(super) fn add(&mut self, reader: &DataReader, row_group: usize, field: Field) -> Result<bool> {
        let [v4, v6] = ip_leaves(field.name());
        let LeafData::Null = reader.read(row_group, &v6, None)? else {
            return Ok(false);
        };
        let LeafData::Narrow(addresses, None) = reader.read(row_group, &v4, None)? else {
            return Ok(false);
        };
        let count = |field: Field| -> Result<Vec<u64>> {
            Ok(match reader.read(row_group, field.name(), None)? {
                LeafData::Wide(values, _) => values,
                _ => vec![0; addresses.len()],
            })
        };
        let (bytes, packets) = (count(Field::Bytes)?, count(Field::Packets)?);
        let rtt = reader.read(row_group, Field::RttMs.name(), None)?;
        let (rtt, has_rtt) = match &rtt {
            LeafData::Narrow(values, present) => (values.as_slice(), present.as_deref()),
            _ => (&[][..], None),
        };
        let mut groups = [0u32; ROWS_AT_ONCE];
        let mut last = None;
        for start in (0..addresses.len()).step_by(ROWS_AT_ONCE) {
            let end = addresses.len().min(start + ROWS_AT_ONCE);
            self.groups.touch(&addresses[start..end]);
            for (group, address) in groups.iter_mut().zip(&addresses[start..end]) {
                // Rows are stored by customer: the same address often follows itself.
                *group = match last {
                    Some((same, group)) if same == *address => group,
                    _ => self.groups.find(*address),
                };
                last = Some((*address, *group));
            }
            self.sums.resize(self.groups.addresses.len(), [0; 3]);
            for (group, (bytes, packets)) in groups.iter().zip(bytes[start..end].iter().zip(&packets[start..end])) {
                let sum = &mut self.sums[*group as usize];
                sum[0] = sum[0].saturating_add(*bytes);
                sum[1] = sum[1].saturating_add(*packets);
                sum[2] += 1;
            }
            if rtt.is_empty() {
                continue;
            }
            self.rtt.resize(self.groups.addresses.len(), [0; 2]);
            for (row, group) in (start..end).zip(&groups) {
                if has_rtt.is_none_or(|p| p[row] != 0) {
                    let sum = &mut self.rtt[*group as usize];
                    sum[0] = sum[0].saturating_add(u64::from(rtt[row]));
                    sum[1] += 1;
                }
            }
        }
        Ok(true)
    }

    /// Hands the sums over to the general grouper when there are more than `groups_max`, and starts anew.
    ///
    /// # Errors
    /// The grouper's, over its bound.
    pub(super) fn spill(
        &mut self,
        grouper: &mut Grouper<'_>,
        groups_max: usize,
    ) -> std::result::Result<(), StoreError> {
        if self.sums.len() <= groups_max {
            return Ok(());
        }
        for (group, (address, [bytes, packets, flows])) in self.groups.addresses.iter().zip(&self.sums).enumerate() {
            let [rtt_ms_sum, rtt_count] = self.rtt.get(group).copied().unwrap_or_default();
            let sums = Measures { bytes: *bytes, packets: *packets, flows: *flows, rtt_ms_sum, rtt_count };
            self.matched.add(&sums);
            grouper.add_row(None, &[Value::Ip(Addr::v4(*address))], &sums)?;
        }
        grouper.add_matched(&self.matched, 0);
        *self = Self::default();
        Ok(())
    }
}
