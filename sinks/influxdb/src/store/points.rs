//! Sums of points that are read piece by piece.

use sink_api::rollup::{Keep, Key, KeyColumn, RollupDef, RollupRows};
use sink_api::store::group::{GROUPS_MAX, Grouper};
use sink_api::store::plan::{InternalIn, Plan};
use sink_api::store::{Answer, Question, StoreError, TimeRange};
use sink_api::{Field, FlowBatch};

use super::columns::{Reader, key_column};
use super::conditions::{Source, necessary, not_internal_in};
use super::{InfluxStore, in_range};
use crate::read::{Cell, Series};
use crate::schema::{self, FLOWS, FLOWS_BUCKET_MS, OTHER, OTHER_FIELD};

/// Sums of a rollup's points, in the order in which they are read.
const SUMS: [&str; 6] = ["bytes", "packets", "flows", "rtt_ms_sum", "rtt_count", "cut_bytes"];

impl InfluxStore {
    /// Answers by reading points.
    pub(super) fn counted(&self, question: &Question, plan: &Plan) -> Result<Answer, StoreError> {
        let mut grouper = Grouper::new(&self.name, question, plan, GROUPS_MAX);
        let keep = plan.rollup.as_ref().map_or(Keep::Detail, |def| def.keep);
        match &plan.rollup {
            Some(def) => {
                let resellers = self.of_resellers(question, plan, def)?;
                self.add_rollup(question, plan, def, resellers.as_deref(), &mut grouper)?;
            }
            None => self.add_flows(question, plan, &mut grouper)?,
        }
        Ok(grouper.finish(plan.held_from(self.kept_from(keep))))
    }

    /// Adds the points of a rollup that match, `also` under a further condition.
    pub(super) fn add_rollup(
        &self,
        question: &Question,
        plan: &Plan,
        def: &RollupDef,
        also: Option<&str>,
        grouper: &mut Grouper<'_>,
    ) -> Result<(), StoreError> {
        let source = Source::Rollup(def);
        let mut conditions = vec![in_range(plan.range)];
        conditions.extend(also.map(str::to_owned));
        let by_direction = def.by.contains(&Key::Field(Field::Direction));
        if plan.internal_in == InternalIn::Hidden && by_direction {
            conditions.push(not_internal_in());
        }
        conditions.extend(plan.role.map(|role| format!("\"{}\" = {}", Key::Role.name(), role as u8)));
        // Rows of cut hosts have no host, but what they hide counts: read apart where the condition leaves them out.
        let rest = necessary(&plan.rest_filter, source);
        let whole = necessary(&question.filter, source);
        let mut queries = vec![whole.clone()];
        if def.has_cut_bytes() && whole != rest {
            let cut = "\"cut_bytes\" > 0".to_owned();
            queries.push(Some(rest.map_or_else(|| cut.clone(), |rest| format!("{rest} AND {cut}"))));
        }
        for condition in queries {
            let mut all = conditions.clone();
            all.extend(condition);
            let mut points = Points::new(question, plan, def);
            let statement = points.statement(def, &all.join(" AND "));
            self.run(def.keep, &statement, question.deadline, &mut |series| {
                points.fill(series, def);
                grouper.add_rollup(&points.rows)?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn add_flows(&self, question: &Question, plan: &Plan, grouper: &mut Grouper<'_>) -> Result<(), StoreError> {
        let fields = Plan::detail_fields(question);
        let mut flows = Flows::new(&fields);
        let condition = necessary(&question.filter, Source::Flows);
        let statement = flows.statement(plan.range, condition.as_deref());
        self.run(Keep::Detail, &statement, question.deadline, &mut |series| {
            flows.fill(series);
            grouper.add_batch(&flows.batch)?;
            Ok(true)
        })
    }
}

/// Points of a rollup as rows.
struct Points {
    rows: RollupRows,
    readers: Vec<Reader>,
    /// Whether subscribers without a tag stand in a field after the keys.
    other: bool,
}

impl Points {
    /// Rows with the keys that the question looks at.
    fn new(question: &Question, plan: &Plan, def: &RollupDef) -> Self {
        let mut wanted = plan.columns.clone();
        let fields = question.filter.fields();
        wanted.extend(fields.into_iter().map(Key::Field));
        wanted.extend([Key::Field(Field::Direction), Key::Host, Key::Role]);
        let hosts = wanted.iter().any(|key| matches!(key, Key::Field(Field::SrcIp | Field::DstIp)));
        let wanted = |key: Key| wanted.contains(&key) || hosts && key == Key::Host;
        let keys = def.by.iter().filter(|key| wanted(**key));
        let keys: Vec<_> = keys.filter_map(|key| Some((*key, KeyColumn::for_key(*key)?))).collect();
        let readers = keys.iter().map(|(key, _)| Reader::new(key.kind(), schema::is_tag(&def.name, *key))).collect();
        let asks_subscriber = keys.iter().any(|(key, _)| *key == Key::Field(Field::SubscriberId));
        let other = schema::has_subscriber_tag(def) && asks_subscriber;
        let rows = RollupRows::with_keys(def.name.clone(), def.bucket_ms, keys);
        Self { rows, readers, other }
    }

    fn statement(&self, def: &RollupDef, condition: &str) -> String {
        let mut columns: Vec<String> = SUMS.iter().map(|name| format!("\"{name}\"::field")).collect();
        for (key, _) in &self.rows.keys {
            let place = if schema::is_tag(&def.name, *key) { "tag" } else { "field" };
            columns.push(format!("\"{}\"::{place}", schema::key_name(*key)));
        }
        if self.other {
            columns.push(format!("\"{OTHER_FIELD}\"::field"));
        }
        let from = crate::place::name(&def.name);
        format!("SELECT {} FROM {from} WHERE {condition}", columns.join(", "))
    }

    /// Replaces the rows by those of a piece of the answer.
    fn fill(&mut self, series: &Series<'_>, def: &RollupDef) {
        let rows = &mut self.rows;
        for sums in [&mut rows.bytes, &mut rows.packets, &mut rows.flows, &mut rows.rtt_ms_sum, &mut rows.rtt_count] {
            sums.clear();
        }
        rows.cut_bytes.clear();
        rows.bucket.clear();
        for ((key, column), reader) in rows.keys.iter_mut().zip(&mut self.readers) {
            reader.clear();
            if let Some(empty) = KeyColumn::for_key(*key) {
                *column = empty;
            }
        }
        let width_ns = def.bucket_ms.saturating_mul(1_000_000).max(1);
        for cells in &series.values {
            let cell = |index: usize| cells.get(index).unwrap_or(&Cell::Null);
            let time_ns = cell(0).int().unwrap_or_default();
            rows.bucket.push(time_ns.div_euclid(width_ns).saturating_mul(def.bucket_ms));
            rows.bytes.push(cell(1).sum());
            rows.packets.push(cell(2).sum());
            rows.flows.push(cell(3).sum());
            rows.rtt_ms_sum.push(cell(4).sum());
            rows.rtt_count.push(cell(5).sum());
            rows.cut_bytes.push(cell(6).sum());
            let first = 1 + SUMS.len();
            let other = cell(first + rows.keys.len());
            for (index, ((key, column), reader)) in rows.keys.iter_mut().zip(&mut self.readers).enumerate() {
                let mut value = cell(first + index);
                if self.other && *key == Key::Field(Field::SubscriberId) && *value == Cell::Text(OTHER.into()) {
                    value = other;
                }
                reader.push(value, key_column(column));
            }
        }
    }
}

/// Points of flows as rows.
pub(super) struct Flows<'a> {
    pub batch: FlowBatch,
    fields: &'a [Field],
    readers: Vec<Reader>,
}

impl<'a> Flows<'a> {
    /// Rows with these columns, `time` among them.
    pub fn new(fields: &'a [Field]) -> Self {
        let readers = fields.iter().map(|field| Reader::new(field.kind(), schema::is_flow_tag(*field))).collect();
        Self { batch: FlowBatch::default(), fields, readers }
    }

    /// The points of the seconds of a range; the caller leaves out what lies outside of it.
    pub fn statement(&self, range: TimeRange, condition: Option<&str>) -> String {
        let column = |field: &Field| {
            let place = if schema::is_flow_tag(*field) { "tag" } else { "field" };
            format!("\"{}\"::{place}", schema::field_name(*field))
        };
        let columns: Vec<String> = self.fields.iter().map(column).collect();
        let range = in_range(range.aligned(FLOWS_BUCKET_MS));
        let condition = condition.map_or_else(String::new, |condition| format!(" AND {condition}"));
        format!("SELECT {} FROM \"{FLOWS}\" WHERE {range}{condition}", columns.join(", "))
    }

    /// Replaces the rows by those of a piece of the answer.
    pub fn fill(&mut self, series: &Series<'_>) {
        self.batch.clear();
        self.readers.iter_mut().for_each(Reader::clear);
        for cells in &series.values {
            for (index, (field, reader)) in self.fields.iter().zip(&mut self.readers).enumerate() {
                reader.push(cells.get(index + 1).unwrap_or(&Cell::Null), self.batch.column_mut(*field));
            }
        }
    }
}
