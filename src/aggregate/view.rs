//! One batch as the rollups see it: its dictionaries as numbers of the whole process, and packed values of a block of rows.

use std::ops::Range;

use super::intern::Interner;
use super::layout::{Group, Part, Store};
use crate::flow::batch::ColumnRef;
use crate::flow::column::Column;
use crate::flow::rollup::Role;
use crate::flow::{Addr, Direction, Field, FlowBatch, Key, Text, Uuid};

/// Texts, UUIDs and IPv6 addresses of all keys, as numbers.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) texts: Interner<Text>,
    pub(super) uuids: Interner<Uuid>,
    /// IPv6 hosts of `talkers`.
    pub(super) hosts: Interner<Addr>,
}

impl Names {
    /// Names refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.texts.refused + self.uuids.refused
    }

    pub(super) fn is_full(&self) -> bool {
        self.texts.is_full() || self.uuids.is_full() || self.hosts.is_full()
    }

    /// Bytes held.
    pub(super) fn used_bytes(&self) -> usize {
        self.texts.used_bytes() + self.uuids.used_bytes() + self.hosts.used_bytes()
    }

    /// Forgets every name. Only when no key is held.
    pub(super) fn clear(&mut self) {
        self.texts.clear();
        self.uuids.clear();
        self.hosts.clear();
    }
}

/// How the flows of a batch are gone through for a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Every flow once; [`Key::Host`] is the source.
    Src,
    /// Every flow once more; [`Key::Host`] is the destination.
    Dst,
    /// The internal flows once more, as the destination's subscriber's, with direction `internal_in`.
    InternalIn,
}

impl Pass {
    /// Whether the host of a pass is a customer, by the flow's direction.
    #[inline]
    pub(super) fn host_is_customer(self, direction: u8) -> bool {
        let side = if self == Pass::Dst { Direction::In } else { Direction::Out };
        direction == side as u8 || direction == Direction::Internal as u8
    }
}

/// Numbers of the dictionary columns that some rollup groups by; the memory is kept from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Maps {
    /// By [`Field`], each `map[code]`.
    fields: Vec<Vec<u32>>,
    internal_subscriber: Vec<u32>,
    internal_reseller: Vec<u32>,
    internal_site: Vec<u32>,
    /// Row -> entry of [`crate::flow::InternalDestinations`] plus 1. Only as long as needed.
    internal_entry: Vec<u32>,
}

impl Maps {
    /// Reads the dictionaries of a batch.
    pub(super) fn fill(&mut self, batch: &FlowBatch, used: &[Field], per_subscriber: bool, names: &mut Names) {
        self.fields.resize(Field::ALL.len(), Vec::new());
        for field in used {
            match batch.column(*field) {
                ColumnRef::Text(dict) => names.texts.map(dict, &mut self.fields[*field as usize]),
                ColumnRef::Uuid(dict) => names.uuids.map(dict, &mut self.fields[*field as usize]),
                _ => {}
            }
        }
        self.internal_entry.clear();
        let internal = &batch.internal;
        if per_subscriber && !internal.rows.is_empty() && internal.is_sound(batch.len()) {
            names.uuids.map(&internal.subscriber_id, &mut self.internal_subscriber);
            names.uuids.map(&internal.reseller_id, &mut self.internal_reseller);
            names.texts.map(&internal.site, &mut self.internal_site);
            self.internal_entry.resize(batch.len(), 0);
            for (entry, row) in internal.rows.iter().enumerate() {
                self.internal_entry[*row as usize] = entry as u32 + 1;
            }
        }
    }

    /// What is known of an internal flow's destination, as a number; 0 = nothing.
    fn internal_id(&self, batch: &FlowBatch, field: Field, row: u32) -> u64 {
        let entry = self.internal_entry.get(row as usize).copied().unwrap_or_default() as usize;
        let Some(entry) = entry.checked_sub(1) else { return 0 };
        let internal = &batch.internal;
        u64::from(match field {
            Field::SubscriberId => self.internal_subscriber[internal.subscriber_id.codes()[entry] as usize],
            Field::ResellerId => self.internal_reseller[internal.reseller_id.codes()[entry] as usize],
            _ => self.internal_site[internal.site.codes()[entry] as usize],
        })
    }
}

/// Some rows of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rows<'a> {
    /// From one row up to another, which is left out.
    Range(u32, u32),
    List(&'a [u32]),
}

/// Rows as loops go through them: a column's values of consecutive rows are a slice.
trait Pick: Clone {
    /// The rows themselves.
    fn rows(&self) -> impl Iterator<Item = u32>;
    /// Their values of a column that has one for each row of the batch.
    fn of<'c, T>(&self, column: &'c [T]) -> impl Iterator<Item = &'c T>;
}

impl Pick for Range<u32> {
    fn rows(&self) -> impl Iterator<Item = u32> {
        self.clone()
    }

    #[inline]
    fn of<'c, T>(&self, column: &'c [T]) -> impl Iterator<Item = &'c T> {
        column[self.start as usize..self.end as usize].iter()
    }
}

impl Pick for &[u32] {
    fn rows(&self) -> impl Iterator<Item = u32> {
        self.iter().copied()
    }

    #[inline]
    fn of<'c, T>(&self, column: &'c [T]) -> impl Iterator<Item = &'c T> {
        self.iter().map(|row| &column[*row as usize])
    }
}

/// A batch as one pass sees it.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) batch: &'a FlowBatch,
    pub(super) maps: &'a Maps,
    pub(super) pass: Pass,
}

/// Packs a group's values of some rows, column by column, into a plane a word: loops over planes are vector code.
pub(super) fn pack<const W: usize>(group: &Group, view: &View<'_>, rows: Rows<'_>, planes: &mut [Vec<u64>; W]) {
    let mut clear = |rows: usize| {
        planes.iter_mut().for_each(|plane| {
            plane.clear();
            plane.resize(rows, 0);
        });
    };
    match rows {
        Rows::Range(start, end) => {
            clear((end - start) as usize);
            pack_rows(group, view, start..end, planes);
        }
        Rows::List(rows) => {
            clear(rows.len());
            pack_rows(group, view, rows, planes);
        }
    }
}

fn pack_rows<const W: usize>(group: &Group, view: &View<'_>, rows: impl Pick, planes: &mut [Vec<u64>; W]) {
    let (batch, maps, pass) = (view.batch, view.maps, view.pass);
    for part in &group.parts {
        let rows = &rows;
        match part.key {
            Key::Role => {
                let role = if pass == Pass::Dst { Role::Dst } else { Role::Src };
                pack_held(part, rows.rows().map(|_| role as u64 + 1), planes);
            }
            Key::Host => {
                let host = if pass == Pass::Dst { Field::DstIp } else { Field::SrcIp };
                pack_column(part, view, host, rows, planes);
            }
            Key::Country => pack_far(part, batch, &batch.src_country, &batch.dst_country, rows, planes),
            Key::Asn => pack_far(part, batch, &batch.src_as, &batch.dst_as, rows, planes),
            Key::Field(Field::Direction) if pass == Pass::InternalIn => {
                pack_held(part, rows.rows().map(|_| Direction::InternalIn as u64 + 1), planes);
            }
            Key::Field(field @ (Field::SubscriberId | Field::ResellerId | Field::Site)) if pass == Pass::InternalIn => {
                pack_held(part, rows.rows().map(|row| maps.internal_id(batch, field, row)), planes);
            }
            Key::Field(field) => pack_column(part, view, field, rows, planes),
        }
    }
}

/// Packs held bits: 0 = null, else the value plus 1.
#[inline]
fn pack_held<const W: usize>(part: &Part, held: impl Iterator<Item = u64>, planes: &mut [Vec<u64>; W]) {
    let shift = part.shift;
    for (word, held) in planes[part.word].iter_mut().zip(held) {
        *word |= held << shift;
    }
}

fn pack_numbers<const W: usize, T: Copy + Default + Into<u64>>(
    part: &Part,
    column: &Column<T>,
    rows: &impl Pick,
    planes: &mut [Vec<u64>; W],
) {
    if column.all_null() {
        return;
    }
    let values = rows.of(column.values()).map(|value| (*value).into());
    match column.validity() {
        None => pack_held(part, values.map(|value: u64| value + 1), planes),
        // A null row's value is 0.
        Some(present) => {
            let present = rows.of(present);
            pack_held(part, values.zip(present).map(|(value, present)| value + u64::from(*present)), planes);
        }
    }
}

fn pack_column<const W: usize>(
    part: &Part,
    view: &View<'_>,
    field: Field,
    rows: &impl Pick,
    planes: &mut [Vec<u64>; W],
) {
    let map = || &*view.maps.fields[field as usize];
    match view.batch.column(field) {
        ColumnRef::U8(c) => pack_numbers(part, c, rows, planes),
        ColumnRef::U16(c) => pack_numbers(part, c, rows, planes),
        ColumnRef::U32(c) => pack_numbers(part, c, rows, planes),
        ColumnRef::Text(c) => pack_ids(part, c.codes(), map(), rows, planes),
        ColumnRef::Uuid(c) => pack_ids(part, c.codes(), map(), rows, planes),
        ColumnRef::U64(c) => {
            pack_held(part, rows.rows().map(|row| u64::from(c.get(row as usize).is_some())), planes);
            for (word, row) in planes[part.own_word].iter_mut().zip(rows.rows()) {
                *word = c.value_or_default(row as usize);
            }
        }
        ColumnRef::Ip(c) => pack_addresses(part, rows.rows(), planes, |row| c.get(row as usize).map(|a| a.0)),
        ColumnRef::AddrDict(c) => pack_addresses(part, rows.rows(), planes, |row| c.get(row as usize).map(|a| a.0)),
        // A layout has no times.
        ColumnRef::I64(_) => {}
    }
}

fn pack_ids<const W: usize>(part: &Part, codes: &[u32], map: &[u32], rows: &impl Pick, planes: &mut [Vec<u64>; W]) {
    debug_assert!(matches!(part.store, Store::Text | Store::Uuid));
    if map.len() > 1 {
        // Interned numbers count from 1, 0 = null: they are the held bits themselves.
        pack_held(part, rows.of(codes).map(|code| u64::from(map[*code as usize])), planes);
    }
}

#[inline]
fn pack_addresses<const W: usize>(
    part: &Part,
    rows: impl Iterator<Item = u32>,
    planes: &mut [Vec<u64>; W],
    address: impl Fn(u32) -> Option<u128>,
) {
    for (at, row) in rows.enumerate() {
        if let Some(bits) = address(row) {
            planes[part.word][at] |= 1 << part.shift;
            planes[part.own_word][at] = (bits >> 64) as u64;
            planes[part.own_word + 1][at] = bits as u64;
        }
    }
}

/// A number's held bits.
#[inline]
fn held<T: Copy + Default + Into<u64>>(column: &Column<T>, row: usize) -> u64 {
    let Some(value) = column.values().get(row) else { return 0 };
    // A null row's value is 0.
    (*value).into() + column.validity().map_or(1, |present| u64::from(present[row]))
}

/// Packs a value of the side that is not the customer's: the destination of `out` and `internal`, else the source.
fn pack_far<const W: usize, T: Copy + Default + Into<u64>>(
    part: &Part,
    batch: &FlowBatch,
    src: &Column<T>,
    dst: &Column<T>,
    rows: &impl Pick,
    planes: &mut [Vec<u64>; W],
) {
    if src.all_null() && dst.all_null() {
        return;
    }
    let directions = batch.direction.values();
    let far = |row: u32| {
        let row = row as usize;
        let direction = directions.get(row).copied().unwrap_or_default();
        let is_dst = direction == Direction::Out as u8 || direction == Direction::Internal as u8;
        // Both are read: which of them it is, nobody can foresee.
        let (src, dst) = (held(src, row), held(dst, row));
        if is_dst { dst } else { src }
    };
    pack_held(part, rows.rows().map(far), planes);
}
