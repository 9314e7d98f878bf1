//! Writing: every row a point, the cursor last.
//!
//! Rows are numbered as they come: flows, and rows of rollups, each by a count of their own that the cursor keeps. The
//! timestamp of a point is the start of its bucket and the row's number, modulo the bucket's width in ns. So a group that
//! is sent again after an error makes the same points, which replace themselves; and two rows of one series and bucket differ,
//! unless as many rows as the bucket has nanoseconds lie between them.
//!
//! A row keeps its number although it is not stored: numbers must not depend on the clock or on the server.

mod cursor;
mod requests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sink_api::rollup::{Keep, Record, RollupRows};
use sink_api::sink::{GROUP_ROWS_MAX, Group, RefusedRow, SinkCounters};
use sink_api::time::DAY_MS;
use sink_api::{AlertRow, Entry, FlowBatch, Sink, SinkContext, SinkError};

use crate::config::Config;
use crate::http::Client;
use crate::line::{Lines, Subscribers, alert_line};
use crate::place;
use crate::schema::{self, ALERTS_BUCKET_MS, FLOWS_BUCKET_MS};
use cursor::Cursor;
use requests::Requests;

/// How far in the future a row's time may lie.
const FUTURE_MS_MAX: i64 = 2 * DAY_MS;

/// Times that the server's ns hold, ms since the Unix epoch: the years 1678 to 2261.
const SERVER_TIMES_MS: std::ops::Range<i64> = -9_220_000_000_000..9_220_000_000_000;

/// ns in one ms.
const MS_NS: i64 = 1_000_000;

/// An open sink.
pub struct InfluxSink {
    config: Config,
    context: SinkContext,
    client: Client,
    rollups: BTreeMap<String, Keep>,
    subscribers: Subscribers,
    cursor: Option<Cursor>,
    expired_flows: u64,
    /// Working space for compression.
    compressed: Vec<u8>,
}

impl InfluxSink {
    /// Makes what is missing at the server, reads the cursor and which subscribers have a tag.
    ///
    /// # Errors
    /// As the contract says.
    pub fn open(config: &Config, context: &SinkContext) -> Result<Self, SinkError> {
        let client = Client::new(config)?;
        place::prepare(&client, config)?;
        let timeout = config.request_timeout;
        let cursor = cursor::read(&client, context.log_id, timeout)?;
        let tagged = context.rollups.iter().find(|def| schema::has_subscriber_tag(def));
        let known = tagged.map_or(Ok(Vec::new()), |def| cursor::subscribers(&client, def.keep, timeout))?;
        Ok(Self {
            rollups: context.rollups.iter().map(|def| (def.name.to_string(), def.keep)).collect(),
            subscribers: Subscribers::new(known, config.tags_max as usize),
            config: config.clone(),
            context: context.clone(),
            client,
            cursor,
            expired_flows: 0,
            compressed: Vec::new(),
        })
    }

    /// Times whose rows are stored. The server compares with its own clock: what it finds too old is counted there.
    fn kept(&self, keep: Keep) -> std::ops::Range<i64> {
        let now_ms = (self.context.clock)();
        let first = self.config.cutoff_ms(keep, now_ms).max(SERVER_TIMES_MS.start);
        first..now_ms.saturating_add(FUTURE_MS_MAX).min(SERVER_TIMES_MS.end)
    }

    /// Adds the flows of an entry; gives how many are too old or too far in the future.
    fn add_flows(
        &self,
        requests: &mut Requests<'_>,
        entry: u32,
        batch: &FlowBatch,
        first: u64,
        refused: &mut Vec<Refused>,
    ) -> Result<u64, SinkError> {
        let kept = self.kept(Keep::Detail);
        let lines = Lines::of_flows(batch, self.context.log_id);
        let mut expired = 0;
        for (row, time) in batch.time.values().iter().enumerate() {
            let above = |n: u64| n > i64::MAX as u64;
            if !kept.contains(time) {
                expired += 1;
            } else if above(batch.bytes.value_or_default(row)) || above(batch.packets.value_or_default(row)) {
                let reason = "bytes or packets above 9223372036854775807".to_owned();
                refused.push(Refused { entry, row: row as u32, reason });
            } else {
                let timestamp = timestamp(*time, FLOWS_BUCKET_MS, first + row as u64);
                requests.add(FLOWS_REQUEST, (entry, row as u32), |out| lines.write(row, timestamp, out))?;
            }
        }
        Ok(expired)
    }

    /// Adds rows of a rollup; `first` is the number of its first row, `index` its first row's place in the record.
    fn add_rollup(
        &mut self,
        requests: &mut Requests<'_>,
        (entry, index): (u32, u32),
        rows: &RollupRows,
        first: u64,
    ) -> Result<(), SinkError> {
        let Some(keep) = self.rollups.get(&*rows.rollup).copied() else { return Ok(()) };
        let kept = self.kept(keep);
        let lines = Lines::of_rollup(rows, self.context.log_id, &mut self.subscribers);
        for (row, bucket) in rows.bucket.iter().enumerate().filter(|(_, bucket)| kept.contains(bucket)) {
            let timestamp = timestamp(*bucket, rows.bucket_ms, first + row as u64);
            requests.add(rollup_request(keep), (entry, index + row as u32), |out| lines.write(row, timestamp, out))?;
        }
        Ok(())
    }
}

impl InfluxSink {
    /// Adds alerts, which are numbered with the rows of rollups; `first` is the number of the first.
    fn add_alerts(
        &self,
        requests: &mut Requests<'_>,
        entry: u32,
        rows: &[AlertRow],
        first: u64,
    ) -> Result<(), SinkError> {
        let kept = self.kept(Keep::Aggregate);
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| kept.contains(&row.time_ms)) {
            let timestamp = timestamp(row.time_ms, ALERTS_BUCKET_MS, first + index as u64);
            let log = self.context.log_id;
            requests.add(rollup_request(Keep::Aggregate), (entry, index as u32), |out| {
                alert_line(row, log, timestamp, out);
            })?;
        }
        Ok(())
    }
}

/// A row that the server refuses: number of its entry in the group, row of the record, reason.
#[derive(Debug)]
struct Refused {
    entry: u32,
    row: u32,
    reason: String,
}

/// Which request a point goes into: those of flows, of short and of long rollups.
const FLOWS_REQUEST: usize = 0;

fn rollup_request(keep: Keep) -> usize {
    match keep {
        Keep::Detail => 1,
        Keep::Aggregate => 2,
    }
}

/// The timestamp of a row, ns since the Unix epoch: in its bucket, apart from those of all other rows near it.
fn timestamp(time_ms: i64, bucket_ms: i64, number: u64) -> i64 {
    let bucket_ms = bucket_ms.max(1);
    let start_ns = time_ms.div_euclid(bucket_ms).saturating_mul(bucket_ms).saturating_mul(MS_NS);
    let width_ns = bucket_ms.saturating_mul(MS_NS) as u64;
    start_ns.saturating_add((number % width_ns) as i64)
}

impl Sink for InfluxSink {
    fn cursor(&mut self) -> Result<Option<u64>, SinkError> {
        Ok(self.cursor.map(|cursor| cursor.position))
    }

    fn write(&mut self, group: &mut dyn Group) -> Result<(), SinkError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut row_count = 0;
        while row_count < GROUP_ROWS_MAX
            && let Some(entry) = group.next()?
        {
            row_count += entry.record.row_count();
            entries.push(entry);
        }
        let Some(last) = entries.last() else { return Ok(()) };
        let mut next = Cursor { position: last.position, ..self.cursor.unwrap_or_default() };
        let client = self.client.clone();
        let mut compressed = std::mem::take(&mut self.compressed);
        let mut requests = Requests::new(&client, &mut compressed);
        let (mut expired, mut refused) = (0, Vec::new());
        for (number, entry) in (0..).zip(&entries) {
            match &entry.record {
                Record::Flows(batch) => {
                    let batch = Arc::clone(batch);
                    if self.config.detail {
                        expired += self.add_flows(&mut requests, number, &batch, next.flows, &mut refused)?;
                    }
                    next.flows += batch.len() as u64;
                }
                Record::Sums(sums) => {
                    let mut index = 0;
                    for rows in &sums.rows {
                        self.add_rollup(&mut requests, (number, index), rows, next.sums)?;
                        next.sums += rows.len() as u64;
                        index += rows.len() as u32;
                    }
                }
                Record::Alerts(rows) => {
                    self.add_alerts(&mut requests, number, rows, next.sums)?;
                    next.sums += rows.len() as u64;
                }
            }
        }
        let sent = requests.finish()?;
        refused.extend(sent.refused);
        let refused = refused.iter().map(|Refused { entry, row, reason }| {
            let entry = &entries[*entry as usize];
            RefusedRow { entry, row: *row as usize, reason }
        });
        group.set_aside(&refused.collect::<Vec<_>>())?;
        cursor::write(&client, self.context.log_id, next, (self.context.clock)(), &mut compressed)?;
        self.compressed = compressed;
        self.cursor = Some(next);
        self.expired_flows += expired + sent.expired_flows;
        Ok(())
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }

    fn counters(&self) -> SinkCounters {
        SinkCounters { expired_flows: self.expired_flows, stored_bytes: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_of_one_bucket_have_timestamps_of_their_own_in_it(
            time in -4_000_000_000_000i64..4_000_000_000_000,
            bucket_ms in prop::sample::select(vec![1000i64, 60_000, 300_000, 3_600_000, 86_400_000]),
            first in 0u64..1 << 62,
            apart in 1u64..1_000_000_000,
        ) {
            let start = time.div_euclid(bucket_ms) * bucket_ms;
            let (a, b) = (timestamp(time, bucket_ms, first), timestamp(start, bucket_ms, first + apart));
            prop_assert!(a != b, "a bucket of a second has 10^9 places");
            for timestamp in [a, b] {
                prop_assert_eq!(timestamp.div_euclid(bucket_ms * MS_NS) * bucket_ms, start);
            }
        }
    }
}
