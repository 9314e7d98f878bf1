//! Which data answer a question.
//!
//! The coarsest tier that can answer is taken: every key and every column that the filter looks at must be among the
//! rollup's keys, the interval must be a multiple of its bucket, and the range must be made of whole buckets or be at least
//! [`BUCKETS_MIN`] of them long. A rollup that began within the range is passed over while anything else knows more of it.
//! A rollup by host stands for questions about source or destination addresses, or about one host on either side. Detail
//! answers the rest.

use super::{Basis, Question, StoreError, Tier, TierChoice, TimeRange};
use crate::batch::Field;
use crate::filter::{Filter, Side, Test};
use crate::rollup::{Key, KeyColumn, Role, RollupDef, Shape};
use crate::{Addr, Direction};

/// Buckets that a range must span so that a rollup may answer although the range is not aligned to its bucket: alignment
/// then widens it by less than a twelfth.
pub const BUCKETS_MIN: i64 = 24;

/// What happens to rows of direction `internal_in`, the destination's side of internal flows in rollups per subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InternalIn {
    /// They are left out.
    Hidden,
    /// They are rows of their own in an answer by subscriber and direction, and left out of what matched in sum.
    Shown,
    /// The filter asks for them by name: they are rows like all others.
    Counted,
}

/// How a question is answered.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which data.
    pub tier: Tier,
    /// The rollup's definition, `None` for detail.
    pub rollup: Option<RollupDef>,
    /// The range used: the question's own for detail, whole buckets for a rollup.
    pub range: TimeRange,
    /// How flows are assigned to time.
    pub basis: Basis,
    /// The column of each of the question's keys; `src_ip` and `dst_ip` become `host` where a rollup by host answers.
    pub columns: Vec<Key>,
    /// Rows of a rollup by host: of this role only.
    pub role: Option<Role>,
    /// What matched in sum counts rows of this role only: an answer by host has each flow twice.
    pub matched_role: Option<Role>,
    /// Whether the answer is by host, so that rows of cut hosts are no groups and only count in what matched.
    pub by_host: bool,
    /// What a row of cut hosts must pass to count in `error_bytes_max`: the filter without its tests of addresses.
    pub rest_filter: Filter,
    /// Rows of direction `internal_in`.
    pub internal_in: InternalIn,
}

impl Plan {
    /// When the range begins before what the tier holds: the first time that it holds. `kept_from` is that of its retention.
    pub fn held_from(&self, kept_from: i64) -> Option<i64> {
        let held_from = self.rollup.as_ref().map_or(kept_from, |def| def.since_ms.max(kept_from));
        (self.range.from < held_from).then_some(held_from)
    }

    /// Columns of the flow record that detail must read.
    pub fn detail_fields(question: &Question) -> Vec<Field> {
        let mut fields = Self::needed_fields(question);
        fields.push(Field::RttMs);
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// Columns without which detail cannot answer. Without `rtt_ms` it can, unless it is asked for by name: there is no
    /// latency then.
    pub fn needed_fields(question: &Question) -> Vec<Field> {
        let mut fields = vec![Field::Time, Field::Bytes, Field::Packets];
        fields.extend(question.filter.fields());
        for key in &question.by {
            match key {
                Key::Field(field) => fields.push(*field),
                Key::Host => fields.extend([Field::SrcIp, Field::DstIp]),
                Key::Role => {}
                Key::Country => fields.extend([Field::Direction, Field::SrcCountry, Field::DstCountry]),
                Key::Asn => fields.extend([Field::Direction, Field::SrcAs, Field::DstAs]),
            }
        }
        fields.sort_unstable();
        fields.dedup();
        fields
    }
}

/// Decides how a store that holds these rollups and detail from `detail_from` on (ms since the Unix epoch) answers.
///
/// # Errors
/// [`StoreError::Unsupported`] with the reason when the tier asked for cannot answer, or a key cannot be a key.
pub fn plan(store: &str, question: &Question, rollups: &[RollupDef], detail_from: i64) -> Result<Plan, StoreError> {
    let unsupported = |reason: String, remedy: &str| StoreError::Unsupported {
        store: store.to_owned(),
        reason,
        remedy: remedy.to_owned(),
    };
    if let Some(key) = question.by.iter().find(|key| KeyColumn::for_key(**key).is_none()) {
        return Err(unsupported(format!("{} cannot be grouped by", key.name()), "use an interval for time"));
    }
    if question.interval_ms.is_some_and(|ms| ms <= 0) {
        return Err(unsupported("the interval is not positive".to_owned(), "give at least 1 ms"));
    }
    match &question.tier {
        TierChoice::Detail => detail(question).map_err(|reason| unsupported(reason, "ask for a rollup per subscriber")),
        TierChoice::Rollup(name) => {
            let def = rollups.iter().find(|def| *def.name == **name);
            let known = || rollups.iter().map(|def| &*def.name).collect::<Vec<_>>().join(", ");
            let def = def.ok_or_else(|| unsupported(format!("no rollup {name:?}"), &format!("it has {}", known())))?;
            fit(question, def).map_err(|reason| unsupported(reason, "ask another tier, or leave the choice open"))
        }
        TierChoice::Coarsest => coarsest(question, rollups, detail_from)
            .map_err(|reason| unsupported(reason, "add a rollup per subscriber with these keys")),
    }
}

/// The finest rollup that can answer, for a store whose detail cannot: it answers whole buckets, whatever the range. One that
/// began within the range comes last.
pub fn finest(question: &Question, rollups: &[RollupDef]) -> Option<Plan> {
    let mut defs: Vec<&RollupDef> = rollups.iter().collect();
    defs.sort_by_key(|def| (def.since_ms.max(question.range.from), def.bucket_ms, def.by.len()));
    defs.into_iter().find_map(|def| fit(question, def).ok())
}

fn coarsest(question: &Question, rollups: &[RollupDef], detail_from: i64) -> Result<Plan, String> {
    let mut defs: Vec<_> = rollups.iter().collect();
    defs.sort_by_key(|def| (-def.bucket_ms, def.by.len()));
    let fitting = defs.iter().filter_map(|def| Some((*def, fit(question, def).ok()?)));
    // What detail does not know either is no reason to go through it.
    let is_whole = |(def, plan): &(&RollupDef, Plan)| def.since_ms <= plan.range.from.max(detail_from);
    let (mut whole, _): (Vec<_>, Vec<_>) = fitting.partition(is_whole);
    let eligible = whole.iter().position(|(def, _)| eligible(question.range, def.bucket_ms));
    match (eligible, detail(question)) {
        (Some(index), _) => Ok(whole.swap_remove(index).1),
        (None, Ok(plan)) => Ok(plan),
        (None, Err(reason)) => finest(question, rollups).ok_or(reason),
    }
}

fn eligible(range: TimeRange, bucket_ms: i64) -> bool {
    range.aligned(bucket_ms) == range || range.to.saturating_sub(range.from) >= bucket_ms.saturating_mul(BUCKETS_MIN)
}

fn detail(question: &Question) -> Result<Plan, String> {
    if mentions_internal_in(&question.filter) {
        return Err("detail has no direction internal_in".to_owned());
    }
    Ok(Plan {
        tier: Tier::Detail,
        rollup: None,
        range: question.range,
        basis: Basis::FlowEnd,
        columns: question.by.clone(),
        role: None,
        matched_role: None,
        by_host: false,
        rest_filter: Filter::Any,
        internal_in: InternalIn::Hidden,
    })
}

/// The plan by which a rollup answers, or why it cannot.
fn fit(question: &Question, def: &RollupDef) -> Result<Plan, String> {
    let missing = |name: &str| format!("rollup {} has no {name}", def.name);
    if question.interval_ms.is_some_and(|ms| ms % def.bucket_ms != 0) {
        return Err(format!("the interval is not a multiple of the {} ms of rollup {}", def.bucket_ms, def.name));
    }
    let hosts = if def.by.contains(&Key::Host) { Some(hosts(question, def)?) } else { None };
    let stands = |field: Field| {
        let as_host = hosts.is_some() && matches!(field, Field::SrcIp | Field::DstIp);
        if as_host { Key::Host } else { Key::Field(field) }
    };
    let column = |key: &Key| match key {
        Key::Field(field) if !def.by.contains(key) => stands(*field),
        key => *key,
    };
    let columns: Vec<Key> = question.by.iter().map(column).collect();
    let looked_at = question.filter.fields().into_iter().map(|field| column(&Key::Field(field)));
    if let Some(key) = columns.iter().copied().chain(looked_at).find(|key| !def.by.contains(key)) {
        return Err(missing(key.name()));
    }
    let per_subscriber = def.shape == Shape::PerSubscriber;
    if mentions_internal_in(&question.filter) && !per_subscriber {
        return Err(format!("rollup {} has no direction internal_in", def.name));
    }
    let hosts = hosts.unwrap_or_default();
    Ok(Plan {
        tier: Tier::Rollup(def.name.to_string()),
        range: question.range.aligned(def.bucket_ms),
        basis: Basis::ProRated,
        by_host: columns.contains(&Key::Host),
        columns,
        role: hosts.role,
        matched_role: hosts.matched_role,
        rest_filter: rest_filter(&question.filter),
        internal_in: internal_in(question),
        rollup: Some(def.clone()),
    })
}

#[derive(Default)]
struct Hosts {
    role: Option<Role>,
    matched_role: Option<Role>,
}

/// How a rollup by host answers: one role for questions about one side, both for questions about one host.
fn hosts(question: &Question, def: &RollupDef) -> Result<Hosts, String> {
    let cannot = |why: &str| Err(format!("rollup {} cannot answer {why}", def.name));
    let asks = |key: Key| question.by.contains(&key);
    let (src, dst) = (asks(Key::Field(Field::SrcIp)), asks(Key::Field(Field::DstIp)));
    let tests: Vec<&Filter> = question.filter.conjuncts().into_iter().filter(|f| tests_address(f)).collect();
    if asks(Key::Host) || asks(Key::Role) {
        let plain = tests.is_empty() && !src && !dst;
        let hosts = Hosts { role: None, matched_role: Some(Role::Src) };
        return if plain { Ok(hosts) } else { cannot("questions by host and by address") };
    }
    let side = match (src, dst) {
        (true, true) => return cannot("questions about pairs of addresses"),
        (true, false) => Side::Src,
        (false, true) => Side::Dst,
        (false, false) => return one_host(&tests).map_or_else(|| cannot("questions that are not about hosts"), Ok),
    };
    if !tests.iter().all(|filter| tests_only_address(filter, side)) {
        return cannot("this combination of addresses");
    }
    Ok(Hosts { role: Some(role_of(side)), matched_role: None })
}

/// The only test of an address, when it names a single host: what cut hosts can hide from the sum is then bounded.
fn one_host(tests: &[&Filter]) -> Option<Hosts> {
    let [Filter::Test(Test::Net { side, network, length })] = tests else { return None };
    let host_length = if network.is_v4() { 32 } else { 128 };
    let role = (*side != Side::Either).then(|| role_of(*side));
    (*length == host_length && *network != Addr(0)).then_some(Hosts { role, matched_role: None })
}

fn role_of(side: Side) -> Role {
    if side == Side::Dst { Role::Dst } else { Role::Src }
}

fn tests_address(filter: &Filter) -> bool {
    filter.fields().iter().any(|field| matches!(field, Field::SrcIp | Field::DstIp))
}

/// Whether a filter is made of tests of that side's address alone, none of them negated.
fn tests_only_address(filter: &Filter, side: Side) -> bool {
    match filter {
        Filter::Any | Filter::Not(_) => false,
        Filter::And(filters) | Filter::Or(filters) => filters.iter().all(|f| tests_only_address(f, side)),
        Filter::Test(test) => matches!(test, Test::Net { side: of, .. } if *of == side),
    }
}

fn rest_filter(filter: &Filter) -> Filter {
    let others: Vec<Filter> = filter.conjuncts().into_iter().filter(|f| !tests_address(f)).cloned().collect();
    others.into_iter().fold(Filter::Any, Filter::and)
}

fn mentions_internal_in(filter: &Filter) -> bool {
    let mut found = false;
    filter.visit(&mut |test| found |= matches!(test, Test::Direction(Direction::InternalIn)));
    found
}

fn internal_in(question: &Question) -> InternalIn {
    let subscriber = question.by.contains(&Key::Field(Field::SubscriberId))
        || question.filter.fields().contains(&Field::SubscriberId);
    if mentions_internal_in(&question.filter) {
        InternalIn::Counted
    } else if subscriber && question.by.contains(&Key::Field(Field::Direction)) {
        InternalIn::Shown
    } else {
        InternalIn::Hidden
    }
}
