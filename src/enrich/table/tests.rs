use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn table(builder: Builder) -> Table {
    let names = Arc::new(Names::default());
    let apps = Apps::builtin(&names).unwrap();
    builder.build(1, names, apps, Sites::default()).unwrap()
}

fn holder(subscriber: u32, from_ms: i64, to_ms: i64) -> Holder {
    Holder { from_ms, to_ms, subscriber, reseller: 0, nas: 0, site: 0 }
}

#[derive(Clone, Debug)]
enum Said {
    Country(u16),
    Asn(u32),
    Customer,
    Holder(i64, i64),
}

fn said() -> impl Strategy<Value = (Prefix, Said)> {
    // Few bits vary, so that prefixes nest and collide.
    let ip = prop_oneof![
        (0u32..4, 0u32..4, 0u32..4).prop_map(|(a, b, c)| IpAddr::V4(Ipv4Addr::from_bits(a << 30 | b << 15 | c))),
        (0u128..4, 0u128..4, 0u128..4).prop_map(|(a, b, c)| IpAddr::V6(Ipv6Addr::from_bits(a << 126 | b << 63 | c))),
    ];
    let what = prop_oneof![
        (1u16..5).prop_map(Said::Country),
        (1u32..5).prop_map(Said::Asn),
        Just(Said::Customer),
        (0i64..4, 1i64..4).prop_map(|(from, len)| Said::Holder(from, from + len)),
        Just(Said::Holder(i64::MIN, i64::MAX)),
    ];
    (ip, 0u8..=128, what).prop_map(|(ip, len, what)| {
        let len = if ip.is_ipv4() { len % 33 } else { len };
        (Prefix::new(ip, len).unwrap(), what)
    })
}

/// The naive model: of all that is said about prefixes around the address, per attribute, the longest, then the latest.
fn longest<'a, T>(all: &'a [(Prefix, Said)], addr: Addr, pick: impl Fn(usize, &'a Said) -> Option<T>) -> Option<T> {
    let mut best: Option<(u8, T)> = None;
    for (i, (prefix, what)) in all.iter().enumerate().filter(|(_, (prefix, _))| prefix.contains(addr)) {
        if let Some(value) = pick(i, what)
            && best.as_ref().is_none_or(|(len, _)| prefix.prefix_len() >= *len)
        {
            best = Some((prefix.prefix_len(), value));
        }
    }
    best.map(|(_, value)| value)
}

proptest! {
    #[test]
    fn the_longest_prefix_wins_for_each_attribute_alone(all in prop::collection::vec(said(), 0..25), more in any::<u32>()) {
        // One statement of holders a prefix, as the sources give it.
        let mut seen = std::collections::HashSet::new();
        let all: Vec<_> = all.into_iter().filter(|(p, s)| !matches!(s, Said::Holder(..)) || seen.insert(*p)).collect();
        let mut builder = Builder::default();
        for (i, (prefix, what)) in all.iter().enumerate() {
            match what {
                Said::Country(country) => builder.country(*prefix, *country),
                Said::Asn(asn) => builder.asn(*prefix, *asn),
                Said::Customer => builder.customer(*prefix),
                Said::Holder(from, to) => builder.holders(*prefix, vec![holder(i as u32 + 1, *from, *to)]),
            }
        }
        let table = table(builder);
        let ends = all.iter().flat_map(|(prefix, _)| {
            let of = |bits: u128| if prefix.v4 { Addr::v4(bits as u32) } else { Addr(bits) };
            [of(prefix.first), of(prefix.last()), of(prefix.first.wrapping_sub(1)), of(prefix.last().wrapping_add(1))]
        });
        for addr in ends.chain([Addr::v4(more), Addr(u128::from(more) << 96)]) {
            let record = table.record(table.find(addr));
            let country = longest(&all, addr, |_, s| match s { Said::Country(c) => Some(*c), _ => None });
            let asn = longest(&all, addr, |_, s| match s { Said::Asn(asn) => Some(*asn), _ => None });
            let customer = all.iter().any(|(p, s)| p.contains(addr) && matches!(s, Said::Customer | Said::Holder(..)));
            prop_assert_eq!((record.country, record.asn), (country.unwrap_or(0), asn.unwrap_or(0)), "{}", addr);
            prop_assert_eq!(record.customer, customer, "{}", addr);
            for at in -1..8 {
                let who = longest(&all, addr, |i, s| match s {
                    Said::Holder(from, to) if *from <= at && at < *to => Some(i as u32 + 1),
                    _ => None,
                });
                prop_assert_eq!(table.holder(record.party, at).map(|h| h.subscriber), who, "{} at {}", addr, at);
            }
        }
    }
}

#[test]
fn a_subscriber_does_not_hide_the_country_around_it() {
    let mut builder = Builder::default();
    builder.country("196.200.0.0/16".parse().unwrap(), 7);
    builder.asn("196.200.128.0/17".parse().unwrap(), 36903);
    builder.holders("196.200.130.5".parse().unwrap(), vec![holder(3, i64::MIN, i64::MAX)]);
    let table = table(builder);
    let record = *table.record(table.find("196.200.130.5".parse().unwrap()));
    assert_eq!((record.country, record.asn, record.customer), (7, 36903, true));
    assert_eq!(table.holder(record.party, 0).map(|holder| holder.subscriber), Some(3));
    let next = *table.record(table.find("196.200.130.6".parse().unwrap()));
    assert_eq!((next.country, next.asn, next.customer, next.party), (7, 36903, false, 0));
}

#[test]
fn memory_follows_the_prefixes() {
    let empty = table(Builder::default()).bytes();
    let mut builder = Builder::default();
    for i in 0..50_000u32 {
        builder.holders(Prefix::host(Addr::v4(0x0a00_0000 | i)), vec![holder(i + 1, i64::MIN, i64::MAX)]);
    }
    let added = table(builder).bytes() - empty;
    // Record, party, holder, tree entry: well under 200 bytes a subscriber.
    assert!(added < 50_000 * 200, "{added}");
}
