//! How the key of a rollup is split into two groups of columns, and how a group's values are packed into words.
//!
//! The first group says whose traffic it is (nas_id, site, reseller_id, subscriber_id), the second what it was. Each distinct
//! combination of a group's values gets a number (`combos`), so a key is two small numbers, and rollups share the work:
//! `usage` and `usage_apps` have their first group in common, `traffic` and `usage_apps` their second.

use super::intern::ID_BITS;
use crate::flow::rollup::{KeyColumn, Shape};
use crate::flow::{Field, Key, RollupDef};

/// Words the values of a group can take: room for both addresses and much else.
pub(super) const WORDS_MAX: usize = 6;

/// Where one key stands: `bits` bits at `shift` in a word, holding the value plus 1, 0 = null. Texts and UUIDs are
/// interned. Addresses and 64-bit numbers have a bit for presence there, and their value in words of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) key: Key,
    pub(super) store: Store,
    pub(super) word: usize,
    pub(super) shift: u32,
    bits: u32,
    /// First of its own words, for [`Store::Ip`] (two, high first) and [`Store::Wide`] (one).
    pub(super) own_word: usize,
}

/// Storage type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Number,
    Wide,
    Ip,
    Text,
    Uuid,
}

impl Store {
    /// Words of its own that a value takes.
    fn own_words(self) -> usize {
        match self {
            Self::Ip => 2,
            Self::Wide => 1,
            Self::Number | Self::Text | Self::Uuid => 0,
        }
    }
}

impl Part {
    /// What the key's bits hold.
    #[inline]
    pub(super) fn get(&self, words: &[u64]) -> u64 {
        (words[self.word] >> self.shift) & ((1 << self.bits) - 1)
    }

    /// Writes what another group's words hold of the same key, `from` there.
    pub(super) fn copy(&self, from: &Part, words: &[u64], into: &mut [u64]) {
        into[self.word] |= from.get(words) << self.shift;
        let own = self.store.own_words();
        into[self.own_word..self.own_word + own].copy_from_slice(&words[from.own_word..from.own_word + own]);
    }

    fn clear(&self, words: &mut [u64]) {
        words[self.word] &= !(((1 << self.bits) - 1) << self.shift);
        words[self.own_word..self.own_word + self.store.own_words()].fill(0);
    }
}

/// Layout of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) parts: Vec<Part>,
    /// Words needed.
    pub(super) words: usize,
}

impl Group {
    fn of(keys: &[Key]) -> Result<Self, String> {
        let mut room: Vec<u32> = Vec::new();
        let mut parts = Vec::with_capacity(keys.len());
        for key in keys {
            let (store, bits) = match KeyColumn::for_key(*key) {
                None => return Err(format!("{:?} cannot be grouped by: times are no keys", key.name())),
                Some(KeyColumn::U8(_)) => (Store::Number, 9),
                Some(KeyColumn::U16(_)) => (Store::Number, 17),
                Some(KeyColumn::U32(_)) => (Store::Number, 33),
                Some(KeyColumn::U64(_)) => (Store::Wide, 1),
                Some(KeyColumn::Ip(_)) => (Store::Ip, 1),
                Some(KeyColumn::Text(_)) => (Store::Text, ID_BITS),
                Some(KeyColumn::Uuid(_)) => (Store::Uuid, ID_BITS),
            };
            let (word, shift) = place(&mut room, bits);
            parts.push(Part { key: *key, store, word, shift, bits, own_word: 0 });
        }
        let mut words = room.len().max(1);
        for part in &mut parts {
            part.own_word = words;
            words += part.store.own_words();
        }
        if words > WORDS_MAX {
            return Err(format!("keys take {} bits; at most {} fit", words * 64, WORDS_MAX * 64));
        }
        Ok(Self { parts, words })
    }

    /// The parts of this group, each with the same key's in a group that has all of them.
    pub(super) fn parts_in(&self, other: &Self) -> Option<Vec<(Part, Part)>> {
        let same = |part: &Part| Some((*part, *other.parts.iter().find(|of| of.key == part.key)?));
        self.parts.iter().map(same).collect()
    }

    /// Whether its values depend on the side that a flow is looked at from.
    pub(super) fn has_side(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.key, Key::Host | Key::Role))
    }

    /// Turns values into those of the row that takes what finds no room: direction, role, nas_id and reseller_id stay, the
    /// rest is null.
    pub(super) fn clear_for_other(&self, words: &mut [u64]) {
        for part in &self.parts {
            match part.key {
                Key::Role | Key::Field(Field::Direction | Field::NasId | Field::ResellerId) => {}
                _ => part.clear(words),
            }
        }
    }
}

/// The second part of a rollup's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Second {
    Group(Group),
    /// `talkers`: host and role.
    Host,
}

/// Where a column of a rollup's rows comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    First(Part),
    Second(Part),
    Host,
    Role,
}

/// Layout of one rollup's key.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) first: Group,
    pub(super) second: Second,
    /// In the order of [`RollupDef::by`].
    pub(super) columns: Vec<Source>,
}

impl Layout {
    /// The layout of a definition.
    ///
    /// # Errors
    /// Says which key cannot be one, or that there are too many.
    pub(super) fn of(def: &RollupDef) -> Result<Self, String> {
        let is_whose =
            |key: &Key| matches!(key, Key::Field(Field::NasId | Field::Site | Field::ResellerId | Field::SubscriberId));
        let is_host = |key: &Key| matches!(key, Key::Host | Key::Role);
        let mut whose: Vec<Key> = def.by.iter().copied().filter(is_whose).collect();
        // One order, so that rollups find that they share a group.
        whose.sort_unstable();
        let first = Group::of(&whose)?;
        let what: Vec<Key> = def.by.iter().copied().filter(|key| !is_whose(key)).collect();
        let second = if matches!(def.shape, Shape::Talkers { .. }) {
            if !what.iter().all(is_host) || what.len() != 2 {
                return Err("talkers are grouped by host and role".into());
            }
            Second::Host
        } else {
            Second::Group(Group::of(&what)?)
        };
        let part = |group: &Group, key: Key| group.parts.iter().find(|part| part.key == key).copied();
        let mut columns = Vec::with_capacity(def.by.len());
        for key in &def.by {
            let of_second = match &second {
                Second::Group(group) => part(group, *key).map(Source::Second),
                Second::Host => Some(if *key == Key::Host { Source::Host } else { Source::Role }),
            };
            columns.extend(part(&first, *key).map(Source::First).or(of_second));
        }
        Ok(Self { first, second, columns })
    }
}

/// Finds room for some bits in the first word that has it; words are filled from bit 0.
fn place(room: &mut Vec<u32>, bits: u32) -> (usize, u32) {
    let word = match room.iter().position(|used| used + bits <= 64) {
        Some(word) => word,
        None => {
            room.push(0);
            room.len() - 1
        }
    };
    let shift = room[word];
    room[word] += bits;
    (word, shift)
}
