//! Cells of an answer into columns.

use hashbrown::HashMap;
use sink_api::batch::ColumnMut;
use sink_api::column::{Dict, DictValue, Text};
use sink_api::rollup::KeyColumn;
use sink_api::{Addr, Direction, Kind, Uuid, Value, country};

use crate::read::Cell;
use crate::schema::text_of_tag;

/// How a column of an answer is read.
#[derive(Debug)]
pub struct Reader {
    kind: Kind,
    is_tag: bool,
    texts: HashMap<Text, u32, foldhash::fast::RandomState>,
    uuids: HashMap<Uuid, u32, foldhash::fast::RandomState>,
    addrs: HashMap<Addr, u32, foldhash::fast::RandomState>,
}

impl Reader {
    /// For values of a kind, from a tag or a field.
    pub fn new(kind: Kind, is_tag: bool) -> Self {
        Self { kind, is_tag, texts: HashMap::default(), uuids: HashMap::default(), addrs: HashMap::default() }
    }

    /// Forgets the codes given out: the column begins anew.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.uuids.clear();
        self.addrs.clear();
    }

    /// Appends a cell to a column. What is no value of its kind is null: the points are ours, so that does not happen.
    pub fn push(&mut self, cell: &Cell<'_>, column: ColumnMut<'_>) {
        let value = value(self.kind, self.is_tag, cell);
        let number = value.as_number();
        match column {
            ColumnMut::I64(c) => c.push(if let Value::TimeMs(ms) = value { Some(ms) } else { None }),
            ColumnMut::U64(c) => c.push(number),
            ColumnMut::U32(c) => c.push(number.map(|n| n as u32)),
            ColumnMut::U16(c) => c.push(number.map(|n| n as u16)),
            ColumnMut::U8(c) => c.push(number.map(|n| n as u8)),
            ColumnMut::Ip(c) => c.push(if let Value::Ip(addr) = value { Some(addr) } else { None }),
            ColumnMut::AddrDict(c) => intern(c, if let Value::Ip(a) = value { Some(a) } else { None }, &mut self.addrs),
            ColumnMut::Text(c) => intern(c, if let Value::Text(t) = value { Some(t) } else { None }, &mut self.texts),
            ColumnMut::Uuid(c) => intern(c, if let Value::Uuid(u) = value { Some(u) } else { None }, &mut self.uuids),
        }
    }
}

fn intern<T: DictValue>(
    column: &mut Dict<T>,
    value: Option<T>,
    codes: &mut HashMap<T, u32, foldhash::fast::RandomState>,
) {
    let code = match value {
        None => 0,
        Some(value) => match codes.get(&value) {
            Some(code) => *code,
            None => {
                let code = column.add_value(value.clone());
                codes.insert(value, code);
                code
            }
        },
    };
    column.push_code(code);
}

/// The value of a cell under its column's kind.
pub fn value(kind: Kind, is_tag: bool, cell: &Cell<'_>) -> Value {
    let value = match cell {
        Cell::Null => None,
        Cell::Bool(b) => Some(Value::Bool(*b)),
        Cell::Int(ms) if kind == Kind::TimeMs => Some(Value::TimeMs(*ms)),
        Cell::Int(n) => u64::try_from(*n).ok().map(|n| Value::of_number(kind, n)),
        // An absent tag is the empty text in grouped answers.
        Cell::Text(text) if is_tag && text.is_empty() => None,
        Cell::Text(text) => of_text(kind, is_tag, text),
    };
    value.unwrap_or(Value::Null)
}

fn of_text(kind: Kind, is_tag: bool, text: &str) -> Option<Value> {
    match kind {
        Kind::Text if is_tag => Some(Value::Text(text_of_tag(text).as_ref().into())),
        Kind::Text => Some(Value::Text(text.into())),
        Kind::Ip => text.parse().ok().map(Value::Ip),
        Kind::Uuid => text.parse().ok().map(Value::Uuid),
        Kind::Country => country::code(text).map(Value::Country),
        Kind::Direction => Direction::from_name(text).map(Value::Direction),
        Kind::Number => text.parse().ok().map(Value::Number),
        Kind::Mac => {
            let digits: String = text.split(':').collect();
            u64::from_str_radix(&digits, 16).ok().map(Value::Mac)
        }
        Kind::TimeMs | Kind::Bool => None,
    }
}

/// A rollup's key column for filling.
pub fn key_column(column: &mut KeyColumn) -> ColumnMut<'_> {
    match column {
        KeyColumn::U8(c) => ColumnMut::U8(c),
        KeyColumn::U16(c) => ColumnMut::U16(c),
        KeyColumn::U32(c) => ColumnMut::U32(c),
        KeyColumn::U64(c) => ColumnMut::U64(c),
        KeyColumn::Ip(c) => ColumnMut::Ip(c),
        KeyColumn::Text(c) => ColumnMut::Text(c),
        KeyColumn::Uuid(c) => ColumnMut::Uuid(c),
    }
}
