//! What `talkers` does beyond grouping: customer hosts are kept exactly; of the other hosts the heaviest are kept, and the
//! remainder goes into `rest` rows without host.
//!
//! There is one `rest` row for each (nas_id, reseller_id, role) of a bucket, so that filters on these stay answerable. Its
//! `cut_bytes` bounds what any one host lost to it: the largest sum folded in, added up over the times that something was
//! folded. Hosts that found no room for their key (customers or not) go there as well; which of them is the largest is not
//! known, so their whole sum counts as cut.

use std::collections::{BTreeMap, HashMap};

use super::cells::{Buckets, Pool};
use super::layout::Layout;
use super::slots::Slots;
use crate::flow::{Key, Measures};

/// Hosts that are no customers held at once, over all buckets (about 9 MiB); more are folded early. One remote host has a
/// key for each reseller whose customers it serves, and scans and spoofed sources bring millions.
pub(super) const OTHERS_HELD_MAX: usize = 32_768;
/// How many of them an early fold keeps: enough that one among the 1,000 heaviest is hardly lost.
const OTHERS_KEPT: usize = 8192;

/// Marks a slot that is not folded.
const STAYS: u32 = u32::MAX;

/// By bucket and `rest` key: bytes that early folds may have taken from one host.
pub(super) type Cuts<const W: usize> = HashMap<(i64, [u64; W]), u64, foldhash::fast::RandomState>;

/// The rows of one bucket.
pub(super) struct Split<const W: usize> {
    /// Hosts with a row of their own.
    pub(super) hosts: Vec<([u64; W], Measures)>,
    /// By key: sums and `cut_bytes`.
    pub(super) rests: BTreeMap<[u64; W], (Measures, u64)>,
}

enum Kind {
    Customer,
    Other,
    Rest,
    Overflow,
}

fn kind<const W: usize>(layout: &Layout, key: &[u64; W]) -> Kind {
    let has_host = layout.parts.iter().any(|part| part.key == Key::Host && part.get(key) != 0);
    if Layout::bit(key, layout.overflow) {
        Kind::Overflow
    } else if !has_host {
        Kind::Rest
    } else if Layout::bit(key, layout.customer) {
        Kind::Customer
    } else {
        Kind::Other
    }
}

/// Splits the sums of a bucket: at most `others` hosts of each role that are no customers keep a row of their own.
pub(super) fn split<const W: usize>(
    layout: &Layout,
    others: usize,
    number: i64,
    cells: Vec<([u64; W], Measures)>,
    cuts: &mut Cuts<W>,
) -> Split<W> {
    let mut split = Split { hosts: Vec::with_capacity(cells.len()), rests: BTreeMap::new() };
    let mut by_role: BTreeMap<u64, Vec<([u64; W], Measures)>> = BTreeMap::new();
    let role = layout.parts.iter().find(|part| part.key == Key::Role);
    for (key, measures) in cells {
        match kind(layout, &key) {
            Kind::Customer => split.hosts.push((key, measures)),
            Kind::Other => by_role.entry(role.map_or(0, |part| part.get(&key))).or_default().push((key, measures)),
            Kind::Rest => add_rest(&mut split.rests, key, &measures, cuts.remove(&(number, key)).unwrap_or_default()),
            Kind::Overflow => add_rest(&mut split.rests, layout.rest(&key), &measures, measures.bytes),
        }
    }
    for mut hosts in by_role.into_values() {
        let mut folded_max: BTreeMap<[u64; W], u64> = BTreeMap::new();
        if hosts.len() > others {
            hosts.select_nth_unstable_by(others, |a, b| (b.1.bytes, a.0).cmp(&(a.1.bytes, b.0)));
            for (key, measures) in hosts.drain(others..) {
                let rest = layout.rest(&key);
                add_rest(&mut split.rests, rest, &measures, 0);
                let max = folded_max.entry(rest).or_default();
                *max = measures.bytes.max(*max);
            }
        }
        split.hosts.append(&mut hosts);
        for (rest, cut) in folded_max {
            add_rest(&mut split.rests, rest, &Measures::default(), cut);
        }
    }
    split
}

fn add_rest<const W: usize>(
    rests: &mut BTreeMap<[u64; W], (Measures, u64)>,
    key: [u64; W],
    measures: &Measures,
    cut: u64,
) {
    let (sums, cuts) = rests.entry(key).or_default();
    sums.add(measures);
    *cuts = cuts.saturating_add(cut);
}

/// What an early fold does.
pub(super) struct Fold<const W: usize> {
    /// Slots whose keys stay, ascending.
    pub(super) kept: Vec<u32>,
    /// For each old slot, where its sums go, as a new slot.
    pub(super) target: Vec<u32>,
    /// By bucket and `rest` key: the largest sum folded in.
    pub(super) cuts: Vec<(i64, [u64; W], u64)>,
}

/// Chooses the lightest hosts that are no customers. Adds the keys of their `rest` rows. A host is folded out of every
/// bucket at once, so that its steps up and down stay in one slot.
pub(super) fn choose_fold<const W: usize>(
    layout: &Layout,
    slots: &mut Slots<W>,
    buckets: &Buckets,
    pool: &mut Pool,
) -> Option<Fold<W>> {
    let mut weights = vec![0u64; slots.len()];
    each_sum(buckets, pool, slots.len(), |_, slot, bytes| weights[slot] = weights[slot].saturating_add(bytes));
    let mut others: Vec<u32> =
        (0..slots.len() as u32).filter(|slot| matches!(kind(layout, slots.key(*slot)), Kind::Other)).collect();
    if others.len() <= OTHERS_KEPT {
        return None;
    }
    others.select_nth_unstable_by_key(OTHERS_KEPT, |slot| std::cmp::Reverse((weights[*slot as usize], *slot)));
    // Old slot of the `rest` key of each folded slot.
    let mut rest_of = vec![STAYS; slots.len()];
    for slot in &others[OTHERS_KEPT..] {
        let rest = layout.rest(slots.key(*slot));
        rest_of[*slot as usize] = slots.resolve(slots.hash(&rest), &rest, true)?;
    }
    rest_of.resize(slots.len(), STAYS);
    let mut cuts = Vec::new();
    let mut largest = vec![0u64; slots.len()];
    let mut bucket = None;
    let mut close = |bucket: Option<i64>, largest: &mut [u64]| {
        let Some(number) = bucket else { return };
        for (slot, cut) in largest.iter_mut().enumerate().filter(|(_, cut)| **cut > 0) {
            cuts.push((number, *slots.key(slot as u32), std::mem::take(cut)));
        }
    };
    each_sum(buckets, pool, weights.len(), |number, slot, bytes| {
        if bucket != Some(number) {
            close(bucket.replace(number), &mut largest);
        }
        if rest_of[slot] != STAYS {
            let cut = &mut largest[rest_of[slot] as usize];
            *cut = bytes.max(*cut);
        }
    });
    close(bucket, &mut largest);
    let kept: Vec<u32> = (0..slots.len() as u32).filter(|slot| rest_of[*slot as usize] == STAYS).collect();
    let mut target = vec![0; slots.len()];
    for (new, old) in kept.iter().enumerate() {
        target[*old as usize] = new as u32;
    }
    for (folded, rest) in rest_of.iter().enumerate().filter(|(_, rest)| **rest != STAYS) {
        target[folded] = target[*rest as usize];
    }
    Some(Fold { kept, target, cuts })
}

/// Visits the bytes of each slot in each bucket, the steps of earlier buckets included.
fn each_sum(buckets: &Buckets, pool: &mut Pool, slots: usize, mut visit: impl FnMut(i64, usize, u64)) {
    let mut running = vec![0u64; slots];
    let mut booked = vec![0u64; slots];
    for (number, bucket) in buckets.iter() {
        bucket.each_cell(pool, |slot, cell| {
            booked[slot as usize] = cell.bytes;
            running[slot as usize] = running[slot as usize].wrapping_add(cell.step_bytes);
        });
        for slot in 0..slots {
            let bytes = running[slot].wrapping_add(std::mem::take(&mut booked[slot]));
            if bytes > 0 {
                visit(number, slot, bytes);
            }
        }
    }
}
