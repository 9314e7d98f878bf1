//! Reports over sums whose figures are worked out by hand.

use serde_json::json;

use super::process::TestProcess;
use super::*;
use crate::control::http::times::parse_time_ms;
use crate::control::http::{Config, Site};
use crate::flow::rollup::KeyColumn;
use crate::flow::{Direction, Entry, Field, Key, LogId, Measures, Record, RollupDef, RollupRows, RollupSums};

const API: &str = "/api/v1/netflow/reports";
/// Bytes of an hour at 1 Mbit/s.
const MBIT_HOUR: u64 = 450_000_000;

/// Whose traffic, and where.
#[derive(Clone, Copy)]
struct Whose {
    reseller: Uuid,
    subscriber: Option<u128>,
    nas: &'static str,
    site: &'static str,
}

const A: Whose = Whose { reseller: RESELLER_A, subscriber: Some(1), nas: "gw1", site: "north" };
const B: Whose = Whose { reseller: RESELLER_B, subscriber: None, nas: "gw2", site: "south" };

/// Rows of one rollup, as the aggregator would emit them.
struct Rows(RollupRows);

impl Rows {
    fn of(rollup: &str) -> Self {
        let def = RollupDef::defaults().into_iter().find(|def| &*def.name == rollup).unwrap();
        Self(RollupRows::new(&def).unwrap())
    }

    fn push(&mut self, at: &str, whose: Whose, direction: Direction, bytes: u64) {
        self.push_at(parse_time_ms(at).unwrap(), whose, direction, bytes);
    }

    fn push_at(&mut self, at_ms: i64, whose: Whose, direction: Direction, bytes: u64) {
        self.0.push_measures(at_ms, &Measures { bytes, packets: 1, flows: 1, ..Measures::default() });
        for (key, column) in &mut self.0.keys {
            match (*key, column) {
                (Key::Field(Field::ResellerId), KeyColumn::Uuid(c)) => c.push(Some(&whose.reseller)),
                (Key::Field(Field::SubscriberId), KeyColumn::Uuid(c)) => {
                    c.push(whose.subscriber.map(Uuid::from_u128).as_ref());
                }
                (Key::Field(Field::NasId), KeyColumn::Text(c)) => c.push(Some(&whose.nas.into())),
                (Key::Field(Field::Site), KeyColumn::Text(c)) => c.push(Some(&whose.site.into())),
                (Key::Field(Field::Direction), KeyColumn::U8(c)) => c.push(Some(direction as u8)),
                (_, KeyColumn::Text(c)) => c.push_nulls(1),
                (_, KeyColumn::U8(c)) => c.push(Some(6)),
                (_, KeyColumn::U16(c)) => c.push(Some(443)),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A process with rollups `usage` and `traffic` that hold these rows.
fn process(rows: Vec<Rows>) -> TestProcess {
    let rollups = RollupDef::defaults().into_iter().filter(|def| ["usage", "traffic"].contains(&&*def.name));
    let process = TestProcess::with_rollups(rollups.collect());
    let sums = RollupSums { rows: rows.into_iter().map(|rows| rows.0).collect(), ..RollupSums::default() };
    process.store.memory.insert(LogId([0; 16]), Entry { position: 2, record: Record::Sums(Arc::new(sums)) });
    let site = |nas: &str, site: &str, cir_bps| Site { nas_id: nas.into(), site: site.into(), cir_bps };
    *process.sites.lock().unwrap() = vec![site("gw1", "north", 50_000_000), site("gw2", "south", 0)];
    process
}

/// December 2025. On day d, A's line carries d Mbit/s in from 20 to 22 h; otherwise 7 bytes stay inside on the 1st, and a second
/// subscriber sends 1,000,000 bytes on the 5th at 3 h. B gets 900 bytes on the 10th that are nobody's. In November A got
/// half of that, at once.
fn december() -> Vec<Rows> {
    let mut rows = Rows::of("usage");
    rows.push("2025-11-01", A, Direction::In, 223_200_500_000);
    rows.push("2025-12-01", A, Direction::Internal, 7);
    for day in 1..=31 {
        for hour in [20, 21] {
            rows.push(&format!("2025-12-{day:02}T{hour}:00:00Z"), A, Direction::In, day * MBIT_HOUR);
        }
    }
    rows.push("2025-12-05T03:00:00Z", Whose { subscriber: Some(2), ..A }, Direction::Out, 1_000_000);
    rows.push("2025-12-10T10:00:00Z", B, Direction::In, 900);
    vec![rows]
}

fn ok(server: &TestServer, path: &str) -> Value {
    let got = server.get(&format!("{API}{path}"));
    assert_eq!(got.status, 200, "{path}: {}", got.body);
    got.json()
}

#[test]
fn a_month_has_the_figures_worked_out_by_hand() {
    let server = TestServer::with(Config::default(), process(december()));
    // The last month that is over.
    let report = ok(&server, "/monthly?compare=0");
    assert_eq!(report["month"], "2025-12");
    assert_eq!(
        (&report["whole"], &report["hours"], &report["percentile_buckets"]),
        (&json!(true), &json!(744), &json!(744))
    );
    assert_eq!((&report["tier"], &report["basis"]), (&json!("usage"), &json!("pro_rated")));
    assert_eq!((&report["percentile_bucket_seconds"], &report["total"]), (&json!(3600), &json!(2)));
    let north = &report["items"][0];
    for (field, value) in [
        ("reseller_id", json!(RESELLER_A.to_string())),
        ("nas_id", json!("gw1")),
        ("site", json!("north")),
        // 2 h x (1 + 2 + ... + 31) Mbit/s.
        ("bytes_in", json!(446_400_000_000_u64)),
        ("bytes_out", json!(1_000_000)),
        ("bytes_internal", json!(7)),
        ("bytes_transit", json!(0)),
        ("flows", json!(64)),
        // The earlier of two equal hours; (1 + ... + 31) / 31 Mbit/s.
        ("busy_hour", json!({"hour": 20, "mean_bps": 16_000_000})),
        // Rank 707 of 744 hours, 682 of them 0: the 25th of 1, 1, 2, 2, ... Mbit/s.
        ("p95_in_bps", json!(13_000_000)),
        ("p95_out_bps", json!(0)),
        ("p95_bps", json!(13_000_000)),
        ("active_subscribers", json!(2)),
        ("bytes_per_subscriber", json!(223_200_500_000_u64)),
        ("hours_with_data", json!(64)),
        ("growth", json!([])),
    ] {
        assert_eq!(north[field], value, "{field}");
    }
    let south = &report["items"][1];
    assert_eq!((&south["bytes_in"], &south["active_subscribers"]), (&json!(900), &json!(0)));
    assert_eq!((&south["bytes_per_subscriber"], &south["p95_bps"]), (&Value::Null, &json!(0)));
    let resellers: Vec<_> = report["resellers"].as_array().unwrap().iter().map(|r| r["bytes_in"].clone()).collect();
    assert_eq!(resellers, [json!(446_400_000_000_u64), json!(900)]);
}

#[test]
fn the_day_on_which_a_line_will_be_full_is_projected() {
    let server = TestServer::with(Config::default(), process(december()));
    let report = ok(&server, "/monthly?month=2025-12&compare=0");
    let capacity = &report["items"][0]["capacity"];
    assert_eq!((&capacity["cir_bps"], &capacity["p95_percent"]), (&json!(50_000_000), &json!(26.0)));
    let trend = |field: &str| capacity["trend"][field].as_f64().unwrap();
    assert_eq!(trend("days"), 31.0);
    assert!((trend("slope_bps_per_day") - 1e6).abs() < 1.0 && (trend("level_bps") - 31e6).abs() < 1.0);
    assert!(trend("r_squared") > 0.999_999 && trend("slope_error_bps_per_day") < 1.0);
    // 31 Mbit/s on 31 December and 1 more a day: 40 on 9 January, 50 on 19 January.
    for (index, percent, day) in [(0, 80, "2026-01-09"), (1, 100, "2026-01-19")] {
        let expected = json!({"percent": percent, "state": "projected", "date": day, "earliest": day, "latest": day});
        assert_eq!(capacity["reaches"][index], expected);
    }
    let unknown = &report["items"][1]["capacity"];
    assert_eq!((&unknown["cir_bps"], &unknown["reaches"]), (&Value::Null, &json!([])));
    assert_eq!(report["resellers"][0]["capacity"], Value::Null);
}

#[test]
fn growth_is_told_only_between_whole_months() {
    let server = TestServer::with(Config::default(), process(december()));
    let growth = &ok(&server, "/monthly?month=2025-12&compare=2")["items"][0]["growth"];
    assert_eq!(
        growth[0],
        json!({"month": "2025-11", "bytes_in": 223_200_500_000_u64, "bytes_out": 0, "growth_percent": 100.0})
    );
    assert_eq!((&growth[1]["month"], &growth[1]["growth_percent"]), (&json!("2025-10"), &Value::Null));
    // January is not over, and has nothing.
    let report = ok(&server, "/monthly?month=2026-01");
    assert_eq!((&report["whole"], &report["items"], &report["hours"]), (&json!(false), &json!([]), &json!(732)));
    assert_eq!(report["note"], "2026-01 is not over");
}

#[test]
fn what_has_expired_is_said() {
    let server = TestServer::with(Config::default(), process(december()));
    *server.process.store.held_from.lock().unwrap() = parse_time_ms("2025-12-03");
    let report = ok(&server, "/monthly?month=2025-12&compare=0");
    assert_eq!(report["note"], "sums before 2025-12-03T00:00:00.000Z have expired");
    assert_eq!((&report["whole"], &report["hours"]), (&json!(false), &json!(744 - 48)));
    assert_eq!(report["range"]["from"], "2025-12-03T00:00:00.000Z");
}

#[test]
fn days_and_hours_are_those_of_the_offset() {
    let server = TestServer::with(Config::default(), process(december()));
    let report = ok(&server, "/monthly?month=2025-12&compare=1&utc_offset=%2B03:00");
    assert_eq!(report["items"][0]["busy_hour"]["hour"], 23);
    assert_eq!(report["range"], json!({"from": "2025-11-30T21:00:00.000Z", "to": "2025-12-31T21:00:00.000Z"}));
    // The last hour, 21 to 22 h UTC on the 31st, is January's.
    assert_eq!(report["items"][0]["bytes_in"], 446_400_000_000 - 31 * MBIT_HOUR);
}

#[test]
fn narrow_buckets_come_from_the_rollup_by_minute() {
    let mut traffic = Rows::of("traffic");
    let start = parse_time_ms("2025-12-30").unwrap();
    // 450 times 5 minutes with 1, 2, 3, ... kbit/s, each in two minutes.
    for k in 1..=450 {
        let at = start + k * 300_000;
        traffic.push_at(at, A, Direction::Out, k as u64 * 30_000);
        traffic.push_at(at + 60_000, A, Direction::Out, k as u64 * 7_500);
    }
    let mut rows = december();
    rows.push(traffic);
    let server = TestServer::with(Config::default(), process(rows));
    let report = ok(&server, "/monthly?month=2025-12&compare=0&bucket=5m");
    assert_eq!((&report["percentile_bucket_seconds"], &report["percentile_buckets"]), (&json!(300), &json!(8928)));
    // Rank 8482 of 8928, 8478 of them 0: the fourth.
    assert_eq!((&report["items"][0]["p95_out_bps"], &report["items"][0]["p95_in_bps"]), (&json!(4000), &json!(0)));
    assert_eq!(report["items"][0]["bytes_in"], 446_400_000_000_u64);
}

#[test]
fn peak_hours_are_means_over_the_weeks() {
    let mut rows = Rows::of("usage");
    rows.push("2026-01-23T20:00:00Z", A, Direction::In, 3 * MBIT_HOUR);
    rows.push("2026-01-30T20:00:00Z", A, Direction::In, MBIT_HOUR);
    rows.push("2026-01-24T09:00:00Z", A, Direction::Out, MBIT_HOUR);
    rows.push("2026-01-24T09:00:00Z", B, Direction::Out, 5);
    rows.push("2026-01-24T09:00:00Z", A, Direction::Internal, 5);
    let server = TestServer::with(Config::default(), process(vec![rows]));
    let report = ok(&server, "/peak-hours?days=14&nas_id=gw1");
    assert_eq!((&report["total"], &report["tier"]), (&json!(168), &json!("usage")));
    let friday = json!({
        "weekday": "friday", "hour": 20, "hours": 2, "bytes_in": 4 * MBIT_HOUR, "bytes_out": 0,
        "mean_in_bps": 2_000_000, "mean_out_bps": 0,
    });
    assert_eq!((&report["items"][4 * 24 + 20], &report["peak"]), (&friday, &friday));
    let saturday = &report["items"][5 * 24 + 9];
    assert_eq!((&saturday["bytes_out"], &saturday["mean_out_bps"]), (&json!(MBIT_HOUR), &json!(500_000)));
    // From Friday 23rd, 20 h to Saturday 31st, 12 h: 184 hours.
    let hours: u64 = report["items"].as_array().unwrap().iter().map(|hour| hour["hours"].as_u64().unwrap()).sum();
    assert_eq!(hours, 184);
    let shifted = ok(&server, "/peak-hours?days=14&utc_offset=%2B05:00");
    assert_eq!((&shifted["peak"]["weekday"], &shifted["peak"]["hour"]), (&json!("saturday"), &json!(1)));
    assert_eq!(ok(&server, "/peak-hours?nas_id=none")["peak"], Value::Null);
}

#[test]
fn a_reseller_sees_its_own_report_only() {
    let token = |token: &str, reseller_id| TokenConfig {
        name: token.into(),
        sha256: sha256(token),
        role: Role::Read,
        reseller_id,
        ..TokenConfig::default()
    };
    let tokens = vec![token("reader", None), token("reader-a", Some(RESELLER_A))];
    let server = TestServer::with(Config { token: tokens, ..Config::default() }, process(december()));
    let get = |token: &str, query: &str| {
        let authorization = format!("Bearer {token}");
        server.request(Method::Get, &format!("{API}/{query}"), &[("authorization", &authorization)], b"")
    };
    let items = |got: Got| got.json()["items"].as_array().unwrap().len();
    assert_eq!(items(get("reader", "monthly?compare=0")), 2);
    assert_eq!(items(get("reader-a", "monthly?compare=0")), 1);
    assert_eq!(get("reader-a", &format!("monthly?reseller_id={RESELLER_B}")).status, 403);
    assert_eq!(get("reader-a", &format!("peak-hours?reseller_id={RESELLER_B}")).status, 403);
    assert_eq!(get("", "monthly").status, 401);
}

#[test]
fn parameters_that_make_no_report_are_refused() {
    let server = TestServer::with(Config::default(), process(Vec::new()));
    for (query, parameter) in [
        ("monthly?month=2026-02", "month"),
        ("monthly?month=2026-1", "month"),
        ("monthly?bucket=1d", "bucket"),
        ("monthly?compare=12", "compare"),
        ("monthly?utc_offset=3", "utc_offset"),
        ("monthly?filter=proto%20tcp", "filter"),
        ("peak-hours?days=0", "days"),
        ("peak-hours?days=367", "days"),
    ] {
        let got = server.get(&format!("{API}/{query}"));
        assert_eq!((got.status, &got.json()["parameter"]), (400, &json!(parameter)), "{query}");
    }
    assert_eq!(ok(&server, "/monthly")["items"], json!([]));
}
