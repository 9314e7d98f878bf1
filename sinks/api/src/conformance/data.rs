//! The data set: flows of both families with nulls, late and repeated ones, and their rollups.

use std::sync::Arc;

use super::{Options, rollups};
use crate::batch::{ColumnMut, Field};
use crate::column::Text;
use crate::rollup::{Record, RollupDef};
use crate::sink::Entry;
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::value::Kind;
use crate::{Addr, AlertEvent, AlertRow, Direction, FlowBatch, Uuid};

/// The first flow's day: 2026-01-05, 00:00 UTC, a multiple of 5 days since the epoch.
pub const START_MS: i64 = 20_460 * DAY_MS;

/// Days after which no flow spans the boundary, so that ranges between such boundaries hold whole flows.
pub(super) const WHOLE_DAYS: i64 = 5;

/// Flows in one batch.
const BATCH_FLOWS: usize = 1000;

/// Subscribers, and their resellers.
const SUBSCRIBERS: u64 = 50;
const RESELLERS: u64 = 3;

/// Protocols.
const PROTOCOLS: [u64; 4] = [6, 17, 1, 47];

/// Values that text columns take: with everything that a format may have to escape.
const TEXTS: &[&str] =
    &["edge-1", "Zürich", "a b", "x,y=1", "say \"hi\"", "back\\slash", "it's", "tab\there", "60%", "{}"];

/// Entries of two logs.
#[derive(Debug)]
pub struct DataSet {
    /// Entries of the first log, positions from 1 without gaps.
    pub entries: Vec<Entry>,
    /// Entries of the second log, positions from 1.
    pub other_log: Vec<Entry>,
    /// The clock to inject: the end of the last day.
    pub now_ms: i64,
    /// Days covered.
    pub days: i64,
}

impl DataSet {
    /// The data set of these options: always the same for the same options.
    pub fn new(options: &Options, rollups: &[RollupDef]) -> Self {
        let mut random = Random(0x5eed);
        let days = i64::from(options.days.max(1));
        let batches = options.flows.div_ceil(BATCH_FLOWS).max(1);
        let mut entries = Vec::new();
        let mut other_log = Vec::new();
        for number in 0..batches {
            let flows = BATCH_FLOWS.min(options.flows - number * BATCH_FLOWS);
            let batch = Arc::new(batch(&mut random, number, batches, flows, days));
            push(&mut entries, &batch, rollups);
            if number % 10 == 3 {
                // The same flows once more at another position are other flows.
                push(&mut entries, &batch, rollups);
            }
            if number % 20 == 5 || number == 0 {
                push(&mut other_log, &batch, rollups);
            }
            if number % 4 == 0 {
                push_alerts(&mut entries, &mut random, START_MS + days * DAY_MS);
                push_alerts(&mut other_log, &mut random, START_MS + days * DAY_MS);
            }
        }
        Self { entries, other_log, now_ms: START_MS + days * DAY_MS, days }
    }
}

impl DataSet {
    /// Every alert of a log's entries.
    pub fn alerts(entries: &[Entry]) -> impl Iterator<Item = &AlertRow> {
        entries.iter().flat_map(|entry| match &entry.record {
            Record::Alerts(rows) => rows.as_slice(),
            _ => &[],
        })
    }
}

/// Two beginnings of alerts at the same time, and the end of one of them: what may be absent is, in one of them.
fn push_alerts(entries: &mut Vec<Entry>, random: &mut Random, end_ms: i64) {
    let position = entries.last().map_or(1, |entry| entry.position + 1);
    let fired_at_ms = end_ms - HOUR_MS - random.below(20 * DAY_MS as u64) as i64;
    let bare = AlertRow {
        time_ms: fired_at_ms,
        event: AlertEvent::Firing,
        alert_id: position,
        alert_type: "sink_lag".to_owned(),
        severity: "medium".to_owned(),
        subscriber_id: None,
        reseller_id: None,
        nas_id: None,
        site: None,
        host: None,
        exporter_ip: None,
        name: None,
        value: u64::MAX,
        threshold: 0,
        bytes: None,
        connections: None,
        unique_destinations: None,
        summary: String::new(),
        fired_at_ms,
        resolved_at_ms: None,
    };
    let full = AlertRow {
        alert_id: position + 1_000_000,
        alert_type: "host_connections".to_owned(),
        subscriber_id: Some(Uuid::from_u128(random.below(SUBSCRIBERS).into())),
        reseller_id: Some(Uuid::from_u128(random.below(RESELLERS).into())),
        nas_id: Some(TEXTS[random.below(8) as usize].to_owned()),
        site: Some(TEXTS[random.below(8) as usize].to_owned()),
        host: Some(Addr::v4(0x0a00_0000 | random.below(40) as u32)),
        exporter_ip: Some(Addr(0x2001_0db8 << 96 | u128::from(random.below(9)))),
        name: Some(TEXTS[random.below(8) as usize].to_owned()),
        value: random.magnitude(40),
        threshold: random.magnitude(30),
        bytes: Some(random.magnitude(40)),
        connections: Some(random.magnitude(20)),
        unique_destinations: Some(random.magnitude(10)),
        summary: TEXTS.join("\n"),
        ..bare.clone()
    };
    let resolved_at_ms = Some(fired_at_ms + HOUR_MS);
    let end = AlertRow { time_ms: fired_at_ms + HOUR_MS, event: AlertEvent::Resolved, resolved_at_ms, ..full.clone() };
    let record = Record::Alerts(Arc::new(vec![bare, full, end]));
    entries.push(Entry { position, record });
}

fn push(entries: &mut Vec<Entry>, batch: &Arc<FlowBatch>, defs: &[RollupDef]) {
    let position = entries.last().map_or(1, |entry| entry.position + 1);
    entries.push(Entry { position, record: Record::Flows(Arc::clone(batch)) });
    let sums = rollups::pro_rated(defs, batch, position);
    entries.push(Entry { position: position + 1, record: Record::Sums(Arc::new(sums)) });
}

fn batch(random: &mut Random, number: usize, batches: usize, flows: usize, days: i64) -> FlowBatch {
    let mut batch = FlowBatch::default();
    let span = days * DAY_MS / batches as i64;
    let only_v4 = number % 3 == 1;
    for _ in 0..flows {
        let late = if random.below(20) == 0 { random.below(3 * DAY_MS as u64) as i64 } else { 0 };
        let end = START_MS + number as i64 * span + random.below(span.max(1) as u64) as i64 - late;
        let end = end.clamp(START_MS, START_MS + days * DAY_MS - 1);
        let length =
            if random.below(10) < 7 { random.below(MINUTE_MS as u64) } else { random.below(HOUR_MS as u64 / 4) };
        let whole = end.div_euclid(WHOLE_DAYS * DAY_MS) * WHOLE_DAYS * DAY_MS;
        batch.time.push(Some(end));
        batch.flow_start.push(Some((end - length as i64).max(whole)));
        batch.received_at.push(Some(end + late + random.below(5000) as i64));
        addresses(random, &mut batch, only_v4);
        rest(random, &mut batch);
    }
    batch
}

/// Addresses and direction that fit each other: 10.0.0.0/8 and 2001:db8::/32 are customers.
fn addresses(random: &mut Random, batch: &mut FlowBatch, only_v4: bool) {
    let v6 = !only_v4 && random.below(5) == 0;
    let customer = |random: &mut Random| {
        let n = random.below(40);
        if v6 { Addr(0x2001_0db8 << 96 | u128::from(n)) } else { Addr::v4(0x0a00_0000 | n as u32) }
    };
    let other = |random: &mut Random| {
        let n = random.below(300) * random.below(300);
        if v6 { Addr(0x2a00_1450 << 96 | u128::from(n) << 40) } else { Addr::v4(0xc000_0200 + (n as u32) * 257) }
    };
    let (direction, src, dst) = match random.below(10) {
        0..=3 => (Direction::Out, customer(random), other(random)),
        4..=7 => (Direction::In, other(random), customer(random)),
        8 => (Direction::Internal, customer(random), customer(random)),
        _ => (Direction::Transit, other(random), other(random)),
    };
    batch.direction.push(Some(direction as u8));
    batch.src_ip.push(Some(src));
    batch.dst_ip.push(Some(dst));
    if direction == Direction::Internal {
        let internal = &mut batch.internal;
        internal.rows.push(batch.time.len() as u32 - 1);
        internal.subscriber_id.push(Some(&Uuid::from_u128(random.below(SUBSCRIBERS).into())));
        internal.reseller_id.push(Some(&Uuid::from_u128(random.below(RESELLERS).into())));
        internal.site.push(None);
    }
}

/// Everything else, by the column's kind; what may be null is null in a third of the rows. A subscriber is behind one access
/// server, which has one site and one reseller or lacks one of them, a flow's place is known or not, and an application belongs
/// to one protocol, as in life: stores that keep an entry for each combination of these (InfluxDB: a series) would otherwise
/// hold almost as many as there are flows.
fn rest(random: &mut Random, batch: &mut FlowBatch) {
    const DONE: &[Field] =
        &[Field::Time, Field::FlowStart, Field::ReceivedAt, Field::SrcIp, Field::DstIp, Field::Direction];
    const NEVER_NULL: &[Field] = &[Field::ExporterIp, Field::Protocol, Field::Bytes, Field::Packets];
    let (subscriber, protocol) = (random.below(SUBSCRIBERS), random.below(PROTOCOLS.len() as u64));
    let nas = subscriber % TEXTS.len() as u64;
    let place_known = random.below(3) > 0;
    for field in Field::ALL.iter().copied().filter(|field| !DONE.contains(field)) {
        let null = match field {
            Field::Site => !place_known || nas % 5 == 1,
            Field::ResellerId => !place_known || nas % 5 == 2,
            Field::NasId => !place_known || nas % 5 == 3,
            field => random.below(3) == 0 && !NEVER_NULL.contains(&field),
        };
        let number = match field {
            Field::SubscriberId => subscriber,
            Field::NasId => nas,
            Field::Site => nas + 4,
            Field::ResellerId => nas % RESELLERS,
            Field::Protocol => PROTOCOLS[protocol as usize],
            Field::App => protocol + random.below(3) * PROTOCOLS.len() as u64,
            field => number(random, field),
        };
        let n = (!null).then_some(number);
        match batch.column_mut(field) {
            ColumnMut::I64(c) => c.push(n.map(|n| n as i64)),
            ColumnMut::U64(c) => c.push(n),
            ColumnMut::U32(c) => c.push(n.map(|n| n as u32)),
            ColumnMut::U16(c) => c.push(n.map(|n| n as u16)),
            ColumnMut::U8(c) => c.push(n.map(|n| n as u8)),
            ColumnMut::Ip(c) => c.push(n.map(|n| Addr::v4(n as u32))),
            ColumnMut::AddrDict(c) => c.push(n.map(|n| Addr::v4(0xc633_6400 + n as u32 % 4)).as_ref()),
            ColumnMut::Text(c) => c.push(n.map(|n| Text::from(TEXTS[n as usize % TEXTS.len()])).as_ref()),
            ColumnMut::Uuid(c) => c.push(n.map(|n| Uuid::from_u128(u128::from(n) << 64 | 1)).as_ref()),
        }
    }
}

fn number(random: &mut Random, field: Field) -> u64 {
    let any = |random: &mut Random, bits: u32| random.next() >> (64 - bits);
    match field {
        Field::Bytes => 40 + random.magnitude(34),
        Field::Packets => 1 + random.magnitude(20),
        Field::ServicePort | Field::DstPort => [0, 53, 80, 443, 65535][random.below(5) as usize],
        Field::SrcAs | Field::DstAs => [0, 64500, 64501, u64::from(u32::MAX)][random.below(4) as usize],
        Field::SrcMask | Field::DstMask => random.below(129),
        Field::TcpFlags => random.below(256),
        Field::RttMs => random.below(10_000),
        Field::SamplingRate => 1 + random.below(2) * 99,
        Field::NetflowVersion => 5,
        field => match field.kind() {
            Kind::Mac => any(random, 48),
            Kind::Country => {
                let code = ["MA", "FR", "US"][random.below(3) as usize];
                crate::country::code(code).map_or(0, u64::from)
            }
            Kind::Bool => random.below(2),
            Kind::Ip => any(random, 32),
            _ => random.below(16),
        },
    }
}

/// SplitMix64: the same numbers everywhere, without a dependency.
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A number below `2^bits_max`, all magnitudes alike.
    fn magnitude(&mut self, bits_max: u64) -> u64 {
        let bits = 1 + self.below(bits_max);
        self.next() >> (64 - bits)
    }
}
