//! Sites and how a flow's site is found: by exporter and interface, then engine, then customer prefix, then exporter.
//! Customer prefixes are part of the prefix table.

use hashbrown::HashMap;

use crate::flow::Addr;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// One site. Names are numbers of [`super::names::Names`], 0 = none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// Its access server, in `texts`.
    pub nas: u32,
    /// Its name, in `texts`.
    pub site: u32,
    /// Its reseller, in `uuids`.
    pub reseller: u32,
    /// Committed information rate, bit/s; 0 = not stated.
    pub cir_bps: u64,
}

/// All sites and the rules that do not go by prefix.
#[derive(Debug, Default)]
pub struct Sites {
    sites: Vec<Site>,
    numbers: Map<Site, u32>,
    exporters: Map<Addr, ExporterRules>,
    /// By engine, whatever the exporter.
    engines: Vec<(u32, u32)>,
    prefix_rules: usize,
}

/// The rules of one exporter. Pairs are in ascending order.
#[derive(Debug, Default)]
pub struct ExporterRules {
    interfaces: Vec<(u32, u32)>,
    engines: Vec<(u32, u32)>,
    default: Option<u32>,
}

/// What an exporter's sites go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// One interface of an exporter.
    Interface(Addr, u32),
    /// One engine, of one exporter or of any.
    Engine(Option<Addr>, u32),
    /// All of an exporter.
    Exporter(Addr),
}

impl Sites {
    /// The number of a site, given now when it is new.
    pub fn add(&mut self, site: Site) -> u32 {
        let next = self.sites.len() as u32;
        let number = *self.numbers.entry(site).or_insert(next);
        if number == next {
            self.sites.push(site);
        }
        number
    }

    /// Says where a site's flows come from. False when something else was said of the same before.
    pub fn rule(&mut self, by: Match, site: u32) -> bool {
        let insert = |pairs: &mut Vec<(u32, u32)>, key: u32| match pairs.binary_search_by_key(&key, |pair| pair.0) {
            Ok(at) => pairs[at].1 == site,
            Err(at) => {
                pairs.insert(at, (key, site));
                true
            }
        };
        match by {
            Match::Interface(exporter, interface) => {
                insert(&mut self.exporters.entry(exporter).or_default().interfaces, interface)
            }
            Match::Engine(Some(exporter), engine) => {
                insert(&mut self.exporters.entry(exporter).or_default().engines, engine)
            }
            Match::Engine(None, engine) => insert(&mut self.engines, engine),
            Match::Exporter(exporter) => {
                *self.exporters.entry(exporter).or_default().default.get_or_insert(site) == site
            }
        }
    }

    /// Counts a rule by customer prefix, which the prefix table holds.
    pub fn count_prefix_rule(&mut self) {
        self.prefix_rules += 1;
    }

    /// Whether no flow can have a site by these rules or by prefix.
    pub fn is_empty(&self) -> bool {
        self.exporters.is_empty() && self.engines.is_empty() && self.prefix_rules == 0
    }

    /// The site of a number.
    #[inline]
    pub fn site(&self, number: u32) -> &Site {
        &self.sites[number as usize]
    }

    /// Every site.
    pub fn all(&self) -> &[Site] {
        &self.sites
    }

    /// The rules of an exporter.
    pub fn exporter(&self, exporter: Addr) -> Option<&ExporterRules> {
        self.exporters.get(&exporter)
    }

    /// The site of an engine of an exporter.
    pub fn by_engine(&self, rules: Option<&ExporterRules>, engine: u32) -> Option<u32> {
        rules.and_then(|rules| find(&rules.engines, engine)).or_else(|| find(&self.engines, engine))
    }
}

impl ExporterRules {
    /// The site of an interface.
    #[inline]
    pub fn by_interface(&self, interface: u32) -> Option<u32> {
        find(&self.interfaces, interface)
    }

    /// The site of all that no other rule places.
    pub fn default_site(&self) -> Option<u32> {
        self.default
    }
}

fn find(pairs: &[(u32, u32)], key: u32) -> Option<u32> {
    pairs.binary_search_by_key(&key, |pair| pair.0).ok().map(|at| pairs[at].1)
}
