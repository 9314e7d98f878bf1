//! Filters over flows, as plain data.
//!
//! Two-valued: a test on a null value is false, its negation is true, in every store.

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
