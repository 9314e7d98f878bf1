//! Names in filter texts: what each keyword means, IP protocols, TCP flags.

use super::Side;
use crate::batch::Field;
use crate::value::Kind;

/// What a keyword begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// An address or a prefix.
    Net(Side),
    Port(Side),
    As(Side),
    Country(Side),
    Mac(Side),
    Flags,
    Direction,
    /// An interface index on either side.
    Interface,
    /// A column by its own name.
    Field(Field),
}

/// Keywords beside the columns' own names.
const KEYWORDS: &[(&str, Subject)] = &[
    ("host", Subject::Net(Side::Either)),
    ("net", Subject::Net(Side::Either)),
    ("ip", Subject::Net(Side::Either)),
    ("src_ip", Subject::Net(Side::Src)),
    ("dst_ip", Subject::Net(Side::Dst)),
    ("port", Subject::Port(Side::Either)),
    ("src_port", Subject::Port(Side::Src)),
    ("dst_port", Subject::Port(Side::Dst)),
    ("as", Subject::As(Side::Either)),
    ("src_as", Subject::As(Side::Src)),
    ("dst_as", Subject::As(Side::Dst)),
    ("country", Subject::Country(Side::Either)),
    ("src_country", Subject::Country(Side::Src)),
    ("dst_country", Subject::Country(Side::Dst)),
    ("mac", Subject::Mac(Side::Either)),
    ("src_mac", Subject::Mac(Side::Src)),
    ("dst_mac", Subject::Mac(Side::Dst)),
    ("flags", Subject::Flags),
    ("direction", Subject::Direction),
    ("if", Subject::Interface),
    ("proto", Subject::Field(Field::Protocol)),
    ("exporter", Subject::Field(Field::ExporterIp)),
    ("router", Subject::Field(Field::ExporterIp)),
    ("nexthop", Subject::Field(Field::NextHop)),
    ("nas", Subject::Field(Field::NasId)),
    ("category", Subject::Field(Field::AppCategory)),
    ("subscriber", Subject::Field(Field::SubscriberId)),
    ("reseller", Subject::Field(Field::ResellerId)),
    ("vlan", Subject::Field(Field::VlanId)),
];

/// The subject that a word begins; `None` for words that begin none. Times are no subjects: ranges of time are asked for
/// beside the filter.
pub(super) fn subject(word: &str) -> Option<Subject> {
    let word = word.to_ascii_lowercase();
    let keyword = KEYWORDS.iter().find(|(name, _)| *name == word).map(|(_, subject)| *subject);
    keyword.or_else(|| field(&word).filter(|f| f.kind() != Kind::TimeMs).map(Subject::Field))
}

/// The column of a name.
pub(super) fn field(name: &str) -> Option<Field> {
    Field::ALL.iter().copied().find(|f| f.name() == name)
}

/// The subject narrowed to one side, as after `src` or `dst`.
pub(super) fn on_side(subject: Subject, side: Side) -> Option<Subject> {
    Some(match subject {
        Subject::Net(Side::Either) => Subject::Net(side),
        Subject::Port(Side::Either) => Subject::Port(side),
        Subject::As(Side::Either) => Subject::As(side),
        Subject::Country(Side::Either) => Subject::Country(side),
        Subject::Mac(Side::Either) => Subject::Mac(side),
        _ => return None,
    })
}

/// IP protocols by name (IANA); the first name of a number is the one printed.
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("dccp", 33),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// The number of a protocol's name.
pub(super) fn protocol(name: &str) -> Option<u8> {
    PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| *number)
}

/// The name of a protocol's number.
pub(super) fn protocol_name(number: u64) -> Option<&'static str> {
    PROTOCOLS.iter().find(|(_, known)| u64::from(*known) == number).map(|(name, _)| *name)
}

/// TCP flags: letter, name, bit (RFC 9293, 3.1).
const FLAGS: &[(char, &str, u16)] = &[
    ('F', "fin", 0x01),
    ('S', "syn", 0x02),
    ('R', "rst", 0x04),
    ('P', "psh", 0x08),
    ('A', "ack", 0x10),
    ('U', "urg", 0x20),
    ('E', "ece", 0x40),
    ('C', "cwr", 0x80),
];

/// The bits of `SYN`, `S`, `SA`, `0x12` or `18`.
pub(super) fn flags(text: &str) -> Option<u16> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u16::from_str_radix(hex, 16).ok();
    }
    if let Some((_, _, bit)) = FLAGS.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(text)) {
        return Some(*bit);
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.parse().ok();
    }
    let bit = |c: char| FLAGS.iter().find(|(letter, _, _)| *letter == c.to_ascii_uppercase()).map(|(_, _, bit)| *bit);
    text.chars().try_fold(0u16, |mask, c| Some(mask | bit(c)?))
}

/// Text that [`flags`] reads as this mask.
pub(super) fn flags_text(mask: u16) -> String {
    if mask == 0 || mask > 0xff {
        return format!("{mask:#x}");
    }
    FLAGS.iter().filter(|(_, _, bit)| mask & bit != 0).map(|(letter, _, _)| *letter).collect()
}
