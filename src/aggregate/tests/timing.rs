use super::*;

fn rollups_in(sums: &[RollupSums]) -> Vec<(String, i64)> {
    let rows = sums.iter().flat_map(|sums| &sums.rows);
    rows.flat_map(|rows| rows.bucket.iter().map(|b| (rows.rollup.to_string(), (b - T0) / 60_000))).collect()
}

fn emitted(aggregator: &mut Aggregator, now: i64) -> Vec<(String, i64)> {
    let mut list = rollups_in(&std::iter::from_fn(|| aggregator.emit(now)).collect::<Vec<_>>());
    list.sort();
    list.dedup();
    list
}

#[test]
fn a_minute_is_emitted_30_s_after_its_end_and_late_shares_every_5_minutes() {
    let traffic: Vec<_> = RollupDef::defaults().into_iter().filter(|def| &*def.name == "traffic").collect();
    let (mut aggregator, _) = aggregator(traffic, Config::default());
    aggregator.add(1, &batch(&[Flow::plain(T0 + 10_000, 0, 5)]), T0 + 10_000);
    assert_eq!(emitted(&mut aggregator, T0 + 10_000), []);
    assert_eq!(emitted(&mut aggregator, T0 + 89_999), []);
    assert_eq!(emitted(&mut aggregator, T0 + 90_000), [("traffic".into(), 0)]);
    aggregator.add(2, &batch(&[Flow::plain(T0 + 10_000, 0, 5)]), T0 + 100_000);
    assert_eq!(emitted(&mut aggregator, T0 + 150_000), []);
    assert_eq!(emitted(&mut aggregator, T0 + 329_999), []);
    assert_eq!(emitted(&mut aggregator, T0 + 330_000), [("traffic".into(), 0)]);
    assert_eq!(emitted(&mut aggregator, T0 + 900_000), []);
}

#[test]
fn open_hours_are_emitted_every_5_minutes_open_days_each_hour_and_talkers_when_they_end() {
    let (mut aggregator, _) = aggregator(RollupDef::defaults(), Config::default());
    aggregator.add(1, &batch(&[Flow::plain(T0 + 30_000, 0, 5)]), T0 + 30_000);
    assert_eq!(emitted(&mut aggregator, T0 + 30_000), []);
    assert_eq!(emitted(&mut aggregator, T0 + 95_000), [("traffic".into(), 0)]);
    let day = (T0 - T0 % 86_400_000 - T0) / 60_000;
    let narrower = [("geo".into(), 0), ("talkers".into(), 0), ("usage".into(), 0)];
    assert_eq!(emitted(&mut aggregator, T0 + 330_000), narrower);
    assert_eq!(aggregator.replay_from(), 1);
    assert_eq!(emitted(&mut aggregator, T0 + 3_629_999), []);
    assert_eq!(emitted(&mut aggregator, T0 + 3_630_000), [("usage_apps".into(), day)]);
    assert_eq!(aggregator.replay_from(), 2);
}

#[test]
fn old_captures_appear_within_5_minutes_and_flows_from_the_future_do_not_hold_the_log() {
    let (mut aggregator, _) = aggregator(RollupDef::defaults(), Config::default());
    let year_ms = 365 * 86_400_000;
    assert_eq!(emitted(&mut aggregator, T0), []);
    aggregator.add(1, &batch(&[Flow::plain(T0 - year_ms, 100_000, 5), Flow::plain(T0 + year_ms, 0, 5)]), T0);
    let late = emitted(&mut aggregator, T0 + 300_000);
    for name in ["traffic", "talkers", "usage", "usage_apps", "geo"] {
        assert!(late.iter().any(|(rollup, minute)| rollup == name && *minute < -500_000), "{name} {late:?}");
    }
    assert_eq!(aggregator.replay_from(), 1);
    let aged = emitted(&mut aggregator, T0 + 660_000);
    for name in ["traffic", "talkers"] {
        assert!(aged.iter().any(|(rollup, minute)| rollup == name && *minute > 500_000), "{name} {aged:?}");
    }
    assert_eq!(aggregator.replay_from(), 2);
}

#[test]
fn forged_spans_are_booked_whole_and_counted() {
    let (mut aggregator, counters) = aggregator(RollupDef::defaults(), Config::default());
    let flows = [Flow::plain(T0, i64::MAX, 5), Flow::plain(T0, HOUR_MS + 1, 6), Flow::plain(T0, HOUR_MS, 7)];
    aggregator.add(1, &batch(&flows), T0);
    assert_eq!(counters.long_spans.get(), 2);
    let mut got = Sums::new();
    flushed(&mut aggregator, T0).iter().for_each(|sums| collect(sums, &mut got));
    let whole: u64 =
        got.iter().filter(|((n, bucket, _), _)| n == "traffic" && *bucket == T0).map(|(_, m)| m.bytes).sum();
    assert_eq!(whole, 5 + 6 + 7);
}

#[test]
fn the_heaviest_sources_of_the_last_complete_bucket_are_shown() {
    let (mut aggregator, counters) = aggregator(RollupDef::defaults(), Config { top_talkers: 2, ..Config::default() });
    let flows: Vec<_> = [(1, 10), (2, 30), (3, 20), (1, 15)]
        .map(|(src, bytes)| Flow { src, ..Flow::plain(T0 + 1000, 0, bytes) })
        .to_vec();
    assert!(aggregator.emit(T0).is_none());
    aggregator.add(1, &batch(&flows), T0);
    flushed(&mut aggregator, T0 + 2000);
    assert!(counters.top.hosts().is_empty());
    aggregator.add(2, &batch(&[Flow { src: 3, ..Flow::plain(T0 + 1000, 0, 1) }]), T0);
    assert!(aggregator.emit(T0 + 330_000).is_some());
    assert_eq!(counters.top.hosts(), [(Addr::v4(2), 30), (Addr::v4(1), 25)]);
    let mut exposition = crate::telemetry::Exposition::default();
    counters.expose(&mut exposition);
    let text = exposition.render(crate::telemetry::Format::Prometheus);
    assert!(text.contains("netflow_top_talker_bytes{src_ip=\"0.0.0.2\"} 30\n"), "{text}");
}
