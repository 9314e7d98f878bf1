//! Names of IP protocols and ICMP types (IANA), for people.

/// The name of an IP protocol.
pub const fn name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        0 => "HOPOPT",
        1 => "ICMP",
        2 => "IGMP",
        4 => "IPIP",
        6 => "TCP",
        8 => "EGP",
        9 => "IGP",
        17 => "UDP",
        27 => "RDP",
        33 => "DCCP",
        41 => "IPv6",
        43 => "IPv6-Route",
        44 => "IPv6-Frag",
        46 => "RSVP",
        47 => "GRE",
        50 => "ESP",
        51 => "AH",
        58 => "ICMPv6",
        59 => "IPv6-NoNxt",
        60 => "IPv6-Opts",
        88 => "EIGRP",
        89 => "OSPF",
        97 => "EtherIP",
        103 => "PIM",
        108 => "IPComp",
        112 => "VRRP",
        115 => "L2TP",
        124 => "IS-IS",
        132 => "SCTP",
        136 => "UDP-Lite",
        137 => "MPLS-in-IP",
        _ => return None,
    })
}

/// The name of an ICMP type; `v6` for ICMPv6. Flows carry it in `dst_port` as type * 256 + code.
pub const fn icmp_type_name(v6: bool, icmp_type: u8) -> Option<&'static str> {
    Some(match (v6, icmp_type) {
        (false, 0) | (true, 129) => "echo reply",
        (false, 3) | (true, 1) => "destination unreachable",
        (false, 4) => "source quench",
        (false, 5) | (true, 137) => "redirect",
        (false, 8) | (true, 128) => "echo request",
        (false, 9) | (true, 134) => "router advertisement",
        (false, 10) | (true, 133) => "router solicitation",
        (false, 11) | (true, 3) => "time exceeded",
        (false, 12) | (true, 4) => "parameter problem",
        (false, 13) => "timestamp request",
        (false, 14) => "timestamp reply",
        (true, 2) => "packet too big",
        (true, 130) => "multicast listener query",
        (true, 131) => "multicast listener report",
        (true, 132) => "multicast listener done",
        (true, 135) => "neighbour solicitation",
        (true, 136) => "neighbour advertisement",
        (true, 143) => "multicast listener report v2",
        _ => return None,
    })
}

/// The number of a protocol's name or number as people write it, in any case.
pub fn number(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    (0..=u8::MAX).find(|&protocol| name(protocol).is_some_and(|name| name.eq_ignore_ascii_case(text)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn protocols_are_found_by_name_and_number() {
        assert_eq!(super::number("tcp"), Some(6));
        assert_eq!(super::number("UDP-Lite"), Some(136));
        assert_eq!(super::number("89"), Some(89));
        assert_eq!((super::number("256"), super::number("tcpx")), (None, None));
        assert_eq!(super::icmp_type_name(true, 128), super::icmp_type_name(false, 8));
    }
}
