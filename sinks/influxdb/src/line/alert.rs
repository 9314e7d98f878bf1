//! The point of an alert's beginning or end.

use sink_api::LogId;
use sink_api::alert::{ALERTS, AlertColumn, AlertRow};
use sink_api::value::Value;

use super::text::{address, escaped, quoted, signed, whole};
use crate::schema::{COLLECTOR, tag_text};

/// Appends the line of a row: what has few values as tags, the rest as fields; what is absent is left out.
pub fn alert_line(row: &AlertRow, log: LogId, timestamp_ns: i64, out: &mut Vec<u8>) {
    let values = row.values();
    let columns = || AlertRow::COLUMNS.iter().zip(&values).filter(|(_, value)| **value != Value::Null);
    let mut tags: Vec<(&str, String)> =
        columns().filter(|(column, _)| column.few).map(|(column, value)| (column.name, value.to_string())).collect();
    tags.push((COLLECTOR, log.to_string()));
    tags.sort_unstable();
    escaped(out, ALERTS);
    for (name, value) in tags {
        out.extend_from_slice(format!(",{name}=").as_bytes());
        escaped(out, &tag_text(&value));
    }
    let mut before = b' ';
    for (AlertColumn { name, .. }, value) in columns().filter(|(column, _)| !column.few) {
        out.push(before);
        before = b',';
        out.extend_from_slice(format!("{name}=").as_bytes());
        match value {
            Value::Number(n) => whole(out, *n),
            Value::TimeMs(ms) => {
                signed(out, *ms);
                out.push(b'i');
            }
            Value::Ip(addr) => address(out, *addr),
            other => quoted(out, &other.to_string()),
        }
    }
    out.push(b' ');
    signed(out, timestamp_ns);
    out.push(b'\n');
}
