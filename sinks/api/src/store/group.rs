//! Sums by key and interval, in bounded memory.
//!
//! Groups live in flat arrays (one row of key codes, one sum) found through a hash table of indices, so that a group costs
//! no allocation of its own.

use std::cmp::Ordering;

use super::codes::Codes;
use super::groups::Groups;
use super::plan::{InternalIn, Plan};
use super::read::{MeasureColumns, internal_in_rows, is_marked, is_rest, outer_code, role_of};
use super::{Answer, AnswerRow, OrderBy, Question, StoreError};
use crate::batch::Field;
use crate::filter::Side;
use crate::rollup::{Key, Measures, Role};
use crate::value::{Kind, Value};
use crate::{FlowBatch, RollupRows};

/// Groups that one question may hold: about 100 bytes each, so 200 MB at the worst.
pub const GROUPS_MAX: usize = 2 << 20;

/// Rows whose key codes are computed together: fits the first-level cache.
pub(super) const CHUNK_ROWS: usize = 1024;

/// Sums up the rows of one question. Groups of several (one a thread) can be merged.
#[derive(Debug)]
pub struct Grouper<'a> {
    store: &'a str,
    question: &'a Question,
    plan: &'a Plan,
    groups_max: usize,
    codes: Codes,
    /// Of keys of `stride` codes: the interval's number, then the question's keys.
    groups: Groups,
    sums: Vec<Measures>,
    matched: Measures,
    error_bytes_max: u64,
    /// Working space.
    selected: Vec<u32>,
    chunk: Vec<u64>,
    found: Vec<u32>,
    /// Codes of dictionaries' values, one list a key column.
    known: Vec<Vec<u64>>,
}

impl<'a> Grouper<'a> {
    /// No groups yet, and at most `groups_max` of them (see [`GROUPS_MAX`]).
    pub fn new(store: &'a str, question: &'a Question, plan: &'a Plan, groups_max: usize) -> Self {
        Self {
            store,
            question,
            plan,
            groups_max,
            codes: Codes::default(),
            groups: Groups::new(plan.columns.len() + 1),
            sums: Vec::new(),
            matched: Measures::default(),
            error_bytes_max: 0,
            selected: Vec::new(),
            chunk: Vec::new(),
            found: Vec::new(),
            known: vec![Vec::new(); plan.columns.len()],
        }
    }

    /// Adds the flows of a batch that lie in the range and pass the filter. Columns outside [`Plan::detail_fields`] may be
    /// empty.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] over the bound on groups.
    pub fn add_batch(&mut self, batch: &FlowBatch) -> Result<(), StoreError> {
        let mut rows = std::mem::take(&mut self.selected);
        self.question.filter.select(batch, &mut rows);
        let times = batch.time.values();
        rows.retain(|row| self.plan.range.contains(times[*row as usize]));
        let result = self.add_flows(batch, &rows);
        self.selected = rows;
        result
    }

    /// Adds these flows of a batch, which the caller has selected.
    ///
    /// # Errors
    /// As for [`Grouper::add_batch`].
    pub fn add_flows(&mut self, batch: &FlowBatch, rows: &[u32]) -> Result<(), StoreError> {
        let both = self.plan.columns.iter().any(|key| matches!(key, Key::Host | Key::Role));
        self.known.iter_mut().for_each(Vec::clear);
        let columns = MeasureColumns::of(batch);
        for chunk in rows.chunks(CHUNK_ROWS) {
            for row in chunk {
                self.matched.add(&columns.row(*row as usize));
            }
            self.add_side(batch, chunk, Side::Src)?;
            if both {
                self.add_side(batch, chunk, Side::Dst)?;
            }
        }
        Ok(())
    }

    fn add_side(&mut self, batch: &FlowBatch, rows: &[u32], side: Side) -> Result<(), StoreError> {
        let stride = self.stride();
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.clear();
        chunk.resize(rows.len() * stride, 0);
        let times = batch.time.values();
        self.write_intervals(&mut chunk, rows.iter().map(|row| times[*row as usize]));
        for (index, key) in self.plan.columns.iter().enumerate() {
            let known = &mut self.known[index];
            let column = |field| Some(batch.column(field));
            match key {
                Key::Field(_) | Key::Host => {
                    let field = match (key, side) {
                        (Key::Field(field), _) => *field,
                        (_, Side::Dst) => Field::DstIp,
                        _ => Field::SrcIp,
                    };
                    self.codes.write(column(field), key.kind(), rows, known, (&mut chunk, index + 1, stride));
                }
                Key::Role => {
                    let role = if side == Side::Dst { Role::Dst } else { Role::Src } as u64;
                    let slots = chunk.iter_mut().skip(index + 1).step_by(stride);
                    slots.for_each(|slot| *slot = role + 1);
                }
                Key::Country | Key::Asn => {
                    let slots = chunk.iter_mut().skip(index + 1).step_by(stride);
                    slots.zip(rows).for_each(|(slot, row)| *slot = outer_code(batch, *key, *row as usize));
                }
            }
        }
        let columns = MeasureColumns::of(batch);
        let result = self.add_chunk(&chunk, rows, |row| columns.row(row));
        self.chunk = chunk;
        result
    }

    /// Adds the rows of the plan's rollup that lie in the range and pass the filter.
    ///
    /// # Errors
    /// As for [`Grouper::add_batch`].
    pub fn add_rollup(&mut self, rows: &RollupRows) -> Result<(), StoreError> {
        self.add_cut(rows);
        let mut selected = std::mem::take(&mut self.selected);
        self.question.filter.select_rollup(rows, self.plan.role, &mut selected);
        selected.retain(|row| self.plan.range.contains(rows.bucket[*row as usize]));
        let internal = internal_in_rows(rows, self.plan.internal_in);
        self.count_matched(rows, &selected, &internal);
        if self.plan.internal_in == InternalIn::Hidden {
            selected.retain(|row| !is_marked(&internal, *row));
        }
        if self.plan.by_host {
            selected.retain(|row| !is_rest(rows, *row as usize));
        }
        self.known.iter_mut().for_each(Vec::clear);
        let mut result = Ok(());
        for chunk in selected.chunks(CHUNK_ROWS) {
            result = result.and_then(|()| self.add_rollup_chunk(rows, chunk));
        }
        self.selected = selected;
        result
    }

    fn add_rollup_chunk(&mut self, rows: &RollupRows, selected: &[u32]) -> Result<(), StoreError> {
        let stride = self.stride();
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.clear();
        chunk.resize(selected.len() * stride, 0);
        self.write_intervals(&mut chunk, selected.iter().map(|row| rows.bucket[*row as usize]));
        for (index, key) in self.plan.columns.iter().enumerate() {
            let column = rows.keys.iter().find(|(k, _)| k == key).map(|(_, column)| column.as_column());
            self.codes.write(column, key.kind(), selected, &mut self.known[index], (&mut chunk, index + 1, stride));
        }
        let result = self.add_chunk(&chunk, selected, |row| rows.measures(row));
        self.chunk = chunk;
        result
    }

    /// Adds rows whose keys stand one after another in `chunk`. Groups are found first and added to afterwards: both steps
    /// mostly miss the caches, and apart from each other the misses of many rows overlap.
    fn add_chunk(
        &mut self,
        chunk: &[u64],
        rows: &[u32],
        measures: impl Fn(usize) -> Measures,
    ) -> Result<(), StoreError> {
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        for key in chunk.chunks_exact(self.stride()) {
            let group = self.groups.find(key, self.groups_max).ok_or_else(|| self.too_many())?;
            found.push(group);
        }
        self.sums.resize(self.groups.len(), Measures::default());
        for (row, group) in rows.iter().zip(&found) {
            self.sums[*group as usize].add(&measures(*row as usize));
        }
        self.found = found;
        Ok(())
    }

    fn count_matched(&mut self, rows: &RollupRows, selected: &[u32], internal: &[bool]) {
        let uncounted = self.plan.internal_in != InternalIn::Counted;
        for row in selected {
            let other_role = self.plan.matched_role.is_some_and(|role| role_of(rows, *row) != Some(role as u8));
            if !(other_role || uncounted && is_marked(internal, *row)) {
                self.matched.add(&rows.measures(*row as usize));
            }
        }
    }

    /// Counts the bytes that cut hosts may be missing.
    fn add_cut(&mut self, rows: &RollupRows) {
        if rows.cut_bytes.iter().all(|bytes| *bytes == 0) {
            return;
        }
        let mut selected = std::mem::take(&mut self.selected);
        self.plan.rest_filter.select_rollup(rows, self.plan.role, &mut selected);
        for row in &selected {
            let row = *row as usize;
            if self.plan.range.contains(rows.bucket[row]) {
                self.error_bytes_max = self.error_bytes_max.saturating_add(rows.cut_bytes[row]);
            }
        }
        self.selected = selected;
    }

    /// Adds all that another grouper of the same question holds.
    ///
    /// # Errors
    /// As for [`Grouper::add_batch`].
    pub fn merge(&mut self, other: &Grouper<'_>) -> Result<(), StoreError> {
        let stride = self.stride();
        let kinds: Vec<Kind> = self.plan.columns.iter().map(|key| key.kind()).collect();
        let mut key = vec![0; stride];
        for (theirs, sums) in other.groups.keys().zip(&other.sums) {
            key[0] = theirs[0];
            for (index, kind) in kinds.iter().enumerate() {
                key[index + 1] = self.codes.code(&other.codes.value(*kind, theirs[index + 1]));
            }
            self.add(&key, sums)?;
        }
        self.matched.add(&other.matched);
        self.error_bytes_max = self.error_bytes_max.saturating_add(other.error_bytes_max);
        Ok(())
    }

    /// Adds a group or a part of one that was summed elsewhere, such as in a database. Not counted in what matched; see
    /// [`Grouper::add_matched`].
    ///
    /// # Errors
    /// As for [`Grouper::add_batch`].
    pub fn add_row(&mut self, interval: Option<i64>, keys: &[Value], sums: &Measures) -> Result<(), StoreError> {
        let mut key = vec![interval_code(interval.map_or(0, |start| self.step(start)))];
        key.extend(keys.iter().map(|value| self.codes.code(value)));
        key.resize(self.stride(), 0);
        self.add(&key, sums)
    }

    /// Counts what matched and what may be missing, summed elsewhere.
    pub fn add_matched(&mut self, sums: &Measures, error_bytes: u64) {
        self.matched.add(sums);
        self.error_bytes_max = self.error_bytes_max.saturating_add(error_bytes);
    }

    /// The answer: ordered, limited. Nothing that matched means no row.
    pub fn finish(self, expired_before: Option<i64>) -> Answer {
        let mut order: Vec<u32> = (0..self.sums.len() as u32).collect();
        let total_rows = order.len() as u64;
        let limit = self.question.limit.unwrap_or(usize::MAX);
        if limit < order.len() {
            if limit > 0 {
                order.select_nth_unstable_by(limit - 1, |a, b| self.compare(*a, *b));
            }
            order.truncate(limit);
        }
        order.sort_unstable_by(|a, b| self.compare(*a, *b));
        Answer {
            rows: order.into_iter().map(|group| self.row(group)).collect(),
            total_rows,
            matched: self.matched,
            range: self.plan.range,
            tier: self.plan.tier.clone(),
            basis: self.plan.basis,
            exact: self.error_bytes_max == 0,
            error_bytes_max: self.error_bytes_max,
            expired_before,
        }
    }

    fn add(&mut self, key: &[u64], sums: &Measures) -> Result<(), StoreError> {
        let group = self.groups.find(key, self.groups_max).ok_or_else(|| self.too_many())?;
        self.sums.resize(self.groups.len(), Measures::default());
        self.sums[group as usize].add(sums);
        Ok(())
    }

    fn too_many(&self) -> StoreError {
        StoreError::Unsupported {
            store: self.store.to_owned(),
            reason: format!("the answer has more than {} groups", self.groups_max),
            remedy: "narrow the filter or the range, or group by fewer keys".to_owned(),
        }
    }

    fn stride(&self) -> usize {
        self.plan.columns.len() + 1
    }

    /// Writes each row's interval number where the question has intervals.
    fn write_intervals(&self, chunk: &mut [u64], times: impl Iterator<Item = i64>) {
        if self.question.interval_ms.is_some() {
            let slots = chunk.iter_mut().step_by(self.stride());
            slots.zip(times).for_each(|(slot, time)| *slot = interval_code(self.step(time)));
        }
    }

    fn step(&self, time: i64) -> i64 {
        self.question.interval_ms.map_or(0, |ms| time.div_euclid(ms))
    }

    fn row(&self, group: u32) -> AnswerRow {
        let codes = self.groups.key(group);
        let keys = self.plan.columns.iter().zip(&codes[1..]);
        AnswerRow {
            interval: self.question.interval_ms.map(|ms| interval_number(codes[0]).saturating_mul(ms)),
            keys: keys.map(|(key, code)| self.codes.value(key.kind(), *code)).collect(),
            measures: self.sums[group as usize],
        }
    }

    fn compare(&self, a: u32, b: u32) -> Ordering {
        let (ma, mb) = (&self.sums[a as usize], &self.sums[b as usize]);
        let by_time = || interval_number(self.groups.key(a)[0]).cmp(&interval_number(self.groups.key(b)[0]));
        let by_keys = || self.compare_keys(a, b);
        match self.question.order {
            OrderBy::Bytes => mb.bytes.cmp(&ma.bytes).then_with(by_keys).then_with(by_time),
            OrderBy::Packets => mb.packets.cmp(&ma.packets).then_with(by_keys).then_with(by_time),
            OrderBy::Flows => mb.flows.cmp(&ma.flows).then_with(by_keys).then_with(by_time),
            OrderBy::Time => by_time().then_with(by_keys),
        }
    }

    fn compare_keys(&self, a: u32, b: u32) -> Ordering {
        let pairs = self.groups.key(a)[1..].iter().zip(&self.groups.key(b)[1..]);
        for (key, (a, b)) in self.plan.columns.iter().zip(pairs) {
            if a != b {
                return self.codes.value(key.kind(), *a).cmp(&self.codes.value(key.kind(), *b));
            }
        }
        Ordering::Equal
    }
}

/// An interval's number as a code; 0 without intervals stays 0 in every row.
fn interval_code(step: i64) -> u64 {
    step as u64
}

fn interval_number(code: u64) -> i64 {
    code as i64
}
