//! Evaluation, column by column.
//!
//! Each node gives one boolean a row. A test of a text, UUID or exporter looks at each distinct value once, then at codes.

use super::{Compare, Filter, Side, Test, prefix_mask};
use crate::batch::{ColumnRef, Field};
use crate::column::{Column, Dict, IpColumn};
use crate::rollup::{Key, KeyColumn, Role};
use crate::{Addr, FlowBatch, RollupRows};

/// Where a test finds its column.
trait Columns {
    /// The column of a field, `None` when there is none: then the value is null in every row.
    fn column(&self, field: Field) -> Option<ColumnRef<'_>>;
}

impl Columns for FlowBatch {
    fn column(&self, field: Field) -> Option<ColumnRef<'_>> {
        Some(FlowBatch::column(self, field))
    }
}

impl Columns for RollupRows {
    /// A rollup by host gives its host column for both addresses; the caller restricts the role.
    fn column(&self, field: Field) -> Option<ColumnRef<'_>> {
        let of = |key: Key| self.keys.iter().find(|(k, _)| *k == key).map(|(_, column)| column.as_column());
        let host = || matches!(field, Field::SrcIp | Field::DstIp).then(|| of(Key::Host)).flatten();
        of(Key::Field(field)).or_else(host)
    }
}

impl KeyColumn {
    /// The column, by storage type.
    pub fn as_column(&self) -> ColumnRef<'_> {
        match self {
            KeyColumn::U8(c) => ColumnRef::U8(c),
            KeyColumn::U16(c) => ColumnRef::U16(c),
            KeyColumn::U32(c) => ColumnRef::U32(c),
            KeyColumn::U64(c) => ColumnRef::U64(c),
            KeyColumn::Ip(c) => ColumnRef::Ip(c),
            KeyColumn::Text(c) => ColumnRef::Text(c),
            KeyColumn::Uuid(c) => ColumnRef::Uuid(c),
        }
    }
}

impl Filter {
    /// Replaces `out` by the rows of the batch that match, ascending. Touches `time` (for the number of rows) and the
    /// columns that [`Filter::fields`] names, so the others may be left empty.
    pub fn select(&self, batch: &FlowBatch, out: &mut Vec<u32>) {
        rows_where(&evaluate(self, batch, batch.len()), out);
    }

    /// Replaces `out` by the rows of a rollup that match, ascending, of one role only when one is given. Fields that are no
    /// keys of the rollup count as null; whether a rollup can stand for detail is the planner's decision
    /// ([`crate::store::plan`]).
    pub fn select_rollup(&self, rows: &RollupRows, role: Option<Role>, out: &mut Vec<u32>) {
        let mut mask = evaluate(self, rows, rows.len());
        let roles = rows.keys.iter().find(|(key, _)| *key == Key::Role);
        if let (Some(role), Some((_, KeyColumn::U8(roles)))) = (role, roles) {
            for (row, hit) in mask.iter_mut().enumerate() {
                *hit &= roles.get(row) == Some(role as u8);
            }
        }
        rows_where(&mask, out);
    }
}

fn rows_where(mask: &[bool], out: &mut Vec<u32>) {
    out.clear();
    out.extend(mask.iter().enumerate().filter(|(_, hit)| **hit).map(|(row, _)| row as u32));
}

fn evaluate(filter: &Filter, columns: &impl Columns, rows: usize) -> Vec<bool> {
    match filter {
        Filter::Any => vec![true; rows],
        Filter::And(filters) => {
            let mut mask = vec![true; rows];
            for filter in filters {
                if !mask.contains(&true) {
                    break;
                }
                let more = evaluate(filter, columns, rows);
                mask.iter_mut().zip(more).for_each(|(hit, more)| *hit &= more);
            }
            mask
        }
        Filter::Or(filters) => {
            let mut mask = vec![false; rows];
            for filter in filters {
                let more = evaluate(filter, columns, rows);
                mask.iter_mut().zip(more).for_each(|(hit, more)| *hit |= more);
            }
            mask
        }
        Filter::Not(inner) => {
            let mut mask = evaluate(inner, columns, rows);
            mask.iter_mut().for_each(|hit| *hit = !*hit);
            mask
        }
        Filter::Test(test) => {
            let mut mask = vec![false; rows];
            run(test, columns, &mut mask);
            mask
        }
    }
}

/// Sets the rows that pass in a mask that is all false.
fn run(test: &Test, columns: &impl Columns, mask: &mut [bool]) {
    match test {
        Test::Net { side, network, length } => {
            for field in side.of(Field::SrcIp, Field::DstIp) {
                net(columns.column(field), *network, *length, mask);
            }
        }
        Test::Port { side, first, last } => {
            let (first, width) = (u64::from(*first), u64::from(*last) - u64::from(*first).min(u64::from(*last)));
            for field in side.of(Field::SrcPort, Field::DstPort) {
                number(columns.column(field), |v| v.wrapping_sub(first) <= width, mask);
            }
        }
        Test::As { side, asn } => sided_equals(columns, side.of(Field::SrcAs, Field::DstAs), u64::from(*asn), mask),
        Test::Country { side, country } => {
            sided_equals(columns, side.of(Field::SrcCountry, Field::DstCountry), u64::from(*country), mask);
        }
        Test::Mac { side, mac } => sided_equals(columns, side.of(Field::SrcMac, Field::DstMac), *mac, mask),
        Test::Number { field, compare, value } => compared(columns.column(*field), *compare, *value, mask),
        Test::TcpFlags { mask: bits } => {
            let bits = u64::from(*bits);
            number(columns.column(Field::TcpFlags), |v| v & bits == bits, mask);
        }
        Test::Direction(direction) => {
            let code = *direction as u64;
            number(columns.column(Field::Direction), |v| v == code, mask);
        }
        Test::Ip { field, addr } => {
            let length = if addr.is_v4() { 32 } else { 128 };
            net(columns.column(*field), *addr, length, mask);
        }
        Test::Text { field, value } => {
            if let Some(ColumnRef::Text(column)) = columns.column(*field) {
                dictionary(column, |text| text == value, mask);
            }
        }
        Test::Uuid { field, value } => {
            if let Some(ColumnRef::Uuid(column)) = columns.column(*field) {
                dictionary(column, |uuid| uuid == value, mask);
            }
        }
        Test::IsNull(field) => nulls(columns.column(*field), mask),
    }
}

impl Side {
    /// The fields that a side means.
    pub(super) fn of(self, src: Field, dst: Field) -> impl Iterator<Item = Field> {
        let fields = match self {
            Side::Src => [Some(src), None],
            Side::Dst => [None, Some(dst)],
            Side::Either => [Some(src), Some(dst)],
        };
        fields.into_iter().flatten()
    }
}

fn sided_equals(columns: &impl Columns, fields: impl Iterator<Item = Field>, value: u64, mask: &mut [bool]) {
    for field in fields {
        number(columns.column(field), |v| v == value, mask);
    }
}

fn compared(column: Option<ColumnRef<'_>>, compare: Compare, value: u64, mask: &mut [bool]) {
    match compare {
        Compare::Eq => number(column, |v| v == value, mask),
        Compare::Ne => number(column, |v| v != value, mask),
        Compare::Lt => number(column, |v| v < value, mask),
        Compare::Le => number(column, |v| v <= value, mask),
        Compare::Gt => number(column, |v| v > value, mask),
        Compare::Ge => number(column, |v| v >= value, mask),
    }
}

/// Adds the rows whose number passes.
fn number(column: Option<ColumnRef<'_>>, passes: impl Fn(u64) -> bool, mask: &mut [bool]) {
    match column {
        Some(ColumnRef::U8(c)) => plain(c, |v| passes(u64::from(v)), mask),
        Some(ColumnRef::U16(c)) => plain(c, |v| passes(u64::from(v)), mask),
        Some(ColumnRef::U32(c)) => plain(c, |v| passes(u64::from(v)), mask),
        Some(ColumnRef::U64(c)) => plain(c, passes, mask),
        _ => {}
    }
}

fn plain<T: Copy + Default>(column: &Column<T>, passes: impl Fn(T) -> bool, mask: &mut [bool]) {
    match column.validity() {
        None => mask.iter_mut().zip(column.values()).for_each(|(hit, v)| *hit |= passes(*v)),
        Some(valid) => {
            let rows = mask.iter_mut().zip(column.values()).zip(valid);
            rows.for_each(|((hit, v), valid)| *hit |= *valid != 0 && passes(*v));
        }
    }
}

fn net(column: Option<ColumnRef<'_>>, network: Addr, length: u8, mask: &mut [bool]) {
    let matches = |addr: Addr| addr.is_v4() == network.is_v4() && super::network_of(addr, length) == network;
    match column {
        Some(ColumnRef::Ip(column)) => net_plain(column, network, length, mask),
        Some(ColumnRef::AddrDict(column)) => dictionary(column, |addr| matches(*addr), mask),
        _ => {}
    }
}

fn net_plain(column: &IpColumn, network: Addr, length: u8, mask: &mut [bool]) {
    let bits = prefix_mask(network, length);
    match (column.as_v4(), column.as_wide(), network.as_v4()) {
        (Some(column), _, Some(v4)) => plain(column, |v| v & bits as u32 == v4, mask),
        // An IPv4 prefix compares the mapping's 96 bits as well; an IPv6 prefix leaves mapped addresses out.
        (_, Some(column), Some(_)) => plain(column, |v| v & bits == network.0, mask),
        (_, Some(column), None) => plain(column, |v| v & bits == network.0 && !Addr(v).is_v4(), mask),
        _ => {}
    }
}

/// Adds the rows whose value passes; asks once a distinct value.
fn dictionary<T: crate::column::DictValue>(column: &Dict<T>, passes: impl Fn(&T) -> bool, mask: &mut [bool]) {
    let mut by_code = Vec::with_capacity(column.values().len() + 1);
    by_code.push(false);
    by_code.extend(column.values().iter().map(passes));
    if by_code.contains(&true) {
        mask.iter_mut().zip(column.codes()).for_each(|(hit, code)| *hit |= by_code[*code as usize]);
    }
}

fn nulls(column: Option<ColumnRef<'_>>, mask: &mut [bool]) {
    fn of<T: Copy + Default>(column: &Column<T>, mask: &mut [bool]) {
        match column.validity() {
            None => mask.fill(column.all_null()),
            Some(valid) => mask.iter_mut().zip(valid).for_each(|(hit, valid)| *hit = *valid == 0),
        }
    }
    fn codes(codes: &[u32], mask: &mut [bool]) {
        mask.iter_mut().zip(codes).for_each(|(hit, code)| *hit = *code == 0);
    }
    match column {
        None => mask.fill(true),
        Some(ColumnRef::I64(c)) => of(c, mask),
        Some(ColumnRef::U64(c)) => of(c, mask),
        Some(ColumnRef::U32(c)) => of(c, mask),
        Some(ColumnRef::U16(c)) => of(c, mask),
        Some(ColumnRef::U8(c)) => of(c, mask),
        Some(ColumnRef::Ip(c)) => match (c.as_v4(), c.as_wide()) {
            (Some(c), _) => of(c, mask),
            (_, Some(c)) => of(c, mask),
            (None, None) => mask.fill(true),
        },
        Some(ColumnRef::AddrDict(c)) => codes(c.codes(), mask),
        Some(ColumnRef::Text(c)) => codes(c.codes(), mask),
        Some(ColumnRef::Uuid(c)) => codes(c.codes(), mask),
    }
}
