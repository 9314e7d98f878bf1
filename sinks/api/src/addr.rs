//! One address type for IPv4 and IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// `::ffff:0:0/96`: the prefix under which an IPv4 address stands in 128 bits (RFC 4291, 2.5.5.2).
const V4_MAPPED: u128 = 0xffff_0000_0000;

/// An IP address in 128 bits, host byte order; IPv4 is kept IPv4-mapped (`::ffff:a.b.c.d`), so that both families are
/// one type, order and hash alike. Prints and parses as the family it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(from = "IpAddr", into = "IpAddr")]
pub struct Addr(pub u128);

impl Addr {
    /// An IPv4 address given as a number in host byte order.
    pub const fn v4(bits: u32) -> Self {
        Self(V4_MAPPED | bits as u128)
    }

    /// The IPv4 number in host byte order, when this is an IPv4 address.
    pub const fn as_v4(self) -> Option<u32> {
        if self.0 >> 32 == V4_MAPPED >> 32 { Some(self.0 as u32) } else { None }
    }

    /// Whether this is an IPv4 address.
    pub const fn is_v4(self) -> bool {
        self.as_v4().is_some()
    }

    /// The standard library's type.
    pub fn to_ip(self) -> IpAddr {
        match self.as_v4() {
            Some(bits) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            None => IpAddr::V6(Ipv6Addr::from_bits(self.0)),
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::v4(v4.to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits()),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> Self {
        addr.to_ip()
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(ip: Ipv4Addr) -> Self {
        Self::v4(ip.to_bits())
    }
}

impl FromStr for Addr {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpAddr>().map(Self::from)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_round_trip_as_text() {
        for text in ["0.0.0.0", "10.1.2.3", "255.255.255.255", "::", "::1", "2001:db8::7"] {
            assert_eq!(text.parse::<Addr>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.2.3".parse::<Addr>().unwrap().as_v4(), Some(0x0a01_0203));
        assert_eq!("2001:db8::7".parse::<Addr>().unwrap().as_v4(), None);
    }
}
