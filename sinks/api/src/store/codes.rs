//! Key values as 64-bit codes: equal values have equal codes within one [`Codes`].
//!
//! Null is 0 and a number `n` below 2^63 - 1 is `n + 1`; everything else is the number of an entry in a table, with the top
//! bit set. So the usual keys (ports, protocols, IPv4 addresses) cost no look-up, and dictionary columns cost one look-up a
//! distinct value.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::Addr;
use crate::batch::ColumnRef;
use crate::column::{Column, Dict, DictValue};
use crate::value::{Kind, Value};

const TABLE: u64 = 1 << 63;

/// In place of a code that is not known yet; no code is as large.
const UNKNOWN: u64 = u64::MAX;

/// Codes given out so far.
#[derive(Debug, Default)]
pub(super) struct Codes {
    values: Vec<Value>,
    by_value: HashMap<Value, u32, RandomState>,
}

impl Codes {
    /// The code of a value of a key.
    pub fn code(&mut self, value: &Value) -> u64 {
        match value {
            Value::Null => 0,
            Value::Ip(addr) => self.addr(*addr),
            Value::Number(n) | Value::Mac(n) => self.number(*n, value),
            Value::Country(n) => u64::from(*n) + 1,
            Value::Direction(direction) => *direction as u64 + 1,
            Value::Bool(b) => u64::from(*b) + 1,
            Value::TimeMs(_) | Value::Text(_) | Value::Uuid(_) => self.intern(value),
        }
    }

    /// The value of a code under its key's kind.
    pub fn value(&self, kind: Kind, code: u64) -> Value {
        match code {
            0 => Value::Null,
            code if code & TABLE != 0 => self.values[(code & !TABLE) as usize].clone(),
            code if kind == Kind::Ip => Value::Ip(Addr::v4((code - 1) as u32)),
            code => Value::of_number(kind, code - 1),
        }
    }

    /// Writes the codes of the given rows of a column to `out`, at `offset` and every `stride` after it. A missing column
    /// is null. `known` keeps the codes of a dictionary's values from call to call; it must be empty for another column.
    pub fn write(
        &mut self,
        column: Option<ColumnRef<'_>>,
        kind: Kind,
        rows: &[u32],
        known: &mut Vec<u64>,
        (out, offset, stride): (&mut [u64], usize, usize),
    ) {
        let slots = out.iter_mut().skip(offset).step_by(stride);
        let rows = slots.zip(rows.iter().map(|row| *row as usize));
        match column {
            None | Some(ColumnRef::I64(_)) => rows.for_each(|(slot, _)| *slot = 0),
            Some(ColumnRef::U8(c)) if kind == Kind::Direction => {
                // An undefined direction is null, as in `Value::of_number`.
                rows.for_each(|(slot, row)| {
                    *slot = c.get(row).filter(|d| (1..=5).contains(d)).map_or(0, |d| u64::from(d) + 1)
                });
            }
            Some(ColumnRef::U8(c)) => rows.for_each(|(slot, row)| *slot = small(c, row)),
            Some(ColumnRef::U16(c)) => rows.for_each(|(slot, row)| *slot = small(c, row)),
            Some(ColumnRef::U32(c)) => rows.for_each(|(slot, row)| *slot = small(c, row)),
            Some(ColumnRef::U64(c)) => rows.for_each(|(slot, row)| {
                *slot = c.get(row).map_or(0, |n| self.code(&Value::of_number(kind, n)));
            }),
            Some(ColumnRef::Ip(c)) => match c.as_v4() {
                Some(c) => rows.for_each(|(slot, row)| *slot = small(c, row)),
                None => rows.for_each(|(slot, row)| *slot = c.get(row).map_or(0, |addr| self.addr(addr))),
            },
            Some(ColumnRef::AddrDict(c)) => {
                known.resize(c.values().len() + 1, UNKNOWN);
                rows.for_each(|(slot, row)| *slot = self.of_entry(c, c.codes()[row], known, |addr| Value::Ip(*addr)));
            }
            Some(ColumnRef::Text(c)) => {
                known.resize(c.values().len() + 1, UNKNOWN);
                rows.for_each(|(slot, row)| {
                    *slot = self.of_entry(c, c.codes()[row], known, |text| Value::Text(text.clone()))
                });
            }
            Some(ColumnRef::Uuid(c)) => {
                known.resize(c.values().len() + 1, UNKNOWN);
                rows.for_each(|(slot, row)| *slot = self.of_entry(c, c.codes()[row], known, |uuid| Value::Uuid(*uuid)));
            }
        }
    }

    fn of_entry<T: DictValue>(
        &mut self,
        column: &Dict<T>,
        entry: u32,
        known: &mut [u64],
        value: impl Fn(&T) -> Value,
    ) -> u64 {
        let code = known[entry as usize];
        if code != UNKNOWN {
            return code;
        }
        let code = column.value(entry).map_or(0, |v| self.code(&value(v)));
        known[entry as usize] = code;
        code
    }

    fn addr(&mut self, addr: Addr) -> u64 {
        match addr.as_v4() {
            Some(bits) => u64::from(bits) + 1,
            None => self.intern(&Value::Ip(addr)),
        }
    }

    fn number(&mut self, n: u64, value: &Value) -> u64 {
        if n < TABLE - 1 { n + 1 } else { self.intern(value) }
    }

    fn intern(&mut self, value: &Value) -> u64 {
        if let Some(index) = self.by_value.get(value) {
            return TABLE | u64::from(*index);
        }
        let index = self.values.len() as u32;
        self.values.push(value.clone());
        self.by_value.insert(value.clone(), index);
        TABLE | u64::from(index)
    }
}

#[inline]
fn small<T: Copy + Default + Into<u64>>(column: &Column<T>, row: usize) -> u64 {
    column.get(row).map_or(0, |n| n.into() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Direction;

    #[test]
    fn a_code_gives_back_its_value() {
        let mut codes = Codes::default();
        let values = [
            (Kind::Number, Value::Null),
            (Kind::Number, Value::Number(0)),
            (Kind::Number, Value::Number(u64::MAX)),
            (Kind::Number, Value::Number(TABLE - 1)),
            (Kind::Ip, Value::Ip("10.0.0.1".parse().unwrap())),
            (Kind::Ip, Value::Ip("255.255.255.255".parse().unwrap())),
            (Kind::Ip, Value::Ip("2001:db8::1".parse().unwrap())),
            (Kind::Direction, Value::Direction(Direction::InternalIn)),
            (Kind::Text, Value::Text("x".into())),
            (Kind::Mac, Value::Mac(7)),
            (Kind::Bool, Value::Bool(false)),
        ];
        for (kind, value) in &values {
            let code = codes.code(value);
            assert_eq!(codes.value(*kind, code), *value);
            assert_eq!(codes.code(value), code);
        }
    }
}
