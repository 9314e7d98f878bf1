//! The commonest question of detail, made fast: sums by source (or destination) address, without filter or interval.
//!
//! Works on decoded leaves without making batches, in a table of 4-byte keys; other questions, IPv6 and row groups at the edge
//! of the range go through the general grouper.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parquet::errors::Result;
use sink_api::batch::Field;
use sink_api::store::group::Grouper;
use sink_api::store::plan::Plan;
use sink_api::store::{Question, StoreError};
use sink_api::{Addr, Filter, Key, Measures, Value};
use std::hash::BuildHasher;

use crate::decode::DataReader;
use crate::encode::LeafData;
use crate::table::ip_leaves;

/// Sums by IPv4 address.
#[derive(Default)]
pub(super) struct AddressSums {
    table: HashTable<u32>,
    keys: Vec<u32>,
    sums: Vec<Measures>,
    hasher: RandomState,
    matched: Measures,
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

    /// Adds all rows of a row group. False, and nothing added, when it holds more than IPv4 addresses.
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
        let mut last: Option<(u32, usize)> = None;
        for (row, (address, (bytes, packets))) in addresses.iter().zip(bytes.iter().zip(&packets)).enumerate() {
            // Rows are stored by customer: the same address often follows itself.
            let group = match last {
                Some((same, group)) if same == *address => group,
                _ => self.group(*address),
            };
            last = Some((*address, group));
            let sum = &mut self.sums[group];
            sum.bytes = sum.bytes.saturating_add(*bytes);
            sum.packets = sum.packets.saturating_add(*packets);
            sum.flows += 1;
            if let Some(ms) = rtt.get(row)
                && has_rtt.is_none_or(|p| p[row] != 0)
            {
                sum.rtt_ms_sum = sum.rtt_ms_sum.saturating_add(u64::from(*ms));
                sum.rtt_count += 1;
            }
        }
        Ok(true)
    }

    fn group(&mut self, address: u32) -> usize {
        let hash = self.hasher.hash_one(address);
        let keys = &self.keys;
        if let Some(group) = self.table.find(hash, |group| keys[*group as usize] == address) {
            return *group as usize;
        }
        let (group, hasher) = (self.sums.len(), &self.hasher);
        self.table.insert_unique(hash, group as u32, |group| hasher.hash_one(keys[*group as usize]));
        self.keys.push(address);
        self.sums.push(Measures::default());
        group
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
        for (address, sums) in self.keys.iter().zip(&self.sums) {
            self.matched.add(sums);
            grouper.add_row(None, &[Value::Ip(Addr::v4(*address))], sums)?;
        }
        grouper.add_matched(&self.matched, 0);
        *self = Self::default();
        Ok(())
    }
}
