//! The table of alerts: few rows, made by hand like all others.

use sink_api::alert::{ALERTS, AlertRow};
use sink_api::rollup::Keep;
use sink_api::value::Value;
use sink_api::{Kind, LogId};

use crate::columns::{ColumnDef, Sql};
use crate::config::Config;
use crate::encode::{HEADER, TRAILER, put_value};
use crate::schema::Table;

/// The table's definition: the time, what an alert's row has, and whose number `alert_id` is.
pub fn table(config: &Config) -> Table {
    let column = |name, sql, not_null| ColumnDef { name, sql, not_null };
    let mut columns = vec![column("time", Sql::Timestamp, true)];
    columns.extend(AlertRow::COLUMNS.iter().map(|c| column(c.name, sql(c.kind), c.required)));
    columns.push(column("collector", Sql::Uuid, true));
    let (name, quoted) = (ALERTS.to_owned(), config.quoted(ALERTS));
    Table { name, quoted, columns, time: "time", keep: Keep::Aggregate, by_subscriber: false }
}

fn sql(kind: Kind) -> Sql {
    match kind {
        Kind::TimeMs => Sql::Timestamp,
        Kind::Ip => Sql::Inet,
        Kind::Uuid => Sql::Uuid,
        Kind::Number => Sql::BigInt,
        _ => Sql::Text,
    }
}

/// Rows in the binary form of COPY, whole.
pub fn copy_bytes<'a>(rows: impl Iterator<Item = &'a AlertRow>, log: LogId) -> Vec<u8> {
    let columns = (AlertRow::COLUMNS.len() + 2) as u16;
    let mut out = HEADER.to_vec();
    for row in rows {
        out.extend_from_slice(&columns.to_be_bytes());
        put_value(&mut out, &Value::TimeMs(row.time_ms));
        row.values().iter().for_each(|value| put_value(&mut out, value));
        put_value(&mut out, &Value::Uuid(sink_api::Uuid::from_bytes(log.0)));
    }
    out.extend_from_slice(TRAILER);
    out
}
