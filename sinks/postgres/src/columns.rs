//! Columns of the tables: names, SQL types, and what each type's binary form means.

use sink_api::rollup::{Key, Role, RollupDef};
use sink_api::value::Value;
use sink_api::{Addr, Direction, Field, Kind, Uuid, country, nearest};

/// SQL type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sql {
    Timestamp,
    Inet,
    SmallInt,
    Int,
    BigInt,
    Macaddr,
    Bool,
    Text,
    Uuid,
    /// Text of two letters.
    Country,
    /// Text: a direction's name.
    Direction,
    /// Text: `src` or `dst`.
    Role,
}

impl Sql {
    /// The type's name as `format_type` gives it.
    pub fn type_name(self) -> &'static str {
        match self {
            Sql::Timestamp => "timestamp with time zone",
            Sql::Inet => "inet",
            Sql::SmallInt => "smallint",
            Sql::Int => "integer",
            Sql::BigInt => "bigint",
            Sql::Macaddr => "macaddr",
            Sql::Bool => "boolean",
            Sql::Text | Sql::Country | Sql::Direction | Sql::Role => "text",
            Sql::Uuid => "uuid",
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDef {
    pub name: &'static str,
    pub sql: Sql,
    pub not_null: bool,
}

/// The first columns of `flows`, in the order that its readers know; the other columns of the record follow. As a setting they
/// are `core`.
pub const FIRST: &[Field] = &[
    Field::Time,
    Field::SrcIp,
    Field::DstIp,
    Field::SrcPort,
    Field::DstPort,
    Field::Protocol,
    Field::Bytes,
    Field::Packets,
    Field::NasId,
    Field::SubscriberId,
    Field::ResellerId,
];

/// Fields of `flows` in the order of its columns.
pub fn flow_fields() -> Vec<Field> {
    let others = Field::ALL.iter().filter(|field| !FIRST.contains(field));
    FIRST.iter().chain(others).copied().collect()
}

/// Columns of `flows` for these fields.
pub fn flow_columns(fields: &[Field]) -> Vec<ColumnDef> {
    let column = |field: &Field| ColumnDef { name: field.name(), sql: field_sql(*field), not_null: never_null(*field) };
    fields.iter().map(column).collect()
}

/// Reads which columns are stored: `all`, `core`, or a list of names, in which `time` need not stand.
///
/// # Errors
/// Every name that is none, with the nearest one that is.
pub fn chosen(value: &toml::Value) -> Result<Vec<Field>, String> {
    let allowed = || format!("\"all\", \"core\" or a list of columns: {}", names(&flow_fields()));
    let list = match value {
        toml::Value::String(text) if text == "all" => return Ok(flow_fields()),
        toml::Value::String(text) if text == "core" => return Ok(FIRST.to_vec()),
        toml::Value::Array(list) if !list.is_empty() => list,
        _ => return Err(allowed()),
    };
    let mut fields = vec![Field::Time];
    let mut unknown = Vec::new();
    for item in list {
        let name = item.as_str().unwrap_or_default();
        match Field::ALL.iter().find(|field| field.name() == name) {
            Some(field) => fields.push(*field),
            None => {
                let near = nearest(name, Field::ALL.iter().map(|field| field.name()));
                let near = near.map_or(String::new(), |near| format!(", the nearest one is {near:?}"));
                unknown.push(format!("no column is named {item}{near}"));
            }
        }
    }
    if unknown.is_empty() {
        return Ok(flow_fields().into_iter().filter(|field| fields.contains(field)).collect());
    }
    Err(format!("{}; allowed is {}", unknown.join("; "), allowed()))
}

/// Names of columns, as a list.
pub fn names(fields: &[Field]) -> String {
    fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ")
}

fn never_null(field: Field) -> bool {
    matches!(field, Field::Time | Field::Bytes | Field::Packets)
}

/// The SQL type of a field's column.
pub fn field_sql(field: Field) -> Sql {
    use sink_api::batch::ColumnRef;
    match field.kind() {
        Kind::TimeMs => Sql::Timestamp,
        Kind::Ip => Sql::Inet,
        Kind::Mac => Sql::Macaddr,
        Kind::Country => Sql::Country,
        Kind::Direction => Sql::Direction,
        Kind::Bool => Sql::Bool,
        Kind::Text => Sql::Text,
        Kind::Uuid => Sql::Uuid,
        Kind::Number if field == Field::Protocol => Sql::Int,
        Kind::Number => match sink_api::FlowBatch::default().column(field) {
            ColumnRef::U8(_) => Sql::SmallInt,
            ColumnRef::U16(_) => Sql::Int,
            _ => Sql::BigInt,
        },
    }
}

/// The SQL type of a key's column.
pub fn key_sql(key: Key) -> Sql {
    match key {
        Key::Field(field) => field_sql(field),
        Key::Host => Sql::Inet,
        Key::Role => Sql::Role,
        Key::Country => Sql::Country,
        Key::Asn => Sql::BigInt,
    }
}

/// The column with a rollup's bucket start.
pub const BUCKET: &str = "bucket";

/// Sums of a rollup's row, in the order of its columns.
pub const SUMS: [&str; 5] = ["bytes", "packets", "flows", "rtt_ms_sum", "rtt_count"];

/// The column with what a row may have lost, in rollups that cut.
pub const CUT_BYTES: &str = "cut_bytes";

/// Columns of a rollup's table: bucket, keys, sums, `cut_bytes` where it has them. A key that has the name of a sum
/// (such as `bytes`) is named `key_bytes`.
pub fn rollup_columns(def: &RollupDef) -> Vec<ColumnDef> {
    let column = |name, sql, not_null| ColumnDef { name, sql, not_null };
    let mut columns = vec![column(BUCKET, Sql::Timestamp, true)];
    columns.extend(def.by.iter().map(|key| column(key_column(*key), key_sql(*key), false)));
    columns.extend(SUMS.map(|name| column(name, Sql::BigInt, true)));
    if def.has_cut_bytes() {
        columns.push(column(CUT_BYTES, Sql::BigInt, true));
    }
    columns
}

/// The name of a key's column in a rollup's table.
pub fn key_column(key: Key) -> &'static str {
    match key {
        Key::Field(Field::Bytes) => "key_bytes",
        Key::Field(Field::Packets) => "key_packets",
        key => key.name(),
    }
}

/// The text under which a role is stored.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Src => "src",
        Role::Dst => "dst",
    }
}

/// The value that a key's column holds in binary form. Bytes that are none of its type give null: the schema is ours, so that
/// does not happen.
pub fn decode(key: Key, bytes: &[u8]) -> Value {
    let text = || std::str::from_utf8(bytes).unwrap_or_default();
    let number = || integer(bytes).and_then(|n| u64::try_from(n).ok());
    let value = match key_sql(key) {
        Sql::Timestamp => integer(bytes).map(|us| Value::TimeMs(from_pg_micros(us))),
        Sql::Inet => addr(bytes).map(Value::Ip),
        Sql::SmallInt | Sql::Int | Sql::BigInt => number().map(Value::Number),
        Sql::Macaddr => integer(bytes).map(|bits| Value::Mac(bits as u64)),
        Sql::Bool => bytes.first().map(|b| Value::Bool(*b != 0)),
        Sql::Text => Some(Value::Text(text().into())),
        Sql::Uuid => Uuid::from_slice(bytes).ok().map(Value::Uuid),
        Sql::Country => country::code(text()).map(Value::Country),
        Sql::Direction => Direction::from_name(text()).map(Value::Direction),
        Sql::Role => [Role::Src, Role::Dst]
            .into_iter()
            .find(|role| role_name(*role) == text())
            .map(|role| Value::Number(role as u64)),
    };
    value.unwrap_or(Value::Null)
}

/// A big-endian number of up to 8 bytes. Widths below 8 that PostgreSQL signs are sign-extended, but for the 6 bytes of a
/// MAC address.
pub fn integer(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        2 => Some(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        8 => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
        6 => Some(bytes.iter().fold(0, |bits, b| bits << 8 | i64::from(*b))),
        _ => None,
    }
}

/// ms between the Unix epoch and PostgreSQL's, 2000-01-01.
const PG_EPOCH_MS: i64 = 946_684_800_000;

/// Times that PostgreSQL's binary form holds in microseconds without overflow; far beyond what a flow can have.
const TIME_MS_MAX: i64 = i64::MAX / 1000;

/// A time as PostgreSQL holds it.
pub fn to_pg_micros(ms: i64) -> i64 {
    (ms - PG_EPOCH_MS).clamp(-TIME_MS_MAX, TIME_MS_MAX) * 1000
}

/// A time that PostgreSQL held.
pub fn from_pg_micros(us: i64) -> i64 {
    us.div_euclid(1000) + PG_EPOCH_MS
}

/// PostgreSQL's numbers for address families.
pub const FAMILY_V4: u8 = 2;
pub const FAMILY_V6: u8 = 3;

fn addr(bytes: &[u8]) -> Option<Addr> {
    match bytes {
        [FAMILY_V4, _, _, 4, addr @ ..] => Some(Addr::v4(u32::from_be_bytes(addr.try_into().ok()?))),
        [FAMILY_V6, _, _, 16, addr @ ..] => Some(Addr(u128::from_be_bytes(addr.try_into().ok()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Field>, String> {
        let table: toml::Table = text.parse().unwrap();
        chosen(&table["columns"])
    }

    #[test]
    fn columns_are_chosen_by_word_or_name_and_stand_in_the_tables_order() {
        assert_eq!(read("columns = 'all'").unwrap().len(), Field::ALL.len());
        assert_eq!(names(&read("columns = 'core'").unwrap()), names(FIRST));
        let fields = read("columns = ['site', 'bytes', 'dst_ip']").unwrap();
        assert_eq!(fields, [Field::Time, Field::DstIp, Field::Bytes, Field::Site]);
    }

    #[test]
    fn every_unknown_column_is_named_with_the_nearest() {
        let text = read("columns = ['src_prt', 'bytes', 'site_name', 7]").unwrap_err();
        assert!(text.contains("no column is named \"src_prt\", the nearest one is \"src_port\"; "), "{text}");
        assert!(text.contains("no column is named \"site_name\"") && text.contains("named 7; allowed is"), "{text}");
        assert!(text.contains("rtt_ms"), "says what is allowed: {text}");
        for wrong in ["columns = 'few'", "columns = []", "columns = true"] {
            assert!(read(wrong).unwrap_err().starts_with("\"all\", \"core\" or a list"), "{wrong}");
        }
    }
}
