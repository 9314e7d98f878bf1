//! One value of any column, and what it means.

use crate::column::{Text, Uuid};
use crate::{Addr, Direction};

/// What a column's values mean, whatever their storage type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ms since the Unix epoch, UTC.
    TimeMs,
    /// An address.
    Ip,
    /// A number as it is.
    Number,
    /// 48 bits, written `aa:bb:cc:dd:ee:ff`.
    Mac,
    /// Two ASCII letters, high byte first; see [`crate::country`].
    Country,
    /// [`Direction`] as its number.
    Direction,
    /// 0 or 1.
    Bool,
    /// Text.
    Text,
    /// A UUID.
    Uuid,
}

/// One value of any column or key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Value {
    Null,
    TimeMs(i64),
    Number(u64),
    Ip(Addr),
    Mac(u64),
    Country(u16),
    Direction(Direction),
    Bool(bool),
    Text(Text),
    Uuid(Uuid),
}

impl Value {
    /// The value that a stored number stands for under a kind. An undefined direction gives `Null`.
    pub fn of_number(kind: Kind, number: u64) -> Self {
        match kind {
            Kind::Mac => Value::Mac(number),
            Kind::Country => Value::Country(number as u16),
            Kind::Direction => Direction::from_code(number as u8).map_or(Value::Null, Value::Direction),
            Kind::Bool => Value::Bool(number != 0),
            Kind::TimeMs => Value::TimeMs(number as i64),
            Kind::Ip | Kind::Number | Kind::Text | Kind::Uuid => Value::Number(number),
        }
    }
}

impl Value {
    /// The number that is stored for it, for kinds that are stored as unsigned numbers.
    pub fn as_number(&self) -> Option<u64> {
        match self {
            Value::Number(n) | Value::Mac(n) => Some(*n),
            Value::Country(code) => Some(u64::from(*code)),
            Value::Direction(direction) => Some(*direction as u64),
            Value::Bool(b) => Some(u64::from(*b)),
            Value::Null | Value::TimeMs(_) | Value::Ip(_) | Value::Text(_) | Value::Uuid(_) => None,
        }
    }
}

impl std::fmt::Display for Value {
    /// Text as exports write it: RFC 3339 times with ms, null as nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::TimeMs(ms) => crate::time::write_rfc3339(f, *ms),
            Value::Number(n) => n.fmt(f),
            Value::Ip(addr) => addr.fmt(f),
            Value::Mac(bits) => {
                let b = bits.to_be_bytes();
                write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[2], b[3], b[4], b[5], b[6], b[7])
            }
            Value::Country(code) => f.write_str(crate::country::text(*code).as_str()),
            Value::Direction(direction) => f.write_str(direction.name()),
            Value::Bool(b) => b.fmt(f),
            Value::Text(text) => f.write_str(text),
            Value::Uuid(uuid) => uuid.fmt(f),
        }
    }
}

impl serde::Serialize for Value {
    /// Numbers and booleans as such, null as null, everything else as text.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_none(),
            Value::Number(n) => serializer.serialize_u64(*n),
            Value::Bool(b) => serializer.serialize_bool(*b),
            other => serializer.collect_str(other),
        }
    }
}
