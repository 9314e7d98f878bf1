//! The groups of key columns of all rollups, each once, with the numbers of the block at hand.

use super::combos::{Numbers, numbers};
use super::derived::Derived;
use super::layout::Group;
use super::view::{Maps, Pass, Rows, View};
use crate::flow::{Direction, FlowBatch};

struct Shared {
    numbers: Box<dyn Numbers>,
    /// Numbers of the block's rows, as seen from the source.
    src: Vec<u32>,
    /// The same from the destination, for groups whose values depend on the side.
    dst: Vec<u32>,
    /// Numbers of the block's internal flows as the destination's.
    internal: Vec<u32>,
    /// Whether a rollup books internal flows twice by it.
    has_internal: bool,
    /// Whether its numbers follow from those of a wider group.
    is_derived: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Groups {
    all: Vec<Shared>,
    derived: Vec<Derived>,
    /// Those that rows get numbers by, in an order in which they can follow from each other.
    linked: Vec<usize>,
    /// Internal flows among the block's rows.
    pub(super) internal_rows: Vec<u32>,
}

impl Groups {
    /// The index of a group; `has_internal` says that internal flows are booked twice by it.
    pub(super) fn share(&mut self, group: &Group, has_internal: bool) -> usize {
        let index = self.all.iter().position(|shared| shared.numbers.group() == group).unwrap_or_else(|| {
            let (src, dst, internal) = (Vec::new(), Vec::new(), Vec::new());
            let numbers = numbers(group);
            self.all.push(Shared { numbers, src, dst, internal, has_internal: false, is_derived: false });
            self.all.len() - 1
        });
        self.all[index].has_internal |= has_internal;
        index
    }

    /// Has the numbers of narrow groups follow from those of wide ones, each from the narrowest that there is: the fewer its
    /// combinations, the smaller the table of what follows. To be called when all groups are there.
    pub(super) fn link(&mut self) {
        let width = |shared: &Shared| shared.numbers.group().parts.len();
        let mut widest_first: Vec<usize> = (0..self.all.len()).collect();
        widest_first.sort_by_key(|index| std::cmp::Reverse(width(&self.all[*index])));
        for to in widest_first {
            let narrow = &self.all[to];
            let wider = self.all.iter().enumerate().filter(|(_, wide)| {
                width(wide) > width(narrow)
                    && (wide.has_internal || !narrow.has_internal)
                    && narrow.numbers.group().parts_in(wide.numbers.group()).is_some()
            });
            let narrowest = wider.min_by_key(|(_, wide)| width(wide)).map(|(from, _)| from);
            if let Some(derived) = narrowest.and_then(|from| self.derive(from, to)) {
                self.all[to].is_derived = true;
                self.linked.push(derived);
            }
        }
    }

    /// The index of what gives the numbers of a group from those of another that has all of its columns.
    pub(super) fn derive(&mut self, from: usize, to: usize) -> Option<usize> {
        let known = self.derived.iter().position(|derived| (derived.from, derived.to) == (from, to));
        known.or_else(|| {
            let (wide, narrow) = (self.all[from].numbers.group(), self.all[to].numbers.group());
            let parts = narrow.parts_in(wide).filter(|_| !wide.has_side())?;
            self.derived.push(Derived::new(from, to, parts));
            Some(self.derived.len() - 1)
        })
    }

    /// A number by a derivation, from the wider group's.
    #[inline]
    pub(super) fn derived(&mut self, derived: usize, number: u32) -> u32 {
        let derived = &mut self.derived[derived];
        match self.all.get_disjoint_mut([derived.from, derived.to]) {
            Ok([from, to]) => derived.of(number, &*from.numbers, &mut *to.numbers),
            // From a group to itself.
            Err(_) => number,
        }
    }

    /// Finds the numbers of a block's rows.
    pub(super) fn fill(&mut self, batch: &FlowBatch, maps: &Maps, rows: std::ops::Range<u32>, admit: bool) {
        let is_internal = |row: &u32| batch.direction.value_or_default(*row as usize) == Direction::Internal as u8;
        self.internal_rows.clear();
        if self.all.iter().any(|shared| shared.has_internal) {
            self.internal_rows.extend(rows.clone().filter(is_internal));
        }
        let view = |pass| View { batch, maps, pass };
        let all = Rows::Range(rows.start, rows.end);
        // What is refused has no number that others follow from.
        for shared in self.all.iter_mut().filter(|shared| !shared.is_derived || !admit) {
            shared.numbers.number(&view(Pass::Src), all, admit, &mut shared.src);
            if shared.numbers.group().has_side() {
                shared.numbers.number(&view(Pass::Dst), all, admit, &mut shared.dst);
            }
            if shared.has_internal {
                let internal = Rows::List(&self.internal_rows);
                shared.numbers.number(&view(Pass::InternalIn), internal, admit, &mut shared.internal);
            }
        }
        if admit {
            self.fill_derived();
        }
    }

    /// Finds the numbers that follow from others.
    fn fill_derived(&mut self) {
        for linked in &self.linked {
            let derived = &mut self.derived[*linked];
            let Ok([from, to]) = self.all.get_disjoint_mut([derived.from, derived.to]) else { continue };
            let mut follow = |wide: &[u32], narrow: &mut Vec<u32>| {
                narrow.clear();
                narrow.extend(wide.iter().map(|number| derived.of(*number, &*from.numbers, &mut *to.numbers)));
            };
            follow(&from.src, &mut to.src);
            if to.has_internal {
                follow(&from.internal, &mut to.internal);
            }
        }
    }

    /// A group's numbers in a pass: one a row of the block, or one an internal flow.
    pub(super) fn of(&self, index: usize, pass: Pass) -> &[u32] {
        let shared = &self.all[index];
        match pass {
            Pass::Dst if shared.numbers.group().has_side() => &shared.dst,
            Pass::Src | Pass::Dst => &shared.src,
            Pass::InternalIn => &shared.internal,
        }
    }

    /// The number of the `other` row of a group's number.
    pub(super) fn other(&mut self, index: usize, number: u32) -> u32 {
        self.all[index].numbers.other(number)
    }

    /// The packed values of a group's number.
    #[inline]
    pub(super) fn words(&self, index: usize, number: u32) -> &[u64] {
        self.all[index].numbers.words(number)
    }

    /// Bytes held.
    pub(super) fn used_bytes(&self) -> usize {
        let numbers: usize = self.all.iter().map(|shared| shared.numbers.used_bytes()).sum();
        numbers + self.derived.iter().map(Derived::used_bytes).sum::<usize>()
    }

    /// Forgets every number. Only when no key is held.
    pub(super) fn clear(&mut self) {
        self.all.iter_mut().for_each(|shared| shared.numbers.clear());
        self.derived.iter_mut().for_each(Derived::clear);
    }
}
