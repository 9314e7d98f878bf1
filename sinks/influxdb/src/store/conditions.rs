//! Filters as InfluxQL conditions.
//!
//! The server's logic is not that of filters: it has no NOT, and nothing about it is said for fields that are absent. So a filter
//! is either translated exactly, when it looks at tags alone (an absent tag is the empty text, and equality is then
//! two-valued), or weakened to what the server surely understands: every row that matches the filter matches the condition.

use sink_api::filter::{Compare, Filter, Side, Test};
use sink_api::rollup::{Key, RollupDef};
use sink_api::{Addr, Direction, Field, country};

use crate::schema::{self, OTHER};

/// Where the columns of a filter stand.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The points of flows.
    Flows,
    /// A rollup's points.
    Rollup(&'a RollupDef),
}

impl Source<'_> {
    /// Whether a column is a tag. Subscribers are not: those beyond the bound stand in a field.
    fn is_tag(self, field: Field) -> bool {
        match self {
            Source::Flows => schema::is_flow_tag(field),
            Source::Rollup(def) => schema::is_flow_tag(field) && def.by.contains(&Key::Field(field)),
        }
    }

    /// The name of a column's tag or field, `None` where there is none.
    fn name(self, field: Field) -> Option<&'static str> {
        match self {
            Source::Flows => Some(schema::field_name(field)),
            Source::Rollup(def) if def.by.contains(&Key::Field(field)) => Some(schema::key_name(Key::Field(field))),
            Source::Rollup(def) => {
                let host = matches!(field, Field::SrcIp | Field::DstIp) && def.by.contains(&Key::Host);
                host.then(|| Key::Host.name())
            }
        }
    }
}

/// A text literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
}

/// A tag has one of some values, of which there is one at least.
pub fn any_of<'a>(tag: &str, values: impl IntoIterator<Item = &'a String>) -> String {
    let each: Vec<String> = values.into_iter().map(|value| equals(tag, value)).collect();
    format!("({})", each.join(" OR "))
}

/// A tag or field equals a text.
fn equals(name: &str, value: &str) -> String {
    format!("\"{name}\" = {}", literal(value))
}

/// The condition that is true for exactly the rows that match, for filters that look at tags alone.
pub fn exact(filter: &Filter, source: Source<'_>) -> Option<String> {
    signed(filter, source, false)
}

fn signed(filter: &Filter, source: Source<'_>, negated: bool) -> Option<String> {
    let all = |filters: &[Filter], word: &str| {
        let parts: Option<Vec<String>> = filters.iter().map(|f| signed(f, source, negated)).collect();
        parts.filter(|parts| !parts.is_empty()).map(|parts| format!("({})", parts.join(word)))
    };
    match (filter, negated) {
        (Filter::Any, _) => None,
        (Filter::And(filters), false) | (Filter::Or(filters), true) => all(filters, " AND "),
        (Filter::And(filters), true) | (Filter::Or(filters), false) => all(filters, " OR "),
        (Filter::Not(inner), _) => signed(inner, source, !negated),
        (Filter::Test(test), _) => {
            let (field, value) = tag_equality(test)?;
            let name = source.name(field).filter(|_| source.is_tag(field))?;
            let operator = if negated { "!=" } else { "=" };
            Some(format!("\"{name}\" {operator} {}", literal(&value)))
        }
    }
}

/// The tag's column and value that a test asks for; the empty text is an absent tag.
fn tag_equality(test: &Test) -> Option<(Field, String)> {
    match test {
        Test::Text { field, value } => Some((*field, schema::tag_text(value).into_owned())),
        Test::Uuid { field, value } => Some((*field, value.to_string())),
        Test::Direction(direction) => Some((Field::Direction, direction.name().to_owned())),
        Test::Number { field: Field::Protocol, compare: Compare::Eq, value } => {
            Some((Field::Protocol, value.to_string()))
        }
        Test::IsNull(field) => Some((*field, String::new())),
        _ => None,
    }
}

/// A condition that is true for every row that matches, and perhaps for others; `None` when there is none.
pub fn necessary(filter: &Filter, source: Source<'_>) -> Option<String> {
    match filter {
        Filter::Any | Filter::Not(_) => None,
        Filter::And(filters) => {
            let parts: Vec<String> = filters.iter().filter_map(|f| necessary(f, source)).collect();
            (!parts.is_empty()).then(|| parts.join(" AND "))
        }
        Filter::Or(filters) => {
            let parts: Option<Vec<String>> = filters.iter().map(|f| necessary(f, source)).collect();
            parts.filter(|parts| !parts.is_empty()).map(|parts| format!("({})", parts.join(" OR ")))
        }
        Filter::Test(test) => of_test(test, source),
    }
}

fn of_test(test: &Test, source: Source<'_>) -> Option<String> {
    use Field::{DstAs, DstCountry, DstIp, DstPort, SrcAs, SrcCountry, SrcIp, SrcPort};
    match test {
        Test::Uuid { field: Field::SubscriberId, value } => Some(subscriber(&value.to_string(), source)),
        Test::Text { field, .. } | Test::Uuid { field, .. } if !source.is_tag(*field) => {
            let value = match test {
                Test::Uuid { value, .. } => value.to_string(),
                Test::Text { value, .. } => value.to_string(),
                _ => return None,
            };
            Some(equals(source.name(*field)?, &value))
        }
        Test::Text { .. } | Test::Uuid { .. } | Test::Direction(_) => {
            let (field, value) = tag_equality(test)?;
            Some(equals(source.name(field)?, &value))
        }
        Test::Number { field, compare: Compare::Eq, value } if source.is_tag(*field) => {
            Some(equals(source.name(*field)?, &value.to_string()))
        }
        Test::Number { field, compare, value } if !source.is_tag(*field) && *field != Field::Bidirectional => {
            let value = i64::try_from(*value).ok()?;
            let sign = match compare {
                Compare::Eq => "=",
                Compare::Lt => "<",
                Compare::Le => "<=",
                Compare::Gt => ">",
                Compare::Ge => ">=",
                Compare::Ne => return None,
            };
            Some(format!("\"{}\" {sign} {value}", source.name(*field)?))
        }
        Test::Net { side, network, length } if *length == host_length(*network) => {
            either(*side, (SrcIp, DstIp), source, |name| equals(name, &network.to_string()))
        }
        Test::Port { side, first, last } if first == last => {
            either(*side, (SrcPort, DstPort), source, |name| format!("\"{name}\" = {first}"))
        }
        Test::As { side, asn } => either(*side, (SrcAs, DstAs), source, |name| format!("\"{name}\" = {asn}")),
        Test::Country { side, country } => {
            let code = country::text(*country);
            either(*side, (SrcCountry, DstCountry), source, |name| equals(name, code.as_str()))
        }
        Test::Ip { field, addr } => Some(equals(source.name(*field)?, &addr.to_string())),
        _ => None,
    }
}

fn host_length(network: Addr) -> u8 {
    if network.is_v4() { 32 } else { 128 }
}

/// A condition on one side, or on one of both.
fn either(
    side: Side,
    (src, dst): (Field, Field),
    source: Source<'_>,
    condition: impl Fn(&str) -> String,
) -> Option<String> {
    let (src, dst) = (source.name(src), source.name(dst));
    match side {
        Side::Src => Some(condition(src?)),
        Side::Dst => Some(condition(dst?)),
        Side::Either if src == dst => Some(condition(src?)),
        Side::Either => Some(format!("({} OR {})", condition(src?), condition(dst?))),
    }
}

/// The rows of a subscriber: by its tag, or among those that have none of their own.
fn subscriber(id: &str, source: Source<'_>) -> String {
    let name = Field::SubscriberId.name();
    match source {
        Source::Rollup(def) if schema::has_subscriber_tag(def) => {
            format!("(\"{name}\" = {} OR \"{name}\" = '{OTHER}')", literal(id))
        }
        _ => equals(name, id),
    }
}

/// Rows whose subscriber stands in the field.
pub fn only_other() -> String {
    equals(Field::SubscriberId.name(), OTHER)
}

/// Rows whose subscriber, if any, is a tag.
pub fn no_other() -> String {
    format!("\"{}\" != '{OTHER}'", Field::SubscriberId.name())
}

/// Leaves out rows of direction `internal_in`.
pub fn not_internal_in() -> String {
    format!("\"{}\" != '{}'", Field::Direction.name(), Direction::InternalIn.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        text.parse().unwrap()
    }

    #[test]
    fn filters_over_tags_are_translated_exactly_and_negations_pushed_to_the_tests() {
        let of = |text: &str| exact(&filter(text), Source::Flows);
        assert_eq!(of("app web").unwrap(), "\"app\" = 'web'");
        let text = "not (direction out or not app \"it's\")";
        assert_eq!(of(text).unwrap(), r#"("direction" != 'out' AND "app" = 'it\'s')"#);
        assert_eq!(of("app is null and proto tcp").unwrap(), "(\"app\" = '' AND \"protocol\" = '6')");
        assert_eq!(of("app web and bytes > 5"), None);
        assert_eq!(of("app web or any"), None);
    }

    #[test]
    fn other_filters_are_weakened_never_strengthened() {
        let of = |text: &str| necessary(&filter(text), Source::Flows);
        assert_eq!(of("app web and not bytes > 5 and dst port 443").unwrap(), "\"app\" = 'web' AND \"dst_port\" = 443");
        assert_eq!(of("app web or src net 10.0.0.0/8"), None);
        assert_eq!(of("host 10.0.0.7").unwrap(), "(\"src_ip\" = '10.0.0.7' OR \"dst_ip\" = '10.0.0.7')");
        assert_eq!(of("not app web"), None);
    }

    #[test]
    fn a_reseller_is_always_in_the_query() {
        let scope = "reseller 00000000-0000-0001-0000-000000000001";
        for def in &RollupDef::defaults() {
            let source = Source::Rollup(def);
            let scoped = filter(&format!("{scope} and not net 10.0.0.0/8"));
            let condition = necessary(&scoped, source).unwrap();
            assert!(condition.contains("\"reseller_id\" = '00000000-0000-0001-0000-000000000001'"), "{condition}");
        }
    }
}
