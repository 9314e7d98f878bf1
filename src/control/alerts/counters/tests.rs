//! Properties of the counters, against plain sums.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::flow::time::{HOUR_MS, MINUTE_MS};
use crate::flow::{Addr, Text, Uuid};

/// Some time on an hour's boundary.
const T0: i64 = 1_800_000_000_000;

#[derive(Clone, Debug)]
struct Flow {
    end: i64,
    span: i64,
    bytes: u64,
    subscriber: Option<u8>,
    direction: Direction,
    site: Option<u8>,
}

fn batch(flows: &[Flow]) -> FlowBatch {
    let mut batch = FlowBatch::default();
    for flow in flows {
        batch.time.push(Some(flow.end));
        batch.flow_start.push(Some(flow.end - flow.span));
        batch.received_at.push(Some(flow.end));
        batch.bytes.push(Some(flow.bytes));
        batch.direction.push(Some(flow.direction as u8));
        batch.subscriber_id.push(flow.subscriber.map(|n| Uuid::from_u128(n.into())).as_ref());
        batch.reseller_id.push(flow.subscriber.map(|n| Uuid::from_u128(1000 + u128::from(n))).as_ref());
        batch.nas_id.push(flow.site.map(|n| Text::from(&*format!("nas{}", n % 2))).as_ref());
        batch.site.push(flow.site.map(|n| Text::from(&*format!("site{n}"))).as_ref());
    }
    batch.fill_missing();
    batch
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let direction = prop::sample::select(Direction::ALL[..4].to_vec());
    let span = prop_oneof![Just(0i64), 0..HOUR_MS, HOUR_MS..2 * HOUR_MS];
    (-30 * HOUR_MS..MINUTE_MS, span, 0u64..1 << 40, prop::option::of(0u8..200), direction, prop::option::of(0u8..4))
        .prop_map(|(end, span, bytes, subscriber, direction, site)| Flow {
            end,
            span,
            bytes,
            subscriber,
            direction,
            site,
        })
}

/// Shares of a flow by bucket, by the definition.
fn shares(flow: &Flow) -> Vec<(i64, u64)> {
    let (first, last) = ((flow.end - flow.span).div_euclid(BUCKET_MS), flow.end.div_euclid(BUCKET_MS));
    if flow.span > HOUR_MS {
        return vec![(last, flow.bytes)];
    }
    let mut left = flow.bytes;
    let mut shares = Vec::new();
    for bucket in first..last {
        let overlap = flow.end.min((bucket + 1) * BUCKET_MS) - (flow.end - flow.span).max(bucket * BUCKET_MS);
        let share = (u128::from(flow.bytes) * overlap as u128 / flow.span as u128) as u64;
        left -= share;
        shares.push((bucket, share));
    }
    shares.push((last, left));
    shares
}

/// Subscriber, site, direction, bucket and bytes of a share.
type Booked = (Option<u8>, Option<u8>, Direction, i64, u64);

fn usage(counters: &Counters) -> BTreeMap<Uuid, u64> {
    counters.usage(0).map(|usage| (usage.subscriber_id, usage.bytes)).collect()
}

/// What a store holds after these changes.
fn store(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: Vec<Change>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(rows.insert(key, value)),
            None => drop(rows.remove(&key)),
        }
    }
}

fn restored(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Counters {
    let mut counters = Counters::new(HOUR_MS);
    rows.iter().for_each(|(key, value)| counters.restore(key, value));
    counters.restored();
    counters
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Steps are (time that passes, flows, whether the process is killed and starts again from what it had saved).
    #[test]
    fn the_last_24_hours_are_exact_over_time_and_restarts(
        steps in prop::collection::vec(
            (prop_oneof![0i64..20 * MINUTE_MS, 0i64..30 * HOUR_MS], prop::collection::vec(any_flow(), 0..20), any::<bool>()),
            1..12,
        ),
    ) {
        let mut counters = Counters::new(HOUR_MS);
        let mut rows = BTreeMap::new();
        let mut now = T0;
        let mut booked: Vec<Booked> = Vec::new();
        for (passes, flows, killed) in steps {
            now += passes;
            let head = now.div_euclid(BUCKET_MS);
            let flows: Vec<Flow> = flows.into_iter().map(|flow| Flow { end: flow.end + now, ..flow }).collect();
            counters.add(&batch(&flows), now);
            for flow in &flows {
                for (bucket, bytes) in shares(flow) {
                    // What is in the future is of now.
                    booked.push((flow.subscriber, flow.site, flow.direction, bucket.min(head), bytes));
                }
            }
            store(&mut rows, counters.changes());
            if killed {
                counters = restored(&rows);
                counters.advance(now);
            }
            let mut expected: HashMap<Uuid, u64> = HashMap::new();
            for (subscriber, _, _, bucket, bytes) in &booked {
                if let (Some(subscriber), true) = (subscriber, *bucket > head - 96) {
                    *expected.entry(Uuid::from_u128((*subscriber).into())).or_default() += bytes;
                }
            }
            expected.retain(|_, bytes| *bytes > 0);
            prop_assert_eq!(usage(&counters), expected.into_iter().collect::<BTreeMap<_, _>>());
            for number in 0u8..4 {
                let name = |text: String| Some(Text::from(&*text));
                let site = SiteKey { nas_id: name(format!("nas{}", number % 2)), site: name(format!("site{number}")) };
                for bucket in head - 7..=head {
                    let sum = |direction: Direction| -> u64 {
                        let of_it = booked.iter().filter(|b| b.1 == Some(number) && b.2 == direction && b.3 == bucket);
                        of_it.map(|b| b.4).sum()
                    };
                    let expected = Rates { bytes_in: sum(Direction::In), bytes_out: sum(Direction::Out) };
                    prop_assert_eq!(counters.site_window(&site, bucket).unwrap_or_default(), expected);
                }
            }
            prop_assert_eq!(counters.untracked(), Untracked::default());
        }
    }
}

#[test]
fn idle_subscribers_give_their_place_back_and_their_rows_go() {
    let mut counters = Counters::new(HOUR_MS);
    let mut rows = BTreeMap::new();
    for day in 0..4 {
        let now = T0 + day * 25 * HOUR_MS;
        let flow = |n: u8| Flow {
            end: now,
            span: 0,
            bytes: 5,
            subscriber: Some(n + 50 * day as u8),
            direction: Direction::Out,
            site: None,
        };
        counters.add(&batch(&(0..50).map(flow).collect::<Vec<_>>()), now);
        store(&mut rows, counters.changes());
        assert_eq!(counters.subscribers(), 50);
        assert_eq!(usage(&restored(&rows)), usage(&counters));
    }
    assert!(counters.memory_bytes() < 50 * 200 + 2000, "{}", counters.memory_bytes());
    // A slot each, their page, and the window of hosts.
    assert_eq!(rows.len(), 52);
}

/// Connections from one source to different destinations.
fn connections(source: u32, destinations: std::ops::Range<u32>, start: i64, direction: Direction) -> FlowBatch {
    let mut batch = FlowBatch::default();
    for destination in destinations {
        batch.time.push(Some(start + 1000));
        batch.flow_start.push(Some(start));
        batch.src_ip.push(Some(Addr::v4(source)));
        batch.dst_ip.push(Some(Addr::v4(0xc633_0000 + destination)));
        batch.bytes.push(Some(100));
        batch.direction.push(Some(direction as u8));
    }
    batch.fill_missing();
    batch
}

#[test]
fn connections_count_in_the_window_in_which_they_began_and_survive_a_restart() {
    let mut counters = Counters::new(HOUR_MS);
    let mut rows = BTreeMap::new();
    counters.add(&connections(0x0a00_0001, 0..1500, T0, Direction::Out), T0 + 15 * MINUTE_MS);
    counters.add(&connections(0x0a00_0001, 0..900, T0 + HOST_WINDOW_MS, Direction::Out), T0 + 15 * MINUTE_MS);
    counters.add(&connections(0x0a00_0002, 0..900, T0, Direction::Out), T0 + 15 * MINUTE_MS);
    counters.add(&connections(0x0808_0808, 0..5000, T0, Direction::In), T0 + 15 * MINUTE_MS);
    store(&mut rows, counters.changes());
    let mut again = restored(&rows);
    again.add(&connections(0x0a00_0001, 1000..2000, T0, Direction::Out), T0 + 16 * MINUTE_MS);
    let busy = again.busy_hosts(1000);
    assert_eq!(busy.len(), 1, "{busy:?}");
    let host = &busy[0];
    assert_eq!((host.subject.host.as_deref(), host.window_ms), (Some("10.0.0.1"), T0));
    assert_eq!((host.connections, host.bytes), (2500, 250_000));
    assert!((1750..=2150).contains(&host.unique_destinations), "{}", host.unique_destinations);
    // Late ones count while the window is open, and then no more.
    again.advance(T0 + 26 * MINUTE_MS);
    assert_eq!(again.busy_hosts(1000), []);
    store(&mut rows, again.changes());
    assert_eq!(restored(&rows).busy_hosts(1), counters_of_second_window(&again));
}

fn counters_of_second_window(counters: &Counters) -> Vec<HostCounts> {
    let busy = counters.busy_hosts(1);
    assert_eq!(busy[0].connections, 900);
    busy
}

#[test]
fn a_flood_of_sources_stays_in_bounds_and_hides_no_busy_host() {
    let mut counters = Counters::new(HOUR_MS);
    for round in 0..4u32 {
        counters.add(&connections(0x0a00_0001, round * 300..(round + 1) * 300, T0, Direction::Out), T0);
        for part in 0..20u32 {
            let mut flood = connections(0, 0..5000, T0, Direction::Out);
            flood.src_ip.clear();
            flood.src_ip.extend_v4((0..5000u32).map(|n| 0x0b00_0000 + (round * 20 + part) * 5000 + n));
            counters.add(&flood, T0);
        }
    }
    assert!(counters.memory_bytes() <= MEMORY_BYTES_MAX, "{}", counters.memory_bytes());
    assert!(counters.untracked().connections > 0);
    let busy = counters.busy_hosts(1000);
    assert_eq!(busy.len(), 1);
    assert_eq!(busy[0].connections, 1200);
}

#[test]
fn what_is_watched_for_is_seen_whatever_the_case_and_forgotten_in_time() {
    let mut counters = Counters::new(HOUR_MS);
    counters.configure(&config::Config { dpi_protocols: vec!["BitTorrent".into()], ..Default::default() }, false);
    let mut flows = batch(&[
        Flow { end: T0, span: 0, bytes: 7, subscriber: Some(3), direction: Direction::Out, site: None },
        Flow { end: T0, span: 0, bytes: 9, subscriber: Some(3), direction: Direction::In, site: None },
        Flow { end: T0, span: 0, bytes: 11, subscriber: Some(4), direction: Direction::In, site: None },
    ]);
    flows.app.clear();
    ["bittorrent", "bittorrent", "https"].iter().for_each(|app| flows.app.push(Some(&Text::from(*app))));
    counters.add(&flows, T0);
    let mut rows = BTreeMap::new();
    store(&mut rows, counters.changes());
    for counters in [&counters, &restored(&rows)] {
        let seen: Vec<_> = counters.seen().collect();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].bytes, seen[0].flows), (16, 2));
        assert_eq!(seen[0].subject.subscriber_id, Some(Uuid::from_u128(3)));
    }
    counters.advance(T0 + DPI_WINDOW_MS);
    assert_eq!(counters.seen().count(), 0);
    store(&mut rows, counters.changes());
    assert_eq!(restored(&rows).seen().count(), 0);
}
