//! All exporters together: datagrams in, exact totals out. Knows no socket, so tests and benches use it as it is.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::pool::{Identity, Pool};
use super::profile::Profile;
use super::random::Rng;
use super::totals::{ExporterSums, SourceSums, SubscriberSums, Sums, Totals};
use crate::flow::Direction;
use crate::wire::{FlowRecord, V5_HEADER_BYTES, V5_RECORD_BYTES};

/// Ready-made flows of all exporters together at most: enough that dictionaries and caches see real variety, about 40 MB.
pub const POOL_FLOWS_MAX: u64 = 800_000;
/// Entries of the top lists.
const TOP: usize = 10;

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Exporters, at least one.
    pub exporters: u16,
    /// Subscribers of the profile.
    pub subscribers: u32,
    /// Records of a datagram.
    pub records: u16,
    /// Flows that will be sent at most, when known: the pools need not hold more.
    pub flows: Option<u64>,
    /// Sampling interval in the headers, 0 for none.
    pub sampling: u16,
    /// Engine id of the first exporter.
    pub engine_id: u8,
    /// Whether the exporters after the first count their engine ids up, as they must when they share an address.
    pub own_engine_ids: bool,
    /// First sequence number.
    pub start_sequence: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            exporters: 4,
            subscribers: 50_000,
            records: 30,
            flows: None,
            sampling: 0,
            engine_id: 0,
            own_engine_ids: false,
            start_sequence: 0,
        }
    }
}

/// The exporters' datagrams.
#[derive(Debug)]
pub struct Source {
    /// Who the subscribers are.
    pub profile: Profile,
    /// One pool for each exporter.
    pub pools: Vec<Pool>,
    sampling: u64,
}

impl Source {
    /// Makes all datagrams of a plan. A reseller's flows come from one exporter as long as there are enough resellers.
    pub fn new(plan: &Plan) -> Self {
        let profile = Profile::isp(plan.seed, plan.subscribers);
        let exporters = u32::from(plan.exporters.max(1));
        let records = usize::from(plan.records.max(1));
        let flows = plan.flows.unwrap_or(POOL_FLOWS_MAX).clamp(1, POOL_FLOWS_MAX);
        let datagrams = flows.div_ceil(u64::from(exporters)).div_ceil(records as u64) as usize;
        let pools = (0..exporters)
            .map(|exporter| {
                let identity = Identity {
                    engine_id: plan.engine_id.wrapping_add(if plan.own_engine_ids { exporter as u8 } else { 0 }),
                    sampling: plan.sampling,
                    start_sequence: plan.start_sequence,
                };
                let rng = Rng::new(plan.seed, 1000 + u64::from(exporter));
                let wanted = |reseller: u32| reseller % exporters == exporter;
                Pool::new(&profile, rng, identity, datagrams * records, records, wanted)
            })
            .collect();
        Self { profile, pools, sampling: u64::from(plan.sampling.max(1)) }
    }

    /// Exact totals of what the pools sent. Exporters are named by `names`, in their order.
    pub fn totals(&self, names: &[String]) -> Totals {
        let mut totals = Totals { sampling: self.sampling, ..Totals::default() };
        let mut subscribers: BTreeMap<u32, BTreeMap<&'static str, Sums>> = BTreeMap::new();
        for (pool, name) in self.pools.iter().zip(names) {
            let mut exporter = Sums::default();
            pool.visit_sent(|record, direction, times| {
                let (bytes, packets) =
                    (u64::from(record.bytes) * self.sampling, u64::from(record.packets) * self.sampling);
                let add = |sums: &mut Sums| sums.add(bytes, packets, times);
                add(&mut exporter);
                add(totals.by_direction.entry(direction.name()).or_default());
                add(totals.sources.entry(Ipv4Addr::from(record.src_addr)).or_default());
                for (address, direction) in sides(record, direction) {
                    add(subscribers.entry(address).or_default().entry(direction.name()).or_default());
                }
            });
            let datagrams = pool.datagrams_sent();
            totals.datagrams += datagrams;
            totals.sums.flows += exporter.flows;
            totals.sums.bytes += exporter.bytes;
            totals.sums.packets += exporter.packets;
            totals.by_exporter.push(ExporterSums { exporter: name.clone(), datagrams, sums: exporter });
        }
        totals.datagram_bytes = totals.datagrams * V5_HEADER_BYTES as u64 + totals.sums.flows * V5_RECORD_BYTES as u64;
        totals.top_sources = top_sources(&totals.sources);
        totals.top_subscribers = self.top_subscribers(subscribers);
        totals
    }

    fn top_subscribers(&self, all: BTreeMap<u32, BTreeMap<&'static str, Sums>>) -> Vec<SubscriberSums> {
        let mut all: Vec<_> = all.into_iter().collect();
        let bytes = |sums: &BTreeMap<&'static str, Sums>| sums.values().map(|s| s.bytes).sum::<u64>();
        all.sort_by_key(|(_, sums)| std::cmp::Reverse(bytes(sums)));
        let known = all.into_iter().filter_map(|(address, by_direction)| {
            let who = self.profile.subscriber(self.profile.index_of(address)?);
            let (subscriber_id, reseller_id) = (who.subscriber_id, who.reseller_id);
            Some(SubscriberSums { subscriber_id, reseller_id, address: address.into(), by_direction })
        });
        known.take(TOP).collect()
    }
}

/// The customers of a record, each with the direction under which the flow is booked for it.
fn sides(record: &FlowRecord, direction: Direction) -> impl Iterator<Item = (u32, Direction)> {
    let (src, dst) = match direction {
        Direction::Out => (Some(Direction::Out), None),
        Direction::In => (None, Some(Direction::In)),
        Direction::Internal | Direction::InternalIn => (Some(Direction::Internal), Some(Direction::InternalIn)),
        Direction::Transit => (None, None),
    };
    let (src_addr, dst_addr) = (record.src_addr, record.dst_addr);
    src.map(|d| (src_addr, d)).into_iter().chain(dst.map(|d| (dst_addr, d)))
}

fn top_sources(sources: &BTreeMap<Ipv4Addr, Sums>) -> Vec<SourceSums> {
    let mut all: Vec<_> = sources.iter().map(|(src_ip, sums)| SourceSums { src_ip: *src_ip, sums: *sums }).collect();
    // The map is in the order of addresses and the sort is stable: equal bytes keep that order.
    all.sort_by_key(|source| std::cmp::Reverse(source.sums.bytes));
    all.truncate(TOP);
    all
}
