//! The figures of a monthly report, and its shape.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::Uuid;
use crate::flow::store::TimeRange;
use crate::flow::time::{DAY_MS, HOUR_MS};

use super::super::super::collector::Site;
use super::super::basis::Basis;
use super::calendar::{Month, day_text, hour_of_day};
use super::places::{Level, Place, PlaceKey, Sums};
use super::trend::{Line, Reach};

/// Shares of the CIR whose day is projected, per cent.
const TARGETS_PERCENT: [u64; 2] = [80, 100];

/// Answer of `reports/monthly`.
#[derive(Debug, Serialize, ToSchema)]
pub struct MonthlyReport {
    /// The month, `2026-01`.
    pub month: String,
    /// Whether the month is over and all of it is held.
    pub whole: bool,
    /// Width in seconds of the buckets whose 95th percentile is taken.
    pub percentile_bucket_seconds: i64,
    /// Buckets of the month that count, those without traffic included.
    pub percentile_buckets: u64,
    /// Hours of the month that count.
    pub hours: u64,
    /// One item a reseller and site, ordered by them.
    pub items: Vec<MonthlyItem>,
    /// Number of items.
    pub total: u64,
    /// The same for each reseller over all its sites: nas_id, site and capacity are null.
    pub resellers: Vec<MonthlyItem>,
    /// What it rests on. The range is the part of the month that is held.
    #[serde(flatten)]
    pub basis: Basis,
}

/// A reseller's month at a site.
#[derive(Debug, Serialize, ToSchema)]
pub struct MonthlyItem {
    /// The reseller; null when unknown.
    #[schema(required, value_type = Option<String>, format = "uuid")]
    pub reseller_id: Option<Uuid>,
    /// Access server; null when unknown.
    #[schema(required)]
    pub nas_id: Option<String>,
    /// Site; null when unknown.
    #[schema(required)]
    pub site: Option<String>,
    /// Bytes towards the customers.
    pub bytes_in: u64,
    /// Bytes from the customers.
    pub bytes_out: u64,
    /// Bytes between customers.
    pub bytes_internal: u64,
    /// Bytes between others.
    pub bytes_transit: u64,
    /// Packets of all four.
    pub packets: u64,
    /// Flows of all four.
    pub flows: u64,
    /// The hour of the day with the most bytes in and out; null without any.
    #[schema(required)]
    pub busy_hour: Option<BusyHour>,
    /// 95th percentile of bytes in, bit/s: the rate that 95 % of all buckets do not exceed.
    pub p95_in_bps: u64,
    /// 95th percentile of bytes out, bit/s.
    pub p95_out_bps: u64,
    /// The greater of the two.
    pub p95_bps: u64,
    /// Subscribers with any traffic.
    pub active_subscribers: u64,
    /// Bytes in and out over active subscribers; null without any.
    #[schema(required)]
    pub bytes_per_subscriber: Option<u64>,
    /// Hours with any traffic, of `hours`.
    pub hours_with_data: u64,
    /// Against each earlier month, the latest first.
    pub growth: Vec<Growth>,
    /// The site's line and when it will be full, whoever uses it; null for resellers.
    #[schema(required)]
    pub capacity: Option<Capacity>,
}

/// The busiest hour of the day.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BusyHour {
    /// The hour, 0 to 23, at the report's offset from UTC.
    pub hour: u64,
    /// Mean rate of in and out together in that hour, bit/s.
    pub mean_bps: u64,
}

/// Against an earlier month.
#[derive(Debug, Serialize, ToSchema)]
pub struct Growth {
    /// The earlier month.
    pub month: String,
    /// Its bytes towards the customers.
    pub bytes_in: u64,
    /// Its bytes from the customers.
    pub bytes_out: u64,
    /// By how many per cent bytes in and out are more now; null where one of the months is not whole, or had none.
    #[schema(required)]
    pub growth_percent: Option<f64>,
}

/// A site's line.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Capacity {
    /// Committed information rate, bit/s; null when not stated.
    #[schema(required)]
    pub cir_bps: Option<u64>,
    /// 95th percentile of the site in per cent of it.
    #[schema(required)]
    pub p95_percent: Option<f64>,
    /// The line through the daily 95th percentiles (greater of in and out, of hours); null under 14 days.
    #[schema(required)]
    pub trend: Option<Trend>,
    /// When 80 % and 100 % of the CIR are reached; empty without CIR or trend.
    pub reaches: Vec<Reaches>,
}

/// A line by least squares.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Trend {
    /// Days it rests on: whole days of this and the earlier months, from the site's first on.
    pub days: u64,
    /// Where it is on the last day, bit/s.
    pub level_bps: f64,
    /// Rise a day, bit/s.
    pub slope_bps_per_day: f64,
    /// Half the width of the slope's 95 % interval, bit/s a day.
    pub slope_error_bps_per_day: f64,
    /// Share of the variance that it explains, 0 to 1.
    pub r_squared: f64,
}

/// When a share of the CIR is reached.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Reaches {
    /// The share.
    pub percent: u64,
    /// `reached`: the line is there; `projected`; `not_in_sight`: it does not rise, or takes over ten years.
    pub state: &'static str,
    /// Projected day.
    #[schema(required)]
    pub date: Option<String>,
    /// The day with the steepest slope of the 95 % interval.
    #[schema(required)]
    pub earliest: Option<String>,
    /// The day with the flattest; null when that never gets there.
    #[schema(required)]
    pub latest: Option<String>,
}

/// What is held of the month.
pub struct Covered {
    /// The month from the first data on, up to the last whole hour.
    pub range: TimeRange,
    /// The same of the percentile's buckets.
    pub buckets: TimeRange,
    /// The month from end to end.
    pub whole_month: TimeRange,
    /// Where data begin; `None` = there are none.
    pub begins_ms: Option<i64>,
}

/// What the figures depend on beside the sums.
pub struct Context {
    /// The month.
    pub month: Month,
    /// How many months before it.
    pub earlier: u32,
    /// Offset from UTC, ms.
    pub offset_ms: i64,
    /// Width of the percentile's buckets, ms.
    pub bucket_ms: i64,
    /// What is held of the month.
    pub covered: Covered,
    /// Starts of the days with any traffic.
    pub days_seen: BTreeSet<i64>,
    /// Sites and their rates.
    pub sites: Vec<Site>,
}

/// The report.
pub fn report(context: &Context, places: &Level, resellers: &Level, sites: &Level, basis: Basis) -> MonthlyReport {
    let items: Vec<_> = places
        .places
        .iter()
        .filter(|(_, place)| in_month(place))
        .map(|(key, place)| {
            let site = sites.places.get(&key.clone().of_site());
            context.item(key, place, site.map(|site| context.capacity(key, site)))
        })
        .collect();
    let of_reseller = resellers.places.iter().filter(|(_, place)| in_month(place));
    MonthlyReport {
        month: context.month.to_string(),
        whole: context.is_whole(0),
        percentile_bucket_seconds: context.bucket_ms / 1000,
        percentile_buckets: context.buckets() as u64,
        hours: context.hours(),
        total: items.len() as u64,
        items,
        resellers: of_reseller.map(|(key, place)| context.item(key, place, None)).collect(),
        basis,
    }
}

/// Whether anything was there in the report's month, not only in earlier ones.
fn in_month(place: &Place) -> bool {
    place.months.first().is_some_and(|sums| *sums != Sums::default())
}

impl Context {
    fn hours(&self) -> u64 {
        let range = self.covered.range;
        ((range.to - range.from).max(0) / HOUR_MS) as u64
    }

    fn buckets(&self) -> usize {
        let range = self.covered.buckets;
        ((range.to - range.from).max(0) / self.bucket_ms) as usize
    }

    /// Whether a month is over and held from its beginning.
    fn is_whole(&self, ago: u32) -> bool {
        let month = self.month.before(ago).range(self.offset_ms);
        let over = ago > 0 || self.covered.range.to == self.covered.whole_month.to;
        over && self.covered.begins_ms.is_some_and(|begins| begins < month.from + HOUR_MS)
    }

    fn item(&self, key: &PlaceKey, place: &Place, capacity: Option<Capacity>) -> MonthlyItem {
        let sums = place.months.first().copied().unwrap_or_default();
        let (p95_in_bps, p95_out_bps) = place.buckets.p95_bps(self.buckets(), self.bucket_ms);
        let active_subscribers = place.subscribers.len() as u64;
        MonthlyItem {
            reseller_id: key.reseller,
            nas_id: key.nas.as_deref().map(str::to_owned),
            site: key.site.as_deref().map(str::to_owned),
            bytes_in: sums.bytes_in,
            bytes_out: sums.bytes_out,
            bytes_internal: sums.bytes_internal,
            bytes_transit: sums.bytes_transit,
            packets: sums.packets,
            flows: sums.flows,
            busy_hour: self.busy_hour(place),
            p95_in_bps,
            p95_out_bps,
            p95_bps: p95_in_bps.max(p95_out_bps),
            active_subscribers,
            bytes_per_subscriber: sums.in_and_out().checked_div(active_subscribers),
            hours_with_data: place.hours_seen,
            growth: (1..=self.earlier).map(|ago| self.growth(place, sums, ago)).collect(),
            capacity,
        }
    }

    fn busy_hour(&self, place: &Place) -> Option<BusyHour> {
        let range = self.covered.range;
        let mut times = [0_u64; 24];
        let mut at = range.from.div_euclid(HOUR_MS) * HOUR_MS;
        while at < range.to {
            times[hour_of_day(at, self.offset_ms)] += 1;
            at += HOUR_MS;
        }
        let mean = |hour: usize| place.by_hour[hour] as f64 / times[hour].max(1) as f64;
        // The earlier of two equal hours.
        let hour = (0..24).rev().max_by(|a, b| mean(*a).total_cmp(&mean(*b)))?;
        let mean_bps = (mean(hour) * 8000.0 / HOUR_MS as f64) as u64;
        (place.by_hour[hour] > 0).then_some(BusyHour { hour: hour as u64, mean_bps })
    }

    fn growth(&self, place: &Place, now: Sums, ago: u32) -> Growth {
        let then = place.months.get(ago as usize).copied().unwrap_or_default();
        let comparable = self.is_whole(0) && self.is_whole(ago) && then.in_and_out() > 0;
        let (now, before) = (now.in_and_out() as f64, then.in_and_out() as f64);
        Growth {
            month: self.month.before(ago).to_string(),
            bytes_in: then.bytes_in,
            bytes_out: then.bytes_out,
            growth_percent: comparable.then(|| (now - before) / before * 100.0),
        }
    }

    fn capacity(&self, key: &PlaceKey, site: &Place) -> Capacity {
        let is_this = |s: &&Site| key.nas.as_deref() == Some(&*s.nas_id) && key.site.as_deref() == Some(&*s.site);
        let cir_bps = self.sites.iter().filter(is_this).map(|s| s.cir_bps).max().filter(|cir| *cir > 0);
        let (p95_in, p95_out) = site.buckets.p95_bps(self.buckets(), self.bucket_ms);
        let p95_percent = cir_bps.map(|cir| p95_in.max(p95_out) as f64 / cir as f64 * 100.0);
        let points = self.points(site);
        let (Some(line), Some((last_day, _))) = (Line::through(&points), points.last().copied()) else {
            return Capacity { cir_bps, p95_percent, trend: None, reaches: Vec::new() };
        };
        let trend = Trend {
            days: line.days as u64,
            level_bps: line.at(last_day),
            slope_bps_per_day: line.slope,
            slope_error_bps_per_day: line.slope_error,
            r_squared: line.r_squared,
        };
        let reaches = cir_bps.map(|cir| TARGETS_PERCENT.map(|percent| self.reaches(&line, last_day, cir, percent)));
        Capacity { cir_bps, p95_percent, trend: Some(trend), reaches: reaches.into_iter().flatten().collect() }
    }

    /// Day numbers and daily 95th percentiles: a day on which only this site was silent is 0, one on which everything was is left
    /// out.
    fn points(&self, site: &Place) -> Vec<(f64, f64)> {
        let Some(first) = site.days.keys().next() else { return Vec::new() };
        let ends_by = self.covered.range.to;
        let days = self.days_seen.range(first..).filter(|day| **day + DAY_MS <= ends_by);
        days.map(|day| (self.day_number(*day), site.days.get(day).copied().unwrap_or(0) as f64)).collect()
    }

    fn day_number(&self, day_ms: i64) -> f64 {
        ((day_ms + self.offset_ms) / DAY_MS) as f64
    }

    fn reaches(&self, line: &Line, last_day: f64, cir_bps: u64, percent: u64) -> Reaches {
        let target = cir_bps as f64 * percent as f64 / 100.0;
        // A target that is reached within a day is reached on that day.
        let date = |day: f64| Some(day_text((day - 1e-6).ceil() as i64 * DAY_MS, 0));
        let (state, date, earliest, latest) = match line.reach(target, last_day) {
            Reach::Reached => ("reached", None, None, None),
            Reach::On { day, earliest, latest } => ("projected", date(day), date(earliest), latest.and_then(date)),
            Reach::NotInSight => ("not_in_sight", None, None, None),
        };
        Reaches { percent, state, date, earliest, latest }
    }
}
