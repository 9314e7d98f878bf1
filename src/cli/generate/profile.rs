//! The profile `isp`: many subscribers behind resellers, talking to the Internet.
//!
//! Subscriber `i` belongs to reseller `i / per_reseller` and has an address in that reseller's block of 10/8. Popularity
//! follows Zipf's law over shuffled ranks, so heavy subscribers are spread over the resellers. Everything follows from the
//! seed.

use uuid::Uuid;

use super::random::{Rng, Zipf};
use crate::flow::Direction;
use crate::wire::FlowRecord;

/// Resellers at most; fewer when there are fewer subscribers.
pub const RESELLERS_MAX: u32 = 500;
/// Subscribers at most: their blocks must fit into 10/8.
pub const SUBSCRIBERS_MAX: u32 = 4_000_000;
/// Distinct addresses on the Internet's side.
const REMOTES: u32 = 200_000;
const SUBSCRIBER_ZIPF: f64 = 0.9;
const REMOTE_ZIPF: f64 = 1.05;
/// Sites of each reseller.
const SITES_PER_RESELLER: u32 = 2;
/// Flows between two subscribers, and flows of neither.
const INTERNAL_SHARE: f64 = 0.01;
const TRANSIT_SHARE: f64 = 0.005;
/// Conversations of which both directions are exported, the answer right after the request.
const PAIRED_SHARE: f64 = 0.5;
/// Flows of a single moment; the others' durations are log-uniform up to [`DURATION_MS_MAX`].
const INSTANT_SHARE: f64 = 0.3;
/// Longest flow, ms: exporters' usual active timeout of 15 min.
pub const DURATION_MS_MAX: u32 = 900_000;
/// Longest time that a flow waits in the exporter after its last packet, ms: an inactive timeout of 15 s.
pub const WAIT_MS_MAX: u32 = 15_000;
/// Size of a flow, bytes: median and deviation of the logarithm, towards the Internet and from it.
const SIZE_OUT: (f64, f64) = (900.0, 1.6);
const SIZE_IN: (f64, f64) = (4000.0, 2.0);
/// Smallest packet: an IP header and eight bytes.
const PACKET_BYTES_MIN: f64 = 28.0;
/// Largest flow: far below the 32 bits of v5.
const FLOW_BYTES_MAX: f64 = 1_000_000_000.0;
/// Round-trip times of TCP handshakes, ms: median and deviation of the logarithm.
const RTT_MS: (f64, f64) = (35.0, 0.7);
/// First ephemeral port of clients, and how many there are (RFC 6335).
const EPHEMERAL_FIRST: u16 = 32_768;
const EPHEMERAL_PORTS: u32 = 28_232;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
/// FIN, SYN, PSH and ACK: a whole connection.
const TCP_FLAGS_WHOLE: u8 = 0x1b;

/// Services with their share of the conversations in per mille; what is left of 1000 goes to high ports.
const SERVICES: &[(u8, u16, u32)] = &[
    (TCP, 443, 430),
    (UDP, 443, 180),
    (UDP, 53, 150),
    (TCP, 80, 70),
    (UDP, 123, 25),
    (TCP, 993, 15),
    (TCP, 5222, 15),
    (UDP, 3478, 12),
    (TCP, 22, 10),
    (TCP, 8080, 10),
    (TCP, 25, 5),
    (UDP, 51_820, 5),
    (ICMP, 0, 15),
];

/// Who a subscriber is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// IPv4 address, host byte order.
    pub address: u32,
    /// Its id.
    pub subscriber_id: Uuid,
    /// Its reseller's id.
    pub reseller_id: Uuid,
    /// Number of its reseller, from 0.
    pub reseller: u32,
    /// Name of its site.
    pub site: String,
}

/// A record and what is known about it. Its `first_ms` and `last_ms` are ages: ms before the export.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    /// The record.
    pub record: FlowRecord,
    /// Where it goes.
    pub direction: Direction,
}

/// The profile's tables.
#[derive(Debug)]
pub struct Profile {
    seed: u64,
    subscribers: u32,
    resellers: u32,
    per_reseller: u32,
    block: u32,
    ranks: Vec<u32>,
    remotes: Vec<u32>,
    subscriber_zipf: Zipf,
    remote_zipf: Zipf,
}

impl Profile {
    /// The profile for this many subscribers, made to fit 1 to [`SUBSCRIBERS_MAX`].
    pub fn isp(seed: u64, subscribers: u32) -> Self {
        let subscribers = subscribers.clamp(1, SUBSCRIBERS_MAX);
        let resellers = subscribers.min(RESELLERS_MAX);
        let per_reseller = subscribers.div_ceil(resellers);
        let mut rng = Rng::new(seed, 1);
        let mut ranks: Vec<u32> = (0..subscribers).collect();
        rng.shuffle(&mut ranks);
        Self {
            seed,
            subscribers,
            resellers: subscribers.div_ceil(per_reseller),
            per_reseller,
            block: (per_reseller + 2).next_power_of_two(),
            ranks,
            remotes: (0..REMOTES).map(|_| public_address(&mut rng)).collect(),
            subscriber_zipf: Zipf::new(subscribers, SUBSCRIBER_ZIPF),
            remote_zipf: Zipf::new(REMOTES, REMOTE_ZIPF),
        }
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> u32 {
        self.subscribers
    }

    /// How many resellers there are.
    pub fn resellers(&self) -> u32 {
        self.resellers
    }

    /// Subscriber number `index`, from 0.
    pub fn subscriber(&self, index: u32) -> Subscriber {
        let reseller = index / self.per_reseller;
        let site = index % self.per_reseller % SITES_PER_RESELLER + 1;
        Subscriber {
            address: self.address(index),
            subscriber_id: self.id(2, index),
            reseller_id: self.id(3, reseller),
            reseller,
            site: format!("site-{:03}-{site}", reseller + 1),
        }
    }

    /// The number of the subscriber with this address.
    pub fn index_of(&self, address: u32) -> Option<u32> {
        let offset = address.checked_sub(0x0a00_0000)?;
        let place = (offset % self.block).checked_sub(1).filter(|place| *place < self.per_reseller)?;
        let index = (offset / self.block).checked_mul(self.per_reseller)?.checked_add(place)?;
        (index < self.subscribers).then_some(index)
    }

    /// Draws one conversation of a subscriber whom `wanted` accepts, as one or two records.
    pub fn draw(&self, rng: &mut Rng, wanted: impl Fn(u32) -> bool) -> (Drawn, Option<Drawn>) {
        let client = self.draw_subscriber(rng, wanted);
        let remote = self.remotes[self.remote_zipf.draw(rng) as usize];
        let kind = rng.unit();
        let (client, server, there, back) = if kind < INTERNAL_SHARE {
            let other = self.address(self.draw_subscriber(rng, |_| true));
            (self.address(client), other, Direction::Internal, Direction::Internal)
        } else if kind < INTERNAL_SHARE + TRANSIT_SHARE {
            let other = self.remotes[self.remote_zipf.draw(rng) as usize];
            (other, remote, Direction::Transit, Direction::Transit)
        } else {
            (self.address(client), remote, Direction::Out, Direction::In)
        };
        let request = draw_request(rng, client, server);
        let answer = answer_to(rng, &request);
        let (request, answer) =
            (Drawn { record: request, direction: there }, Drawn { record: answer, direction: back });
        if rng.chance(PAIRED_SHARE) {
            (request, Some(answer))
        } else if rng.chance(0.5) {
            (request, None)
        } else {
            (answer, None)
        }
    }

    fn draw_subscriber(&self, rng: &mut Rng, wanted: impl Fn(u32) -> bool) -> u32 {
        // Bounded, for a filter may accept nobody when there are few subscribers.
        const TRIES_MAX: u32 = 64;
        let mut index = 0;
        for _ in 0..TRIES_MAX {
            index = self.ranks[self.subscriber_zipf.draw(rng) as usize];
            if wanted(index / self.per_reseller) {
                break;
            }
        }
        index
    }

    fn address(&self, index: u32) -> u32 {
        0x0a00_0000 + index / self.per_reseller * self.block + 1 + index % self.per_reseller
    }

    fn id(&self, kind: u64, index: u32) -> Uuid {
        let mut rng = Rng::new(self.seed, kind << 32 | u64::from(index));
        let bits = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }
}

/// An address outside every range that counts as a customer's or is not routed.
fn public_address(rng: &mut Rng) -> u32 {
    loop {
        let address = std::net::Ipv4Addr::from(rng.next_u64() as u32);
        let [first, second, ..] = address.octets();
        let special = matches!(first, 0 | 10 | 127 | 224..=255)
            || address.is_private()
            || address.is_link_local()
            || (first == 100 && (64..128).contains(&second));
        if !special {
            return u32::from(address);
        }
    }
}

fn draw_service(rng: &mut Rng) -> (u8, u16) {
    let mut at = rng.below(1000);
    for (protocol, port, share) in SERVICES {
        if at < *share {
            return (*protocol, *port);
        }
        at -= share;
    }
    (if rng.chance(0.5) { TCP } else { UDP }, 1024 + rng.below(30_000) as u16)
}

fn draw_request(rng: &mut Rng, client: u32, server: u32) -> FlowRecord {
    let (protocol, port) = draw_service(rng);
    let (bytes, packets) = draw_size(rng, SIZE_OUT);
    let duration_ms = match packets {
        1 => 0,
        _ if rng.chance(INSTANT_SHARE) => 0,
        _ => rng.log_uniform(1.0, f64::from(DURATION_MS_MAX)) as u32,
    };
    let last_ms = rng.below(WAIT_MS_MAX);
    let echo_request = 8 << 8;
    FlowRecord {
        src_addr: client,
        dst_addr: server,
        next_hop: 0xc000_0201,
        input_if: 1,
        output_if: 2,
        packets,
        bytes,
        first_ms: last_ms + duration_ms,
        last_ms,
        src_port: if protocol == ICMP { 0 } else { EPHEMERAL_FIRST + rng.below(EPHEMERAL_PORTS) as u16 },
        dst_port: if protocol == ICMP { echo_request } else { port },
        tcp_flags: if protocol == TCP { TCP_FLAGS_WHOLE } else { 0 },
        protocol,
        src_mask: 24,
        dst_mask: 16,
        ..FlowRecord::default()
    }
}

/// The other direction of a request: a size of its own, begun one round trip later, ended with it.
fn answer_to(rng: &mut Rng, request: &FlowRecord) -> FlowRecord {
    let (bytes, packets) = draw_size(rng, SIZE_IN);
    let rtt_ms = rng.log_normal(RTT_MS.0, RTT_MS.1).min(1000.0) as u32;
    FlowRecord {
        src_addr: request.dst_addr,
        dst_addr: request.src_addr,
        input_if: request.output_if,
        output_if: request.input_if,
        packets,
        bytes,
        first_ms: request.first_ms.saturating_sub(rtt_ms).max(request.last_ms),
        src_port: if request.protocol == ICMP { 0 } else { request.dst_port },
        dst_port: request.src_port,
        src_mask: request.dst_mask,
        dst_mask: request.src_mask,
        ..*request
    }
}

/// Bytes and packets of a flow: never absurd, so every record is one that a collector must keep.
fn draw_size(rng: &mut Rng, (median, sigma): (f64, f64)) -> (u32, u32) {
    let bytes = rng.log_normal(median, sigma).clamp(PACKET_BYTES_MIN, FLOW_BYTES_MAX);
    let packet_bytes = (PACKET_BYTES_MIN + bytes.sqrt() * 10.0).clamp(60.0, 1400.0);
    let packets = (bytes / packet_bytes).ceil().max(1.0);
    (bytes as u32, packets as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribers_have_distinct_addresses_that_lead_back() {
        for count in [1, 2, 499, 501, 50_000] {
            let profile = Profile::isp(1, count);
            for index in [0, 1, count / 3, count / 2, count - 1] {
                let index = index.min(count - 1);
                let address = profile.subscriber(index).address;
                assert_eq!(address >> 24, 10);
                assert_eq!(profile.index_of(address), Some(index), "{count} {index}");
            }
            assert_eq!(profile.index_of(0x0a00_0000), None);
            assert_eq!(profile.index_of(0x0900_0000), None);
        }
        let largest = Profile::isp(1, u32::MAX);
        assert_eq!(largest.subscriber(SUBSCRIBERS_MAX - 1).address >> 24, 10);
    }

    #[test]
    fn ids_follow_from_the_seed() {
        let (one, same, other) = (Profile::isp(1, 1000), Profile::isp(1, 1000), Profile::isp(2, 1000));
        assert_eq!(one.subscriber(5), same.subscriber(5));
        assert_ne!(one.subscriber(5).subscriber_id, other.subscriber(5).subscriber_id);
        assert_eq!(one.subscriber(0).reseller_id, one.subscriber(1).reseller_id);
        assert_eq!(one.resellers(), 500);
    }

    #[test]
    fn no_record_is_absurd_and_directions_are_true() {
        let (profile, mut rng) = (Profile::isp(4, 50_000), Rng::new(4, 4));
        for _ in 0..20_000 {
            let (first, second) = profile.draw(&mut rng, |_| true);
            for Drawn { record, direction } in [Some(first), second].into_iter().flatten() {
                assert!(record.packets > 0 && record.bytes >= 20 * record.packets, "{record:?}");
                assert!(record.bytes / record.packets <= 65_535 && record.first_ms >= record.last_ms);
                assert!(record.first_ms <= DURATION_MS_MAX + WAIT_MS_MAX);
                let customer = |address| profile.index_of(address).is_some();
                let want = match (customer(record.src_addr), customer(record.dst_addr)) {
                    (true, true) => Direction::Internal,
                    (true, false) => Direction::Out,
                    (false, true) => Direction::In,
                    (false, false) => Direction::Transit,
                };
                assert_eq!(direction, want);
            }
        }
    }
}
