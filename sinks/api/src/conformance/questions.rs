//! Questions of every shape, and the comparison of answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::columns::{answered_from_detail, has_columns, without_latency};
use super::data::{DataSet, START_MS, WHOLE_DAYS};
use super::{Failures, Options, Report, described, records};
use crate::RollupDef;
use crate::batch::Field;
use crate::filter::Filter;
use crate::rollup::{Key, Shape};
use crate::sink::{SinkConfig, SinkContext};
use crate::store::memory::MemoryStore;
use crate::store::{Answer, FlowStore, OrderBy, Question, StoreError, Tier, TierChoice, TimeRange};
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};

/// Time that one question gets.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

/// Failures after which the rest of the questions is not asked.
const FAILURES_MAX: usize = 20;

/// Questions that are asked at once.
const ASKERS: usize = 2;

/// Groupings, by names of keys.
const GROUPINGS: &[&[&str]] = &[
    &[],
    &["src_ip"],
    &["dst_ip"],
    &["host"],
    &["host", "role"],
    &["protocol", "service_port"],
    &["protocol", "dst_port"],
    &["direction"],
    &["subscriber_id", "direction"],
    &["nas_id", "site"],
    &["reseller_id"],
    &["app"],
    &["app_category"],
    &["country"],
    &["asn", "country"],
    &["src_country", "dst_as"],
    &["exporter_ip"],
    &["dst_port", "tos"],
    &["src_ip", "dst_ip", "protocol"],
    &["src_mac"],
    &["bidirectional", "tcp_flags"],
    &["nat_src_ip", "vlan_id", "input_if"],
];

/// Filters, as text.
pub(super) const FILTERS: &[&str] = &[
    "any",
    "src net 10.0.0.0/8",
    "dst net 2001:db8::/32",
    "ipv6 and proto tcp",
    "host 10.0.0.7",
    "src host 2001:db8::5",
    "net 192.0.0.0/8 and not dst port 443",
    "proto tcp and dst port in [80 443]",
    "port 0-1023",
    "not src port 0-65535",
    "src as 64500 or dst as 4294967295",
    "country MA and not dst country FR",
    "reseller 00000000-0000-0001-0000-000000000001",
    "subscriber 00000000-0000-0007-0000-000000000001",
    "nas edge-1 and site \"say \\\"hi\\\"\"",
    "app Zürich or app \"x,y=1\" or app 'back\\\\slash' or category \"it's\"",
    "app is null and service_port is null",
    "not (app \"60%\" or app is null)",
    "flags SA and not flags R",
    "direction out or direction in",
    "direction internal_in",
    "bytes > 100k and packets < 1000",
    "bytes >= 40 and bytes <= 1000 and packets != 1",
    "exporter 198.51.100.1",
    "rtt_ms > 5000 or rtt_ms is null",
    "bidirectional and in if 3",
    "not vlan 5 and tos >= 8",
    "src_mask = 128 or src_mask = 0",
    "not any",
];

/// Which of the questions are asked: each one, or each fifth. Five has no divisor in common with the number of questions that
/// belong together, so all shapes are among them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    All,
    Some,
}

impl Asked {
    fn step(self) -> usize {
        match self {
            Asked::All => 1,
            Asked::Some => 5,
        }
    }
}

/// Asks questions of the store under test and of the reference; gives what differs.
pub(super) fn compare(
    config: &dyn SinkConfig,
    context: &SinkContext,
    reference: &MemoryStore,
    set: &DataSet,
    (options, columns, asked): (&Options, &[Field], Asked),
    report: &mut Report,
) -> Failures {
    let store = match config.store(context) {
        Ok(Some(store)) => store,
        Ok(None) => return vec!["the sink has no store".to_owned()],
        Err(error) => return vec![described("store", &error)],
    };
    let step = asked.step();
    let (asked, others): (Vec<_>, Vec<_>) = questions(set)
        .into_iter()
        .step_by(step)
        .filter(|question| options.detail || answered_by_rollup(reference, question))
        .partition(|question| answered_by_rollup(reference, question) || has_columns(question, columns));
    report.questions += asked.len();
    let mut failures = side_by_side(&asked, |question| compare_one(&*store, reference, question, columns));
    failures.extend(side_by_side(&others, |question| answered_from_detail(&*store, question)));
    failures.extend(deadline_passed(&*store, set));
    if options.detail {
        failures.extend(records::compare(&*store, reference, set, (columns, step), report));
        failures.extend(sums_equal_detail(&*store, context, set, (columns, step), report));
    }
    failures
}

/// Checks every item, a few at a time as the users of a store ask; gives what differs, in the items' order. After so many failures
/// the rest is not checked.
fn side_by_side<T: Sync>(items: &[T], check: impl Fn(&T) -> Option<String> + Sync) -> Failures {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let found = || failures.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..ASKERS {
            scope.spawn(|| {
                while found().len() < FAILURES_MAX {
                    let at = next.fetch_add(1, Relaxed);
                    let Some(item) = items.get(at) else { break };
                    if let Some(failure) = check(item) {
                        found().insert(at, failure);
                    }
                }
            });
        }
    });
    found().values().cloned().collect()
}

pub(super) fn question(by: &[&str], filter: &str, range: TimeRange) -> Question {
    Question {
        range,
        // Texts of this module; a wrong one selects nothing, and a test checks that none is.
        filter: filter.parse().unwrap_or(Filter::Or(Vec::new())),
        by: by.iter().filter_map(|name| Key::from_name(name)).collect(),
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: None,
        tier: TierChoice::Coarsest,
        deadline: Instant::now() + DEADLINE,
    }
}

pub(super) fn ranges(set: &DataSet) -> Vec<TimeRange> {
    let range = |from: i64, to: i64| TimeRange { from: START_MS + from, to: START_MS + to };
    let middle = set.days / 2 * DAY_MS;
    vec![
        range(0, set.days * DAY_MS),
        range(middle - 3 * HOUR_MS, middle + 3 * HOUR_MS),
        range(middle + 1, middle + 2 * DAY_MS - 12_345),
        range(middle + 7 * MINUTE_MS, middle + 37 * MINUTE_MS),
        range(-DAY_MS, 0),
    ]
}

/// Every shape: each grouping and each filter with some range, intervals, orders, limits and tiers.
pub(super) fn questions(set: &DataSet) -> Vec<Question> {
    let ranges = ranges(set);
    let turn = |n: usize| ranges[n % ranges.len()];
    let mut questions = Vec::new();
    for (n, by) in GROUPINGS.iter().enumerate() {
        for range in &ranges[..3] {
            questions.push(Question { limit: Some(10), ..question(by, "any", *range) });
        }
        questions.push(Question { order: OrderBy::Flows, limit: Some(3), ..question(by, "any", turn(n)) });
        let filter = FILTERS[n % FILTERS.len()];
        questions.push(Question { tier: TierChoice::Detail, ..question(by, filter, turn(n + 1)) });
        let stepped = Question { interval_ms: Some(HOUR_MS), limit: Some(500), ..question(by, "any", turn(n)) };
        questions.push(Question { order: OrderBy::Time, ..stepped });
    }
    for (n, filter) in FILTERS.iter().enumerate() {
        for by in [&[][..], &["src_ip"], &["direction"]] {
            questions.push(Question { limit: Some(20), ..question(by, filter, ranges[0]) });
            questions.push(question(by, filter, turn(n)));
        }
        questions.push(Question { tier: TierChoice::Detail, ..question(&["dst_ip"], filter, ranges[2]) });
        let daily = Question { interval_ms: Some(DAY_MS), order: OrderBy::Packets, ..question(&[], filter, ranges[0]) };
        questions.push(daily);
    }
    for interval_ms in [1000, MINUTE_MS, 5 * MINUTE_MS, 7 * MINUTE_MS, 6 * HOUR_MS] {
        let stepped = Question { interval_ms: Some(interval_ms), ..question(&["protocol"], "any", ranges[1]) };
        questions.push(Question { order: OrderBy::Time, ..stepped });
    }
    for name in ["traffic", "talkers", "usage", "usage_apps", "usage_ports", "geo", "by_exporter", "none"] {
        let tier = || TierChoice::Rollup(name.to_owned());
        for by in [&["nas_id"][..], &["reseller_id"], &["src_ip"], &["host"], &["subscriber_id", "direction"], &["tos"]]
        {
            questions.push(Question { tier: tier(), ..question(by, "any", ranges[2]) });
        }
    }
    for who in ["subscriber 00000000-0000-0007-0000-000000000001", "subscriber 00000000-0000-0063-0000-000000000001"] {
        for range in &ranges[1..3] {
            let tier = TierChoice::Rollup("usage_ports".to_owned());
            questions.push(Question { tier, ..question(&["protocol", "service_port"], who, *range) });
        }
    }
    questions.push(Question { limit: Some(0), ..question(&["src_ip"], "any", ranges[0]) });
    questions
}

fn answered_by_rollup(reference: &MemoryStore, question: &Question) -> bool {
    matches!(reference.ask(question), Ok(Answer { tier: Tier::Rollup(_), .. }))
}

fn compare_one(
    store: &dyn FlowStore,
    reference: &MemoryStore,
    question: &Question,
    columns: &[Field],
) -> Option<String> {
    let deadline = Instant::now() + DEADLINE;
    let question = &Question { deadline, ..question.clone() };
    let difference = match (store.ask(question), reference.ask(question)) {
        (Ok(got), Ok(want)) if want.tier == Tier::Detail && !columns.contains(&Field::RttMs) => {
            difference(&got, &without_latency(want))?
        }
        (Ok(got), Ok(want)) => difference(&got, &want)?,
        (Err(StoreError::Unsupported { .. }), Err(StoreError::Unsupported { .. })) => return None,
        (got, want) => {
            format!("{:?} instead of {:?}", got.map(|a| a.rows.len()), want.map(|a| a.rows.len()))
        }
    };
    Some(format!("{}: {difference}", shown(question)))
}

/// The first difference between two answers.
fn difference(got: &Answer, want: &Answer) -> Option<String> {
    let frame = |a: &Answer| {
        let range = (a.range.from, a.range.to);
        format!("{:?} {range:?} {:?} total {} matched {:?}", a.tier, a.basis, a.total_rows, a.matched)
    };
    if frame(got) != frame(want) {
        return Some(format!("{} instead of {}", frame(got), frame(want)));
    }
    if (got.exact, got.error_bytes_max) != (want.exact, want.error_bytes_max) {
        return Some(format!("error {} instead of {}", got.error_bytes_max, want.error_bytes_max));
    }
    let row = (0..got.rows.len().max(want.rows.len())).find(|row| got.rows.get(*row) != want.rows.get(*row))?;
    Some(format!("row {row}: {:?} instead of {:?}", got.rows.get(row), want.rows.get(row)))
}

pub(super) fn shown(q: &Question) -> String {
    let by: Vec<_> = q.by.iter().map(|key| key.name()).collect();
    let from = (q.range.from - START_MS, q.range.to - START_MS);
    format!(
        "by {by:?} where {} in {from:?} every {:?} ordered {:?} limit {:?} from {:?}",
        q.filter, q.interval_ms, q.order, q.limit, q.tier
    )
}

fn deadline_passed(store: &dyn FlowStore, set: &DataSet) -> Option<String> {
    let past = Question { deadline: Instant::now(), ..question(&["src_ip"], "any", ranges(set)[0]) };
    match store.ask(&past) {
        Err(StoreError::Deadline { .. }) => None,
        other => Some(format!("a deadline that has passed: {:?}", other.map(|a| a.rows.len()))),
    }
}

/// On ranges of whole flows, the rows of a rollup equal those of detail.
fn sums_equal_detail(
    store: &dyn FlowStore,
    context: &SinkContext,
    set: &DataSet,
    (columns, step): (&[Field], usize),
    report: &mut Report,
) -> Failures {
    let day = |days: i64| START_MS + days.min(set.days) * DAY_MS;
    let ranges =
        [(0, set.days), (WHOLE_DAYS, 2 * WHOLE_DAYS)].map(|(from, to)| TimeRange { from: day(from), to: day(to) });
    let mut asked = Vec::new();
    for def in context.rollups.iter() {
        for range in ranges {
            asked.extend(keys_of(def).into_iter().map(|(by, filter)| (def, range, by, filter)));
        }
    }
    let of = |(_, range, by, filter): &(&RollupDef, TimeRange, Vec<Key>, &str), tier| Question {
        by: by.clone(),
        tier,
        ..question(&[], filter, *range)
    };
    // Their sums of latency differ where flows have none.
    asked.retain(|what| has_columns(&of(what, TierChoice::Detail), columns) && columns.contains(&Field::RttMs));
    let asked: Vec<_> = asked.into_iter().step_by(step).collect();
    report.questions += asked.len();
    side_by_side(&asked, |what| {
        let (def, _, by, filter) = what;
        let ask = |tier| {
            let q = of(what, tier);
            store.ask(&q).map(|a| (a.rows, a.matched)).map_err(|e| e.to_string())
        };
        let (rollup, detail) = (ask(TierChoice::Rollup(def.name.to_string())), ask(TierChoice::Detail));
        (rollup != detail || rollup.is_err()).then(|| {
            let (rollup, detail) = (rollup.map(|r| r.1), detail.map(|d| d.1));
            format!("{} by {by:?} where {filter}: {rollup:?}, detail: {detail:?}", def.name)
        })
    })
}

/// Groupings and filters under which a rollup's rows equal detail's: customer hosts only where others are cut.
fn keys_of(def: &RollupDef) -> Vec<(Vec<Key>, &'static str)> {
    const CUSTOMERS: [(&str, Field); 2] =
        [("src net 10.0.0.0/8", Field::SrcIp), ("dst net 2001:db8::/32", Field::DstIp)];
    match def.shape {
        Shape::Talkers { .. } => {
            let plain: Vec<Key> = def.by.iter().copied().filter(|key| matches!(key, Key::Field(_))).collect();
            let by = |field| plain.iter().copied().chain([Key::Field(field)]).collect();
            CUSTOMERS.map(|(filter, field)| (by(field), filter)).into()
        }
        // By subscriber and direction the destination's side of internal flows shows too, which detail does not have.
        Shape::PerSubscriber => {
            let sides = def.by.iter().copied().filter(|key| *key != Key::Field(Field::Direction)).collect();
            vec![(sides, "any"), (def.by.clone(), "direction out")]
        }
        Shape::Plain => vec![(def.by.clone(), "any"), (Vec::new(), "any")],
    }
}
