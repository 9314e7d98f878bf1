use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::flow::Addr;

/// A network of either family: host bits are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The first address as a number: 32 bits wide for IPv4, 128 for IPv6.
    pub(super) first: u128,
    /// Leading bits that are fixed: 0 to 32 or 0 to 128.
    pub(super) len: u8,
    pub(super) v4: bool,
}

impl Prefix {
    /// The network of `len` leading bits around an address; bits after them are dropped. `None` when `len` is too long.
    pub fn new(ip: IpAddr, len: u8) -> Option<Self> {
        let (bits, width, v4) = match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32, true),
            IpAddr::V6(ip) => (ip.to_bits(), 128, false),
        };
        if len > width {
            return None;
        }
        let host = u32::from(width - len);
        let first = if host == 128 { 0 } else { bits >> host << host };
        Some(Self { first, len, v4 })
    }

    /// The network of one address.
    pub fn host(addr: Addr) -> Self {
        match addr.as_v4() {
            Some(bits) => Self { first: bits.into(), len: 32, v4: true },
            None => Self { first: addr.0, len: 128, v4: false },
        }
    }

    /// Whether the address is in the network.
    pub fn contains(&self, addr: Addr) -> bool {
        match addr.as_v4() {
            Some(bits) if self.v4 => (self.first..=self.last()).contains(&bits.into()),
            None if !self.v4 => (self.first..=self.last()).contains(&addr.0),
            _ => false,
        }
    }

    /// Leading bits that are fixed.
    pub fn prefix_len(&self) -> u8 {
        self.len
    }

    /// The last address as a number.
    pub(super) fn last(&self) -> u128 {
        let host = (if self.v4 { 32 } else { 128 }) - u32::from(self.len);
        if host == 128 { u128::MAX } else { self.first | ((1 << host) - 1) }
    }
}

impl FromStr for Prefix {
    type Err = String;

    /// Reads `10.0.0.0/8` or a single address. Host bits that are set are an error: they are usually a slip.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let not = || format!("\"{text}\" is not an address or prefix like 10.1.0.0/16 or 2001:db8::/32");
        let Some((ip, len)) = text.split_once('/') else {
            return text.parse::<IpAddr>().map(|ip| Self::host(ip.into())).map_err(|_| not());
        };
        let ip: IpAddr = ip.parse().map_err(|_| not())?;
        let prefix = len.parse().ok().and_then(|len| Self::new(ip, len)).ok_or_else(not)?;
        if prefix.addr() != ip {
            return Err(format!("\"{text}\" has bits set after its prefix length; write {prefix}"));
        }
        Ok(prefix)
    }
}

impl Prefix {
    fn addr(&self) -> IpAddr {
        if self.v4 { IpAddr::V4((self.first as u32).into()) } else { IpAddr::V6(self.first.into()) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_families_and_says_what_is_wrong() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "10.1.2.3/32", "::/0", "2001:db8::/32", "2001:db8::1/128"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.2.3".parse::<Prefix>().unwrap().to_string(), "10.1.2.3/32");
        assert!("10.1.2.3/8".parse::<Prefix>().unwrap_err().contains("write 10.0.0.0/8"));
        for text in ["", "10.0.0/8", "10.0.0.0/33", "10.0.0.0/", "::/129", "x"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
        let prefix: Prefix = "10.0.0.0/8".parse().unwrap();
        assert!(prefix.contains("10.255.255.255".parse().unwrap()) && !prefix.contains("11.0.0.0".parse().unwrap()));
        assert!(!"::/0".parse::<Prefix>().unwrap().contains("10.0.0.1".parse().unwrap()));
    }
}
