//! How the key of one rollup is packed into words, and unpacked into the columns of emitted rows.

use super::intern::ID_BITS;
use super::view::Names;
use crate::flow::rollup::KeyColumn;
use crate::flow::{Addr, Field, Key, RollupDef, RollupRows};

/// Words a key can have: room for both addresses and everything else that default rollups group by.
pub(super) const WORDS_MAX: usize = 6;

/// Where one key stands: `bits` bits at `shift` in a word, holding the value plus 1, 0 = null. Texts and UUIDs are
/// interned. Addresses and 64-bit numbers have a bit for presence there, and their value in words of their own.
#[derive(Clone, Copy, Debug)]
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

impl Part {
    /// What the key's bits hold.
    #[inline]
    pub(super) fn get<const W: usize>(&self, key: &[u64; W]) -> u64 {
        (key[self.word] >> self.shift) & ((1 << self.bits) - 1)
    }

    fn mask(&self) -> u64 {
        ((1 << self.bits) - 1) << self.shift
    }

    fn clear<const W: usize>(&self, key: &mut [u64; W]) {
        key[self.word] &= !self.mask();
        let own = match self.store {
            Store::Ip => 2,
            Store::Wide => 1,
            Store::Number | Store::Text | Store::Uuid => 0,
        };
        key[self.own_word..self.own_word + own].fill(0);
    }
}

/// Layout of one rollup's key.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) parts: Vec<Part>,
    /// Words needed.
    pub(super) words: usize,
    /// `talkers`: the bit that says that the host is a customer.
    pub(super) customer: Option<(usize, u32)>,
    /// `talkers`: the bit of a host that found no room.
    pub(super) overflow: Option<(usize, u32)>,
}

impl Layout {
    /// The layout of a definition.
    ///
    /// # Errors
    /// Says which key cannot be one, or that there are too many.
    pub(super) fn of(def: &RollupDef) -> Result<Self, String> {
        let mut room: Vec<u32> = Vec::new();
        let mut parts = Vec::with_capacity(def.by.len());
        for key in &def.by {
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
        let talkers = def.has_cut_bytes();
        let customer = talkers.then(|| place(&mut room, 1));
        let overflow = talkers.then(|| place(&mut room, 1));
        let mut words = room.len();
        for part in &mut parts {
            part.own_word = words;
            words += match part.store {
                Store::Ip => 2,
                Store::Wide => 1,
                Store::Number | Store::Text | Store::Uuid => 0,
            };
        }
        if words > WORDS_MAX {
            return Err(format!("keys take {} bits; at most {} fit", words * 64, WORDS_MAX * 64));
        }
        Ok(Self { parts, words, customer, overflow })
    }

    /// The key of the row that takes what finds no room: direction, role, nas_id and reseller_id stay, the rest is null.
    pub(super) fn other<const W: usize>(&self, key: &[u64; W]) -> [u64; W] {
        let mut other = *key;
        for part in &self.parts {
            match part.key {
                Key::Role | Key::Field(Field::Direction | Field::NasId | Field::ResellerId) => {}
                _ => part.clear(&mut other),
            }
        }
        self.set_bit(&mut other, self.customer, false);
        self.set_bit(&mut other, self.overflow, true);
        other
    }

    /// `talkers`: the key of the `rest` row that a host is folded into.
    pub(super) fn rest<const W: usize>(&self, key: &[u64; W]) -> [u64; W] {
        let mut rest = self.other(key);
        self.set_bit(&mut rest, self.overflow, false);
        rest
    }

    fn set_bit<const W: usize>(&self, key: &mut [u64; W], bit: Option<(usize, u32)>, on: bool) {
        if let Some((word, shift)) = bit {
            key[word] = key[word] & !(1 << shift) | u64::from(on) << shift;
        }
    }

    /// Whether a bit is set.
    pub(super) fn bit<const W: usize>(key: &[u64; W], bit: Option<(usize, u32)>) -> bool {
        bit.is_some_and(|(word, shift)| key[word] >> shift & 1 == 1)
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

/// Turns packed keys back into columns.
#[derive(Debug)]
pub(super) struct Unpacker {
    /// For each key with a dictionary: interned number -> code in the rows' own dictionary, 0 = not yet.
    codes: Vec<Vec<u32>>,
}

impl Unpacker {
    pub(super) fn new(layout: &Layout) -> Self {
        Self { codes: vec![Vec::new(); layout.parts.len()] }
    }

    /// Appends the key columns of one row.
    pub(super) fn push<const W: usize>(
        &mut self,
        layout: &Layout,
        names: &Names,
        key: &[u64; W],
        rows: &mut RollupRows,
    ) {
        for ((part, (_, column)), codes) in layout.parts.iter().zip(&mut rows.keys).zip(&mut self.codes) {
            let held = part.get(key);
            let number = held.checked_sub(1);
            match column {
                KeyColumn::U8(c) => c.push(number.map(|n| n as u8)),
                KeyColumn::U16(c) => c.push(number.map(|n| n as u16)),
                KeyColumn::U32(c) => c.push(number.map(|n| n as u32)),
                KeyColumn::U64(c) => c.push(number.map(|_| key[part.own_word])),
                KeyColumn::Ip(c) => c.push(
                    number.map(|_| Addr(u128::from(key[part.own_word]) << 64 | u128::from(key[part.own_word + 1]))),
                ),
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
