//! Months and days at a fixed offset from UTC.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

use crate::flow::store::TimeRange;
use crate::flow::time::{DAY_MS, HOUR_MS};

/// Furthest offsets that are in use, hours.
const OFFSET_HOURS_MAX: i64 = 14;
/// Years whose months are understood.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=9998;

/// A month of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// Reads `2026-01`.
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let digits = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return None;
        }
        let (year, month): (i16, i8) = (year.parse().ok()?, month.parse().ok()?);
        (YEARS.contains(&year) && (1..=12).contains(&month)).then_some(Self { year, month })
    }

    /// The month that a time lies in.
    pub fn of(at_ms: i64, offset_ms: i64) -> Self {
        let day = day_of(at_ms, offset_ms);
        Self { year: day.year(), month: day.month() }
    }

    /// So many months earlier.
    pub fn before(self, months: u32) -> Self {
        let index = i64::from(self.year) * 12 + i64::from(self.month) - 1 - i64::from(months);
        let year = index.div_euclid(12).clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16;
        Self { year, month: index.rem_euclid(12) as i8 + 1 }
    }

    /// Its time.
    pub fn range(self, offset_ms: i64) -> TimeRange {
        let next = Self::before(self, 0).after();
        TimeRange { from: self.start_ms() - offset_ms, to: next.start_ms() - offset_ms }
    }

    fn after(self) -> Self {
        if self.month == 12 { Self { year: self.year + 1, month: 1 } } else { Self { month: self.month + 1, ..self } }
    }

    fn start_ms(self) -> i64 {
        let year = self.year.clamp(*YEARS.start(), YEARS.end() + 1);
        midnight_ms(date(year, self.month, 1))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

fn midnight_ms(day: Date) -> i64 {
    day.to_zoned(TimeZone::UTC).map_or(0, |zoned| zoned.timestamp().as_millisecond())
}

fn day_of(at_ms: i64, offset_ms: i64) -> Date {
    let at = Timestamp::from_millisecond(at_ms.saturating_add(offset_ms)).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::UTC).date()
}

/// The day of a time, as `2026-01-31`.
pub fn day_text(at_ms: i64, offset_ms: i64) -> String {
    day_of(at_ms, offset_ms).to_string()
}

/// Hour of the day, 0 to 23.
pub fn hour_of_day(at_ms: i64, offset_ms: i64) -> usize {
    ((at_ms + offset_ms).rem_euclid(DAY_MS) / HOUR_MS) as usize
}

/// Day of the week, Monday = 0.
pub fn weekday(at_ms: i64, offset_ms: i64) -> usize {
    // 1970-01-01 was a Thursday.
    ((at_ms + offset_ms).div_euclid(DAY_MS) + 3).rem_euclid(7) as usize
}

/// What an offset may be.
pub const OFFSET_ALLOWED: &str = "whole hours from UTC, from -14:00 to +14:00, such as +03:00 or Z";

/// Reads an offset from UTC in ms. `None` when it is not one of [`OFFSET_ALLOWED`].
pub fn parse_offset_ms(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    // A `+` that was not escaped arrives as a blank.
    let (sign, hours) = match text.split_at_checked(1)? {
        ("+" | " ", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let hours = hours.strip_suffix(":00")?;
    let valid = hours.len() == 2 && hours.bytes().all(|b| b.is_ascii_digit());
    let hours: i64 = hours.parse().ok().filter(|_| valid)?;
    (hours <= OFFSET_HOURS_MAX).then_some(sign * hours * HOUR_MS)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::times::parse_time_ms;
    use super::*;

    #[test]
    fn months_are_read_and_shift_with_the_offset() {
        let month = Month::parse("2026-03").unwrap();
        assert_eq!(month.to_string(), "2026-03");
        assert_eq!(Some(month.range(0).from), parse_time_ms("2026-03-01"));
        assert_eq!(Some(month.range(0).to), parse_time_ms("2026-04-01"));
        assert_eq!(Some(month.range(3 * HOUR_MS).from), parse_time_ms("2026-02-28T21:00:00Z"));
        assert_eq!(month.before(3).to_string(), "2025-12");
        assert_eq!(month.before(27).to_string(), "2023-12");
        assert_eq!(Some(Month::parse("2025-12").unwrap().range(0).to), parse_time_ms("2026-01-01"));
        let at = parse_time_ms("2026-02-28T22:00:00Z").unwrap();
        assert_eq!(Month::of(at, 0).to_string(), "2026-02");
        assert_eq!(Month::of(at, 3 * HOUR_MS).to_string(), "2026-03");
        for text in ["", "2026", "2026-1", "2026-13", "2026-00", "2026-01-01", "+026-01", "9999-12", "0001-01", "é-01"]
        {
            assert_eq!(Month::parse(text), None, "{text}");
        }
    }

    #[test]
    fn hours_and_weekdays_are_those_of_the_offset() {
        // A Saturday.
        let at = parse_time_ms("2026-01-31T22:30:00Z").unwrap();
        assert_eq!((weekday(at, 0), hour_of_day(at, 0), day_text(at, 0)), (5, 22, "2026-01-31".to_owned()));
        let offset = parse_offset_ms("+03:00").unwrap();
        assert_eq!((weekday(at, offset), hour_of_day(at, offset)), (6, 1));
        assert_eq!(day_text(at, offset), "2026-02-01");
    }

    #[test]
    fn offsets_are_whole_hours() {
        for (text, hours) in [("Z", 0), ("+00:00", 0), ("+03:00", 3), (" 03:00", 3), ("-05:00", -5), ("+14:00", 14)] {
            assert_eq!(parse_offset_ms(text), Some(hours * HOUR_MS), "{text}");
        }
        for text in ["", "3", "+3:00", "+03:30", "+15:00", "03:00", "++3:00", "z", "é3:00"] {
            assert_eq!(parse_offset_ms(text), None, "{text}");
        }
    }
}
