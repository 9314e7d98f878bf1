//! Rows on their way out: keys back in columns.

use super::layout::{Layout, Part, Source};
use super::view::Names;
use crate::flow::rollup::KeyColumn;
use crate::flow::{Addr, Measures, RollupDef, RollupRows};

/// Rows that one entry of an emission holds; the log refuses entries of more than 2^20.
const ENTRY_ROWS: usize = 1 << 19;

/// Rows of one rollup.
#[derive(Debug)]
pub(super) struct Out {
    /// Entries that are full.
    full: Vec<RollupRows>,
    rows: RollupRows,
    empty: RollupRows,
    columns: Vec<Source>,
    /// For each key with a dictionary: interned number -> code in the rows' own dictionary, 0 = not yet.
    codes: Vec<Vec<u32>>,
}

impl Out {
    pub(super) fn new(def: &RollupDef, layout: &Layout) -> Option<Self> {
        let empty = RollupRows::new(def)?;
        let codes = vec![Vec::new(); layout.columns.len()];
        Some(Self { full: Vec::new(), rows: empty.clone(), empty, columns: layout.columns.clone(), codes })
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

    /// Appends a row by the packed values of its groups.
    pub(super) fn push(&mut self, names: &Names, first: &[u64], second: &[u64], start: i64, measures: &Measures) {
        self.begin_row();
        for ((source, (_, column)), codes) in self.columns.iter().zip(&mut self.rows.keys).zip(&mut self.codes) {
            match source {
                Source::First(part) => push_part(part, first, names, column, codes),
                Source::Second(part) => push_part(part, second, names, column, codes),
                // Only `talkers` has these.
                Source::Host | Source::Role => {}
            }
        }
        self.rows.push_measures(start, measures);
    }

    /// Appends a row of `talkers`.
    pub(super) fn push_host(
        &mut self,
        names: &Names,
        owner: &[u64],
        (host, role): (Option<Addr>, u8),
        start: i64,
        (measures, cut_bytes): (&Measures, u64),
    ) {
        self.begin_row();
        for ((source, (_, column)), codes) in self.columns.iter().zip(&mut self.rows.keys).zip(&mut self.codes) {
            match (source, column) {
                (Source::First(part), column) => push_part(part, owner, names, column, codes),
                (Source::Host, KeyColumn::Ip(hosts)) => hosts.push(host),
                (Source::Role, KeyColumn::U8(roles)) => roles.push(Some(role)),
                _ => {}
            }
        }
        self.rows.push_measures(start, measures);
        self.rows.cut_bytes.push(cut_bytes);
    }

    fn begin_row(&mut self) {
        if self.rows.len() == ENTRY_ROWS {
            self.full.push(std::mem::replace(&mut self.rows, self.empty.clone()));
            self.codes.iter_mut().for_each(Vec::clear);
        }
    }
}

#[inline]
fn push_part(part: &Part, words: &[u64], names: &Names, column: &mut KeyColumn, codes: &mut Vec<u32>) {
    let held = part.get(words);
    let number = held.checked_sub(1);
    match column {
        KeyColumn::U8(c) => c.push(number.map(|n| n as u8)),
        KeyColumn::U16(c) => c.push(number.map(|n| n as u16)),
        KeyColumn::U32(c) => c.push(number.map(|n| n as u32)),
        KeyColumn::U64(c) => c.push(number.map(|_| words[part.own_word])),
        KeyColumn::Ip(c) => {
            c.push(number.map(|_| Addr(u128::from(words[part.own_word]) << 64 | u128::from(words[part.own_word + 1]))))
        }
        KeyColumn::Text(c) => {
            let code = code_of(codes, held, || names.texts.value(held as u32).map(|v| c.add_value(v.clone())));
            c.push_code(code);
        }
        KeyColumn::Uuid(c) => {
            let code = code_of(codes, held, || names.uuids.value(held as u32).map(|v| c.add_value(*v)));
            c.push_code(code);
        }
    }
}

fn code_of(codes: &mut Vec<u32>, id: u64, add: impl FnOnce() -> Option<u32>) -> u32 {
    if id == 0 {
        return 0;
    }
    if codes.len() <= id as usize {
        codes.resize((id as usize + 1).next_power_of_two(), 0);
    }
    let code = &mut codes[id as usize];
    if *code == 0 {
        *code = add().unwrap_or_default();
    }
    *code
}
