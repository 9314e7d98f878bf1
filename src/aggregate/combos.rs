//! Numbers for the combinations of values that a group of key columns has.

use std::hash::{BuildHasher, Hasher};

use super::layout::{Group, WORDS_MAX};
use super::view::{Rows, View, pack};
use crate::prefetch::prefetch;

/// Bit of a number that says: there was no room for this combination, the number is that of its `other` row.
pub(super) const REFUSED: u32 = 1 << 31;
/// How many combinations ahead their entries are fetched into the cache.
const WORDS_AHEAD: usize = 24;
/// Entries the index starts with; a power of two.
const INDEX_MIN: usize = 1024;

/// Numbers of one group, whatever its number of words.
pub(super) trait Numbers: Send {
    fn group(&self) -> &Group;
    /// The numbers of some rows' combinations. New ones only when `admit` says so.
    fn number(&mut self, view: &View<'_>, rows: Rows<'_>, admit: bool, numbers: &mut Vec<u32>);
    /// The number of one combination, given now when it is new.
    fn number_of(&mut self, words: &[u64]) -> u32;
    /// The number of the `other` row of a combination.
    fn other(&mut self, number: u32) -> u32;
    /// The packed values of a number.
    fn words(&self, number: u32) -> &[u64];
    fn used_bytes(&self) -> usize;
    /// Forgets every combination.
    fn clear(&mut self);
}

/// Numbers for a group.
pub(super) fn numbers(group: &Group) -> Box<dyn Numbers> {
    match group.words {
        0..=1 => Box::new(Combos::<1>::new(group)),
        2 => Box::new(Combos::<2>::new(group)),
        _ => Box::new(Combos::<WORDS_MAX>::new(group)),
    }
}

/// Open addressing with the values inline, at most half full; number 0 = empty.
struct Combos<const W: usize> {
    group: Group,
    /// By number minus 1.
    values: Vec<[u64; W]>,
    /// By number minus 1: the number of its `other` row, 0 = not known yet.
    others: Vec<u32>,
    index: Vec<([u64; W], u32)>,
    state: foldhash::fast::RandomState,
    /// Values of the rows at hand, by word.
    planes: [Vec<u64>; W],
    hashes: Vec<u64>,
}

impl<const W: usize> Combos<W> {
    fn new(group: &Group) -> Self {
        Self {
            group: group.clone(),
            values: Vec::new(),
            others: Vec::new(),
            index: vec![([0; W], 0); INDEX_MIN],
            // Seeded at random: addresses and ports can be chosen by an attacker.
            state: foldhash::fast::RandomState::default(),
            planes: std::array::from_fn(|_| Vec::new()),
            hashes: Vec::new(),
        }
    }

    #[inline]
    fn hash(&self, words: &[u64; W]) -> u64 {
        let mut hasher = self.state.build_hasher();
        for word in words {
            hasher.write_u64(*word);
        }
        hasher.finish()
    }

    #[inline]
    fn place(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.index.len() - 1)
    }

    /// Where a combination stands or belongs, and its number; 0 when it has none.
    #[inline]
    fn find(&self, hash: u64, words: &[u64; W]) -> (usize, u32) {
        let mut at = self.place(hash);
        loop {
            let (held, number) = &self.index[at];
            if *number == 0 || held == words {
                return (at, *number);
            }
            at = (at + 1) & (self.index.len() - 1);
        }
    }

    #[cold]
    fn insert(&mut self, hash: u64, words: &[u64; W]) -> u32 {
        if (self.values.len() + 1) * 2 > self.index.len() {
            self.index = vec![([0; W], 0); self.index.len() * 2];
            for (number, words) in self.values.iter().enumerate() {
                let (at, _) = self.find(self.hash(words), words);
                self.index[at] = (*words, number as u32 + 1);
            }
        }
        self.values.push(*words);
        self.others.push(0);
        let number = self.values.len() as u32;
        let (at, _) = self.find(hash, words);
        self.index[at] = (*words, number);
        number
    }

    fn number_of_words(&mut self, words: &[u64; W]) -> u32 {
        let hash = self.hash(words);
        match self.find(hash, words).1 {
            0 => self.insert(hash, words),
            number => number,
        }
    }

    #[cold]
    fn new_number(&mut self, hash: u64, words: &[u64; W], admit: bool) -> u32 {
        if admit {
            return self.insert(hash, words);
        }
        let mut other = *words;
        self.group.clear_for_other(&mut other);
        // Their number is bounded by the platform's own tables (access servers, resellers).
        self.number_of_words(&other) | REFUSED
    }
}

impl<const W: usize> Numbers for Combos<W> {
    fn group(&self) -> &Group {
        &self.group
    }

    fn number(&mut self, view: &View<'_>, rows: Rows<'_>, admit: bool, numbers: &mut Vec<u32>) {
        let mut planes = std::mem::replace(&mut self.planes, std::array::from_fn(|_| Vec::new()));
        pack(&self.group, view, rows, &mut planes);
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        let words = |row: usize| -> [u64; W] { std::array::from_fn(|word| planes[word][row]) };
        hashes.extend((0..planes[0].len()).map(|row| self.hash(&words(row))));
        let fetch = |combos: &Self, hash: &u64| prefetch(&combos.index[combos.place(*hash)]);
        hashes.iter().take(WORDS_AHEAD).for_each(|hash| fetch(self, hash));
        numbers.clear();
        numbers.extend(hashes.iter().enumerate().map(|(row, hash)| {
            hashes.get(row + WORDS_AHEAD).inspect(|ahead| fetch(self, ahead));
            let words = words(row);
            match self.find(*hash, &words).1 {
                0 => self.new_number(*hash, &words, admit),
                number => number,
            }
        }));
        (self.planes, self.hashes) = (planes, hashes);
    }

    fn number_of(&mut self, words: &[u64]) -> u32 {
        let mut own = [0; W];
        own.copy_from_slice(&words[..W]);
        self.number_of_words(&own)
    }

    fn other(&mut self, number: u32) -> u32 {
        let at = number as usize - 1;
        if self.others[at] == 0 {
            let mut words = self.values[at];
            self.group.clear_for_other(&mut words);
            self.others[at] = self.number_of_words(&words);
        }
        self.others[at]
    }

    fn words(&self, number: u32) -> &[u64] {
        &self.values[number as usize - 1]
    }

    fn used_bytes(&self) -> usize {
        self.values.capacity() * (size_of::<[u64; W]>() + size_of::<u32>())
            + self.index.len() * size_of::<([u64; W], u32)>()
    }

    fn clear(&mut self) {
        *self = Self::new(&self.group);
    }
}
