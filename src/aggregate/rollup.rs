//! The sums of one rollup between two emissions.

use std::collections::HashMap;
use std::ops::Range;

use super::cells::{Buckets, Pool};
use super::layout::{Layout, Unpacker};
use super::share::{Share, Width};
use super::table::Table;
use super::talkers::{self, Cuts};
use super::view::{Maps, Names, Pass};
use crate::flow::rollup::Shape;
use crate::flow::{Direction, FlowBatch, Key, Measures, RollupDef, RollupRows};

/// Some consecutive rows of a batch.
pub(super) struct Block<'a> {
    pub(super) batch: &'a FlowBatch,
    pub(super) maps: &'a Maps,
    pub(super) rows: Range<u32>,
    /// Shares for the rollup's width, one a row of `rows`.
    pub(super) shares: &'a [Share],
    pub(super) position: u64,
    pub(super) now_ms: i64,
    /// Whether there is room for new keys.
    pub(super) admit: bool,
    /// While reading again after a crash: what was emitted then.
    pub(super) emitted: Option<&'a Emitted>,
}

/// What had been emitted of one rollup before a crash.
#[derive(Clone, Debug)]
pub(super) struct Emitted {
    pub(super) upto: u64,
    /// By number of bucket.
    pub(super) open: HashMap<i64, u64>,
}

impl Emitted {
    /// Whether the shares of a position in a bucket are in a row already.
    pub(super) fn contains(&self, position: u64, bucket: i64) -> bool {
        position <= self.open.get(&bucket).copied().unwrap_or(self.upto)
    }
}

/// Rows that one entry of an emission holds; the log refuses entries of more than 2^20.
const ENTRY_ROWS: usize = 1 << 19;

/// Rows on their way out.
#[derive(Debug)]
pub(super) struct Out {
    /// Entries that are full.
    full: Vec<RollupRows>,
    rows: RollupRows,
    empty: RollupRows,
    unpacker: Unpacker,
}

impl Out {
    fn new(def: &RollupDef, layout: &Layout) -> Option<Self> {
        let empty = RollupRows::new(def)?;
        Some(Self { full: Vec::new(), rows: empty.clone(), empty, unpacker: Unpacker::new(layout) })
    }

    /// Rows held.
    pub(super) fn len(&self) -> usize {
        self.full.iter().map(RollupRows::len).sum::<usize>() + self.rows.len()
    }

    /// The entry that is being filled.
    pub(super) fn last(&self) -> &RollupRows {
        &self.rows
    }

    /// Every entry.
    pub(super) fn into_entries(self) -> impl Iterator<Item = RollupRows> {
        self.full.into_iter().chain([self.rows]).filter(|rows| !rows.is_empty())
    }

    fn push<const W: usize>(&mut self, layout: &Layout, names: &Names, key: &[u64; W], start: i64, row: &Row) {
        if self.rows.len() == ENTRY_ROWS {
            self.full.push(std::mem::replace(&mut self.rows, self.empty.clone()));
            self.unpacker = Unpacker::new(layout);
        }
        self.unpacker.push(layout, names, key, &mut self.rows);
        self.rows.push_measures(start, &row.measures);
        self.rows.cut_bytes.extend(row.cut_bytes);
    }
}

/// Sums of a row; `cut_bytes` for `talkers` only.
struct Row {
    measures: Measures,
    cut_bytes: Option<u64>,
}

/// One rollup, whatever the size of its key.
pub(super) trait State: Send {
    /// Books some rows. Gives how many shares found no room for their key.
    fn add(&mut self, block: &Block<'_>, pool: &mut Pool) -> u64;
    /// Moves the first bucket into rows. Gives its number.
    fn drain_first(&mut self, names: &Names, pool: &mut Pool, out: &mut Out) -> Option<i64>;
    /// Forgets keys that nothing is pending for, where it pays.
    fn tidy(&mut self, pool: &mut Pool);
    fn buckets(&self) -> &Buckets;
    /// Bytes held, without pages.
    fn used_bytes(&self) -> usize;
    fn keys(&self) -> usize;
    fn new_out(&self) -> Option<Out>;
}

/// See [`State`]. `W` is the number of words of its key.
pub(super) struct Rollup<const W: usize> {
    def: RollupDef,
    layout: Layout,
    width: Width,
    passes: Vec<Pass>,
    /// One table; `talkers` has a second one for hosts that are no customers, marked alike.
    tables: Vec<Table<W>>,
    cuts: Cuts<W>,
    rows: Vec<u32>,
}

/// The state of a definition.
pub(super) fn state(def: &RollupDef) -> Result<Box<dyn State>, String> {
    let layout = Layout::of(def)?;
    Ok(match layout.words {
        0..=2 => Box::new(Rollup::<2>::new(def, layout)),
        3 => Box::new(Rollup::<3>::new(def, layout)),
        _ => Box::new(Rollup::<{ super::layout::WORDS_MAX }>::new(def, layout)),
    })
}

impl<const W: usize> Rollup<W> {
    fn new(def: &RollupDef, layout: Layout) -> Self {
        let mut passes = vec![Pass::Src];
        if def.by.contains(&Key::Host) {
            passes.push(Pass::Dst);
        } else if def.shape == Shape::PerSubscriber {
            passes.push(Pass::InternalIn);
        }
        let tables = (0..if def.has_cut_bytes() { 2 } else { 1 }).map(|_| Table::default()).collect();
        Self {
            def: def.clone(),
            layout,
            width: Width::new(def.bucket_ms),
            passes,
            tables,
            cuts: Cuts::default(),
            rows: Vec::new(),
        }
    }

    /// The rows of a block that a pass books into a table.
    fn choose_rows(&mut self, block: &Block<'_>, pass: Pass, table: usize) {
        let direction = |row: &u32| block.batch.direction.value_or_default(*row as usize);
        let rows = block.rows.clone();
        self.rows.clear();
        if pass == Pass::InternalIn {
            self.rows.extend(rows.filter(|row| direction(row) == Direction::Internal as u8));
        } else if self.tables.len() == 1 {
            self.rows.extend(rows);
        } else {
            self.rows.extend(rows.filter(|row| pass.host_is_customer(direction(row)) == (table == 0)));
        }
    }

    /// `talkers`: folds all but the heaviest hosts that are no customers into their `rest` rows.
    fn fold_others(&mut self, pool: &mut Pool) {
        let Some(others) = self.tables.get_mut(1).filter(|t| t.slots.len() > talkers::OTHERS_HELD_MAX) else { return };
        let fold = talkers::choose_fold(&self.layout, &mut others.slots, &others.buckets, pool);
        if let Some(fold) = fold {
            for (number, rest, cut) in fold.cuts {
                *self.cuts.entry((number, rest)).or_default() += cut;
            }
            others.remap(pool, &fold.kept, &fold.target);
        }
    }
}

impl<const W: usize> State for Rollup<W> {
    fn add(&mut self, block: &Block<'_>, pool: &mut Pool) -> u64 {
        let mut refused = 0;
        for at in 0..self.tables.len() {
            self.tables[at].mark(block);
            for index in 0..self.passes.len() {
                let pass = self.passes[index];
                self.choose_rows(block, pass, at);
                refused += self.tables[at].add(&self.layout, block, pass, &self.rows, pool);
            }
        }
        self.fold_others(pool);
        refused
    }

    fn drain_first(&mut self, names: &Names, pool: &mut Pool, out: &mut Out) -> Option<i64> {
        let mut number = None;
        let mut cells = Vec::new();
        for table in &mut self.tables {
            let (first, sums) = table.take_first(pool)?;
            number = Some(first);
            cells.extend(sums.into_iter().map(|(slot, measures)| (*table.slots.key(slot), measures)));
        }
        let number = number?;
        let start = number.saturating_mul(self.width.ms());
        let mut push = |key: &[u64; W], measures: Measures, cut_bytes: Option<u64>| {
            out.push(&self.layout, names, key, start, &Row { measures, cut_bytes });
        };
        match self.def.shape {
            Shape::Talkers { others } => {
                let split = talkers::split(&self.layout, others, number, cells, &mut self.cuts);
                for (key, measures) in split.hosts {
                    push(&key, measures, Some(0));
                }
                for (key, (measures, cut_bytes)) in split.rests {
                    push(&key, measures, Some(cut_bytes));
                }
            }
            Shape::Plain | Shape::PerSubscriber => {
                for (key, measures) in cells {
                    push(&key, measures, None);
                }
            }
        }
        Some(number)
    }

    fn tidy(&mut self, pool: &mut Pool) {
        self.tables.iter_mut().for_each(|table| table.tidy(pool));
        if self.tables[0].buckets.is_empty() {
            self.cuts.clear();
        }
    }

    fn buckets(&self) -> &Buckets {
        &self.tables[0].buckets
    }

    fn used_bytes(&self) -> usize {
        self.tables.iter().map(Table::used_bytes).sum()
    }

    fn keys(&self) -> usize {
        self.tables.iter().map(|table| table.slots.len()).sum()
    }

    fn new_out(&self) -> Option<Out> {
        Out::new(&self.def, &self.layout)
    }
}
