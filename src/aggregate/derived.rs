//! Numbers that follow from others: a group whose columns another group has as well needs no look-up of its own, since a
//! combination of the wider group has one combination of the narrower.

use super::combos::Numbers;
use super::layout::{Part, WORDS_MAX};

/// How the numbers of one group follow from those of a wider one.
pub(super) struct Derived {
    /// Index of the wider group.
    pub(super) from: usize,
    /// Index of the narrower group.
    pub(super) to: usize,
    /// Each part of the narrower group, with the wider group's of the same key.
    parts: Vec<(Part, Part)>,
    /// By number of the wider group: number of the narrower, 0 = not known yet.
    known: Vec<u32>,
}

impl Derived {
    pub(super) fn new(from: usize, to: usize, parts: Vec<(Part, Part)>) -> Self {
        Self { from, to, parts, known: Vec::new() }
    }

    /// The narrower group's number of a number of the wider one's.
    #[inline]
    pub(super) fn of(&mut self, number: u32, from: &dyn Numbers, to: &mut dyn Numbers) -> u32 {
        match self.known.get(number as usize) {
            Some(&known) if known != 0 => known,
            _ => self.find(number, from, to),
        }
    }

    #[cold]
    fn find(&mut self, number: u32, from: &dyn Numbers, to: &mut dyn Numbers) -> u32 {
        let (words, mut own) = (from.words(number), [0; WORDS_MAX]);
        self.parts.iter().for_each(|(part, wider)| part.copy(wider, words, &mut own));
        let found = to.number_of(&own);
        if self.known.len() <= number as usize {
            self.known.resize(number as usize + 1, 0);
        }
        self.known[number as usize] = found;
        found
    }

    /// Bytes held.
    pub(super) fn used_bytes(&self) -> usize {
        self.known.capacity() * size_of::<u32>()
    }

    /// Forgets every number.
    pub(super) fn clear(&mut self) {
        self.known = Vec::new();
    }
}
