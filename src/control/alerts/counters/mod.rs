//! What is counted of the flows: bytes of subscribers and sites in quarters of an hour, connections of hosts, applications
//! that are watched for.
//!
//! Invariants: memory is bounded ([`MEMORY_BYTES_MAX`]); what has no room is counted, never mixed into something else; every
//! change since the last save is in [`Counters::changes`], so that counters and log cursor are saved in one step.

mod dpi;
mod hosts;
mod sites;
mod subscribers;
#[cfg(test)]
mod tests;
mod window;

use hashbrown::HashMap;

pub use dpi::{DPI_WINDOW_MS, Seen};
pub use hosts::{HostCounts, WINDOW_MS as HOST_WINDOW_MS};
pub use sites::{Rates, SiteKey};
pub use subscribers::Usage;

use self::dpi::Dpi;
use self::hosts::Hosts;
use self::sites::Sites;
use self::subscribers::Subscribers;
use super::config;
use crate::aggregate::{Spread, Spreader, Width};
use crate::control::state::Change;
use crate::flow::{Direction, FlowBatch};

/// Width of the buckets of subscribers and sites, ms.
pub const BUCKET_MS: i64 = 15 * 60_000;
/// Memory that all counters together may take, bytes: rings of about 56,000 subscribers that are busy all day, more of
/// others, and the tables of sites and hosts.
pub const MEMORY_BYTES_MAX: usize =
    subscribers::MEMORY_BYTES_MAX + sites::MEMORY_BYTES_MAX + hosts::MEMORY_BYTES_MAX + dpi::MEMORY_BYTES_MAX;
const _: () = assert!(MEMORY_BYTES_MAX == 80 << 20);

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A code that stands for nothing that is counted.
const NONE: u32 = u32::MAX;

/// All counters.
#[derive(Debug)]
pub struct Counters {
    subscribers: Subscribers,
    sites: Sites,
    hosts: Hosts,
    dpi: Dpi,
    width: Width,
    span_max_ms: i64,
}

/// What had no room or came too late, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untracked {
    /// Bytes of subscribers beyond the bound.
    pub subscriber_bytes: u64,
    /// Bytes of sites beyond the bound.
    pub site_bytes: u64,
    /// Connections of hosts that were given up for busier ones.
    pub connections: u64,
}

impl Counters {
    /// Counters with nothing counted. Flows that span more than `span_max_ms` are booked whole at their end.
    pub fn new(span_max_ms: i64) -> Self {
        Self {
            subscribers: Subscribers::default(),
            sites: Sites::default(),
            hosts: Hosts::default(),
            dpi: Dpi::default(),
            width: Width::new(BUCKET_MS),
            span_max_ms,
        }
    }

    /// What is watched for from now on.
    pub fn configure(&mut self, config: &config::Config, sites_have_cir: bool) {
        self.dpi.watch(&config.dpi_protocols);
        self.hosts.set_all(config.hosts == config::Hosts::All);
        self.sites.set_wanted(sites_have_cir);
    }

    /// Counts a batch.
    pub fn add(&mut self, batch: &FlowBatch, now_ms: i64) {
        self.advance(now_ms);
        self.add_spans(batch);
        self.hosts.add(batch);
        self.dpi.add(batch);
    }

    /// Lets what is older than its window go.
    pub fn advance(&mut self, now_ms: i64) {
        let (bucket, _) = self.width.bucket_of(now_ms);
        self.subscribers.advance(bucket);
        self.sites.advance(bucket);
        self.hosts.advance(now_ms);
        self.dpi.advance(now_ms);
    }

    fn add_spans(&mut self, batch: &FlowBatch) {
        self.subscribers.begin(batch);
        self.sites.begin(batch);
        let mut spreader = Spreader::new(self.width, self.span_max_ms);
        for (row, code) in batch.subscriber_id.codes().iter().enumerate() {
            let (outward, site) = if self.sites.are_wanted() { self.side(batch, row) } else { (false, NONE) };
            let slot = self.subscribers.slot_of(*code);
            let bytes = batch.bytes.value_or_default(row);
            if *code != 0 && slot.is_none() {
                let untracked = &mut self.subscribers.untracked_bytes;
                *untracked = untracked.saturating_add(bytes);
            }
            if slot.is_none() && site == NONE {
                continue;
            }
            let spread = spreader.of(batch.span_start_ms(row), batch.time.value_or_default(row), bytes, 0);
            if let Some(slot) = slot {
                self.subscribers.note(slot, batch, row);
                each_bucket(&spread, bytes, |bucket, bytes| self.subscribers.book(slot, bucket, bytes));
            }
            if site != NONE {
                each_bucket(&spread, bytes, |bucket, bytes| self.sites.add(site, bucket, outward, bytes));
            }
        }
    }

    /// Whether a row's flow leaves its site, and the site's number: [`NONE`] of flows that cross no site's border.
    fn side(&mut self, batch: &FlowBatch, row: usize) -> (bool, u32) {
        let direction = batch.direction.value_or_default(row);
        let outward = direction == Direction::Out as u8;
        let crosses = outward || direction == Direction::In as u8;
        (outward, if crosses { self.sites.of(batch, row) } else { NONE })
    }

    /// Every subscriber with more than `above_bytes` in the last 24 hours.
    pub fn usage(&self, above_bytes: u64) -> impl Iterator<Item = Usage> + '_ {
        self.subscribers.usage(above_bytes)
    }

    /// A site's traffic in a window of 15 minutes by its number (start divided by width), when it is still known.
    pub fn site_window(&self, site: &SiteKey, bucket: i64) -> Option<Rates> {
        self.sites.window(site, bucket)
    }

    /// Every host with more than `above` connections in one of the windows of 5 minutes that are open, at its highest.
    pub fn busy_hosts(&self, above: u64) -> Vec<HostCounts> {
        self.hosts.busy(above)
    }

    /// What was watched for and seen.
    pub fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.dpi.all()
    }

    /// Bytes held.
    pub fn memory_bytes(&self) -> usize {
        self.subscribers.memory_bytes()
            + self.sites.memory_bytes()
            + self.hosts.memory_bytes()
            + self.dpi.memory_bytes()
    }

    /// Subscribers that have a ring.
    pub fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// What was not counted.
    pub fn untracked(&self) -> Untracked {
        Untracked {
            subscriber_bytes: self.subscribers.untracked_bytes,
            site_bytes: self.sites.untracked_bytes,
            connections: self.hosts.given_up_connections,
        }
    }

    /// Everything that changed since the last call, as rows of the state store.
    pub fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.subscribers.changes(&mut changes);
        self.sites.changes(&mut changes);
        self.hosts.changes(&mut changes);
        self.dpi.changes(&mut changes);
        changes
    }

    /// Takes a row of the state store back. Rows that are not understood are passed over.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) {
        match key.split_first() {
            Some((&SLOT, key)) => self.subscribers.restore_slot(key, value),
            Some((&PAGE, key)) => self.subscribers.restore_page(key, value),
            Some((&SITE, key)) => self.sites.restore(key, value),
            Some((&HOSTS, key)) => self.hosts.restore(key, value),
            Some((&DPI, _)) => self.dpi.restore(value),
            _ => {}
        }
    }

    /// To be called after the last row of the state store.
    pub fn restored(&mut self) {
        self.subscribers.restored();
    }
}

/// Gives a flow's bytes by bucket.
#[inline]
fn each_bucket(spread: &Spread, bytes: u64, mut book: impl FnMut(i64, u64)) {
    match spread {
        Spread::Whole(bucket) => book(*bucket, bytes),
        Spread::Split(share) => (share.first()..=share.last).for_each(|bucket| book(bucket, share.at(bucket).0)),
    }
}

/// First bytes of the keys of this module's rows in the state store.
const SLOT: u8 = b's';
/// After [`SLOT`]: pages are restored when their slots are there.
const PAGE: u8 = b't';
const SITE: u8 = b'i';
const HOSTS: u8 = b'h';
const DPI: u8 = b'd';

/// A key of the state store.
fn key(section: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[section], &parts.concat()[..]].concat()
}

/// The first `N` bytes, and the rest.
fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk::<N>().map(|(first, rest)| (*first, rest))
}
