use std::time::{Duration, Instant};

use super::group::Grouper;
use super::plan::{InternalIn, Plan, plan};
use super::*;
use crate::batch::Field;
use crate::column::Text;
use crate::filter::Filter;
use crate::rollup::{Key, KeyColumn, Measures, Role, RollupDef, RollupRows};
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::value::Value;
use crate::{Direction, Uuid};

fn key(name: &str) -> Key {
    Key::from_name(name).unwrap_or_else(|| panic!("no key {name}"))
}

fn question(by: &[&str], filter: &str, from: i64, to: i64) -> Question {
    Question {
        range: TimeRange { from, to },
        filter: filter.parse().unwrap_or_else(|error| panic!("{filter}: {error}")),
        by: by.iter().map(|name| key(name)).collect(),
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: None,
        tier: TierChoice::Coarsest,
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

fn planned(question: &Question) -> Plan {
    plan("test", question, &RollupDef::defaults(), i64::MIN).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_coarsest_tier_that_can_answer_is_taken() {
    let cases: &[(&[&str], &str, i64, &str)] = &[
        (&[], "", DAY_MS, "usage_apps"),
        (&[], "", HOUR_MS, "usage"),
        (&["nas_id"], "", MINUTE_MS, "traffic"),
        (&["nas_id"], "", HOUR_MS, "usage"),
        (&["protocol", "service_port"], "", HOUR_MS, "traffic"),
        (&["protocol", "service_port"], "nas edge", DAY_MS, "usage_apps"),
        (&["src_ip"], "", HOUR_MS, "talkers"),
        (&["dst_ip"], "dst net 10.0.0.0/8 and reseller 00000000-0000-0000-0000-000000000001", HOUR_MS, "talkers"),
        (&["src_ip"], "dst net 10.0.0.0/8", HOUR_MS, "flows"),
        (&["src_ip"], "not src net 10.0.0.0/8", HOUR_MS, "flows"),
        (&["src_ip"], "src net 10.0.0.0/8 or nas edge", HOUR_MS, "flows"),
        (&["src_ip"], "proto tcp", HOUR_MS, "flows"),
        (&["src_ip", "dst_ip"], "", HOUR_MS, "flows"),
        (&["host"], "", HOUR_MS, "talkers"),
        (&["host"], "src host 10.0.0.1", HOUR_MS, "flows"),
        (&[], "host 10.0.0.1", HOUR_MS, "talkers"),
        (&[], "src net 10.0.0.0/8", HOUR_MS, "flows"),
        (&["country"], "", HOUR_MS, "geo"),
        (&["src_country"], "", HOUR_MS, "flows"),
        (&["direction"], "direction internal_in", HOUR_MS, "usage"),
        (&["src_port"], "", HOUR_MS, "flows"),
    ];
    for (by, filter, to, tier) in cases {
        assert_eq!(planned(&question(by, filter, 0, *to)).tier.name(), *tier, "{by:?} {filter:?} {to}");
    }
}

#[test]
fn unaligned_ranges_take_a_tier_only_when_they_are_long() {
    let tier = |from, to| planned(&question(&["subscriber_id"], "", from, to)).tier.name().to_owned();
    assert_eq!(tier(1, HOUR_MS), "flows");
    assert_eq!(tier(1, 1 + 24 * HOUR_MS), "usage");
    assert_eq!(tier(1, 24 * HOUR_MS), "flows");
    assert_eq!(tier(1, 1 + 24 * DAY_MS), "usage_apps");
    let plan = planned(&question(&["subscriber_id"], "", 1, 1 + 24 * HOUR_MS));
    assert_eq!(plan.range, TimeRange { from: 0, to: 25 * HOUR_MS });
    assert_eq!(plan.basis, Basis::ProRated);
}

#[test]
fn a_rollup_that_began_within_the_range_is_taken_only_when_nothing_else_knows_more() {
    let since_ms = 10 * DAY_MS;
    let mut rollups = RollupDef::defaults();
    rollups.push(RollupDef { since_ms, ..RollupDef::usage_ports() });
    let tier = |by: &[&str], from, to, detail_from| {
        let plan = plan("test", &question(by, "", from, to), &rollups, detail_from).unwrap();
        (plan.tier.name().to_owned(), plan.held_from(detail_from))
    };
    let services: &[&str] = &["protocol", "service_port"];
    assert_eq!(tier(services, since_ms, since_ms + HOUR_MS, 0), ("usage_ports".into(), None));
    assert_eq!(tier(services, since_ms - HOUR_MS, since_ms + HOUR_MS, 0), ("traffic".into(), None));
    let ports: &[&str] = &["subscriber_id", "service_port"];
    assert_eq!(tier(ports, since_ms - HOUR_MS, since_ms + HOUR_MS, 0), ("flows".into(), None));
    // Detail of before has expired: the rollup knows as much.
    let range = (since_ms - HOUR_MS, since_ms + HOUR_MS);
    assert_eq!(tier(ports, range.0, range.1, since_ms), ("usage_ports".into(), Some(since_ms)));
    // No detail has this direction.
    rollups.retain(|def| def.since_ms == since_ms);
    let asked = question(&["service_port"], "direction internal_in", range.0, range.1);
    let plan = plan("test", &asked, &rollups, 0).unwrap();
    assert_eq!((plan.tier.name(), plan.held_from(0)), ("usage_ports", Some(since_ms)));
    assert_eq!(
        super::plan::finest(&question(services, "", range.0, range.1), &rollups).unwrap().tier.name(),
        "usage_ports"
    );
}

#[test]
fn intervals_are_multiples_of_the_bucket() {
    let tier = |interval_ms| {
        let q = Question { interval_ms: Some(interval_ms), ..question(&["direction"], "", 0, 30 * DAY_MS) };
        planned(&q).tier.name().to_owned()
    };
    assert_eq!(tier(DAY_MS), "usage_apps");
    assert_eq!(tier(6 * HOUR_MS), "usage");
    assert_eq!(tier(5 * MINUTE_MS), "traffic");
    assert_eq!(tier(1000), "flows");
}

#[test]
fn a_tier_that_cannot_answer_says_why() {
    let ask = |tier: TierChoice, by: &[&str], filter: &str| {
        let q = Question { tier, ..question(by, filter, 0, HOUR_MS) };
        plan("local", &q, &RollupDef::defaults(), i64::MIN).unwrap_err().to_string()
    };
    let rollup = |name: &str| TierChoice::Rollup(name.to_owned());
    assert!(ask(rollup("traffic"), &["src_ip"], "").contains("traffic has no src_ip"));
    assert!(ask(rollup("talkers"), &["nas_id"], "").contains("not about hosts"));
    assert!(ask(rollup("nope"), &[], "").contains("usage_apps"));
    assert!(ask(TierChoice::Detail, &[], "direction internal_in").contains("internal_in"));
    assert!(ask(TierChoice::Coarsest, &["time"], "").contains("cannot be grouped by"));
    let q = Question { tier: rollup("usage"), ..question(&[], "", 1, 2) };
    assert_eq!(planned(&q).range, TimeRange { from: 0, to: HOUR_MS });
}

/// Flows `(time, src, dst, port, bytes)`.
fn flows(rows: &[(i64, &str, &str, u16, u64)]) -> FlowBatch {
    let mut batch = FlowBatch::default();
    for (time, src, dst, port, bytes) in rows {
        batch.time.push(Some(*time));
        batch.src_ip.push(src.parse().ok());
        batch.dst_ip.push(dst.parse().ok());
        batch.dst_port.push(Some(*port));
        batch.bytes.push(Some(*bytes));
        batch.packets.push(Some(1));
        batch.direction.push(Some(Direction::Out as u8));
        batch.dst_country.push(crate::country::code(if *port == 80 { "MA" } else { "FR" }));
        batch.site.push(Some(&Text::from(if *port == 80 { "a" } else { "b" })));
    }
    batch.fill_missing();
    batch
}

fn sample() -> FlowBatch {
    flows(&[
        (0, "10.0.0.1", "192.0.2.1", 80, 100),
        (500, "10.0.0.2", "2001:db8::1", 80, 300),
        (1000, "10.0.0.1", "192.0.2.1", 443, 50),
        (1500, "2001:db8::2", "192.0.2.1", 443, 50),
        (2000, "10.0.0.9", "192.0.2.1", 443, 1_000_000),
    ])
}

fn answered(q: &Question, batches: &[FlowBatch]) -> Answer {
    let plan = planned(q);
    let mut grouper = Grouper::new("test", q, &plan, 100);
    batches.iter().for_each(|batch| grouper.add_batch(batch).unwrap());
    grouper.finish(None)
}

fn texts(answer: &Answer) -> Vec<String> {
    let row = |row: &AnswerRow| {
        let keys: Vec<_> = row.keys.iter().map(Value::to_string).collect();
        let interval = row.interval.map_or(String::new(), |ms| format!("@{ms} "));
        format!("{interval}{} {}", keys.join(","), row.measures.bytes)
    };
    answer.rows.iter().map(row).collect()
}

fn in_detail(by: &[&str], filter: &str) -> Question {
    Question { tier: TierChoice::Detail, ..question(by, filter, 0, 2000) }
}

#[test]
fn detail_is_grouped_ordered_and_limited() {
    let batches = [sample()];
    let answer = answered(&in_detail(&["src_ip"], ""), &batches);
    assert_eq!(texts(&answer), ["10.0.0.2 300", "10.0.0.1 150", "2001:db8::2 50"]);
    assert_eq!((answer.total_rows, answer.matched.bytes, answer.matched.flows), (3, 500, 4));
    let answer = answered(&Question { limit: Some(1), ..in_detail(&["src_ip"], "") }, &batches);
    assert_eq!((texts(&answer), answer.total_rows), (vec!["10.0.0.2 300".to_owned()], 3));
    let answer = answered(&in_detail(&["site", "dst_port"], "dst port 443"), &batches);
    assert_eq!(texts(&answer), ["b,443 100"]);
    let q = Question { interval_ms: Some(1000), order: OrderBy::Time, ..in_detail(&["country"], "") };
    assert_eq!(texts(&answered(&q, &batches)), ["@0 MA 400", "@1000 FR 100"]);
    assert_eq!(texts(&answered(&in_detail(&[], ""), &batches)), [" 500"]);
    assert!(answered(&in_detail(&[], "port 1"), &batches).rows.is_empty());
}

#[test]
fn by_host_a_flow_counts_for_both_sides_and_once_in_sum() {
    let answer = answered(&in_detail(&["host", "role"], "dst port 80"), &[sample()]);
    assert_eq!(texts(&answer), ["10.0.0.2,1 300", "2001:db8::1,2 300", "10.0.0.1,1 100", "192.0.2.1,2 100"]);
    assert_eq!(answer.matched.bytes, 400);
}

#[test]
fn groups_are_bounded() {
    let q = in_detail(&["src_ip"], "");
    let plan = planned(&q);
    let mut grouper = Grouper::new("test", &q, &plan, 2);
    let error = grouper.add_batch(&sample()).unwrap_err().to_string();
    assert!(error.contains("more than 2 groups"), "{error}");
}

#[test]
fn merged_groups_equal_those_of_one() {
    for by in [&["src_ip", "site"][..], &["host"], &["dst_port", "country"], &[]] {
        let q = Question { interval_ms: Some(500), ..in_detail(by, "") };
        let plan = planned(&q);
        let (mut a, mut b) = (Grouper::new("t", &q, &plan, 100), Grouper::new("t", &q, &plan, 100));
        let other = flows(&[(1, "10.0.0.3", "10.0.0.1", 80, 9), (700, "2001:db8::2", "192.0.2.1", 443, 1)]);
        a.add_batch(&sample()).unwrap();
        b.add_batch(&other).unwrap();
        a.merge(&b).unwrap();
        let (merged, whole) = (a.finish(None), answered(&q, &[sample(), other]));
        assert_eq!(merged.rows, whole.rows, "{by:?}");
        assert_eq!(merged.matched, whole.matched);
    }
}

fn talkers(rows: &[(Option<&str>, Role, u64, u64)]) -> RollupRows {
    let def = RollupDef::defaults().into_iter().find(|def| &*def.name == "talkers").unwrap();
    let mut out = RollupRows::new(&def).unwrap();
    for (host, role, bytes, cut) in rows {
        out.push_measures(0, &Measures { bytes: *bytes, flows: 1, ..Measures::default() });
        out.cut_bytes.push(*cut);
        for (_, column) in &mut out.keys {
            match column {
                KeyColumn::Ip(hosts) => hosts.push(host.and_then(|h| h.parse().ok())),
                KeyColumn::U8(roles) => roles.push(Some(*role as u8)),
                KeyColumn::Text(texts) => texts.push_nulls(1),
                KeyColumn::Uuid(uuids) => uuids.push_nulls(1),
                other => panic!("unexpected column {other:?}"),
            }
        }
    }
    out
}

fn answered_by(q: &Question, rows: &RollupRows) -> Answer {
    let plan = planned(q);
    assert_eq!(plan.tier, Tier::Rollup(rows.rollup.to_string()));
    let mut grouper = Grouper::new("test", q, &plan, 100);
    grouper.add_rollup(rows).unwrap();
    grouper.finish(None)
}

#[test]
fn cut_hosts_count_in_sum_and_in_the_error() {
    let rows = talkers(&[
        (Some("10.0.0.1"), Role::Src, 100, 0),
        (Some("10.0.0.1"), Role::Dst, 7, 0),
        (Some("192.0.2.1"), Role::Dst, 73, 0),
        (None, Role::Src, 30, 20),
        (None, Role::Dst, 50, 40),
    ]);
    let answer = answered_by(&question(&["src_ip"], "", 0, HOUR_MS), &rows);
    assert_eq!(texts(&answer), ["10.0.0.1 100"]);
    assert_eq!((answer.matched.bytes, answer.exact, answer.error_bytes_max), (130, false, 20));
    let answer = answered_by(&question(&[], "host 10.0.0.1", 0, HOUR_MS), &rows);
    assert_eq!((texts(&answer), answer.error_bytes_max), (vec![" 107".to_owned()], 60));
    let answer = answered_by(&question(&["host"], "", 0, HOUR_MS), &rows);
    assert_eq!(texts(&answer), ["10.0.0.1 107", "192.0.2.1 73"]);
    assert_eq!(answer.matched.bytes, 130);
}

#[test]
fn internal_in_shows_only_to_questions_about_subscribers() {
    let def = RollupDef::defaults().into_iter().find(|def| &*def.name == "usage").unwrap();
    let mut rows = RollupRows::new(&def).unwrap();
    let booked = [(1, Direction::Internal, 10), (2, Direction::InternalIn, 10), (2, Direction::Out, 5)];
    for (subscriber, direction, bytes) in booked {
        rows.push_measures(0, &Measures { bytes, flows: 1, ..Measures::default() });
        for (key, column) in &mut rows.keys {
            match (key, column) {
                (Key::Field(Field::SubscriberId), KeyColumn::Uuid(c)) => c.push(Some(&Uuid::from_u128(subscriber))),
                (_, KeyColumn::U8(c)) => c.push(Some(direction as u8)),
                (_, KeyColumn::Text(c)) => c.push_nulls(1),
                (_, KeyColumn::Uuid(c)) => c.push_nulls(1),
                other => panic!("unexpected column {other:?}"),
            }
        }
    }
    let bytes = |by: &[&str], filter: &str| {
        let answer = answered_by(&question(by, filter, 0, HOUR_MS), &rows);
        (answer.rows.iter().map(|row| row.measures.bytes).collect::<Vec<_>>(), answer.matched.bytes)
    };
    let two = "subscriber 00000000-0000-0000-0000-000000000002";
    assert_eq!(bytes(&["direction"], ""), (vec![10, 5], 15));
    assert_eq!(bytes(&["subscriber_id"], ""), (vec![10, 5], 15));
    assert_eq!(bytes(&["direction"], two), (vec![10, 5], 5));
    assert_eq!(bytes(&[], "direction internal_in"), (vec![10], 10));
    let q = question(&["subscriber_id", "direction"], "", 0, HOUR_MS);
    assert_eq!(planned(&q).internal_in, InternalIn::Shown);
}

#[test]
fn detail_needs_only_the_columns_of_the_question() {
    let fields = Plan::detail_fields(&question(&["country"], "dst port 80", 0, 1));
    let wanted = [
        Field::Time,
        Field::DstPort,
        Field::Bytes,
        Field::Packets,
        Field::Direction,
        Field::SrcCountry,
        Field::DstCountry,
        Field::RttMs,
    ];
    assert_eq!(fields, wanted);
    let mut batch = sample();
    batch.src_ip.clear();
    batch.next_hop.clear();
    let q = Question { filter: Filter::Any, ..in_detail(&["country"], "") };
    assert_eq!(texts(&answered(&q, &[batch])), ["MA 400", "FR 100"]);
}
