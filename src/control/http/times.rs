//! Times as requests write them: `period=24h`, `from` and `to` as RFC 3339 or epoch seconds.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::flow::store::TimeRange;
use crate::flow::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

/// What a period may be.
pub const PERIOD_ALLOWED: &str =
    "a number with a unit: s, m, h, d, w or mo (calendar months), such as 90s, 15m, 24h, 7d, 12mo";
/// What a time may be.
pub const TIME_ALLOWED: &str =
    "RFC 3339 with an offset (2026-01-31T12:00:00Z), a date (2026-01-31, midnight UTC), or seconds since 1970";
/// What an interval may be.
pub const INTERVAL_ALLOWED: &str = "a number with a unit: s, m, h, d or w, such as 1m, 5m, 1h, 1d";

/// Longest period: nothing is kept longer, and sums over it cannot overflow.
const PERIOD_MS_MAX: i64 = 100 * 366 * DAY_MS;
/// Most calendar months of a period.
const PERIOD_MONTHS_MAX: i64 = 1200;
/// Latest time that is understood, ms (year 9999): a larger number was written in ms instead of seconds.
const TIME_MS_MAX: i64 = 253_402_300_799_000;

/// A length of time: fixed, or in calendar months.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// So many ms.
    Ms(i64),
    /// So many months of the calendar, UTC.
    Months(i32),
}

impl Period {
    /// Reads `24h`. `None` when it is not one of [`PERIOD_ALLOWED`], or 0, or absurdly long.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = text.get(..digits)?.parse().ok()?;
        let unit_ms = match text.get(digits..)? {
            "mo" => {
                return (1..=PERIOD_MONTHS_MAX).contains(&number).then_some(Self::Months(number as i32));
            }
            "s" => SECOND_MS,
            "m" => MINUTE_MS,
            "h" => HOUR_MS,
            "d" => DAY_MS,
            "w" => 7 * DAY_MS,
            _ => return None,
        };
        let ms = number.checked_mul(unit_ms)?;
        (1..=PERIOD_MS_MAX).contains(&ms).then_some(Self::Ms(ms))
    }

    /// The range of this length that ends at `to`.
    pub fn before(self, to: i64) -> TimeRange {
        TimeRange { from: self.shift(to, -1), to }
    }

    /// The range of this length that begins at `from`.
    pub fn after(self, from: i64) -> TimeRange {
        TimeRange { from, to: self.shift(from, 1) }
    }

    fn shift(self, ms: i64, sign: i32) -> i64 {
        match self {
            Self::Ms(length) => ms.saturating_add(length * i64::from(sign)),
            Self::Months(months) => {
                let moved = Timestamp::from_millisecond(ms)
                    .ok()
                    .map(|t| t.to_zoned(TimeZone::UTC))
                    .and_then(|t| t.checked_add(Span::new().months(months * sign)).ok());
                moved.map_or(ms, |t| t.timestamp().as_millisecond())
            }
        }
    }
}

/// Reads a fixed length of time in ms.
pub fn parse_interval_ms(text: &str) -> Option<i64> {
    match Period::parse(text)? {
        Period::Ms(ms) => Some(ms),
        Period::Months(_) => None,
    }
}

/// Reads a time, ms since the Unix epoch. `None` when it is not one of [`TIME_ALLOWED`].
pub fn parse_time_ms(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let seconds: i64 = text.parse().ok()?;
        return seconds.checked_mul(SECOND_MS).filter(|ms| *ms <= TIME_MS_MAX);
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == "2026-01-31".len()
    {
        let midnight = date.to_zoned(TimeZone::UTC).ok()?;
        return Some(midnight.timestamp().as_millisecond());
    }
    // A `+` that was not escaped arrives as a blank.
    let text = text.replace(' ', "+");
    let at = text.parse::<Timestamp>().ok()?.as_millisecond();
    (0..=TIME_MS_MAX).contains(&at).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_of_every_unit_are_read_and_nothing_else() {
        for (text, ms) in [("90s", 90_000), ("15m", 900_000), ("24h", DAY_MS), ("7d", 7 * DAY_MS), ("2w", 14 * DAY_MS)]
        {
            assert_eq!(Period::parse(text), Some(Period::Ms(ms)));
        }
        assert_eq!(Period::parse("12mo"), Some(Period::Months(12)));
        for text in
            ["", "h", "24", "24 h", "-1h", "0h", "1y", "1.5h", "99999999999999999999h", "9999999999w", "24H", "é"]
        {
            assert_eq!(Period::parse(text), None, "{text}");
        }
        assert_eq!(parse_interval_ms("1mo"), None);
    }

    #[test]
    fn months_follow_the_calendar() {
        let to = parse_time_ms("2026-03-31T12:00:00Z").unwrap();
        assert_eq!(Some(Period::Months(1).before(to).from), parse_time_ms("2026-02-28T12:00:00Z"));
        assert_eq!(Some(Period::Months(12).before(to).from), parse_time_ms("2025-03-31T12:00:00Z"));
        assert_eq!(Period::Ms(5).after(10), TimeRange { from: 10, to: 15 });
    }

    #[test]
    fn times_are_read_in_each_form() {
        let at = 1_769_860_800_000;
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00.000Z",
            "2026-01-31T13:00:00+01:00",
            "2026-01-31T13:00:00 01:00",
            "1769860800",
        ] {
            assert_eq!(parse_time_ms(text), Some(at), "{text}");
        }
        assert_eq!(parse_time_ms("2026-01-31"), Some(at - 12 * HOUR_MS));
        for text in ["", "now", "2026-13-01", "2026-01-31T12:00:00", "1769860800000000", "-5", "12:00"] {
            assert_eq!(parse_time_ms(text), None, "{text}");
        }
    }
}
