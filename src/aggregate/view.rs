//! One batch as the rollups see it: its dictionaries as numbers of the whole process, and packed values of a block of rows.

use super::intern::Interner;
use super::layout::{Group, Part, Store};
use crate::flow::batch::ColumnRef;
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

/// A batch as one pass sees it.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) batch: &'a FlowBatch,
    pub(super) maps: &'a Maps,
    pub(super) pass: Pass,
}

/// Packs a group's values of some rows, column by column.
pub(super) fn pack<const W: usize>(group: &Group, view: &View<'_>, rows: Rows<'_>, packed: &mut Vec<[u64; W]>) {
    packed.clear();
    match rows {
        Rows::Range(start, end) => {
            packed.resize((end - start) as usize, [0; W]);
            pack_rows(group, view, start..end, packed);
        }
        Rows::List(rows) => {
            packed.resize(rows.len(), [0; W]);
            pack_rows(group, view, rows.iter().copied(), packed);
        }
    }
}

fn pack_rows<const W: usize>(
    group: &Group,
    view: &View<'_>,
    rows: impl Iterator<Item = u32> + Clone,
    packed: &mut [[u64; W]],
) {
    let (batch, maps, pass) = (view.batch, view.maps, view.pass);
    for part in &group.parts {
        let rows = rows.clone();
        match part.key {
            Key::Role => {
                let role = if pass == Pass::Dst { Role::Dst } else { Role::Src };
                pack_numbers(part, rows, packed, |_| Some(role as u64));
            }
            Key::Host => {
                let host = if pass == Pass::Dst { Field::DstIp } else { Field::SrcIp };
                pack_column(part, view, host, rows, packed);
            }
            Key::Country => pack_far(part, batch, Field::SrcCountry, Field::DstCountry, rows, packed),
            Key::Asn => pack_far(part, batch, Field::SrcAs, Field::DstAs, rows, packed),
            Key::Field(Field::Direction) if pass == Pass::InternalIn => {
                pack_numbers(part, rows, packed, |_| Some(Direction::InternalIn as u64));
            }
            Key::Field(field @ (Field::SubscriberId | Field::ResellerId | Field::Site)) if pass == Pass::InternalIn => {
                pack_numbers(part, rows, packed, |row| maps.internal_id(batch, field, row).checked_sub(1));
            }
            Key::Field(field) => pack_column(part, view, field, rows, packed),
        }
    }
}

#[inline]
fn pack_numbers<const W: usize>(
    part: &Part,
    rows: impl Iterator<Item = u32>,
    packed: &mut [[u64; W]],
    value: impl Fn(u32) -> Option<u64>,
) {
    for (words, row) in packed.iter_mut().zip(rows) {
        words[part.word] |= value(row).map_or(0, |v| v + 1) << part.shift;
    }
}

fn pack_column<const W: usize>(
    part: &Part,
    view: &View<'_>,
    field: Field,
    rows: impl Iterator<Item = u32> + Clone,
    packed: &mut [[u64; W]],
) {
    let map = || &*view.maps.fields[field as usize];
    match view.batch.column(field) {
        ColumnRef::U8(c) => pack_numbers(part, rows, packed, |row| c.get(row as usize).map(u64::from)),
        ColumnRef::U16(c) => pack_numbers(part, rows, packed, |row| c.get(row as usize).map(u64::from)),
        ColumnRef::U32(c) => pack_numbers(part, rows, packed, |row| c.get(row as usize).map(u64::from)),
        ColumnRef::Text(c) => pack_ids(part, rows, packed, c.codes(), map()),
        ColumnRef::Uuid(c) => pack_ids(part, rows, packed, c.codes(), map()),
        ColumnRef::U64(c) => {
            pack_numbers(part, rows.clone(), packed, |row| c.get(row as usize).map(|_| 0));
            for (words, row) in packed.iter_mut().zip(rows) {
                words[part.own_word] = c.value_or_default(row as usize);
            }
        }
        ColumnRef::Ip(c) => pack_addresses(part, rows, packed, |row| c.get(row as usize).map(|a| a.0)),
        ColumnRef::AddrDict(c) => pack_addresses(part, rows, packed, |row| c.get(row as usize).map(|a| a.0)),
        // A layout has no times.
        ColumnRef::I64(_) => {}
    }
}

fn pack_ids<const W: usize>(
    part: &Part,
    rows: impl Iterator<Item = u32>,
    packed: &mut [[u64; W]],
    codes: &[u32],
    map: &[u32],
) {
    debug_assert!(matches!(part.store, Store::Text | Store::Uuid));
    if map.len() <= 1 {
        return;
    }
    for (words, row) in packed.iter_mut().zip(rows) {
        // Interned numbers count from 1, 0 = null: they are the held bits themselves.
        words[part.word] |= u64::from(map[codes[row as usize] as usize]) << part.shift;
    }
}

#[inline]
fn pack_addresses<const W: usize>(
    part: &Part,
    rows: impl Iterator<Item = u32>,
    packed: &mut [[u64; W]],
    address: impl Fn(u32) -> Option<u128>,
) {
    for (words, row) in packed.iter_mut().zip(rows) {
        if let Some(bits) = address(row) {
            words[part.word] |= 1 << part.shift;
            words[part.own_word] = (bits >> 64) as u64;
            words[part.own_word + 1] = bits as u64;
        }
    }
}

/// Packs a value of the side that is not the customer's: the destination of `out` and `internal`, else the source.
fn pack_far<const W: usize>(
    part: &Part,
    batch: &FlowBatch,
    src: Field,
    dst: Field,
    rows: impl Iterator<Item = u32>,
    packed: &mut [[u64; W]],
) {
    let far_is_dst = |row: u32| {
        let direction = batch.direction.value_or_default(row as usize);
        direction == Direction::Out as u8 || direction == Direction::Internal as u8
    };
    match (batch.column(src), batch.column(dst)) {
        (ColumnRef::U16(src), ColumnRef::U16(dst)) => pack_numbers(part, rows, packed, |row| {
            let side = if far_is_dst(row) { dst } else { src };
            side.get(row as usize).map(u64::from)
        }),
        (ColumnRef::U32(src), ColumnRef::U32(dst)) => pack_numbers(part, rows, packed, |row| {
            let side = if far_is_dst(row) { dst } else { src };
            side.get(row as usize).map(u64::from)
        }),
        _ => {}
    }
}
