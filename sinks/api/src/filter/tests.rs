use proptest::prelude::*;

use super::*;
use crate::column::Dict;
use crate::country;
use crate::rollup::{Measures, Role};
use crate::value::Kind;
use crate::{FlowBatch, Key, RollupDef, RollupRows};

/// Three flows: IPv4 TCP, IPv6 UDP, and one with every nullable column null.
fn batch() -> FlowBatch {
    let mut batch = FlowBatch::default();
    batch.time.extend([1000, 2000, 3000].into_iter());
    let ip = |text: &str| Some(text.parse::<Addr>().unwrap());
    for (src, dst) in [("10.1.2.3", "192.0.2.1"), ("2001:db8::1", "2001:db8::2"), ("10.9.0.1", "10.9.0.2")] {
        batch.src_ip.push(ip(src));
        batch.dst_ip.push(ip(dst));
    }
    [Some(50000), Some(53), None].into_iter().for_each(|p| batch.src_port.push(p));
    [Some(443), Some(1024), None].into_iter().for_each(|p| batch.dst_port.push(p));
    batch.protocol.extend([6, 17, 1].into_iter());
    batch.bytes.extend([1500, 80, 64].into_iter());
    batch.packets.extend([3, 1, 1].into_iter());
    [Some(0x12), None, None].into_iter().for_each(|v| batch.tcp_flags.push(v));
    [Some(64500), Some(0), None].into_iter().for_each(|v| batch.src_as.push(v));
    [Some(7), None, None].into_iter().for_each(|v| batch.input_if.push(v));
    [None, Some(7), None].into_iter().for_each(|v| batch.output_if.push(v));
    [country::code("MA"), None, None].into_iter().for_each(|v| batch.dst_country.push(v));
    [Some(0x0011_22aa_bbcc), None, None].into_iter().for_each(|v| batch.src_mac.push(v));
    batch.direction.extend([Direction::Out as u8, Direction::In as u8, Direction::Transit as u8].into_iter());
    for text in [Some("a b"), Some("x"), None] {
        batch.site.push(text.map(Text::from).as_ref());
    }
    for exporter in ["10.0.0.1", "10.0.0.1", "10.0.0.2"] {
        batch.exporter_ip.push(exporter.parse().ok().as_ref());
    }
    batch.subscriber_id.push(Some(&Uuid::from_u128(1)));
    batch.fill_missing();
    batch
}

fn matching(text: &str) -> Vec<u32> {
    let mut rows = vec![99];
    let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    filter.select(&batch(), &mut rows);
    rows
}

#[test]
fn texts_select_the_flows_they_describe() {
    let cases: &[(&str, &[u32])] = &[
        ("", &[0, 1, 2]),
        ("any", &[0, 1, 2]),
        ("src net 10.1.0.0/16 and proto tcp and dst port 443", &[0]),
        ("src net 10.0.0.0/8", &[0, 2]),
        ("net 0.0.0.0/0", &[0, 2]),
        ("ipv4", &[0, 2]),
        ("IPv6", &[1]),
        ("net 2001:db8::/32", &[1]),
        ("host 192.0.2.1", &[0]),
        ("src host 192.0.2.1", &[]),
        ("port 443", &[0]),
        ("port 1000-2000", &[1]),
        ("dst port in [80 443]", &[0]),
        ("dst port in [80, 443, 1024]", &[0, 1]),
        ("port > 1024", &[0]),
        ("port != 443", &[1, 2]),
        ("as 64500", &[0]),
        ("src as AS64500", &[0]),
        ("as 0", &[1]),
        ("src_as is null", &[2]),
        ("country ma", &[0]),
        ("src country MA", &[]),
        ("proto 17 or icmp", &[1, 2]),
        ("udp", &[1]),
        ("bytes > 1k", &[0]),
        ("bytes >= 64 and bytes <= 80", &[1, 2]),
        ("packets = 1", &[1, 2]),
        ("flags SYN", &[0]),
        ("flags SA", &[0]),
        ("flags F", &[]),
        ("not flags S", &[1, 2]),
        ("if 7", &[0, 1]),
        ("in if 7", &[0]),
        ("out if 7", &[1]),
        ("tos 0", &[]),
        ("exporter 10.0.0.1", &[0, 1]),
        ("exporter in [10.0.0.1 10.0.0.2]", &[0, 1, 2]),
        ("site \"a b\"", &[0]),
        ("site != x", &[0, 2]),
        ("site is null", &[2]),
        ("! site is null", &[0, 1]),
        ("subscriber 00000000-0000-0000-0000-000000000001", &[0]),
        ("direction in", &[1]),
        ("direction in [in out]", &[0, 1]),
        ("mac 00:11:22:AA:bb:cc", &[0]),
        ("bidirectional", &[]),
        ("tcp || (udp && !port 53)", &[0]),
        ("tcp or udp and port 53", &[0, 1]),
        ("not (tcp or udp)", &[2]),
    ];
    for (text, rows) in cases {
        assert_eq!(matching(text), *rows, "{text}");
    }
}

#[test]
fn a_test_on_null_is_false_and_its_negation_true() {
    for text in ["src port 0-65535", "src as 0", "vlan > 0", "rtt_ms < 5", "app x", "nat_src_ip 10.0.0.1"] {
        assert!(!matching(text).contains(&2), "{text}");
        assert!(matching(&format!("not {text}")).contains(&2), "{text}");
    }
}

#[test]
fn errors_say_where_and_what_is_allowed() {
    let cases = [
        ("src net 10.0.0.0/33", 8, "prefix"),
        ("proto tcp and", 13, "a test"),
        ("proto tcp port 80", 10, "`and`, `or` or the end"),
        ("(tcp", 4, "`)`"),
        ("port 70000", 5, "port"),
        ("port in []", 10, "a value"),
        ("frobnicate 3", 0, "a test"),
        ("src bytes 3", 4, "`host`"),
        ("site \"x", 7, "closing"),
        ("bytes > lots", 8, "number"),
        ("country MAR", 8, "two letters"),
        ("time > 5", 0, "a test"),
        ("proto 256", 6, "protocol"),
        ("site < x", 7, "`=` or `!=`"),
    ];
    for (text, position, expected) in cases {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.expected.contains(expected), "{text}: {error}");
    }
}

#[test]
fn nesting_and_length_are_bounded() {
    for deep in ["(".repeat(10_000), "!".repeat(10_000), "not ".repeat(10_000)] {
        let error = format!("{deep}any").parse::<Filter>().unwrap_err();
        assert!(error.expected.contains("nested"), "{error}");
    }
    let allowed = format!("{}any{}", "(".repeat(DEPTH_MAX - 1), ")".repeat(DEPTH_MAX - 1));
    assert_eq!(allowed.parse::<Filter>(), Ok(Filter::Any));
    assert!(" ".repeat(TEXT_BYTES_MAX + 1).parse::<Filter>().is_err());
}

#[test]
fn fields_are_those_looked_at() {
    let filter: Filter = "host 10.0.0.1 and not (dst port 80 or app is null)".parse().unwrap();
    assert_eq!(filter.fields(), [Field::SrcIp, Field::DstIp, Field::DstPort, Field::App]);
    assert_eq!(filter.conjuncts().len(), 2);
}

#[test]
fn a_rollup_by_host_answers_for_one_role() {
    let def = RollupDef::defaults().into_iter().find(|d| &*d.name == "talkers").unwrap();
    let mut rows = RollupRows::new(&def).unwrap();
    for (host, role) in [("10.0.0.1", Role::Src), ("10.0.0.1", Role::Dst), ("10.0.0.2", Role::Src)] {
        rows.push_measures(0, &Measures::default());
        for (key, column) in &mut rows.keys {
            match (key, column) {
                (Key::Host, crate::rollup::KeyColumn::Ip(c)) => c.push(host.parse().ok()),
                (Key::Role, crate::rollup::KeyColumn::U8(c)) => c.push(Some(role as u8)),
                (_, crate::rollup::KeyColumn::Text(c)) => c.push_nulls(1),
                (_, crate::rollup::KeyColumn::Uuid(c)) => c.push_nulls(1),
                other => panic!("unexpected key {other:?}"),
            }
        }
    }
    let mut out = Vec::new();
    let filter: Filter = "src host 10.0.0.1".parse().unwrap();
    filter.select_rollup(&rows, Some(Role::Src), &mut out);
    assert_eq!(out, [0]);
    filter.select_rollup(&rows, None, &mut out);
    assert_eq!(out, [0, 1]);
    Filter::Any.select_rollup(&rows, Some(Role::Src), &mut out);
    assert_eq!(out, [0, 2]);
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Src), Just(Side::Dst), Just(Side::Either)]
}

fn field_of(kinds: &'static [Kind]) -> impl Strategy<Value = Field> {
    let fields: Vec<_> = Field::ALL.iter().copied().filter(|f| kinds.contains(&f.kind())).collect();
    prop::sample::select(fields)
}

/// Numeric columns that have no test of their own kind.
fn number_field() -> impl Strategy<Value = Field> {
    const SIDED: &[Field] = &[Field::SrcPort, Field::DstPort, Field::SrcAs, Field::DstAs];
    field_of(&[Kind::Number]).prop_filter("has a test of its own", |f| !SIDED.contains(f) && *f != Field::Protocol)
}

fn test() -> impl Strategy<Value = Test> {
    use Compare::{Eq, Ge, Gt, Le, Lt, Ne};
    let addr = prop_oneof![any::<u32>().prop_map(Addr::v4), any::<u128>().prop_map(Addr)];
    let text = prop_oneof!["[a-z]{0,4}", "\\PC{0,6}", Just("in".to_owned()), Just("is".to_owned())];
    let letter = prop::sample::select(vec!["MA", "FR", "US", "A1"]);
    prop_oneof![
        (side(), addr.clone(), 0u8..=128).prop_map(|(side, addr, length)| {
            let length = if addr.is_v4() { length.min(32) } else { length };
            let network = network_of(addr, length);
            Test::Net { side, network, length }
        }),
        (side(), any::<u16>(), any::<u16>()).prop_map(|(side, a, b)| Test::Port {
            side,
            first: a.min(b),
            last: a.max(b)
        }),
        (side(), any::<u32>()).prop_map(|(side, asn)| Test::As { side, asn }),
        (side(), letter).prop_map(|(side, c)| Test::Country { side, country: country::code(c).unwrap() }),
        (side(), 0u64..1 << 48).prop_map(|(side, mac)| Test::Mac { side, mac }),
        (number_field(), prop::sample::select(vec![Eq, Ne, Lt, Le, Gt, Ge]), any::<u64>())
            .prop_map(|(field, compare, value)| Test::Number { field, compare, value }),
        any::<u8>().prop_map(|n| Test::Number { field: Field::Protocol, compare: Eq, value: n.into() }),
        any::<u16>().prop_map(|mask| Test::TcpFlags { mask }),
        prop::sample::select(Direction::ALL.to_vec()).prop_map(Test::Direction),
        (field_of(&[Kind::Ip]), addr)
            .prop_filter("source and destination are nets", |(f, _)| !matches!(f, Field::SrcIp | Field::DstIp))
            .prop_map(|(field, addr)| Test::Ip { field, addr }),
        (field_of(&[Kind::Text]), text).prop_map(|(field, t)| Test::Text { field, value: t.as_str().into() }),
        (field_of(&[Kind::Uuid]), any::<u128>()).prop_map(|(field, u)| Test::Uuid { field, value: Uuid::from_u128(u) }),
        prop::sample::select(Field::ALL.to_vec()).prop_map(Test::IsNull),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![1 => Just(Filter::Any), 9 => test().prop_map(Filter::Test)];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|f| Filter::Not(Box::new(f))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Filter::And),
            prop::collection::vec(inner, 2..4).prop_map(Filter::Or),
        ]
    })
}

proptest! {
    #[test]
    fn printing_and_parsing_gives_the_same_filter(filter in filter()) {
        let text = filter.to_string();
        prop_assert_eq!(text.parse::<Filter>().map_err(|e| format!("{text}: {e}")), Ok(filter));
    }

    #[test]
    fn any_text_gives_a_filter_or_an_error(text in "\\PC{0,60}") {
        if let Ok(filter) = text.parse::<Filter>() {
            prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
        }
    }

    #[test]
    fn any_words_give_a_filter_or_an_error(words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..12)) {
        let text = words.join(" ");
        match text.parse::<Filter>() {
            Ok(filter) => prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter)),
            Err(error) => prop_assert!(error.position <= text.len()),
        }
    }

    #[test]
    fn and_or_not_combine_row_by_row(a in filter(), b in filter()) {
        let (mut rows_a, mut rows_b, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        let batch = batch();
        a.select(&batch, &mut rows_a);
        b.select(&batch, &mut rows_b);
        a.clone().and(b.clone()).select(&batch, &mut rows);
        prop_assert_eq!(&rows, &rows_a.iter().copied().filter(|r| rows_b.contains(r)).collect::<Vec<_>>());
        Filter::Or(vec![a.clone(), b]).select(&batch, &mut rows);
        prop_assert_eq!(&rows, &(0..3).filter(|r| rows_a.contains(r) || rows_b.contains(r)).collect::<Vec<_>>());
        Filter::Not(Box::new(a)).select(&batch, &mut rows);
        prop_assert_eq!(&rows, &(0..3).filter(|r| !rows_a.contains(r)).collect::<Vec<_>>());
    }
}

const WORDS: &[&str] = &[
    "src",
    "dst",
    "host",
    "net",
    "port",
    "as",
    "in",
    "is",
    "null",
    "not",
    "and",
    "or",
    "(",
    ")",
    "[",
    "]",
    ",",
    "!",
    "=",
    "<",
    "10.0.0.1",
    "::/0",
    "80",
    "1-2",
    "tcp",
    "proto",
    "app",
    "bidirectional",
    "\"q\"",
    "if",
    "out",
    "any",
    "ipv6",
    "MA",
];

#[test]
fn dictionaries_are_asked_once_a_value() {
    let mut batch = FlowBatch::default();
    batch.time.push_repeated(0, 1000);
    let mut app = Dict::default();
    app.push_code_repeated(0, 500);
    let code = app.intern(&Text::from("web"));
    app.push_code_repeated(code, 500);
    batch.app = app;
    let mut rows = Vec::new();
    Filter::text(Field::App, "web").select(&batch, &mut rows);
    assert_eq!(rows, (500..1000).collect::<Vec<_>>());
}
