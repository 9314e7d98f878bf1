//! Parameters of requests: what a route takes, and reading them.
//!
//! An empty value means that the parameter was not given (`?nas_id=&period=7d`). A parameter that the route does not take, or that
//! is given twice, is an error: a misspelt filter must never answer about everything.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::flow::filter::{Filter, Side, Test};
use crate::flow::store::TimeRange;
use crate::flow::{Field, Key, Uuid, country};

use super::answers::reports;
use super::error::ApiError;
use super::times::{self, Period};
use crate::flow::nearest;

/// Longest value of a parameter, bytes: bounds the work of parsing filters.
const VALUE_BYTES_MAX: usize = 4096;

/// A parameter that a route takes.
#[derive(Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: ParamKind,
    /// What holds when it is not given, as text; `None` = nothing.
    pub default: Option<&'static str>,
    /// One line of description.
    pub about: &'static str,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// A length of time, `times::PERIOD_ALLOWED`.
    Period,
    /// A time, `times::TIME_ALLOWED`.
    Time,
    /// A width of time steps, `times::INTERVAL_ALLOWED`.
    Interval,
    /// A whole number from `min` to `max`.
    Whole {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// A UUID.
    Uuid,
    /// An address.
    Ip,
    /// A country.
    Country,
    /// Any text.
    Text,
    /// A filter expression.
    Filter,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words, with commas between them.
    SomeOf(&'static [&'static str]),
    /// Keys of questions, with commas between them.
    Keys,
    /// Columns of the flow record, with commas between them.
    Columns,
    /// A month of the calendar.
    Month,
    /// An offset from UTC.
    Offset,
    /// A part of the path: a UUID.
    PathUuid,
    /// A part of the path: an address.
    PathIp,
}

impl ParamKind {
    /// What is allowed, in words.
    pub fn allowed(self) -> String {
        match self {
            Self::Period => times::PERIOD_ALLOWED.into(),
            Self::Time => times::TIME_ALLOWED.into(),
            Self::Interval => times::INTERVAL_ALLOWED.into(),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Uuid | Self::PathUuid => "a UUID, such as 6f1e2c4a-0b1d-4e8f-9a3b-5c6d7e8f9a0b".into(),
            Self::Ip | Self::PathIp => "an IPv4 or IPv6 address".into(),
            Self::Country => "an ISO 3166 country, such as DE".into(),
            Self::Text => format!("text of at most {VALUE_BYTES_MAX} bytes"),
            Self::Month => "a month, such as 2026-01".into(),
            Self::Offset => reports::OFFSET_ALLOWED.into(),
            Self::Filter => "a filter, such as: src net 10.1.0.0/16 and proto tcp and dst port 443".into(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::SomeOf(words) => format!("some of {}, with commas between them", words.join(", ")),
            Self::Keys => {
                let names: Vec<_> = question_keys().map(Key::name).collect();
                format!("some of {}, with commas between them", names.join(", "))
            }
            Self::Columns => {
                let names: Vec<_> = Field::ALL.iter().map(|f| f.name()).collect();
                format!("some of {}, with commas between them", names.join(", "))
            }
        }
    }
}

/// What questions can group by: every key but times and what is summed.
pub fn question_keys() -> impl Iterator<Item = Key> {
    let own = [Key::Host, Key::Role, Key::Country, Key::Asn].into_iter();
    let summed = [Field::Time, Field::FlowStart, Field::ReceivedAt, Field::Bytes, Field::Packets, Field::RttMs];
    own.chain(Field::ALL.iter().filter(move |f| !summed.contains(f)).map(|f| Key::Field(*f)))
}

/// The parameters of one request, checked against its route's table.
#[derive(Debug)]
pub struct Params {
    table: &'static [&'static [Param]],
    values: BTreeMap<&'static str, String>,
}

impl Params {
    /// Takes the pairs of the query string and of the path.
    ///
    /// # Errors
    /// 400 for a parameter that the route does not take, is given twice or is too long.
    pub fn read(
        table: &'static [&'static [Param]],
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ApiError> {
        let mut values = BTreeMap::new();
        for (name, value) in pairs {
            let Some(param) = table.iter().copied().flatten().find(|p| p.name == name) else {
                return Err(unknown(table, &name));
            };
            if value.len() > VALUE_BYTES_MAX {
                return Err(ApiError::parameter(&name, "the value is too long", param.kind.allowed()));
            }
            if values.insert(param.name, value).is_some() {
                return Err(ApiError::parameter(&name, format!("{name} is given twice"), "one value"));
            }
        }
        values.retain(|_, value| !value.is_empty());
        Ok(Self { table, values })
    }

    /// The text of a parameter, or its default.
    pub fn text(&self, name: &str) -> Option<&str> {
        let given = self.values.get(name).map(String::as_str);
        given.or_else(|| self.param(name).and_then(|p| p.default))
    }

    /// Whether it was given.
    pub fn is_given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value as `read` understands it.
    ///
    /// # Errors
    /// 400 when `read` gives `None`.
    pub fn get<T>(&self, name: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, ApiError> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => read(text).map(Some).ok_or_else(|| self.wrong(name, text)),
        }
    }

    /// A whole number within the parameter's bounds.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn whole(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let (min, max) = match self.param(name).map(|p| p.kind) {
            Some(ParamKind::Whole { min, max }) => (min, max),
            _ => (0, u64::MAX),
        };
        self.get(name, |text| text.parse().ok().filter(|n| (min..=max).contains(n)))
    }

    /// A UUID.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn uuid(&self, name: &str) -> Result<Option<Uuid>, ApiError> {
        self.get(name, |text| text.parse().ok())
    }

    /// An address.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn ip(&self, name: &str) -> Result<Option<IpAddr>, ApiError> {
        self.get(name, |text| text.parse().ok())
    }

    /// One of the words that the parameter allows.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn word(&self, name: &str) -> Result<Option<&'static str>, ApiError> {
        let words = self.words_allowed(name);
        self.get(name, |text| words.iter().copied().find(|w| *w == text))
    }

    /// Several of the words that the parameter allows.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn words(&self, name: &str) -> Result<Vec<&'static str>, ApiError> {
        let words = self.words_allowed(name);
        self.list(name, |text| words.iter().copied().find(|w| *w == text))
    }

    /// Several values with commas between them, each once.
    ///
    /// # Errors
    /// 400 for the first that `read` does not understand or that is there twice.
    pub fn list<T: PartialEq>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, ApiError> {
        let mut all = Vec::new();
        for word in self.text(name).unwrap_or_default().split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let value = read(word).ok_or_else(|| self.wrong(name, word))?;
            if all.contains(&value) {
                return Err(ApiError::parameter(name, format!("{word} is there twice"), self.allowed(name)));
            }
            all.push(value);
        }
        Ok(all)
    }

    /// The range that `period`, `from` and `to` name: `from` and `to`, or a period before `to` (now when not given) or
    /// after `from`.
    ///
    /// # Errors
    /// 400 when one of them is not understood, all three are given, or the range is empty.
    pub fn range(&self, now_ms: i64) -> Result<TimeRange, ApiError> {
        let from = self.get("from", times::parse_time_ms)?;
        let to = self.get("to", times::parse_time_ms)?;
        let period = self.get("period", Period::parse)?.unwrap_or(Period::Ms(crate::flow::time::DAY_MS));
        let range = match (from, to) {
            (Some(_), Some(_)) if self.is_given("period") => {
                return Err(ApiError::parameter("period", "from, to and period are all given", "two of them"));
            }
            (Some(from), Some(to)) => TimeRange { from, to },
            (Some(from), None) if self.is_given("period") => period.after(from),
            (Some(from), None) => TimeRange { from, to: now_ms },
            (None, to) => period.before(to.unwrap_or(now_ms)),
        };
        if range.from >= range.to {
            return Err(ApiError::parameter("from", "the range is empty", "a from before to (by default now)"));
        }
        Ok(range)
    }

    /// The filter that the plain parameters name: `nas_id`, `site`, `app`, `app_category`, `reseller_id`, `subscriber_id`,
    /// `country` and `asn`.
    ///
    /// # Errors
    /// 400 for what is not understood.
    pub fn filter(&self) -> Result<Filter, ApiError> {
        let mut filter = Filter::Any;
        for field in [Field::NasId, Field::Site, Field::App, Field::AppCategory] {
            if let Some(text) = self.text(field.name()) {
                filter = filter.and(Filter::text(field, text));
            }
        }
        for field in [Field::ResellerId, Field::SubscriberId] {
            if let Some(uuid) = self.uuid(field.name())? {
                filter = filter.and(Filter::uuid(field, uuid));
            }
        }
        if let Some(country) = self.get("country", country::code)? {
            filter = filter.and(Filter::Test(Test::Country { side: Side::Either, country }));
        }
        if let Some(asn) = self.get("asn", |text| text.parse().ok().filter(|asn| *asn > 0))? {
            filter = filter.and(Filter::Test(Test::As { side: Side::Either, asn }));
        }
        Ok(filter)
    }

    /// The error for a value that is not allowed.
    pub fn wrong(&self, name: &str, value: &str) -> ApiError {
        ApiError::parameter(name, format!("{name}: {value:?} is not allowed"), self.allowed(name))
    }

    fn allowed(&self, name: &str) -> String {
        self.param(name).map(|p| p.kind.allowed()).unwrap_or_default()
    }

    fn words_allowed(&self, name: &str) -> &'static [&'static str] {
        match self.param(name).map(|p| p.kind) {
            Some(ParamKind::OneOf(words) | ParamKind::SomeOf(words)) => words,
            _ => &[],
        }
    }

    fn param(&self, name: &str) -> Option<&'static Param> {
        self.table.iter().copied().flatten().find(|p| p.name == name)
    }
}

fn unknown(table: &'static [&'static [Param]], name: &str) -> ApiError {
    let names = || table.iter().copied().flatten().map(|p| p.name);
    let hint = nearest(name, names()).map_or(String::new(), |near| format!("; did you mean {near}?"));
    let allowed = names().collect::<Vec<_>>().join(", ");
    let allowed = if allowed.is_empty() { "no parameters".to_owned() } else { allowed };
    let shown: String = name.chars().take(64).collect();
    ApiError::parameter(&shown, format!("{shown} is no parameter of this route{hint}"), allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: &[&[Param]] = &[&[
        Param { name: "from", kind: ParamKind::Time, default: None, about: "" },
        Param { name: "to", kind: ParamKind::Time, default: None, about: "" },
        Param { name: "period", kind: ParamKind::Period, default: Some("24h"), about: "" },
        Param { name: "limit", kind: ParamKind::Whole { min: 1, max: 5 }, default: Some("3"), about: "" },
        Param { name: "by", kind: ParamKind::SomeOf(&["a", "b"]), default: None, about: "" },
        Param { name: "nas_id", kind: ParamKind::Text, default: None, about: "" },
    ]];

    fn read(pairs: &[(&str, &str)]) -> Result<Params, ApiError> {
        Params::read(TABLE, pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())))
    }

    #[test]
    fn an_unknown_parameter_names_the_nearest_and_what_is_allowed() {
        let error = read(&[("limt", "3")]).unwrap_err();
        assert_eq!(error.status, 400);
        assert_eq!(error.body.parameter.as_deref(), Some("limt"));
        assert!(error.body.error.contains("did you mean limit?"));
        assert!(error.body.allowed.unwrap().contains("period"));
        assert!(read(&[("limit", "1"), ("limit", "2")]).is_err());
    }

    #[test]
    fn an_empty_value_is_not_given() {
        let params = read(&[("nas_id", ""), ("limit", "")]).unwrap();
        assert_eq!(params.filter().unwrap(), Filter::Any);
        assert_eq!(params.whole("limit").unwrap(), Some(3));
    }

    #[test]
    fn ranges_come_from_any_two_of_the_three() {
        let now = 1_800_000_000_000;
        let range = |pairs: &[(&str, &str)]| read(pairs).unwrap().range(now);
        assert_eq!(range(&[]).unwrap(), TimeRange { from: now - 86_400_000, to: now });
        assert_eq!(range(&[("from", "1000"), ("to", "2000")]).unwrap(), TimeRange { from: 1_000_000, to: 2_000_000 });
        assert_eq!(range(&[("from", "1000"), ("period", "5s")]).unwrap(), TimeRange { from: 1_000_000, to: 1_005_000 });
        assert_eq!(range(&[("to", "1000"), ("period", "5s")]).unwrap(), TimeRange { from: 995_000, to: 1_000_000 });
        assert_eq!(range(&[("from", "1000")]).unwrap().to, now);
        for bad in [
            &[("from", "2"), ("to", "1")][..],
            &[("from", "1"), ("to", "2"), ("period", "1h")],
            &[("from", "1"), ("to", "1")],
            &[("period", "1x")],
            &[("to", "yesterday")],
        ] {
            assert_eq!(range(bad).unwrap_err().status, 400, "{bad:?}");
        }
    }

    #[test]
    fn numbers_and_words_keep_their_bounds() {
        for bad in ["0", "6", "-1", "x", "1.0", "99999999999999999999"] {
            let error = read(&[("limit", bad)]).unwrap().whole("limit").unwrap_err();
            assert_eq!(error.body.allowed.as_deref(), Some("a whole number from 1 to 5"));
        }
        assert_eq!(read(&[("by", "b, a")]).unwrap().words("by").unwrap(), ["b", "a"]);
        for bad in ["c", "a,a", "a;b"] {
            assert!(read(&[("by", bad)]).unwrap().words("by").is_err());
        }
    }
}
