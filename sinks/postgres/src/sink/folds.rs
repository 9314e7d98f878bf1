//! Which buckets of rollups are folded, and when.
//!
//! A bucket of an hour or a day is emitted again and again while it is open, each time with a row for nearly every key. An
//! hour after its end, when no rows have come for a while, it is folded on a thread and connection of its own, one bucket at
//! a time. Which buckets are to be folded stands in the database as well, so that a restart forgets none.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::resume_unwind;
use std::thread::JoinHandle;

use postgres::Client;
use sink_api::time::{HOUR_MS, rfc3339};
use sink_api::{RollupDef, SinkError};

use super::fold::{Folded, fold};
use super::place::Place;
use super::pulled::SumRows;
use crate::config::Config;
use crate::connect::sink_error;
use crate::schema::{self, Table};

/// How long after its end a bucket still gets rows in numbers: flows are reported late.
const AFTER_MS: i64 = HOUR_MS;

/// A bucket that got rows late waits for a quarter of the time since its end to pass without more, but no longer than this.
const QUIET_MS_MAX: i64 = 6 * HOUR_MS;

/// Failures after which a bucket is left as it is, and the pause between two tries.
const FAILURES_MAX: u32 = 3;
const PAUSE_MS: i64 = HOUR_MS / 2;

/// A rollup by name and the start of a bucket, ms since the Unix epoch.
type Bucket = (String, i64);

/// A bucket to be folded.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// When rows came, as far as this process knows.
    last_ms: i64,
    failures: u32,
    not_before_ms: i64,
}

/// See the module's documentation.
pub(super) struct Folds {
    tables: BTreeMap<String, (Table, i64)>,
    waiting: BTreeMap<Bucket, Waiting>,
    running: Option<Running>,
    /// Which was begun last: the next in order is looked at first, so that one that gets rows all the time keeps no others waiting.
    begun: Option<Bucket>,
}

struct Running {
    bucket: Bucket,
    waiting: Waiting,
    thread: JoinHandle<Result<Folded, SinkError>>,
}

impl Folds {
    /// Reads which buckets wait.
    pub fn read(
        client: &mut Client,
        config: &Config,
        rollups: &[RollupDef],
        place: &Place,
        now_ms: i64,
    ) -> Result<Self, SinkError> {
        let worth = rollups.iter().filter(|def| def.is_worth_folding());
        let tables = worth.map(|def| (def.name.to_string(), (Table::rollup(config, def), def.bucket_ms))).collect();
        let sql = "SELECT rollup, (extract(epoch FROM bucket) * 1000)::bigint FROM netflow.unfolded \
                   WHERE target = $1 AND log_id = $2::text::uuid";
        let rows = client.query(sql, &[&place.target, &place.log_id]).map_err(failed)?;
        let waiting = Waiting { last_ms: now_ms, failures: 0, not_before_ms: i64::MIN };
        let waiting = rows.iter().map(|row| ((row.get(0), row.get(1)), waiting)).collect();
        Ok(Self { tables, waiting, running: None, begun: None })
    }

    /// Takes note of rows that are about to be written.
    pub fn note(&mut self, client: &mut Client, place: &Place, sums: &[SumRows], now_ms: i64) -> Result<(), SinkError> {
        for sums in sums {
            let Some((name, _)) = self.tables.get_key_value(&*sums.rollup().rollup) else { continue };
            let mut last = None;
            for bucket_ms in sums.rows.iter().map(|row| sums.rollup().bucket[*row as usize]) {
                if last.replace(bucket_ms) == Some(bucket_ms) {
                    continue;
                }
                let bucket = (name.clone(), bucket_ms);
                if let Some(waiting) = self.waiting.get_mut(&bucket) {
                    waiting.last_ms = now_ms;
                    continue;
                }
                let insert = "INSERT INTO netflow.unfolded (target, log_id, rollup, bucket) \
                              VALUES ($1, $2::text::uuid, $3, $4::text::timestamptz) ON CONFLICT DO NOTHING";
                let start = rfc3339(bucket_ms);
                client.execute(insert, &[&place.target, &place.log_id, name, &start]).map_err(failed)?;
                self.waiting.insert(bucket, Waiting { last_ms: now_ms, failures: 0, not_before_ms: i64::MIN });
            }
        }
        Ok(())
    }

    /// Whether a bucket is being folded: its table's partitions cannot be dropped then.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Takes note of what has ended, and starts what is due.
    pub fn run(&mut self, client: &mut Client, config: &Config, place: &Place, now_ms: i64) -> Result<(), SinkError> {
        if let Some(Running { bucket, waiting, thread }) = self.running.take_if(|running| running.thread.is_finished())
        {
            let outcome = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            self.ended(client, place, bucket, waiting, outcome, now_ms)?;
        }
        if self.running.is_some() {
            return Ok(());
        }
        let after = self.begun.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut in_turn = self.waiting.range((after, Bound::Unbounded)).chain(&self.waiting);
        let due = in_turn.find(|(bucket, waiting)| match self.tables.get(&bucket.0) {
            Some((_, width_ms)) => is_due(bucket.1.saturating_add(*width_ms), waiting, now_ms),
            // No longer among the rollups: its table is left as it is.
            None => false,
        });
        let Some((bucket, waiting)) = due.map(|(bucket, waiting)| (bucket.clone(), *waiting)) else {
            return Ok(());
        };
        self.waiting.remove(&bucket);
        self.begun = Some(bucket.clone());
        let Some((table, _)) = self.tables.get(&bucket.0).cloned() else {
            return Ok(());
        };
        if bucket.1 < schema::cutoff_ms(config, table.keep, now_ms) {
            // It leaves with its partition.
            return forget(client, place, &bucket);
        }
        let (config, bucket_ms) = (config.clone(), bucket.1);
        let thread = std::thread::Builder::new().name("fold".to_owned());
        let thread = thread.spawn(move || fold(&config, &table, bucket_ms));
        let thread = thread.map_err(|error| SinkError::retry(format!("fold: {error}")))?;
        self.running = Some(Running { bucket, waiting, thread });
        Ok(())
    }

    fn ended(
        &mut self,
        client: &mut Client,
        place: &Place,
        bucket: Bucket,
        waiting: Waiting,
        outcome: Result<Folded, SinkError>,
        now_ms: i64,
    ) -> Result<(), SinkError> {
        let (rollup, start) = (&bucket.0, rfc3339(bucket.1));
        let again = |failures| Waiting { failures, not_before_ms: now_ms.saturating_add(PAUSE_MS), ..waiting };
        match outcome {
            Ok(Folded::Rows { before, after }) => tracing::debug!(%rollup, %start, before, after, "folded a bucket"),
            Ok(Folded::OwnColumns) => {
                tracing::debug!(%rollup, %start, "the table has columns of its own: its rows are not folded");
            }
            Ok(Folded::Busy) => {
                self.waiting.entry(bucket).or_insert(again(waiting.failures));
                return Ok(());
            }
            Err(error) if waiting.failures + 1 < FAILURES_MAX => {
                tracing::info!(%rollup, %start, %error, "a bucket could not be folded, and will be tried again");
                self.waiting.entry(bucket).or_insert(again(waiting.failures + 1));
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(%rollup, %start, %error, "a bucket could not be folded: it keeps several rows for a key");
            }
        }
        // Rows that came meanwhile are a reason to fold it again.
        if self.waiting.contains_key(&bucket) { Ok(()) } else { forget(client, place, &bucket) }
    }
}

/// Whether a bucket that ends then is to be folded now.
fn is_due(end_ms: i64, waiting: &Waiting, now_ms: i64) -> bool {
    let since_end_ms = now_ms.saturating_sub(end_ms);
    let quiet_ms = now_ms.saturating_sub(waiting.last_ms);
    since_end_ms >= AFTER_MS && quiet_ms >= (since_end_ms / 4).min(QUIET_MS_MAX) && now_ms >= waiting.not_before_ms
}

fn forget(client: &mut Client, place: &Place, bucket: &Bucket) -> Result<(), SinkError> {
    let delete = "DELETE FROM netflow.unfolded WHERE target = $1 AND log_id = $2::text::uuid AND rollup = $3 \
                  AND bucket = $4::text::timestamptz";
    let start = rfc3339(bucket.1);
    client.execute(delete, &[&place.target, &place.log_id, &bucket.0, &start]).map(drop).map_err(failed)
}

fn failed(error: postgres::Error) -> SinkError {
    sink_error("folds", &error)
}

#[cfg(test)]
mod tests {
    use sink_api::time::DAY_MS;

    use super::*;

    #[test]
    fn a_bucket_is_due_once_it_is_over_and_rows_no_longer_come() {
        let due = |last_ms, now_ms| is_due(0, &Waiting { last_ms, failures: 0, not_before_ms: i64::MIN }, now_ms);
        assert!(!due(0, AFTER_MS - 1));
        assert!(due(0, AFTER_MS));
        assert!(due(AFTER_MS * 3 / 4, AFTER_MS) && !due(AFTER_MS * 3 / 4 + 1, AFTER_MS), "a quarter of an hour");
        assert!(!due(DAY_MS, DAY_MS + 5 * HOUR_MS), "late rows, a day later");
        assert!(due(DAY_MS, DAY_MS + 8 * HOUR_MS));
        assert!(due(i64::MAX - QUIET_MS_MAX, i64::MAX), "a capture of long ago: six hours at the most");
        let pause = Waiting { last_ms: 0, failures: 1, not_before_ms: DAY_MS };
        assert!(!is_due(0, &pause, DAY_MS - 1) && is_due(0, &pause, DAY_MS));
    }
}
