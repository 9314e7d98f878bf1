//! Rollups that share a table: `usage`, `usage_apps` and the like say what the same subscribers did, one in more detail or by
//! wider buckets than another.
//!
//! A flow is booked once, by the columns of the member that has most of them and by the narrowest bucket. Before anything of
//! a member is emitted, and when memory is short, the table is folded into the members' own sums; flows are many more than
//! its keys by then. The members' buckets are marked as if flows were booked there, so that what is open and from where it
//! would have to be read again is known without folding.

use super::buckets::Bucket;
use super::groups::Groups;
use super::rollup::{Block, Rollup};
use super::sums::Sums;
use super::view::Names;
use crate::flow::RollupDef;

/// See the module's documentation.
pub(super) struct Family {
    /// The table, as a rollup that is never emitted.
    table: Rollup,
    members: Vec<Member>,
}

struct Member {
    /// Index among all rollups.
    rollup: usize,
    /// How the second part of its keys follows from that of the table's; none when it is the same.
    second: Option<usize>,
}

impl Family {
    /// Finds the families among rollups, which hold nothing yet: those of the same owners, gone through in the same way and by
    /// the same unit, whose columns one of them has all. A rollup of buckets of several units is always in one.
    ///
    /// # Errors
    /// As [`Rollup::new`].
    pub(super) fn find_all(rollups: &mut [Rollup], groups: &mut Groups) -> Result<Vec<Self>, String> {
        let mut families: Vec<Self> = Vec::new();
        for index in 0..rollups.len() {
            let is_free = |other: &usize| !families.iter().any(|family| family.has(*other));
            let alike = (0..rollups.len()).filter(|other| are_alike(&rollups[index], &rollups[*other]));
            let alike: Vec<usize> = alike.filter(is_free).collect();
            // How the keys of one follow from those of another, when they do.
            let mut member = |rollup: usize, widest: usize| match (rollups[rollup].second()?, rollups[widest].second()?)
            {
                (own, wide) if own == wide => Some(Member { rollup, second: None }),
                (own, wide) => groups.derive(wide, own).map(|derived| Member { rollup, second: Some(derived) }),
            };
            let wider = alike.iter().copied().filter(|wider| alike.contains(&index) && member(index, *wider).is_some());
            let Some(widest) = wider.max_by_key(|index| rollups[*index].def.by.len()) else { continue };
            let mut members: Vec<Member> = alike.into_iter().filter_map(|rollup| member(rollup, widest)).collect();
            if members.len() == 1 && rollups[widest].units == 1 {
                continue;
            }
            // Those with the table's own keys come last: the last of all takes over what it held.
            members.sort_by_key(|member| member.second.is_none());
            let def = RollupDef { bucket_ms: rollups[widest].unit.ms(), ..rollups[widest].def.clone() };
            let table = Rollup::new(&def, groups)?;
            members.iter().for_each(|member| rollups[member.rollup].hash = table.hash.clone());
            families.push(Self { table, members });
        }
        Ok(families)
    }

    /// Whether a rollup is a member, by its index.
    pub(super) fn has(&self, rollup: usize) -> bool {
        self.members.iter().any(|member| member.rollup == rollup)
    }

    /// Whether a rollup is the one with whose turn the table is booked in.
    pub(super) fn is_first(&self, rollup: usize) -> bool {
        self.members.iter().all(|member| member.rollup >= rollup)
    }

    /// Bytes held.
    pub(super) fn used_bytes(&self) -> usize {
        self.table.buckets.used_bytes()
    }

    /// Keys held.
    pub(super) fn keys(&self) -> usize {
        self.table.buckets.keys()
    }

    /// Books the rows of a block from which nothing is left out; the members' buckets are marked.
    pub(super) fn add(&mut self, block: &Block<'_>, groups: &mut Groups, names: &mut Names) {
        self.table.mark(block);
        self.table.add(block, groups, names);
    }

    /// Moves what the table holds to its members, which `rollup` finds in an entry.
    pub(super) fn fold<E>(&mut self, entries: &mut [E], rollup: impl Fn(&mut E) -> &mut Rollup, groups: &mut Groups) {
        self.table.settle();
        let hash_of = |key| self.table.hash.of(key);
        for (unit, Bucket { sums, .. }) in self.table.buckets.take_all() {
            let Some((last, others)) = self.members.split_last() else { continue };
            for member in others {
                let own = sums_of(rollup(&mut entries[member.rollup]), unit);
                match member.second {
                    None => own.absorb(sums.clone(), hash_of),
                    Some(derived) => own.add_all(&sums, |second| groups.derived(derived, second), hash_of),
                }
            }
            sums_of(rollup(&mut entries[last.rollup]), unit).absorb(sums, hash_of);
        }
    }
}

/// The sums of a rollup's bucket to which a unit belongs.
fn sums_of(rollup: &mut Rollup, unit: i64) -> &mut Sums {
    &mut rollup.buckets.marked(unit.div_euclid(rollup.units)).sums
}

fn are_alike(one: &Rollup, other: &Rollup) -> bool {
    one.first == other.first
        && one.unit.ms() == other.unit.ms()
        && one.passes().is_some()
        && one.passes() == other.passes()
}
