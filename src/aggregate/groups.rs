//! The groups of key columns of all rollups, each once, with the numbers of the block at hand.

use super::combos::{Numbers, numbers};
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
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Groups {
    all: Vec<Shared>,
    /// Internal flows among the block's rows.
    pub(super) internal_rows: Vec<u32>,
}

impl Groups {
    /// The index of a group; `has_internal` says that internal flows are booked twice by it.
    pub(super) fn share(&mut self, group: &Group, has_internal: bool) -> usize {
        let index = self.all.iter().position(|shared| shared.numbers.group() == group).unwrap_or_else(|| {
            let (src, dst, internal) = (Vec::new(), Vec::new(), Vec::new());
            self.all.push(Shared { numbers: numbers(group), src, dst, internal, has_internal: false });
            self.all.len() - 1
        });
        self.all[index].has_internal |= has_internal;
        index
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
        for shared in &mut self.all {
            shared.numbers.number(&view(Pass::Src), all, admit, &mut shared.src);
            if shared.numbers.group().has_side() {
                shared.numbers.number(&view(Pass::Dst), all, admit, &mut shared.dst);
            }
            if shared.has_internal {
                let internal = Rows::List(&self.internal_rows);
                shared.numbers.number(&view(Pass::InternalIn), internal, admit, &mut shared.internal);
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
        self.all.iter().map(|shared| shared.numbers.used_bytes()).sum()
    }

    /// Forgets every number. Only when no key is held.
    pub(super) fn clear(&mut self) {
        self.all.iter_mut().for_each(|shared| shared.numbers.clear());
    }
}
