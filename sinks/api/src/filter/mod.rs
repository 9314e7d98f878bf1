//! Filters over flows, as plain data: read from text ([`std::str::FromStr`]), printed, evaluated over columns.
//!
//! Two-valued: a test on a null value is false, its negation is true, in every store.

mod display;
mod eval;
mod lex;
mod parse;
mod test;
#[cfg(test)]
mod tests;
mod words;

pub use parse::{DEPTH_MAX, ParseError, TEXT_BYTES_MAX};

use crate::batch::Field;
use crate::column::{Text, Uuid};
use crate::{Addr, Direction};

/// Which flows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Filter {
    /// Every flow.
    #[default]
    Any,
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Test(Test),
}

/// Which side of a flow a test looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Side {
    Src,
    Dst,
    /// One of them at least.
    Either,
}

/// Comparison with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Address in a prefix. `length` counts in the address's own family (0 to 32 for IPv4, 0 to 128 for IPv6); an IPv4
    /// prefix never matches an IPv6 address, nor the other way round.
    Net {
        /// Which side.
        side: Side,
        /// Network address; bits after `length` are zero.
        network: Addr,
        /// Prefix length in the network's own family.
        length: u8,
    },
    /// Port in a range, both ends in it.
    Port {
        /// Which side.
        side: Side,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
    /// AS number.
    As {
        /// Which side.
        side: Side,
        /// The AS.
        asn: u32,
    },
    /// Country, as [`crate::country::code`].
    Country {
        /// Which side.
        side: Side,
        /// The country.
        country: u16,
    },
    /// MAC address.
    Mac {
        /// Which side.
        side: Side,
        /// 48 bits.
        mac: u64,
    },
    /// A numeric column against a number.
    Number {
        /// A column whose kind is `Number` or `Bool`.
        field: Field,
        /// How.
        compare: Compare,
        /// With what.
        value: u64,
    },
    /// All bits of `mask` are set in `tcp_flags`.
    TcpFlags {
        /// The bits.
        mask: u16,
    },
    /// Direction.
    Direction(Direction),
    /// An address column (`exporter_ip`, `next_hop`, `nat_src_ip`, `nat_dst_ip`) equals an address.
    Ip {
        /// The column.
        field: Field,
        /// The address.
        addr: Addr,
    },
    /// A text column equals a text.
    Text {
        /// A column whose kind is `Text`.
        field: Field,
        /// The text.
        value: Text,
    },
    /// A UUID column equals a UUID.
    Uuid {
        /// `subscriber_id` or `reseller_id`.
        field: Field,
        /// The UUID.
        value: Uuid,
    },
    /// The column is null.
    IsNull(Field),
}

impl Filter {
    /// Both filters at once.
    pub fn and(self, other: Filter) -> Filter {
        match (self, other) {
            (Filter::Any, other) => other,
            (this, Filter::Any) => this,
            (Filter::And(mut all), Filter::And(more)) => {
                all.extend(more);
                Filter::And(all)
            }
            (Filter::And(mut all), other) => {
                all.push(other);
                Filter::And(all)
            }
            (this, other) => Filter::And(vec![this, other]),
        }
    }

    /// A text column equals a text.
    pub fn text(field: Field, value: &str) -> Filter {
        Filter::Test(Test::Text { field, value: value.into() })
    }

    /// A UUID column equals a UUID.
    pub fn uuid(field: Field, value: Uuid) -> Filter {
        Filter::Test(Test::Uuid { field, value })
    }
}

impl Filter {
    /// The columns that it looks at, each once, in the order of [`Field::ALL`].
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        self.visit(&mut |test| fields.extend(test.fields()));
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// Calls `visit` for every test in it.
    pub fn visit(&self, visit: &mut dyn FnMut(&Test)) {
        match self {
            Filter::Any => {}
            Filter::And(filters) | Filter::Or(filters) => filters.iter().for_each(|f| f.visit(visit)),
            Filter::Not(inner) => inner.visit(visit),
            Filter::Test(test) => visit(test),
        }
    }

    /// What must hold all at once: the parts of an `And` (nested ones too), else the filter itself.
    pub fn conjuncts(&self) -> Vec<&Filter> {
        match self {
            Filter::Any => Vec::new(),
            Filter::And(filters) => filters.iter().flat_map(Filter::conjuncts).collect(),
            other => vec![other],
        }
    }
}

impl Test {
    /// The columns that it looks at.
    pub fn fields(&self) -> Vec<Field> {
        use Field::{DstAs, DstCountry, DstIp, DstMac, DstPort, SrcAs, SrcCountry, SrcIp, SrcMac, SrcPort};
        match self {
            Test::Net { side, .. } => side.of(SrcIp, DstIp).collect(),
            Test::Port { side, .. } => side.of(SrcPort, DstPort).collect(),
            Test::As { side, .. } => side.of(SrcAs, DstAs).collect(),
            Test::Country { side, .. } => side.of(SrcCountry, DstCountry).collect(),
            Test::Mac { side, .. } => side.of(SrcMac, DstMac).collect(),
            Test::TcpFlags { .. } => vec![Field::TcpFlags],
            Test::Direction(_) => vec![Field::Direction],
            Test::Number { field, .. } | Test::Ip { field, .. } | Test::Text { field, .. } => vec![*field],
            Test::Uuid { field, .. } | Test::IsNull(field) => vec![*field],
        }
    }
}

/// The bits that a prefix of `length` in the address's own family covers, within 128 bits: an IPv4 prefix covers the 96
/// bits of the mapping too.
fn prefix_mask(network: Addr, length: u8) -> u128 {
    let covered = if network.is_v4() { 96 + u32::from(length) } else { u32::from(length) };
    u128::MAX.checked_shl(128u32.saturating_sub(covered)).unwrap_or(0)
}

/// The address with the bits after `length` (in its own family) set to zero.
pub fn network_of(addr: Addr, length: u8) -> Addr {
    Addr(addr.0 & prefix_mask(addr, length))
}
