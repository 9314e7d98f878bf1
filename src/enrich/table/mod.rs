//! The compiled table of slow knowledge: who and where an address is, for IPv4 and IPv6.
//!
//! Immutable; one look-up an address gives the number of a [`Record`] in which every attribute has been resolved by the
//! longest prefix that states it. Names are numbers of [`Names`], valid across tables.

mod build;
mod prefix;
#[cfg(test)]
mod tests;
mod tree;
mod vendors;

use std::sync::Arc;

use hashbrown::HashMap;

pub use build::{Builder, TableTooLarge};
pub use prefix::Prefix;
use tree::Tree;
pub use vendors::Vendors;

use super::app::Apps;
use super::names::Names;
use super::sites::Sites;
use crate::flow::{Addr, Text};
use crate::prefetch::prefetch;

/// What is known of an address. 0 = unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// AS number.
    pub asn: u32,
    /// Who has the address: index for [`Table::holder`].
    pub party: u32,
    /// Sites by customer prefix: index for [`Table::site_of_group`].
    pub site_group: u32,
    /// Country, see [`crate::flow::country`].
    pub country: u16,
    /// Whether it is a customer's.
    pub customer: bool,
}

/// Who has an address during an interval. Names are numbers, 0 = none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// First ms.
    pub from_ms: i64,
    /// First ms after it.
    pub to_ms: i64,
    /// Number in [`Names::uuids`].
    pub subscriber: u32,
    /// Number in [`Names::uuids`].
    pub reseller: u32,
    /// Number in [`Names::texts`]: the access server, when it is known by the address.
    pub nas: u32,
    /// Number in [`Names::texts`]: the site, when it is known by the address.
    pub site: u32,
}

impl Holder {
    /// Whether the interval holds the time.
    #[inline]
    pub fn holds_at(&self, time_ms: i64) -> bool {
        self.from_ms <= time_ms && time_ms < self.to_ms
    }

    /// Whether the interval has no ends.
    pub fn is_always(&self) -> bool {
        self.from_ms == i64::MIN && self.to_ms == i64::MAX
    }

    /// Whether both intervals share a ms.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.from_ms < other.to_ms && other.from_ms < self.to_ms
    }
}

/// The site of a customer prefix, perhaps only for one exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteRule {
    /// `None` = any exporter. Rules of one prefix are ordered: those for one exporter first.
    pub exporter: Option<Addr>,
    /// Index of the site for [`Sites::site`].
    pub site: u32,
}

/// A slice of holders (or site rules) and the party of the prefix around, asked when none of them holds.
#[derive(Clone, Copy, Debug)]
struct Party {
    first: u32,
    count: u32,
    around: u32,
}

/// Which attributes the table knows at all: columns that nothing can fill are skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Has {
    /// Some address has a country.
    pub country: bool,
    /// Some address has an AS.
    pub asn: bool,
    /// Some prefix has holders.
    pub holders: bool,
    /// Some prefix has site rules.
    pub site_prefixes: bool,
}

/// The table. Built by [`Builder::build`], published whole.
#[derive(Debug)]
pub struct Table {
    generation: u64,
    names: Arc<Names>,
    v4: Tree<32>,
    v6: Tree<128>,
    records: Vec<Record>,
    parties: Vec<Party>,
    holders: Vec<Holder>,
    site_groups: Vec<Party>,
    site_rules: Vec<SiteRule>,
    sites: Sites,
    apps: Apps,
    as_names: HashMap<u32, Text, foldhash::fast::RandomState>,
    vendors: Vendors,
    prefixes: usize,
    has: Has,
}

impl Table {
    /// Appends the number of the record of each of many IPv4 addresses: a fraction of the time of one by one.
    pub fn find_all_v4(&self, addrs: &[u32], numbers: &mut Vec<u32>) {
        self.v4.find_all(addrs, numbers);
    }

    /// The number of the record of any address.
    #[inline]
    pub fn find(&self, addr: Addr) -> u32 {
        match addr.as_v4() {
            Some(bits) => self.v4.get(bits),
            None => self.v6.get(addr.0),
        }
    }

    /// The record of a number that this table gave.
    #[inline]
    pub fn record(&self, number: u32) -> &Record {
        &self.records[number as usize]
    }

    /// Has a record fetched into the cache.
    #[inline]
    pub fn prefetch_record(&self, number: u32) {
        self.records.get(number as usize).inspect(|record| prefetch(*record));
    }

    /// Has a party fetched into the cache.
    #[inline]
    pub fn prefetch_party(&self, party: u32) {
        self.parties.get(party as usize).inspect(|party| prefetch(*party));
    }

    /// Has the first holder of a party, which should be in the cache, fetched as well.
    #[inline]
    pub fn prefetch_holder(&self, party: u32) {
        let first = self.parties.get(party as usize).and_then(|party| self.holders.get(party.first as usize));
        first.inspect(|holder| prefetch(*holder));
    }

    /// Who of a party has the address at a time: the most specific prefix that had a holder then.
    #[inline]
    pub fn holder(&self, mut party: u32, time_ms: i64) -> Option<&Holder> {
        while party != 0 {
            let Party { first, count, around } = self.parties[party as usize];
            let holders = &self.holders[first as usize..(first + count) as usize];
            if let Some(holder) = holders.iter().find(|holder| holder.holds_at(time_ms)) {
                return Some(holder);
            }
            party = around;
        }
        None
    }

    /// The site of a group of customer prefixes for an exporter: the most specific prefix with a rule for it.
    #[inline]
    pub fn site_of_group(&self, mut group: u32, exporter: Addr) -> Option<u32> {
        while group != 0 {
            let Party { first, count, around } = self.site_groups[group as usize];
            let rules = &self.site_rules[first as usize..(first + count) as usize];
            if let Some(rule) = rules.iter().find(|rule| rule.exporter.is_none_or(|only| only == exporter)) {
                return Some(rule.site);
            }
            group = around;
        }
        None
    }

    /// Applications by port and protocol.
    pub fn apps(&self) -> &Apps {
        &self.apps
    }

    /// Sites by exporter, interface and engine.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// The pools of names that its numbers point into.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// The name of an AS, where the database gives one.
    pub fn as_name(&self, asn: u32) -> Option<&Text> {
        self.as_names.get(&asn)
    }

    /// The vendor of a network card with this MAC address, where the list of them names one.
    pub fn vendor(&self, mac: u64) -> Option<&Text> {
        self.vendors.get(mac)
    }

    /// Which attributes the table knows at all.
    pub fn has(&self) -> Has {
        self.has
    }

    /// Counts up by one with every table that was built.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Statements about prefixes that went into it.
    pub fn prefixes(&self) -> usize {
        self.prefixes
    }

    /// Bytes held, without the pools of names.
    pub fn bytes(&self) -> usize {
        self.v4.bytes()
            + self.v6.bytes()
            + size_of::<Record>() * self.records.capacity()
            + size_of::<Party>() * (self.parties.capacity() + self.site_groups.capacity())
            + size_of::<Holder>() * self.holders.capacity()
            + size_of::<SiteRule>() * self.site_rules.capacity()
            + self.as_names.values().map(|name| name.len() + 48).sum::<usize>()
            + self.vendors.bytes()
            + self.apps.bytes()
    }
}
