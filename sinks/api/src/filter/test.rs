//! Tests from a subject, an operator and the text of a value.

use super::words::{self, Subject};
use super::{Compare, Filter, Side, Test};
use crate::batch::Field;
use crate::column::Uuid;
use crate::value::Kind;
use crate::{Addr, Direction, country};

pub(super) use super::Compare as Op;

/// A test, or what would have been right in the value's place.
pub(super) fn build(subject: Subject, op: Op, text: &str) -> Result<Filter, &'static str> {
    let wrong = || expected(subject);
    match subject {
        Subject::Net(side) => {
            let (network, length) = prefix(text).ok_or_else(wrong)?;
            equality(op, Test::Net { side, network, length })
        }
        Subject::Port(side) => ports(side, op, text).ok_or_else(wrong),
        Subject::As(side) => {
            let asn = strip_as(text).parse().map_err(|_| wrong())?;
            equality(op, Test::As { side, asn })
        }
        Subject::Country(side) => {
            let country = country::code(text).ok_or_else(wrong)?;
            equality(op, Test::Country { side, country })
        }
        Subject::Mac(side) => equality(op, Test::Mac { side, mac: mac(text).ok_or_else(wrong)? }),
        Subject::Flags => equality(op, Test::TcpFlags { mask: words::flags(text).ok_or_else(wrong)? }),
        Subject::Direction => {
            let direction = Direction::from_name(&text.to_ascii_lowercase()).ok_or_else(wrong)?;
            equality(op, Test::Direction(direction))
        }
        Subject::Interface => {
            let value = number(text).ok_or_else(wrong)?;
            let either = [Field::InputIf, Field::OutputIf].map(|field| compared(field, op, value));
            Ok(Filter::Or(either.into()))
        }
        Subject::Field(field) => column(field, op, text),
    }
}

/// What a subject's value looks like.
pub(super) fn expected(subject: Subject) -> &'static str {
    match subject {
        Subject::Net(_) => "an address or a prefix such as 10.0.0.0/8 or 2001:db8::/32",
        Subject::Port(_) => "a port (0 to 65535) or a range such as 1000-2000",
        Subject::As(_) => "an AS number (0 to 4294967295)",
        Subject::Country(_) => "a country of two letters",
        Subject::Mac(_) => "a MAC address such as 00:11:22:aa:bb:cc",
        Subject::Flags => "TCP flags such as SYN, SA or 0x12",
        Subject::Direction => "in, out, internal, internal_in or transit",
        Subject::Interface => "a number",
        Subject::Field(Field::Protocol) => "a protocol's name or number (0 to 255)",
        Subject::Field(field) => match field.kind() {
            Kind::Ip => "an address",
            Kind::Uuid => "a UUID",
            Kind::Text => "a text",
            Kind::Bool => "0, 1, true or false",
            _ => "a number such as 1000, 10k, 5M or 2Gi",
        },
    }
}

/// `ipv4`, `ipv6`: the source is of that family.
pub(super) fn family(v4: bool) -> Filter {
    let network = if v4 { Addr::v4(0) } else { Addr(0) };
    Filter::Test(Test::Net { side: Side::Either, network, length: 0 })
}

pub(super) fn flag_set(field: Field) -> Filter {
    equals(field, 1)
}

pub(super) fn equals(field: Field, value: u64) -> Filter {
    compared(field, Op::Eq, value)
}

fn compared(field: Field, compare: Compare, value: u64) -> Filter {
    Filter::Test(Test::Number { field, compare, value })
}

/// A test that knows only "is" and "is not".
fn equality(op: Op, test: Test) -> Result<Filter, &'static str> {
    match op {
        Op::Eq => Ok(Filter::Test(test)),
        Op::Ne => Ok(Filter::Not(Box::new(Filter::Test(test)))),
        _ => Err("`=` or `!=` before this value"),
    }
}

fn column(field: Field, op: Op, text: &str) -> Result<Filter, &'static str> {
    let wrong = || expected(Subject::Field(field));
    match field.kind() {
        Kind::Ip => equality(op, Test::Ip { field, addr: text.parse().map_err(|_| wrong())? }),
        Kind::Uuid => equality(op, Test::Uuid { field, value: Uuid::parse_str(text).map_err(|_| wrong())? }),
        Kind::Text => equality(op, Test::Text { field, value: text.into() }),
        Kind::Bool => {
            let value = match &*text.to_ascii_lowercase() {
                "0" | "false" => 0,
                "1" | "true" => 1,
                _ => return Err(wrong()),
            };
            Ok(compared(field, op, value))
        }
        _ => {
            let name = (field == Field::Protocol).then(|| words::protocol(text)).flatten();
            let value = name.map(u64::from).or_else(|| number(text)).ok_or_else(wrong)?;
            if field == Field::Protocol && value > u64::from(u8::MAX) {
                return Err(wrong());
            }
            Ok(compared(field, op, value))
        }
    }
}

/// A number, with a decimal (k, M, G, T) or binary (Ki, Mi, Gi, Ti) factor.
fn number(text: &str) -> Option<u64> {
    const FACTORS: &[(&str, u64)] = &[
        ("ki", 1 << 10),
        ("mi", 1 << 20),
        ("gi", 1 << 30),
        ("ti", 1 << 40),
        ("k", 1_000),
        ("m", 1_000_000),
        ("g", 1_000_000_000),
        ("t", 1_000_000_000_000),
    ];
    let lower = text.to_ascii_lowercase();
    let found = FACTORS.iter().find_map(|(suffix, factor)| Some((lower.strip_suffix(suffix)?, *factor)));
    let (digits, factor) = found.unwrap_or((&lower, 1));
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn strip_as(text: &str) -> &str {
    let prefix = text.get(..2).filter(|p| p.eq_ignore_ascii_case("as"));
    prefix.map_or(text, |_| &text[2..])
}

fn prefix(text: &str) -> Option<(Addr, u8)> {
    let (addr, length) = match text.split_once('/') {
        Some((addr, length)) => (addr.parse::<Addr>().ok()?, Some(length.parse::<u8>().ok()?)),
        None => (text.parse::<Addr>().ok()?, None),
    };
    let width = if addr.is_v4() { 32 } else { 128 };
    let length = length.unwrap_or(width);
    (length <= width).then(|| (super::network_of(addr, length), length))
}

fn ports(side: Side, op: Op, text: &str) -> Option<Filter> {
    let range = |first, last| Filter::Test(Test::Port { side, first, last });
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?),
        None => text.parse().map(|port| (port, port)).ok()?,
    };
    if first > last || (first != last && !matches!(op, Op::Eq | Op::Ne)) {
        return None;
    }
    Some(match op {
        Op::Eq => range(first, last),
        Op::Ne => Filter::Not(Box::new(range(first, last))),
        Op::Lt => range(0, first.checked_sub(1)?),
        Op::Le => range(0, last),
        Op::Gt => range(last.checked_add(1)?, u16::MAX),
        Op::Ge => range(first, u16::MAX),
    })
}

fn mac(text: &str) -> Option<u64> {
    let mut bits = 0u64;
    let mut parts = 0;
    for part in text.split([':', '-']) {
        if part.len() != 2 || parts == 6 {
            return None;
        }
        bits = bits << 8 | u64::from(u8::from_str_radix(part, 16).ok()?);
        parts += 1;
    }
    (parts == 6).then_some(bits)
}
