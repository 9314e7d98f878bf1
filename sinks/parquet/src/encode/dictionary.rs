//! One dictionary of texts or UUIDs for all parts.

use std::borrow::Cow;
use std::hash::Hash;

use hashbrown::HashMap;
use sink_api::Text;
use sink_api::column::{Dict, DictValue, Uuid};

use super::content::{Content, Distinct};
use super::lanes::Lanes;
use super::places::{Bring, Places};

/// A value that dictionaries are ordered by.
pub(super) trait Ranked: DictValue + Hash {
    /// Orders as values do, where it differs: most comparisons then need no look at the values.
    fn start(&self) -> u64;
}

impl Ranked for Uuid {
    fn start(&self) -> u64 {
        self.as_u64_pair().0
    }
}

impl Ranked for Text {
    fn start(&self) -> u64 {
        let mut start = [0; 8];
        start.iter_mut().zip(self.bytes()).for_each(|(to, from)| *to = from);
        u64::from_be_bytes(start)
    }
}

/// The values that occur in stored rows, in order, and all parts with what their codes mean.
pub(super) struct Dictionary<'a, T> {
    pub values: Vec<T>,
    /// Rows' codes of each part, and by such a code that of all parts: 0 is null, `n` is value `n - 1`.
    parts: Vec<(Cow<'a, [u32]>, Vec<u32>)>,
    has_nulls: bool,
}

impl<'a, T: Ranked + 'a> Dictionary<'a, T> {
    /// Of all rows, or of these in this order.
    pub(super) fn new(parts: impl Iterator<Item = &'a Dict<T>>, picked: Option<&[u32]>) -> Self {
        let (values, mut parts) = merged(parts);
        if let Some(rows) = picked {
            let all: Vec<u32> = parts.iter().flat_map(|(codes, own)| codes.iter().map(|c| own[*c as usize])).collect();
            let codes = rows.iter().map(|row| all[*row as usize]).collect();
            parts = vec![(Cow::Owned(codes), (0..=values.len() as u32).collect())];
        }
        let mut used = vec![false; values.len() + 1];
        for (codes, own) in &parts {
            let mut occurs = vec![false; own.len()];
            codes.iter().for_each(|code| occurs[*code as usize] = true);
            own.iter().zip(occurs).filter(|(_, occurs)| *occurs).for_each(|(code, _)| used[*code as usize] = true);
        }
        let mut by_value: Vec<(u64, u32)> =
            (1..).zip(&values).filter(|(code, _)| used[*code as usize]).map(|(code, v)| (v.start(), code)).collect();
        let value = |code: u32| values[code as usize - 1];
        by_value.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| value(a.1).cmp(value(b.1))));
        let mut renamed = vec![0u32; values.len() + 1];
        (1..).zip(&by_value).for_each(|(rank, (_, code))| renamed[*code as usize] = rank);
        for (_, own) in &mut parts {
            own.iter_mut().for_each(|code| *code = renamed[*code as usize]);
        }
        Self { values: by_value.iter().map(|(_, code)| value(*code).clone()).collect(), parts, has_nulls: used[0] }
    }

    /// One code a row in the order in which rows come, 0 = null.
    pub(super) fn codes(&self) -> Vec<u32> {
        let mut all = Vec::with_capacity(self.parts.iter().map(|(codes, _)| codes.len()).sum());
        self.parts.iter().for_each(|(codes, own)| all.extend(codes.iter().map(|code| own[*code as usize])));
        all
    }

    /// The same values, with these rows' codes instead.
    pub(super) fn with_codes(self, codes: Vec<u32>) -> Self {
        let own = (0..=self.values.len() as u32).collect();
        Self { parts: vec![(Cow::Owned(codes), own)], ..self }
    }

    /// What is encoded.
    pub(super) fn content(self, places: Option<&Places>, distinct: fn(Vec<T>) -> Distinct) -> Content {
        if self.values.is_empty() {
            return Content::Null;
        }
        if self.values.len() == 1 && !self.has_nulls {
            return Content::Same(distinct(self.values));
        }
        let (codes, present) = self.lanes(places);
        Content::Coded(distinct(self.values), codes, present)
    }

    /// One code a row, of which 0 is the first value, and which rows are set unless all are.
    fn lanes(&self, places: Option<&Places>) -> (Lanes, Option<Vec<u8>>) {
        let count = self.values.len();
        let codes = if count <= 1 << u8::BITS {
            Lanes::U8(self.bring(places, |code| code.saturating_sub(1) as u8))
        } else if count <= 1 << u16::BITS {
            Lanes::U16(self.bring(places, |code| code.saturating_sub(1) as u16))
        } else {
            Lanes::U32(self.bring(places, |code| code.saturating_sub(1)))
        };
        (codes, self.has_nulls.then(|| self.bring(places, |code| u8::from(code != 0))))
    }

    fn bring<C: Copy>(&self, places: Option<&Places>, view: impl Fn(u32) -> C) -> Vec<C> {
        let mut all = Bring::new(places, self.parts.iter().map(|(codes, _)| codes.len()).sum());
        for (codes, own) in &self.parts {
            let own: Vec<C> = own.iter().map(|code| view(*code)).collect();
            all.part(codes, |code| own[code as usize]);
        }
        all.finish()
    }
}

type Parts<'a> = Vec<(Cow<'a, [u32]>, Vec<u32>)>;

/// All values of all parts, each once (found by its number where it has one), and what the parts' codes mean: 0 is null, `n`
/// is value `n - 1`.
fn merged<'a, T: Ranked + 'a>(parts: impl Iterator<Item = &'a Dict<T>>) -> (Vec<&'a T>, Parts<'a>) {
    let mut known: HashMap<T, u32, foldhash::fast::RandomState> = HashMap::default();
    let mut by_number: Vec<u32> = Vec::new();
    let mut values: Vec<&T> = Vec::new();
    let mut all = Vec::new();
    for part in parts {
        let mut own = Vec::with_capacity(part.values().len() + 1);
        own.push(0);
        for (value, number) in part.numbered_values() {
            let number = number as usize;
            if let Some(&code) = by_number.get(number).filter(|code| **code != 0) {
                own.push(code);
                continue;
            }
            let code = known.get(value).copied().unwrap_or_else(|| {
                values.push(value);
                known.insert(value.clone(), values.len() as u32);
                values.len() as u32
            });
            if number != 0 {
                by_number.resize(by_number.len().max(number + 1), 0);
                by_number[number] = code;
            }
            own.push(code);
        }
        all.push((Cow::Borrowed(part.codes()), own));
    }
    (values, all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_name_the_rows_values_in_order(
            rows in prop::collection::vec(prop::option::of("[a-c]{0,9}"), 1..200),
            part in 1usize..80,
            chosen in prop::collection::vec(any::<bool>(), 200),
        ) {
            let dicts: Vec<Dict<Text>> = rows.chunks(part).map(|rows| {
                let mut dict = Dict::default();
                dict.add_value("not used".into());
                rows.iter().for_each(|row| dict.push(row.as_deref().map(Text::from).as_ref()));
                dict
            }).collect();
            let picked: Vec<u32> = (0..rows.len() as u32).rev().filter(|row| chosen[*row as usize]).collect();
            for picked in [None, Some(&picked[..])] {
                let want: Vec<Option<Text>> = match picked {
                    None => rows.iter().map(|row| row.as_deref().map(Text::from)).collect(),
                    Some(picked) => picked.iter().map(|row| rows[*row as usize].as_deref().map(Text::from)).collect(),
                };
                let dictionary = Dictionary::new(dicts.iter(), picked);
                let mut values: Vec<Text> = want.iter().flatten().cloned().collect();
                values.sort();
                values.dedup();
                prop_assert_eq!(&dictionary.values, &values);
                let named = dictionary.codes().into_iter().map(|code| code.checked_sub(1).map(|at| values[at as usize].clone()));
                prop_assert_eq!(named.collect::<Vec<_>>(), want.clone());
                let (Lanes::U8(codes), present) = dictionary.lanes(None) else { panic!("of few values") };
                prop_assert_eq!(present.is_some(), want.contains(&None));
                for (row, (code, value)) in codes.iter().zip(&want).enumerate() {
                    prop_assert_eq!(present.as_ref().is_none_or(|present| present[row] != 0), value.is_some());
                    prop_assert!(value.as_ref().is_none_or(|value| values[usize::from(*code)] == *value));
                }
            }
        }
    }
}
