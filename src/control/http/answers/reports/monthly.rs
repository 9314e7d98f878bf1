//! `reports/monthly`: what a reseller and a site used in a month, and when the site's line will be full.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use axum::response::Response;

use crate::flow::filter::Filter;
use crate::flow::store::{Answer, OrderBy, Question, TierChoice, TimeRange};
use crate::flow::time::{DAY_MS, HOUR_MS, MINUTE_MS, rfc3339};
use crate::flow::{Field, FlowStore, Key};

use super::super::super::error::ApiError;
use super::super::super::route::{Call, Work};
use super::calendar::{Month, parse_offset_ms};
use super::figures::{self, Context, Covered};
use super::places::{Day, Level, PlaceKey};

/// Widths of the buckets whose 95th percentile is taken.
pub const BUCKETS: &[&str] = &["1h", "5m"];
/// Bucket values that one report may hold: 128 MiB.
const VALUES_MAX: usize = 16 << 20;

/// Answers.
///
/// # Errors
/// Bad parameters, too many sites for narrow buckets, and what the store says.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let asked = Asked::read(&call)?;
    let mut gathered = Gathered::new();
    let basis_of = gathered.gather(&call, &asked)?;
    let covered = gathered.covered(&asked);
    let mut basis = call.basis(&basis_of, asked.store.name());
    basis.range = covered.range.into();
    basis.note = note(&gathered, &asked);
    let context = Context {
        month: asked.month,
        earlier: asked.months as u32 - 1,
        offset_ms: asked.offset_ms,
        bucket_ms: asked.bucket_ms,
        covered,
        days_seen: gathered.days_seen,
        sites: call.endpoint.collector.sites(),
    };
    Ok(super::super::json(&figures::report(&context, &gathered.places, &gathered.resellers, &gathered.sites, basis)))
}

/// What a request asks for.
struct Asked {
    month: Month,
    /// Months of the report, the earlier ones included.
    months: usize,
    offset_ms: i64,
    bucket_ms: i64,
    filter: Filter,
    store: Arc<dyn FlowStore>,
    /// The month, up to the last whole hour.
    range: TimeRange,
    deadline: Instant,
}

impl Asked {
    fn read(call: &Call) -> Result<Self, ApiError> {
        let now_ms = call.endpoint.collector.now_ms();
        let offset_ms = call.params.get("utc_offset", parse_offset_ms)?.unwrap_or(0);
        let last = Month::of(now_ms, offset_ms).before(1);
        let month = call.params.get("month", Month::parse)?.unwrap_or(last);
        let earlier = call.params.whole("compare")?.unwrap_or(0) as usize;
        let bucket_ms = if call.params.word("bucket")? == Some("5m") { 5 * MINUTE_MS } else { HOUR_MS };
        let whole = month.range(offset_ms);
        let range = TimeRange { to: whole.to.min(now_ms.div_euclid(HOUR_MS) * HOUR_MS), ..whole };
        if range.from >= range.to {
            let allowed = format!("a month that has begun, at the latest {}", Month::of(now_ms, offset_ms));
            return Err(ApiError::parameter("month", format!("{month} has no hour that is over"), allowed));
        }
        Ok(Self {
            month,
            months: earlier + 1,
            offset_ms,
            bucket_ms,
            filter: call.filter()?,
            store: call.store()?,
            range,
            deadline: call.deadline(Work::Export),
        })
    }

    fn ask(&self, range: TimeRange, fourth: Field, interval_ms: Option<i64>) -> Result<Answer, ApiError> {
        let question = Question {
            range,
            filter: self.filter.clone(),
            by: [Field::NasId, Field::Site, Field::ResellerId, fourth].map(Key::Field).into(),
            interval_ms,
            order: OrderBy::Time,
            limit: None,
            tier: TierChoice::Coarsest,
            deadline: self.deadline,
        };
        Ok(self.store.ask(&question)?)
    }
}

/// Everything that the questions gave.
struct Gathered {
    places: Level,
    resellers: Level,
    sites: Level,
    /// The first hour with any traffic.
    first_ms: Option<i64>,
    /// Starts of the days with any traffic.
    days_seen: BTreeSet<i64>,
    /// Where the data begin that are still held, when some have expired.
    held_from: Option<i64>,
    /// The same of the narrow buckets.
    buckets_held_from: Option<i64>,
}

impl Gathered {
    fn new() -> Self {
        Self {
            places: Level::new(|key| key),
            resellers: Level::new(PlaceKey::of_reseller),
            sites: Level::new(PlaceKey::of_site),
            first_ms: None,
            days_seen: BTreeSet::new(),
            held_from: None,
            buckets_held_from: None,
        }
    }

    fn levels(&mut self) -> [&mut Level; 3] {
        [&mut self.places, &mut self.resellers, &mut self.sites]
    }

    /// Asks everything; gives an answer whose tier and basis are those of the sums.
    fn gather(&mut self, call: &Call, asked: &Asked) -> Result<Answer, ApiError> {
        call.endpoint.freshen(asked.range);
        let mut last = None;
        for ago in (0..asked.months).rev() {
            let month = if ago == 0 { asked.range } else { asked.month.before(ago as u32).range(asked.offset_ms) };
            let mut from = month.from;
            while from < month.to {
                let range = TimeRange { from, to: (from + DAY_MS).min(month.to) };
                last = Some(self.add_day(asked, range, ago)?);
                from = range.to;
            }
        }
        let subscribers = asked.ask(asked.range, Field::SubscriberId, None)?;
        self.levels().into_iter().for_each(|level| level.add_subscribers(&subscribers.rows));
        Ok(last.unwrap_or(subscribers))
    }

    fn add_day(&mut self, asked: &Asked, range: TimeRange, ago: usize) -> Result<Answer, ApiError> {
        let mut hours = asked.ask(range, Field::Direction, Some(HOUR_MS))?;
        let rows = std::mem::take(&mut hours.rows);
        let first = rows.iter().filter_map(|row| row.interval).min();
        self.first_ms = self.first_ms.or(first);
        self.days_seen.extend(first.map(|_| range.from));
        let expired = |held: Option<i64>| held.filter(|held| *held > range.from).map(|held| held.min(range.to));
        self.held_from = self.held_from.max(expired(hours.expired_before));
        let day = Day {
            range,
            month: ago,
            months: asked.months,
            offset_ms: asked.offset_ms,
            hours_are_buckets: asked.bucket_ms == HOUR_MS,
        };
        self.levels().into_iter().for_each(|level| level.add_hours(&day, &rows));
        if ago == 0 && asked.bucket_ms != HOUR_MS {
            let buckets = asked.ask(range, Field::Direction, Some(asked.bucket_ms))?;
            self.buckets_held_from = self.buckets_held_from.max(expired(buckets.expired_before));
            self.levels().into_iter().for_each(|level| level.add_buckets(&buckets.rows));
        }
        let values: usize = [&self.places, &self.resellers, &self.sites].map(Level::values).iter().sum();
        if values > VALUES_MAX {
            let mut error = ApiError::new(
                StatusCode::NOT_IMPLEMENTED,
                format!("the report has more than {VALUES_MAX} buckets of {}", asked.bucket_ms / MINUTE_MS),
            );
            error.body.remedy = Some("ask for bucket=1h, or for one reseller_id or nas_id".into());
            return Err(error);
        }
        Ok(hours)
    }

    /// The part of the month that the figures rest on.
    fn covered(&self, asked: &Asked) -> Covered {
        let held = |held_from: Option<i64>| TimeRange {
            from: asked.range.from.max(held_from.unwrap_or(i64::MIN)).max(self.first_ms.unwrap_or(i64::MIN)),
            to: asked.range.to,
        };
        let range = held(self.held_from);
        let buckets = if asked.bucket_ms == HOUR_MS { range } else { held(self.buckets_held_from) };
        let begins_ms = self.first_ms.max(self.held_from);
        Covered { range, buckets, whole_month: asked.month.range(asked.offset_ms), begins_ms }
    }
}

/// What a reader must know of the data.
fn note(gathered: &Gathered, asked: &Asked) -> Option<String> {
    let mut notes = Vec::new();
    if let Some(held) = gathered.held_from {
        notes.push(format!("sums before {} have expired", rfc3339(held)));
    }
    if let Some(held) = gathered.buckets_held_from {
        let minutes = asked.bucket_ms / MINUTE_MS;
        notes.push(format!("{minutes}-minute sums before {} have expired: ask for bucket=1h", rfc3339(held)));
    }
    if asked.range.to < asked.month.range(asked.offset_ms).to {
        notes.push(format!("{} is not over", asked.month));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}
