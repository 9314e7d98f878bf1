//! Compiles what the sources say about prefixes into one table.
//!
//! A sweep over the prefixes in address order keeps the stack of prefixes around the current one. Each inherits from the one
//! around it whatever it does not say itself: so the longest prefix wins for each attribute on its own.

use std::sync::Arc;

use hashbrown::HashMap;

use super::tree::{Range, Tree, VALUES_MAX};
use super::{Holder, Party, Prefix, Record, SiteRule, Table, Vendors};
use crate::enrich::app::Apps;
use crate::enrich::names::Names;
use crate::enrich::sites::Sites;
use crate::flow::Text;

/// What a source says about a prefix.
#[derive(Clone, Copy, Debug)]
enum Attribute {
    Country(u16),
    Asn(u32),
    Customer,
    /// Index into `Builder::holders`.
    Holders(u32),
    /// Index into `Builder::site_rules`.
    SiteRules(u32),
}

#[derive(Clone, Copy, Debug)]
struct Statement {
    prefix: Prefix,
    /// Which was said later; the later one wins among equal prefixes.
    order: u32,
    attribute: Attribute,
}

/// Collects statements, then compiles them.
#[derive(Debug, Default)]
pub struct Builder {
    v4: Vec<Statement>,
    v6: Vec<Statement>,
    holders: Vec<Vec<Holder>>,
    site_rules: Vec<Vec<SiteRule>>,
    as_names: HashMap<u32, Text, foldhash::fast::RandomState>,
    vendors: Vendors,
}

/// More distinct combinations of attributes than a table can number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {VALUES_MAX} different combinations of attributes")]
pub struct TableTooLarge;

impl Builder {
    /// The country of a network, see [`crate::flow::country`].
    pub fn country(&mut self, prefix: Prefix, country: u16) {
        self.state(prefix, Attribute::Country(country));
    }

    /// The AS of a network; 0 means none and is left out.
    pub fn asn(&mut self, prefix: Prefix, asn: u32) {
        if asn != 0 {
            self.state(prefix, Attribute::Asn(asn));
        }
    }

    /// The name of an AS. The first name stays.
    pub fn as_name(&mut self, asn: u32, name: &str) {
        self.as_names.entry(asn).or_insert_with(|| name.into());
    }

    /// The vendors of network cards.
    pub fn vendors(&mut self, vendors: Vendors) {
        self.vendors = vendors;
    }

    /// A network of customers.
    pub fn customer(&mut self, prefix: Prefix) {
        self.state(prefix, Attribute::Customer);
    }

    /// Who has a network, when. The intervals of one network do not overlap. Its addresses are customers.
    pub fn holders(&mut self, prefix: Prefix, holders: Vec<Holder>) {
        self.state(prefix, Attribute::Holders(self.holders.len() as u32));
        self.holders.push(holders);
        self.customer(prefix);
    }

    /// The sites of a network, by exporter. Its addresses are customers.
    pub fn site_rules(&mut self, prefix: Prefix, rules: Vec<SiteRule>) {
        self.state(prefix, Attribute::SiteRules(self.site_rules.len() as u32));
        self.site_rules.push(rules);
        self.customer(prefix);
    }

    fn state(&mut self, prefix: Prefix, attribute: Attribute) {
        let family = if prefix.v4 { &mut self.v4 } else { &mut self.v6 };
        let order = family.len() as u32;
        family.push(Statement { prefix, order, attribute });
    }

    /// Compiles the table.
    ///
    /// # Errors
    /// When the attributes combine in more ways than a table can number.
    pub fn build(
        mut self,
        generation: u64,
        names: Arc<Names>,
        apps: Apps,
        sites: Sites,
    ) -> Result<Table, TableTooLarge> {
        let mut merge = Merge::new();
        let v4 = merge.sweep(&mut self.v4, 32, &self.holders, &self.site_rules)?;
        let v6 = merge.sweep(&mut self.v6, 128, &self.holders, &self.site_rules)?;
        let mut table = Table {
            generation,
            names,
            v4: Tree::build(&v4),
            v6: Tree::build(&v6),
            records: merge.records,
            parties: merge.parties,
            holders: merge.holders,
            site_groups: merge.site_groups,
            site_rules: merge.site_rules,
            sites,
            apps,
            as_names: self.as_names,
            vendors: self.vendors,
            prefixes: self.v4.len() + self.v6.len(),
            has: super::Has::default(),
        };
        table.has.country = table.records.iter().any(|record| record.country != 0);
        table.has.asn = table.records.iter().any(|record| record.asn != 0);
        table.has.site_prefixes = table.site_groups.len() > 1;
        table.has.holders = table.parties.len() > 1;
        Ok(table)
    }
}

/// State of the sweeps over both families. Index 0 of `parties` and `site_groups` means "none".
struct Merge {
    records: Vec<Record>,
    numbers: HashMap<Record, u32, foldhash::fast::RandomState>,
    parties: Vec<Party>,
    holders: Vec<Holder>,
    site_groups: Vec<Party>,
    site_rules: Vec<SiteRule>,
}

/// Ranges under way; neighbours of equal value become one.
#[derive(Default)]
struct Ranges(Vec<Range>);

impl Ranges {
    fn begin(&mut self, first: u128, value: u32) {
        if self.0.last().is_some_and(|last| last.first == first) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.value != value) {
            self.0.push(Range { first, value });
        }
    }
}

impl Merge {
    fn new() -> Self {
        let none = Party { first: 0, count: 0, around: 0 };
        Self {
            records: Vec::new(),
            numbers: HashMap::default(),
            parties: vec![none],
            holders: Vec::new(),
            site_groups: vec![none],
            site_rules: Vec::new(),
        }
    }

    fn sweep(
        &mut self,
        statements: &mut [Statement],
        width: u32,
        holders: &[Vec<Holder>],
        site_rules: &[Vec<SiteRule>],
    ) -> Result<Vec<Range>, TableTooLarge> {
        statements.sort_unstable_by_key(|s| (s.prefix.first, s.prefix.len, s.order));
        let space_last = if width == 128 { u128::MAX } else { (1 << width) - 1 };
        let mut ranges = Ranges::default();
        let outside = Record::default();
        ranges.begin(0, self.number(outside)?);
        let mut around: Vec<(u128, Record)> = vec![(space_last, outside)];
        for group in statements.chunk_by(|a, b| a.prefix == b.prefix) {
            let prefix = group[0].prefix;
            self.leave_before(prefix.first, &mut around, &mut ranges)?;
            let mut record = around.last().map_or(outside, |(_, record)| *record);
            for statement in group {
                match statement.attribute {
                    Attribute::Country(country) => record.country = country,
                    Attribute::Asn(asn) => record.asn = asn,
                    Attribute::Customer => record.customer = true,
                    Attribute::Holders(at) => record.party = self.party(&holders[at as usize], record.party),
                    Attribute::SiteRules(at) => {
                        record.site_group = self.site_group(&site_rules[at as usize], record.site_group);
                    }
                }
            }
            ranges.begin(prefix.first, self.number(record)?);
            around.push((prefix.last(), record));
        }
        // The whole space itself is never left: nothing comes after it.
        while around.len() > 1 {
            self.leave(&mut around, &mut ranges)?;
        }
        Ok(ranges.0)
    }

    fn leave_before(
        &mut self,
        first: u128,
        around: &mut Vec<(u128, Record)>,
        ranges: &mut Ranges,
    ) -> Result<(), TableTooLarge> {
        while around.last().is_some_and(|(last, _)| *last < first) {
            self.leave(around, ranges)?;
        }
        Ok(())
    }

    /// Ends the innermost prefix: what is around it goes on after it.
    fn leave(&mut self, around: &mut Vec<(u128, Record)>, ranges: &mut Ranges) -> Result<(), TableTooLarge> {
        if let (Some((last, _)), Some(&(outer_last, outer))) = (around.pop(), around.last())
            && last < outer_last
        {
            ranges.begin(last + 1, self.number(outer)?);
        }
        Ok(())
    }

    fn number(&mut self, record: Record) -> Result<u32, TableTooLarge> {
        if let Some(&number) = self.numbers.get(&record) {
            return Ok(number);
        }
        let number = self.records.len() as u32;
        if number >= VALUES_MAX {
            return Err(TableTooLarge);
        }
        self.records.push(record);
        self.numbers.insert(record, number);
        Ok(number)
    }

    fn party(&mut self, holders: &[Holder], around: u32) -> u32 {
        let always = holders.iter().any(Holder::is_always);
        let first = self.holders.len() as u32;
        self.holders.extend(holders);
        self.parties.push(Party { first, count: holders.len() as u32, around: if always { 0 } else { around } });
        self.parties.len() as u32 - 1
    }

    fn site_group(&mut self, rules: &[SiteRule], around: u32) -> u32 {
        let first = self.site_rules.len() as u32;
        self.site_rules.extend(rules);
        self.site_groups.push(Party { first, count: rules.len() as u32, around });
        self.site_groups.len() as u32 - 1
    }
}
