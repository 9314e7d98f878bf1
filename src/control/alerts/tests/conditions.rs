//! When each condition begins and ends.

use super::*;
use crate::enrich::SiteInfo;

const M: i64 = MINUTE_MS;

fn run(config: Config) -> (tempfile::TempDir, Bench) {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path(), config);
    (folder, bench)
}

#[test]
fn a_subscriber_alert_ends_a_hold_down_after_its_bytes_left_the_day_and_rules_narrow_it() {
    let rule = RuleConfig { reseller_id: Some(RESELLER), ..RuleConfig::new(Kind::Subscriber24h) };
    let limit = |n| Some(Threshold::Number(n));
    let (_folder, mut bench) = run(Config {
        subscriber_24h_bytes: 10_000,
        rule: vec![RuleConfig { threshold: limit(500), severity: Some(Severity::Low), ..rule }],
        ..Config::default()
    });
    bench.engine.add(1, &flow(T0, 501, Direction::Internal), T0);
    bench.evaluate(T0);
    let alert = bench.alerts.board.active().remove(0);
    assert_eq!((alert.value, alert.threshold, alert.severity), (501, 500, Severity::Low));
    assert!(alert.summary.contains("501 B"), "{}", alert.summary);
    // T0 begins a bucket: the flow's minute lies in the one before, but for the remainder.
    bench.evaluate(T0 + 23 * HOUR_MS + 44 * M);
    assert_eq!(bench.firing().len(), 1);
    bench.evaluate(T0 + 23 * HOUR_MS + 46 * M);
    assert_eq!(bench.firing().len(), 1, "hold-down");
    bench.evaluate(T0 + 23 * HOUR_MS + 50 * M);
    assert_eq!(bench.firing(), []);
    assert_eq!(bench.fired(), 1);
}

#[test]
fn flows_that_were_not_read_yet_end_no_alert() {
    let (_folder, mut bench) = run(Config { subscriber_24h_bytes: 500, ..Config::default() });
    bench.engine.add(1, &flow(T0, 501, Direction::In), T0);
    bench.evaluate(T0);
    let later = T0 + 26 * HOUR_MS;
    bench.engine.evaluate(&Facts::default(), later, true).unwrap();
    assert_eq!(bench.firing().len(), 1);
    bench.evaluate(later);
    assert_eq!(bench.firing(), []);
}

#[test]
fn a_site_is_judged_by_two_windows_that_ended_long_enough_ago() {
    // 8 kbit/s are 900,000 bytes in 15 minutes; 80 % are 720,000.
    let (_folder, mut bench) = run(Config::default());
    let site = SiteInfo { nas_id: "nas1".into(), site: "north".into(), reseller_id: Some(RESELLER), cir_bps: 8000 };
    bench.facts.sites = vec![site];
    let book = |bench: &mut Bench, at: i64, bytes: u64, direction| {
        bench.engine.add(1, &flow(at, bytes, direction), at);
    };
    book(&mut bench, T0 + 10 * M, 700_000, Direction::Out);
    // In and out are judged apart, and internal traffic does not use the line.
    book(&mut bench, T0 + 10 * M, 700_000, Direction::In);
    book(&mut bench, T0 + 10 * M, 700_000, Direction::Internal);
    book(&mut bench, T0 + 25 * M, 720_001, Direction::In);
    book(&mut bench, T0 + 40 * M, 900_000, Direction::In);
    bench.evaluate(T0 + 46 * M);
    assert_eq!(bench.firing(), [], "the first window was not over");
    bench.evaluate(T0 + 60 * M);
    assert_eq!(bench.firing(), [], "16 minutes have not passed");
    bench.evaluate(T0 + 61 * M);
    assert_eq!(bench.firing(), [("site_cir", 100)]);
    let alert = bench.alerts.board.active().remove(0);
    assert_eq!((alert.severity, alert.measured.bytes), (Severity::High, Some(900_000)));
    assert_eq!(alert.subject.site.as_deref(), Some("north"));
    bench.evaluate(T0 + 76 * M);
    bench.evaluate(T0 + 82 * M);
    assert_eq!(bench.firing(), []);
}

#[test]
fn a_busy_host_and_a_watched_application_are_found() {
    let (_folder, mut bench) =
        run(Config { host_connections: 99, dpi_protocols: vec!["TOR".into()], ..Config::default() });
    let mut batch = FlowBatch::default();
    batch.append_rows(&flow(T0 + M, 10, Direction::Out), &[0; 100]);
    (batch.src_ip, batch.dst_ip) = Default::default();
    batch.src_ip.extend_v4(std::iter::repeat_n(0x0a00_0001, 100));
    batch.dst_ip.extend_v4(0x0800_0000..0x0800_0064);
    bench.engine.add(1, &batch, T0 + 2 * M);
    bench.evaluate(T0 + 2 * M);
    assert_eq!(bench.firing(), [("dpi_seen", 100), ("host_connections", 100)]);
    let wanted = Wanted { kind: Some(Kind::HostConnections), ..Wanted::default() };
    let alert = bench.alerts.board.list(&wanted).remove(0);
    assert_eq!(alert.subject.host.as_deref(), Some("10.0.0.1"));
    assert_eq!(alert.subject.subscriber_id, Some(SUBSCRIBER));
    assert_eq!((alert.measured.connections, alert.measured.bytes), (Some(100), Some(1000)));
    bench.evaluate(T0 + 40 * M);
    assert_eq!(bench.firing(), []);
}

fn exporter(last_seen_ms: i64, heard: bool, held_flows: u64, lost_flows: u64) -> ExporterFact {
    ExporterFact { address: "192.0.2.1".into(), last_seen_ms, heard, held_flows, lost_flows }
}

#[test]
fn a_silent_exporter_is_found_but_not_because_the_collector_was_away() {
    let (folder, mut bench) = run(Config::default());
    bench.facts.exporters = vec![exporter(T0, true, 0, 0)];
    bench.evaluate(T0 + 20 * M);
    assert_eq!(bench.firing(), []);
    bench.evaluate(T0 + 21 * M);
    assert_eq!(bench.firing(), [("exporter_silent", 21 * M as u64)]);
    drop(bench);
    // After a restart it has not been heard: nothing can be said, the alert stays and is not told again.
    let mut bench = Bench::open(folder.path(), Config::default());
    bench.facts.exporters = vec![exporter(T0, false, 0, 0)];
    for minute in [60, 70, 79, 85] {
        bench.evaluate(T0 + minute * M);
        assert_eq!((bench.firing().len(), bench.fired()), (1, 0), "{minute}");
    }
    bench.facts.exporters = vec![exporter(T0 + 86 * M, true, 0, 0)];
    bench.evaluate(T0 + 95 * M);
    assert_eq!(bench.firing(), []);
    // One that is taken away for good is forgotten.
    bench.facts.exporters = vec![exporter(T0 - 8 * 24 * HOUR_MS, true, 0, 0)];
    bench.evaluate(T0 + 96 * M);
    assert_eq!(bench.firing(), []);
}

#[test]
fn loss_is_measured_over_a_quarter_of_an_hour() {
    let (_folder, mut bench) = run(Config::default());
    let mut at = |minute: i64, held, lost| {
        bench.facts.exporters = vec![exporter(T0 + minute * M, true, held, lost)];
        bench.evaluate(T0 + minute * M);
        bench.firing()
    };
    // What was lost before the first look is not of these 15 minutes.
    assert_eq!(at(0, 1000, 500), []);
    assert_eq!(at(1, 1050, 510), [], "too few to say anything");
    assert_eq!(at(2, 1990, 510), [], "1 % is not over 1 %");
    assert_eq!(at(3, 1990, 530), [("exporter_loss", 2)]);
    assert_eq!(at(13, 1990, 530).len(), 1);
    assert_eq!(at(17, 9990, 530), [("exporter_loss", 2)], "hold-down");
    assert_eq!(at(19, 10990, 530), []);
}

#[test]
fn what_an_exporter_lost_before_it_was_looked_at_first_counts_when_it_came_meanwhile() {
    let (_folder, mut bench) = run(Config::default());
    bench.evaluate(T0);
    bench.facts.exporters = vec![exporter(T0 + M, true, 950, 50)];
    bench.evaluate(T0 + M);
    assert_eq!(bench.firing(), [("exporter_loss", 5)]);
}

#[test]
fn the_collector_watches_itself() {
    let (_folder, mut bench) = run(Config::default());
    bench.facts = Facts {
        sinks: vec![
            SinkFact { name: "slow".into(), lag_ms: 300_001 },
            SinkFact { name: "fine".into(), lag_ms: 300_000 },
        ],
        databases: vec![DatabaseFact { name: "asn.mmdb".into(), built_ms: T0 - 46 * 24 * HOUR_MS }],
        log_bytes: 81,
        log_bytes_max: 100,
        ..Facts::default()
    };
    bench.evaluate(T0);
    let days = 46 * 24 * HOUR_MS as u64;
    assert_eq!(bench.firing(), [("database_stale", days), ("log_filling", 81), ("sink_lag", 300_001)]);
    let mut out = crate::telemetry::Exposition::default();
    bench.alerts.expose(&mut out);
    let text = out.render(crate::telemetry::Format::Prometheus);
    assert!(text.contains("netflow_alerts_firing{alert_type=\"sink_lag\",severity=\"medium\"} 1"), "{text}");
}

#[test]
fn a_condition_has_to_hold_for_as_long_as_its_rule_says_over_restarts_too() {
    let rule = RuleConfig { pending: Some(DurationMs(10 * M as u64)), ..RuleConfig::new(Kind::SinkLag) };
    let config = Config { rule: vec![rule], ..Config::default() };
    let (folder, mut bench) = run(config.clone());
    let behind = Facts { sinks: vec![SinkFact { name: "slow".into(), lag_ms: 400_000 }], ..Facts::default() };
    bench.facts = behind.clone();
    bench.evaluate(T0);
    bench.facts = Facts::default();
    bench.evaluate(T0 + 6 * M);
    bench.facts = behind.clone();
    bench.evaluate(T0 + 11 * M);
    bench.engine.save().unwrap();
    assert_eq!(bench.firing(), [], "it did not hold in between");
    drop(bench);
    let mut bench = Bench::open(folder.path(), config);
    bench.facts = behind;
    bench.evaluate(T0 + 20 * M);
    assert_eq!(bench.firing(), []);
    bench.evaluate(T0 + 21 * M);
    assert_eq!(bench.firing().len(), 1);
}

#[test]
fn metrics_show_subscribers_from_half_the_threshold_on() {
    let (_folder, mut bench) = run(Config { subscriber_24h_bytes: 1000, ..Config::default() });
    let shown = |bench: &Bench| {
        let mut out = crate::telemetry::Exposition::default();
        bench.alerts.expose(&mut out);
        out.render(crate::telemetry::Format::Prometheus).contains("netflow_subscriber_bytes_24h{")
    };
    bench.engine.add(1, &flow(T0, 499, Direction::In), T0);
    bench.evaluate(T0);
    assert!(!shown(&bench));
    bench.engine.add(2, &flow(T0, 1, Direction::In), T0);
    bench.evaluate(T0);
    assert!(shown(&bench));
}

#[test]
fn a_hundred_thousand_subscribers_are_counted_and_metrics_show_a_thousand() {
    let (_folder, mut bench) = run(Config { subscriber_24h_bytes: 1 << 40, ..Config::default() });
    let rule = RuleConfig { reseller_id: Some(RESELLER), ..RuleConfig::new(Kind::Subscriber24h) };
    let threshold = Some(Threshold::Number(100_000 - 5));
    bench.reconfigure(Config { rule: vec![RuleConfig { threshold, ..rule }], ..bench.alerts.config() });
    let mut batch = FlowBatch::default();
    batch.append_rows(&flow(T0, 1, Direction::In), &vec![0; 100_000]);
    batch.subscriber_id = Default::default();
    for n in 1..=100_000u64 {
        let code = batch.subscriber_id.add_value(Uuid::from_u128(n.into()));
        batch.subscriber_id.push_code(code);
        batch.bytes.set(n as usize - 1, Some(n));
    }
    bench.engine.add(1, &batch, T0);
    bench.evaluate(T0);
    assert_eq!(
        bench.firing().iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>(),
        [99_996, 99_997, 99_998, 99_999, 100_000]
    );
    let mut out = crate::telemetry::Exposition::default();
    bench.alerts.expose(&mut out);
    let text = out.render(crate::telemetry::Format::Prometheus);
    assert_eq!(text.matches("netflow_subscriber_bytes_24h{").count(), 1000);
    assert!(text.contains("netflow_alerts_subscribers 100000\n"), "{text}");
    assert!(text.contains("netflow_alerts_untracked_total{what=\"subscriber_bytes\"} 0\n"), "{text}");
}
