//! From a batch to records on their way through the table, ordered by shard.

use super::shard::Waiting;
use super::{SHARD_SHIFT, SHARDS, SYN, TCP};
use crate::flow::{Addr, FlowBatch};

/// Key of the hash of conversations, random a process: nobody can make two conversations collide on purpose.
#[derive(Debug)]
pub(super) struct Keys([u64; 3]);

impl Keys {
    pub fn new(random: &impl std::hash::BuildHasher) -> Self {
        // Odd, so that no factor of the products below is ever 0 for all ends.
        Self([0u64, 1, 2].map(|i| random.hash_one(i) | 1))
    }

    fn exporter(&self, addr: Addr) -> u32 {
        fold(addr.0 as u64 ^ self.0[0], (addr.0 >> 64) as u64 ^ self.0[1]) as u32
    }

    /// The hash of a conversation and whether this is the direction from its lower end. The hash is 0 where both ends are one:
    /// a conversation with itself has no other direction.
    #[inline(always)]
    fn tag(&self, src: (Addr, u16), dst: (Addr, u16), protocol: u8) -> (u64, bool) {
        if let (Some(src_bits), Some(dst_bits)) = (src.0.as_v4(), dst.0.as_v4()) {
            return self.tag_v4((src_bits, src.1), (dst_bits, dst.1), protocol);
        }
        let forward = src <= dst;
        let (low, high) = if forward { (src, dst) } else { (dst, src) };
        let fold_addr = |addr: Addr, key| fold((addr.0 >> 64) as u64 ^ key, addr.0 as u64 ^ self.0[2]);
        let ends = fold(fold_addr(low.0, self.0[0]) ^ self.0[1], fold_addr(high.0, self.0[1]) ^ self.0[0]);
        let tag = self.tag_of(ends, (low.1, high.1), protocol);
        (if src == dst { 0 } else { tag }, forward)
    }

    /// As [`Keys::tag`], without branches.
    #[inline(always)]
    fn tag_v4(&self, src: (u32, u16), dst: (u32, u16), protocol: u8) -> (u64, bool) {
        let end = |(addr, port): (u32, u16)| u64::from(addr) << 16 | u64::from(port);
        let (src, dst) = (end(src), end(dst));
        let (low, high) = (src.min(dst), src.max(dst));
        let tag = self.tag_of(low >> 16 << 32 | high >> 16, (low as u16, high as u16), protocol);
        (if src == dst { 0 } else { tag }, src <= dst)
    }

    #[inline(always)]
    fn tag_of(&self, ends: u64, ports: (u16, u16), protocol: u8) -> u64 {
        let ports = u64::from(ports.0) << 24 | u64::from(ports.1) << 8 | u64::from(protocol);
        let hash = fold(ends ^ self.0[0], ports ^ self.0[1]);
        fold(hash ^ self.0[2], self.0[0] ^ ends).max(1)
    }
}

/// Both halves of the product, mixed: the step of wyhash and foldhash.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// What a row's record is made of.
struct Flow {
    tag: u64,
    forward: bool,
    syn: bool,
    start_ms: i64,
    received_ms: i64,
}

/// The records of one batch, in memory that is kept from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Rows {
    exporters: Vec<u32>,
    rows: Vec<Waiting>,
    /// The rows ordered by shard, those of one shard in the batch's order.
    sorted: Vec<Waiting>,
    /// Where each shard's rows begin in `sorted`, and the end.
    bounds: Vec<u32>,
}

impl Rows {
    /// Takes in a batch's rows but those that have no other direction.
    pub fn load(&mut self, keys: &Keys, batch: &FlowBatch) {
        self.exporters.clear();
        self.exporters.push(0);
        self.exporters.extend(batch.exporter_ip.values().iter().map(|addr| keys.exporter(*addr)));
        self.rows.clear();
        self.bounds.clear();
        self.bounds.resize(SHARDS + 1, 0);
        if !self.load_v4(keys, batch) {
            self.push(batch, |row| flow(keys, batch, row));
        }
        self.sort();
    }

    /// The rows of a shard, and where they begin in [`Rows::sorted`].
    pub fn of_shard(&mut self, shard: usize) -> (&mut [Waiting], usize) {
        let [first, end] = [shard, shard + 1].map(|at| self.bounds[at] as usize);
        (&mut self.sorted[first..end], first)
    }

    /// All rows, ordered by shard.
    pub fn sorted(&self) -> &[Waiting] {
        &self.sorted
    }

    /// The rows of a batch of IPv4 flows whose columns are all there: the usual case, without a question a row.
    fn load_v4(&mut self, keys: &Keys, batch: &FlowBatch) -> bool {
        let rows = batch.len();
        let (Some(src), Some(dst)) = (batch.src_ip.all_v4(), batch.dst_ip.all_v4()) else { return false };
        let ports = (batch.src_port.values(), batch.dst_port.values());
        let (protocols, flags) = (batch.protocol.values(), batch.tcp_flags.values());
        let (starts, received) = (batch.flow_start.values(), batch.received_at.values());
        let lens = [ports.0.len(), ports.1.len(), protocols.len(), flags.len(), starts.len(), received.len()];
        if lens != [rows; 6] || [src.len(), dst.len()] != [rows; 2] {
            return false;
        }
        self.push(batch, |row| {
            let protocol = protocols[row];
            let ported = u16::from(has_ports(protocol)).wrapping_neg();
            let ends = ((src[row], ports.0[row] & ported), (dst[row], ports.1[row] & ported));
            let (tag, forward) = keys.tag_v4(ends.0, ends.1, protocol);
            let syn = (protocol == TCP) & (flags[row] & SYN != 0);
            Flow { tag, forward, syn, start_ms: starts[row], received_ms: received[row] }
        });
        true
    }

    /// Fills `rows`, and counts each shard's in the field of `bounds` after its own.
    #[inline(always)]
    fn push(&mut self, batch: &FlowBatch, flow: impl Fn(usize) -> Flow) {
        let (exporters, bounds) = (&self.exporters, &mut self.bounds[..=SHARDS]);
        let exporter_codes = batch.exporter_ip.codes();
        self.rows.extend((0..batch.len()).map(|row| {
            let Flow { tag, forward, syn, start_ms, received_ms } = flow(row);
            bounds[(tag >> SHARD_SHIFT) as usize + 1] += u32::from(tag != 0);
            Waiting {
                tag,
                start_ms: start_ms as u32,
                seen_s: (received_ms / 1000) as u32,
                who: Waiting::who(exporters[exporter_codes[row] as usize], forward, syn),
                row: row as u32,
            }
        }));
    }

    /// Counting sort; leaves out rows without a tag.
    fn sort(&mut self) {
        for shard in 0..SHARDS {
            self.bounds[shard + 1] += self.bounds[shard];
        }
        let mut next = [0; SHARDS];
        next.copy_from_slice(&self.bounds[..SHARDS]);
        if self.sorted.len() < self.rows.len() {
            self.sorted.resize(self.rows.len(), Waiting::default());
        }
        for row in self.rows.iter().filter(|row| row.tag != 0) {
            let at = &mut next[(row.tag >> SHARD_SHIFT) as usize];
            self.sorted[*at as usize] = *row;
            *at += 1;
        }
    }
}

/// ICMP carries type and code in place of ports, which differ between the directions.
#[inline(always)]
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// Any row of any batch.
fn flow(keys: &Keys, batch: &FlowBatch, row: usize) -> Flow {
    let protocol = batch.protocol.value_or_default(row);
    let ports = match has_ports(protocol) {
        true => (batch.src_port.value_or_default(row), batch.dst_port.value_or_default(row)),
        false => (0, 0),
    };
    let ends = (batch.src_ip.get(row).unwrap_or_default(), batch.dst_ip.get(row).unwrap_or_default());
    let (tag, forward) = keys.tag((ends.0, ports.0), (ends.1, ports.1), protocol);
    Flow {
        tag,
        forward,
        syn: protocol == TCP && batch.tcp_flags.value_or_default(row) & SYN != 0,
        start_ms: batch.flow_start.value_or_default(row),
        received_ms: batch.received_at.value_or_default(row),
    }
}
