//! Questions as SQL.
//!
//! Numbers, addresses and UUIDs are written into the statement (they print as nothing but themselves); texts are parameters.

use sink_api::filter::{Compare, Filter, Side, Test};
use sink_api::rollup::{Key, Role};
use sink_api::store::plan::{InternalIn, Plan};
use sink_api::store::{OrderBy, Question, TimeRange};
use sink_api::{Direction, Field, RollupDef, country};

use crate::columns::{self, BUCKET, role_name};
use crate::config::{literal, quote};

/// A statement and its texts.
#[derive(Debug, Default)]
pub struct Statement {
    pub text: String,
    pub params: Vec<String>,
    /// Whether it names one subscriber and reads flows: the index finds them. The planner, which does not know how rows are
    /// written and has no statistics of a new partition, would read everything.
    pub by_subscriber: bool,
}

/// Whether all that passes is one subscriber's.
fn names_subscriber(filter: &Filter) -> bool {
    let names = |filter: &&Filter| matches!(filter, Filter::Test(Test::Uuid { field: Field::SubscriberId, .. }));
    filter.conjuncts().iter().any(names)
}

/// Where the columns of a filter stand.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The table of flows, with these columns.
    Flows(&'a [Field]),
    /// A rollup's table.
    Rollup(&'a RollupDef),
}

impl Source<'_> {
    fn column(self, field: Field) -> String {
        match self {
            Source::Flows(_) => quote(field.name()),
            Source::Rollup(def) => {
                let host = matches!(field, Field::SrcIp | Field::DstIp)
                    && def.by.contains(&Key::Host)
                    && !def.by.contains(&Key::Field(field));
                quote(columns::key_column(if host { Key::Host } else { Key::Field(field) }))
            }
        }
    }

    fn time(self) -> &'static str {
        match self {
            Source::Flows(_) => "time",
            Source::Rollup(_) => BUCKET,
        }
    }
}

/// Turns filters into conditions, collecting texts.
struct Conditions<'a> {
    source: Source<'a>,
    params: &'a mut Vec<String>,
}

impl Conditions<'_> {
    /// The condition of a filter. A test on null is null in SQL, which selects nothing but is still null when negated:
    /// under a negation every test is made two-valued.
    fn of(&mut self, filter: &Filter, negated: bool) -> String {
        let mut join = |filters: &[Filter], word: &str, none: &str| {
            let all: Vec<_> = filters.iter().map(|filter| self.of(filter, negated)).collect();
            if all.is_empty() { none.to_owned() } else { format!("({})", all.join(word)) }
        };
        match filter {
            Filter::Any => "true".to_owned(),
            Filter::And(filters) => join(filters, " AND ", "true"),
            Filter::Or(filters) => join(filters, " OR ", "false"),
            Filter::Not(inner) => format!("NOT {}", self.of(inner, true)),
            Filter::Test(test @ Test::IsNull(_)) => self.test(test),
            Filter::Test(test) if negated => format!("coalesce({}, false)", self.test(test)),
            Filter::Test(test) => self.test(test),
        }
    }

    fn test(&mut self, test: &Test) -> String {
        use Field::{DstAs, DstCountry, DstIp, DstMac, DstPort, SrcAs, SrcCountry, SrcIp, SrcMac, SrcPort};
        match test {
            Test::Net { side, network, length } => {
                let host = *length == if network.is_v4() { 32 } else { 128 };
                let condition =
                    if host { format!("= inet '{network}'") } else { format!("<<= inet '{network}/{length}'") };
                self.sided(*side, (SrcIp, DstIp), &condition)
            }
            Test::Port { side, first, last } => {
                self.sided(*side, (SrcPort, DstPort), &format!("BETWEEN {first} AND {last}"))
            }
            Test::As { side, asn } => self.sided(*side, (SrcAs, DstAs), &format!("= {asn}")),
            Test::Country { side, country } => {
                let code = literal(country::text(*country).as_str());
                self.sided(*side, (SrcCountry, DstCountry), &format!("= {code}"))
            }
            Test::Mac { side, mac } => {
                let mac = sink_api::Value::Mac(*mac);
                self.sided(*side, (SrcMac, DstMac), &format!("= macaddr '{mac}'"))
            }
            Test::Number { field, compare, value } => {
                let cast = if *field == Field::Bidirectional { "::int" } else { "" };
                format!("{}{cast} {} {value}", self.source.column(*field), operator(*compare))
            }
            Test::TcpFlags { mask } => format!("({} & {mask}) = {mask}", self.source.column(Field::TcpFlags)),
            Test::Direction(direction) => {
                format!("{} = {}", self.source.column(Field::Direction), literal(direction.name()))
            }
            Test::Ip { field, addr } => format!("{} = inet '{addr}'", self.source.column(*field)),
            Test::Text { field, value } => {
                self.params.push(value.replace('\0', ""));
                format!("{} = ${}", self.source.column(*field), self.params.len())
            }
            Test::Uuid { field, value } => format!("{} = uuid '{value}'", self.source.column(*field)),
            Test::IsNull(field) => format!("({} IS NULL)", self.source.column(*field)),
        }
    }

    /// A condition on one side, or on either: then each on its own, so that a null on one side does not hide the other.
    fn sided(&self, side: Side, (src, dst): (Field, Field), condition: &str) -> String {
        let on = |field| format!("{} {condition}", self.source.column(field));
        match side {
            Side::Src => on(src),
            Side::Dst => on(dst),
            Side::Either => format!("(coalesce({}, false) OR coalesce({}, false))", on(src), on(dst)),
        }
    }
}

fn operator(compare: Compare) -> &'static str {
    match compare {
        Compare::Eq => "=",
        Compare::Ne => "<>",
        Compare::Lt => "<",
        Compare::Le => "<=",
        Compare::Gt => ">",
        Compare::Ge => ">=",
    }
}

fn in_range(source: Source<'_>, range: TimeRange) -> String {
    let time = source.time();
    let bound = |ms| format!("timestamptz {}", literal(&timestamp(ms)));
    format!("\"{time}\" >= {} AND \"{time}\" < {}", bound(range.from), bound(range.to))
}

/// A time as PostgreSQL reads it. What is outside its range is as good as infinite.
fn timestamp(ms: i64) -> String {
    const YEAR_1: i64 = -62_135_596_800_000;
    const YEAR_9999: i64 = 253_370_764_800_000;
    match ms {
        ms if ms < YEAR_1 => "-infinity".to_owned(),
        ms if ms > YEAR_9999 => "infinity".to_owned(),
        ms => sink_api::time::rfc3339(ms),
    }
}

/// The rows of `flows` in a range that pass a filter: every field of the record, null where the table does not have it.
pub fn flows(table: &str, stored: &[Field], filter: &Filter, range: TimeRange) -> Statement {
    let mut params = Vec::new();
    let source = Source::Flows(stored);
    let condition = Conditions { source, params: &mut params }.of(filter, false);
    let column = |field: &Field| match stored.contains(field) {
        true => quote(field.name()),
        false => format!("NULL::{}", columns::field_sql(*field).type_name()),
    };
    let names: Vec<_> = Field::ALL.iter().map(column).collect();
    let range = in_range(source, range);
    let text = format!("SELECT {} FROM {table} WHERE {range} AND {condition}", names.join(", "));
    Statement { text, params, by_subscriber: names_subscriber(filter) }
}

/// Number of leading columns of [`sums`] before interval, keys and sums: rows before the limit, five sums of what
/// matched, bytes that may be missing.
pub const FRAME_COLUMNS: usize = 7;

/// The statement that answers a question by its plan; `stored` are the columns of the table of flows. Each row is the frame
/// ([`FRAME_COLUMNS`]), a mark (null when there are no groups), the interval's start when there are intervals, the keys, five
/// sums. Rows that tie with the last one within the limit are given too: the caller orders and cuts as all stores do.
pub fn sums(table: &str, stored: &[Field], question: &Question, plan: &Plan, groups_max: usize) -> Statement {
    let source = plan.rollup.as_ref().map_or(Source::Flows(stored), Source::Rollup);
    let mut params = Vec::new();
    let mut conditions = Conditions { source, params: &mut params };
    let mut wheres = vec![in_range(source, plan.range), conditions.of(&question.filter, false)];
    let role = plan.role.map(|role| format!("role = {}", literal(role_name(role))));
    wheres.extend(role.clone());
    if let (Source::Rollup(def), InternalIn::Hidden) = (source, plan.internal_in) {
        wheres.extend(not_internal_in(def));
    }
    let groups = groups(question, plan, source);
    let missing = match &plan.rollup {
        Some(def) if def.has_cut_bytes() => {
            let rest = conditions.of(&plan.rest_filter, false);
            let role = role.map_or(String::new(), |role| format!(" AND {role}"));
            let range = in_range(source, plan.range);
            format!("(SELECT {} FROM {table} WHERE {range} AND {rest}{role})", bigint("sum(cut_bytes)"))
        }
        _ => "0::bigint".to_owned(),
    };
    let sides = both_sides(plan, source);
    let is_row = is_row(plan);
    let text = format!(
        "WITH g AS (SELECT {select} FROM {table} {sides} WHERE {wheres} {group_by}), \
         t AS (SELECT count(*) FILTER (WHERE {is_row}) AS n, {matched}, {missing} AS missing FROM g), \
         l AS (SELECT true AS mark, {names} FROM g WHERE {is_row} {order}) \
         SELECT t.*, l.* FROM t LEFT JOIN l ON true",
        select = groups.select.join(", "),
        wheres = wheres.join(" AND "),
        group_by = groups.group_by,
        matched = matched_sums(),
        names = groups.names.join(", "),
        order = order(question, groups_max),
    );
    Statement { text, params, by_subscriber: plan.rollup.is_none() && names_subscriber(&question.filter) }
}

struct Groups {
    select: Vec<String>,
    names: Vec<String>,
    group_by: String,
}

/// Names of the measures in the common table `g`.
const MEASURES: [&str; 5] = ["m_bytes", "m_packets", "m_flows", "m_rtt_ms_sum", "m_rtt_count"];

fn groups(question: &Question, plan: &Plan, source: Source<'_>) -> Groups {
    let (mut select, mut names) = (Vec::new(), Vec::new());
    if let Some(ms) = question.interval_ms {
        let step = format!(
            "date_bin(interval '{ms} milliseconds', \"{}\", timestamptz '1970-01-01 00:00:00+00')",
            source.time()
        );
        select.push(format!("{step} AS k_interval"));
        names.push("k_interval".to_owned());
    }
    for (index, key) in plan.columns.iter().enumerate() {
        select.push(format!("{} AS k{index}", key_expression(*key, source)));
        names.push(format!("k{index}"));
    }
    let ordinals: Vec<_> = (1..=select.len()).map(|n| n.to_string()).collect();
    let counted = counted(plan, source);
    for (name, sum) in MEASURES.iter().zip(measures(source)) {
        select.push(format!("{} AS {name}", bigint(&sum)));
        names.push((*name).to_owned());
        match &counted {
            Some(condition) => {
                select.push(format!("{} AS c{name}", bigint(&format!("{sum} FILTER (WHERE {condition})"))))
            }
            None => select.push(format!("{} AS c{name}", bigint(&sum))),
        }
    }
    let group_by = if ordinals.is_empty() {
        "HAVING count(*) > 0".to_owned()
    } else {
        format!("GROUP BY {}", ordinals.join(", "))
    };
    Groups { select, names, group_by }
}

fn measures(source: Source<'_>) -> [String; 5] {
    match source {
        Source::Flows(fields) => {
            let rtt_ms = if fields.contains(&Field::RttMs) { "rtt_ms" } else { "NULL::bigint" };
            let (sum, count) = (format!("sum({rtt_ms})"), format!("count({rtt_ms})"));
            ["sum(bytes)".to_owned(), "sum(packets)".to_owned(), "count(*)".to_owned(), sum, count]
        }
        Source::Rollup(_) => columns::SUMS.map(|name| format!("sum({name})")),
    }
}

fn matched_sums() -> String {
    let sums = MEASURES.iter().map(|name| format!("{} AS t{name}", bigint(&format!("sum(c{name})"))));
    sums.collect::<Vec<_>>().join(", ")
}

/// A sum as BIGINT: 0 of nothing, and at the most BIGINT's largest value, as sums saturate everywhere.
fn bigint(sum: &str) -> String {
    format!("least(coalesce({sum}, 0), 9223372036854775807)::bigint")
}

fn key_expression(key: Key, source: Source<'_>) -> String {
    let outer = |src: Field, dst: Field| {
        let (out, internal) = (literal(Direction::Out.name()), literal(Direction::Internal.name()));
        format!("CASE WHEN direction IN ({out}, {internal}) THEN {} ELSE {} END", dst.name(), src.name())
    };
    match (source, key) {
        (Source::Flows(_), Key::Country) => outer(Field::SrcCountry, Field::DstCountry),
        (Source::Flows(_), Key::Asn) => outer(Field::SrcAs, Field::DstAs),
        (Source::Flows(_), Key::Field(field)) => quote(field.name()),
        (Source::Flows(_), Key::Host) => "s.host".to_owned(),
        (Source::Flows(_), Key::Role) => "s.role".to_owned(),
        (Source::Rollup(_), key) => quote(columns::key_column(key)),
    }
}

/// Detail by host has each flow twice.
fn both_sides(plan: &Plan, source: Source<'_>) -> String {
    let asks = plan.columns.iter().any(|key| matches!(key, Key::Host | Key::Role));
    if matches!(source, Source::Flows(_)) && asks {
        let role = |role| literal(role_name(role));
        let (src, dst) = (role(Role::Src), role(Role::Dst));
        return format!("CROSS JOIN LATERAL (VALUES (src_ip, {src}), (dst_ip, {dst})) AS s(host, role)");
    }
    String::new()
}

/// Which rows count in what matched; `None` for all.
fn counted(plan: &Plan, source: Source<'_>) -> Option<String> {
    let src = literal(role_name(Role::Src));
    match source {
        Source::Flows(_) => (!both_sides(plan, source).is_empty()).then(|| format!("s.role = {src}")),
        Source::Rollup(_) if plan.matched_role.is_some() => Some(format!("role = {src}")),
        Source::Rollup(def) if plan.internal_in == InternalIn::Shown => not_internal_in(def),
        Source::Rollup(_) => None,
    }
}

fn not_internal_in(def: &RollupDef) -> Option<String> {
    let direction = Key::Field(Field::Direction);
    let name = literal(Direction::InternalIn.name());
    def.by.contains(&direction).then(|| format!("direction IS DISTINCT FROM {name}"))
}

/// Which groups are rows of the answer: by host, the sum of cut hosts is none.
fn is_row(plan: &Plan) -> String {
    let host = plan.columns.iter().position(|key| *key == Key::Host).filter(|_| plan.by_host);
    host.map_or("true".to_owned(), |index| format!("k{index} IS NOT NULL"))
}

fn order(question: &Question, groups_max: usize) -> String {
    let by = match question.order {
        OrderBy::Bytes => "m_bytes DESC",
        OrderBy::Packets => "m_packets DESC",
        OrderBy::Flows => "m_flows DESC",
        OrderBy::Time if question.interval_ms.is_some() => "k_interval",
        // Without intervals time says nothing: the caller orders all by their keys.
        OrderBy::Time => return format!("LIMIT {}", groups_max + 1),
    };
    match question.limit {
        Some(limit) if limit <= groups_max => format!("ORDER BY {by} FETCH FIRST {limit} ROWS WITH TIES"),
        _ => format!("LIMIT {}", groups_max + 1),
    }
}
