//! A day of flows of many subscribers, in no order, written through the sink in a few groups.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sink_api::rollup::Record;
use sink_api::sink::{Group, RefusedRow};
use sink_api::store::{FlowStore, OrderBy, Question, TierChoice, TimeRange};
use sink_api::{Addr, Direction, Entry, Field, Filter, FlowBatch, Key, RollupDef, SinkConfig, SinkContext, SinkError};
use sink_api::{Uuid, conformance, filter};

/// Subscribers, each with the same number of flows.
pub const SUBSCRIBERS: u32 = 4_000;
/// Flows in all.
pub const FLOWS: u32 = 64_000;
/// Flows of one group.
const GROUP_FLOWS: u32 = 16_000;
const BATCH_FLOWS: u32 = 1_000;
/// Coprime to the number of subscribers: one after another they come in no order.
const STEP: u32 = 1_237;

/// Midnight, so that all flows are of one day.
pub const DAY_START_MS: i64 = 20_000 * sink_api::time::DAY_MS;

pub fn subscriber(number: u32) -> Uuid {
    // Spread over all of the space, as random ids are.
    Uuid::from_u64_pair(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15), number.into())
}

pub fn context() -> SinkContext {
    conformance::context(Arc::new(RollupDef::defaults()), DAY_START_MS + sink_api::time::DAY_MS)
}

/// Writes all of them, with the housekeeping that comes between groups, and closes the sink. Through one connection: where pages of
/// two lie would differ from run to run.
pub fn write(config: &sink_postgres::Config, context: &SinkContext) {
    let mut sink = sink_postgres::Config { connections: 1, ..config.clone() }.open(context).unwrap();
    let mut entries: VecDeque<Entry> = (0..FLOWS / BATCH_FLOWS).map(entry).collect();
    while !entries.is_empty() {
        sink.write(&mut Flows { entries: &mut entries, left: GROUP_FLOWS / BATCH_FLOWS }).unwrap();
    }
    sink.maintain().unwrap();
    sink.close(Duration::from_secs(60)).unwrap();
}

fn entry(number: u32) -> Entry {
    let mut batch = FlowBatch::default();
    for row in number * BATCH_FLOWS..(number + 1) * BATCH_FLOWS {
        let time = DAY_START_MS + i64::from(row) * 1_000;
        let addr = Some(Addr::v4(0x0a00_0000 + row));
        [&mut batch.time, &mut batch.flow_start, &mut batch.received_at]
            .into_iter()
            .for_each(|column| column.push(Some(time)));
        [&mut batch.src_ip, &mut batch.dst_ip].into_iter().for_each(|column| column.push(addr));
        [&mut batch.bytes, &mut batch.packets].into_iter().for_each(|column| column.push(Some(100)));
        [&mut batch.src_port, &mut batch.dst_port, &mut batch.service_port]
            .into_iter()
            .for_each(|column| column.push(Some(443)));
        batch.protocol.push(Some(6));
        batch.direction.push(Some(Direction::Out as u8));
        let code = batch.subscriber_id.add_value(subscriber(row.wrapping_mul(STEP) % SUBSCRIBERS));
        batch.subscriber_id.push_code(code);
    }
    batch.fill_missing();
    Entry { position: u64::from(number) + 1, record: Record::Flows(Arc::new(batch)) }
}

struct Flows<'a> {
    entries: &'a mut VecDeque<Entry>,
    left: u32,
}

impl Group for Flows<'_> {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        Ok(self.entries.pop_front())
    }

    fn set_aside(&mut self, rows: &[RefusedRow<'_>]) -> Result<(), SinkError> {
        assert!(rows.is_empty(), "{rows:?}");
        Ok(())
    }
}

/// Flows of one subscriber, as the store says from detail by port.
pub fn flows_of(store: &dyn FlowStore, number: u32) -> u64 {
    let question = Question {
        range: TimeRange { from: DAY_START_MS, to: DAY_START_MS + sink_api::time::DAY_MS },
        filter: Filter::Test(filter::Test::Uuid { field: Field::SubscriberId, value: subscriber(number) }),
        by: vec![Key::Field(Field::Protocol), Key::Field(Field::ServicePort)],
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: Some(10),
        tier: TierChoice::Detail,
        deadline: Instant::now() + Duration::from_secs(60),
    };
    let answer = store.ask(&question).unwrap();
    assert_eq!(answer.rows.len(), 1);
    answer.rows[0].measures.flows
}
