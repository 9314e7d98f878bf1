//! `reports/peak-hours`: traffic by hour of the day and day of the week.

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::store::{OrderBy, TimeRange};
use crate::flow::time::{DAY_MS, HOUR_MS};
use crate::flow::value::Value;
use crate::flow::{Direction, Field, Key};

use super::super::super::error::ApiError;
use super::super::super::route::Call;
use super::super::basis::{Ask, Basis};
use super::calendar::{hour_of_day, parse_offset_ms, weekday};

/// Most days of one answer.
pub const DAYS_MAX: u64 = 366;
/// Hours of a week.
const HOURS: usize = 7 * 24;
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Answer of `reports/peak-hours`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeakHours {
    /// All 168 hours of a week, Monday 0 h first.
    pub items: Vec<WeekHour>,
    /// Number of items.
    pub total: u64,
    /// The one with the highest mean rate of in and out together; null without traffic.
    #[schema(required)]
    pub peak: Option<WeekHour>,
    /// What it rests on.
    #[serde(flatten)]
    pub basis: Basis,
}

/// An hour of the week.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct WeekHour {
    /// Day of the week.
    #[schema(example = "monday")]
    pub weekday: &'static str,
    /// Hour of the day, 0 to 23, at the offset from UTC that was asked for.
    pub hour: u64,
    /// How often it was, from the first hour with traffic on.
    pub hours: u64,
    /// Bytes towards the customers, of all of them.
    pub bytes_in: u64,
    /// Bytes from the customers.
    pub bytes_out: u64,
    /// Mean rate of bytes in, bit/s.
    pub mean_in_bps: u64,
    /// Mean rate of bytes out, bit/s.
    pub mean_out_bps: u64,
}

/// Answers.
///
/// # Errors
/// Bad parameters, and what the store says.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let days = call.params.whole("days")?.unwrap_or(28) as i64;
    let offset_ms = call.params.get("utc_offset", parse_offset_ms)?.unwrap_or(0);
    let to = call.endpoint.collector.now_ms().div_euclid(HOUR_MS) * HOUR_MS;
    let range = TimeRange { from: to - days * DAY_MS, to };
    let ask =
        Ask { by: vec![Key::Field(Field::Direction)], interval_ms: Some(HOUR_MS), order: OrderBy::Time, limit: None };
    let (answer, basis) = call.ask(range, call.filter()?, ask)?;
    let mut week = empty_week();
    let slot = |at: i64| weekday(at, offset_ms) * 24 + hour_of_day(at, offset_ms);
    let mut at = answer.rows.iter().filter_map(|row| row.interval).min().unwrap_or(to);
    while at < to {
        week[slot(at)].hours += 1;
        at += HOUR_MS;
    }
    for row in &answer.rows {
        let Some(at) = row.interval else { continue };
        let hour = &mut week[slot(at)];
        let bytes = match row.keys.first() {
            Some(Value::Direction(Direction::In)) => &mut hour.bytes_in,
            Some(Value::Direction(Direction::Out)) => &mut hour.bytes_out,
            _ => continue,
        };
        *bytes = bytes.saturating_add(row.measures.bytes);
    }
    for hour in &mut week {
        let mean = |bytes: u64| (bytes as f64 * 8000.0 / (hour.hours.max(1) as f64 * HOUR_MS as f64)) as u64;
        (hour.mean_in_bps, hour.mean_out_bps) = (mean(hour.bytes_in), mean(hour.bytes_out));
    }
    let rate = |hour: &&WeekHour| hour.mean_in_bps.saturating_add(hour.mean_out_bps);
    // The earlier of two equal hours.
    let peak = week.iter().rev().max_by_key(rate).filter(|hour| hour.bytes_in > 0 || hour.bytes_out > 0).cloned();
    Ok(super::super::json(&PeakHours { total: week.len() as u64, items: week, peak, basis }))
}

fn empty_week() -> Vec<WeekHour> {
    let hour =
        |index: usize| WeekHour { weekday: WEEKDAYS[index / 24], hour: (index % 24) as u64, ..WeekHour::default() };
    (0..HOURS).map(hour).collect()
}
