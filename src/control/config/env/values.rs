//! Texts of variables as TOML literals.

use std::net::IpAddr;

/// A value without the comment, the blanks and the quotes around it.
pub(super) fn clean(value: &str) -> &str {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some((inside, after)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            let after = after.trim_start();
            if after.is_empty() || after.starts_with('#') {
                return inside;
            }
        }
    }
    let comment = value
        .char_indices()
        .find(|(at, c)| *c == '#' && value[..*at].chars().next_back().is_none_or(char::is_whitespace));
    comment.map_or(value, |(at, _)| value[..at].trim_end())
}

pub(super) fn text(value: &str) -> Result<String, String> {
    Ok(toml::Value::from(value).to_string())
}

pub(super) fn number(value: &str) -> Result<String, String> {
    let number: u32 = value.parse().map_err(|_| format!("{value:?} is no whole number"))?;
    Ok(number.to_string())
}

pub(super) fn seconds(value: &str) -> Result<String, String> {
    let seconds: f64 = value
        .parse()
        .ok()
        .filter(|s: &f64| *s > 0.0 && *s < 1e9)
        .ok_or_else(|| format!("{value:?} is no number of seconds; allowed is a number over 0, like 10"))?;
    Ok(format!("\"{}ms\"", (seconds * 1000.0).round().max(1.0) as u64))
}

/// Hours: a number of them, or a number of hours, days or weeks as PostgreSQL writes intervals.
pub(super) fn hours(value: &str) -> Result<String, String> {
    let hours = span_hours(value, 1);
    let allowed = || format!("{value} is not allowed; hours, or a text such as 12 hours, 1 day, 2 weeks");
    hours.map(|hours| hours.to_string()).ok_or_else(allowed)
}

/// Days: a number of them, or a number of hours, days or weeks as InfluxDB writes durations; a part of a day counts whole.
pub(super) fn days(value: &str) -> Result<String, String> {
    let allowed = || format!("{value} is not allowed; days, or a text such as 30d, 4w, 720h");
    span_hours(value, 24).map(|hours| hours.div_ceil(24).to_string()).ok_or_else(allowed)
}

/// Hours of a number with a unit; without one the number counts as so many hours each.
fn span_hours(value: &str, without_unit: u32) -> Option<u32> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(digits);
    let factor = match unit.trim() {
        "" => without_unit,
        "h" | "hour" | "hours" => 1,
        "d" | "day" | "days" => 24,
        "w" | "week" | "weeks" => 7 * 24,
        _ => return None,
    };
    count.parse::<u32>().ok()?.checked_mul(factor)
}

pub(super) fn boolean(value: &str) -> Result<String, String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok("true".to_owned()),
        "0" | "false" | "no" | "off" => Ok("false".to_owned()),
        _ => Err(format!("{value:?} is neither true nor false (also 1, yes, on; 0, no, off)")),
    }
}

pub(super) fn address(value: &str) -> Result<String, String> {
    let ip: Result<IpAddr, _> = value.trim_matches(['[', ']']).parse();
    ip.map(|ip| format!("\"{ip}\"")).map_err(|_| format!("{value:?} is no address, like 0.0.0.0 or ::"))
}

pub(super) fn list(value: &str) -> Result<String, String> {
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    let items: Vec<toml::Value> = items.map(|item| item.to_ascii_lowercase().into()).collect();
    Ok(toml::Value::Array(items).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_comments_blanks_and_quotes() {
        for (raw, want) in [
            ("2055", "2055"),
            (" 2055   # the port", "2055"),
            ("\"2055\"  # quoted", "2055"),
            ("'a # b'", "a # b"),
            ("a#b", "a#b"),
            ("# nothing", ""),
            ("", ""),
            ("\"half", "\"half"),
        ] {
            assert_eq!(clean(raw), want, "{raw:?}");
        }
    }

    #[test]
    fn spans_read_with_and_without_units() {
        let all = [days("30"), days("30d"), days("4w"), days("25h"), hours("24"), hours("1 day")];
        assert_eq!(all.map(Result::unwrap), ["30", "30", "28", "2", "24", "24"]);
        for wrong in ["", "d", "3 months", "-1", "99999999999"] {
            assert!(days(wrong).is_err() && hours(wrong).is_err(), "{wrong}");
        }
    }
}
