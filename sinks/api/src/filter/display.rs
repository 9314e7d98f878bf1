//! Filters as text that parses back to the same filter.

use std::fmt::{self, Display};

use super::{Compare, Filter, Side, Test, lex, words};
use crate::batch::Field;
use crate::country;
use crate::value::Value;

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Filter::Any => f.write_str("any"),
            Filter::And(filters) if filters.is_empty() => f.write_str("any"),
            Filter::Or(filters) if filters.is_empty() => f.write_str("not any"),
            Filter::And(filters) => join(f, filters, " and "),
            Filter::Or(filters) => join(f, filters, " or "),
            Filter::Not(inner) => {
                f.write_str("not ")?;
                nested(f, inner)
            }
            Filter::Test(test) => test.fmt(f),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, filters: &[Filter], word: &str) -> fmt::Result {
    if let [only] = filters {
        return only.fmt(f);
    }
    for (index, filter) in filters.iter().enumerate() {
        if index > 0 {
            f.write_str(word)?;
        }
        nested(f, filter)?;
    }
    Ok(())
}

/// A filter within another: in parentheses unless it is one word group by itself.
fn nested(f: &mut fmt::Formatter<'_>, filter: &Filter) -> fmt::Result {
    match filter {
        Filter::And(filters) | Filter::Or(filters) if !filters.is_empty() => write!(f, "({filter})"),
        _ => filter.fmt(f),
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Net { side, network, length } => {
                let host = if network.is_v4() { 32 } else { 128 };
                if *length == host {
                    write!(f, "{}host {network}", prefix(*side))
                } else {
                    write!(f, "{}net {network}/{length}", prefix(*side))
                }
            }
            Test::Port { side, first, last } if first == last => write!(f, "{}port {first}", prefix(*side)),
            Test::Port { side, first, last } => write!(f, "{}port {first}-{last}", prefix(*side)),
            Test::As { side, asn } => write!(f, "{}as {asn}", prefix(*side)),
            Test::Country { side, country } => {
                write!(f, "{}country {}", prefix(*side), country::text(*country).as_str())
            }
            Test::Mac { side, mac } => write!(f, "{}mac {}", prefix(*side), Value::Mac(*mac)),
            Test::Number { field: Field::Protocol, compare: Compare::Eq, value } => {
                match words::protocol_name(*value) {
                    Some(name) => write!(f, "proto {name}"),
                    None => write!(f, "proto {value}"),
                }
            }
            Test::Number { field, compare, value } => write!(f, "{} {} {value}", field.name(), symbol(*compare)),
            Test::TcpFlags { mask } => write!(f, "flags {}", words::flags_text(*mask)),
            Test::Direction(direction) => write!(f, "direction {}", direction.name()),
            Test::Ip { field, addr } => write!(f, "{} {addr}", field.name()),
            Test::Text { field, value } => write!(f, "{} {}", field.name(), Quoted(value)),
            Test::Uuid { field, value } => write!(f, "{} {value}", field.name()),
            Test::IsNull(field) => write!(f, "{} is null", field.name()),
        }
    }
}

fn prefix(side: Side) -> &'static str {
    match side {
        Side::Src => "src ",
        Side::Dst => "dst ",
        Side::Either => "",
    }
}

fn symbol(compare: Compare) -> &'static str {
    match compare {
        Compare::Eq => "=",
        Compare::Ne => "!=",
        Compare::Lt => "<",
        Compare::Le => "<=",
        Compare::Gt => ">",
        Compare::Ge => ">=",
    }
}

/// A text value, quoted where it would not be read as one word, or would be read as `in` or `is`.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyword = ["in", "is"].iter().any(|word| self.0.eq_ignore_ascii_case(word));
        if !keyword && !lex::needs_quotes(self.0) {
            return f.write_str(self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if c == '"' || c == '\\' {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}
