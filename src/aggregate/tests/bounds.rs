use super::*;

fn only(name: &str) -> Vec<RollupDef> {
    RollupDef::defaults().into_iter().filter(|def| &*def.name == name).collect()
}

/// Hosts with their bytes, and the `rest` rows' sums and cuts, of one emission's talkers.
fn talkers(sums: &[RollupSums]) -> (BTreeMap<Value, u64>, Vec<(u64, u64)>) {
    let (mut hosts, mut rests) = (BTreeMap::new(), Vec::new());
    for rows in sums.iter().flat_map(|sums| &sums.rows) {
        for row in 0..rows.len() {
            let role = rows.keys[3].1.value(rows.keys[3].0.kind(), row);
            if role != Value::Number(Role::Src as u64) {
                continue;
            }
            match rows.keys[2].1.value(rows.keys[2].0.kind(), row) {
                Value::Null => rests.push((rows.bytes[row], rows.cut_bytes[row])),
                host => *hosts.entry(host).or_default() += rows.bytes[row],
            }
        }
    }
    (hosts, rests)
}

#[test]
fn customers_are_exact_and_only_the_heaviest_others_have_rows() {
    let (mut aggregator, _) = aggregator(only("talkers"), Config::default());
    let flow = |src: u32, direction| Flow { src, direction, ..Flow::plain(T0 + 1000, 0, u64::from(src)) };
    let flows: Vec<_> =
        (1..=3000).map(|n| flow(n, Direction::In)).chain((10_001..=12_000).map(|n| flow(n, Direction::Out))).collect();
    aggregator.add(1, &batch(&flows), T0);
    let (hosts, rests) = talkers(&flushed(&mut aggregator, T0));
    assert_eq!(hosts.len(), 1000 + 2000);
    assert_eq!(rests, [((1..=2000).sum::<u64>(), 2000)]);
    assert_eq!(hosts.values().sum::<u64>(), (2001..=3000).sum::<u64>() + (10_001..=12_000).sum::<u64>());
}

#[test]
fn an_early_fold_keeps_the_sums_and_says_what_it_may_have_cut() {
    let (mut aggregator, _) = aggregator(only("talkers"), Config { memory_max_bytes: 1 << 30, ..Config::default() });
    let many = super::super::others::OTHERS_HELD_MAX as u32;
    let mut total = 0;
    let mut truth: BTreeMap<Value, u64> = BTreeMap::new();
    for position in 1..=4u64 {
        let flows: Vec<_> = (0..many / 2)
            .map(|n| {
                // A span over four buckets, so that steps are folded too; the heavy ones come again and again.
                let src = if n < 500 { n * 7 } else { (position as u32 * many + n) * 7 };
                let bytes = if n < 500 { 1_000_000 + u64::from(n) } else { 1000 + u64::from(n % 100) };
                Flow { src, direction: Direction::Transit, ..Flow::plain(T0 + 1_000_000, 900_000, bytes) }
            })
            .collect();
        for flow in &flows {
            total += flow.bytes;
            *truth.entry(Value::Ip(Addr::v4(flow.src))).or_default() += flow.bytes;
        }
        aggregator.add(position, &batch(&flows), T0);
    }
    let sums = flushed(&mut aggregator, T0);
    let (hosts, rests) = talkers(&sums);
    let rest: u64 = rests.iter().map(|(bytes, _)| bytes).sum();
    assert_eq!(hosts.values().sum::<u64>() + rest, total);
    let error: u64 = rests.iter().map(|(_, cut)| cut).sum();
    for n in 0..500u32 {
        assert!(hosts.contains_key(&Value::Ip(Addr::v4(n * 7))));
    }
    for (host, bytes) in truth {
        let got = hosts.get(&host).copied().unwrap_or_default();
        assert!(got <= bytes && got + error >= bytes, "{host} has {got} of {bytes}, error {error}");
    }
}

#[test]
fn keys_without_room_go_to_the_other_row_and_are_counted() {
    let memory_max_bytes = 4 << 20;
    let (mut aggregator, counters) = aggregator(only("talkers"), Config { memory_max_bytes, ..Config::default() });
    assert!(aggregator.emit(T0).is_none());
    let mut total = 0;
    let mut sums = Vec::new();
    for position in 1..=10u64 {
        let first = position as u32 * 16_000;
        let flows: Vec<_> = (0..16_000).map(|n| Flow { src: first + n, ..Flow::plain(T0 + 1000, 500, 3) }).collect();
        total += 16_000 * 3;
        aggregator.add(position, &batch(&flows), T0);
        assert!(aggregator.held_bytes() <= memory_max_bytes as usize, "{}", aggregator.held_bytes());
        sums.extend(std::iter::from_fn(|| aggregator.emit(T0)));
    }
    assert!(counters.refused_keys.get() > 0);
    assert!(counters.early_emissions.get() <= 2, "{}", counters.early_emissions.get());
    sums.extend(flushed(&mut aggregator, T0));
    let (hosts, rests) = talkers(&sums);
    assert_eq!(hosts.values().sum::<u64>() + rests.iter().map(|(bytes, _)| bytes).sum::<u64>(), total);
    assert!(rests.iter().all(|(bytes, cut)| cut == bytes), "{rests:?}");
}

#[test]
fn when_memory_is_short_only_what_holds_it_is_emitted() {
    let named = |name: &str| only(name).into_iter();
    let config = Config { memory_max_bytes: 4 << 20, ..Config::default() };
    let (mut aggregator, counters) = aggregator(named("talkers").chain(named("geo")).collect(), config);
    assert!(aggregator.emit(T0).is_none());
    let (mut position, mut total) = (0, 0);
    let mut add = |aggregator: &mut Aggregator, first: u32, keys: u32| {
        let flow = |n: u32| Flow { src: first + n % keys, ..Flow::plain(T0 + 1000, 500, 3) };
        let flows: Vec<_> = (0..4000).map(flow).collect();
        (position, total) = (position + 1, total + 4000 * 3);
        aggregator.add(position, &batch(&flows), T0);
        aggregator.emit(T0)
    };
    // Flows enough for an emission, of few hosts; then a host a flow.
    assert!((0..70).all(|_| add(&mut aggregator, 1, 100).is_none()));
    let mut early = (0..40).find_map(|batch| add(&mut aggregator, 1000 + batch * 4000, 4000));
    let mut sums: Vec<RollupSums> = std::iter::from_fn(|| early.take().or_else(|| aggregator.emit(T0))).collect();
    assert_eq!(counters.early_emissions.get(), 1);
    assert!(!sums.is_empty() && sums.iter().flat_map(|sums| &sums.rows).all(|rows| &*rows.rollup == "talkers"));
    assert!(aggregator.held_bytes() < 1 << 20, "{}", aggregator.held_bytes());
    sums.extend(flushed(&mut aggregator, T0));
    let mut got = Sums::new();
    sums.iter().for_each(|sums| collect(sums, &mut got));
    let of = |name: &str| got.iter().filter(|((n, ..), _)| n == name).map(|(_, m)| m.bytes).sum::<u64>();
    // Hosts are both sources and destinations.
    assert_eq!((of("talkers"), of("geo")), (2 * total, total));
}

#[test]
fn made_up_times_cannot_fill_the_memory_and_lose_nothing() {
    let (mut aggregator, counters) = aggregator(RollupDef::defaults(), Config::default());
    let flows: Vec<_> =
        (0..20_000i64).map(|n| Flow::plain(T0 - n * 7 * HOUR_MS, if n % 2 == 0 { HOUR_MS } else { 0 }, 61)).collect();
    aggregator.add(1, &batch(&flows), T0);
    assert!(counters.early_emissions.get() > 0);
    assert_eq!(aggregator.replay_from(), 2);
    let mut got = Sums::new();
    flushed(&mut aggregator, T0).iter().for_each(|sums| collect(sums, &mut got));
    for name in ["traffic", "usage", "geo", "usage_apps"] {
        let sum: u64 = got.iter().filter(|((n, ..), _)| n == name).map(|(_, m)| m.bytes).sum();
        assert_eq!(sum, 20_000 * 61, "{name}");
    }
}

#[test]
fn batches_of_uneven_columns_are_refused_and_counted() {
    let (mut aggregator, counters) = aggregator(RollupDef::defaults(), Config::default());
    let mut uneven = batch(&[Flow::plain(T0, 0, 5)]);
    uneven.bytes.push(Some(1));
    aggregator.add(1, &uneven, T0);
    assert_eq!((counters.refused_batches.get(), aggregator.position()), (1, 1));
    assert!(flushed(&mut aggregator, T0).is_empty());
}
