use std::collections::BTreeMap;

use influxdb_line_protocol::{FieldValue, parse_lines};
use sink_api::conformance::{DataSet, LOG, Options};
use sink_api::{Record, RollupDef, Value};

use super::*;
use crate::schema::{field_name, is_flow_tag, is_tag, key_name, text_of_tag};

/// Tags and fields of a line as texts, as another program's parser reads them.
fn parsed(line: &str) -> (String, BTreeMap<String, String>, Option<i64>) {
    let line = parse_lines(line).next().unwrap().unwrap_or_else(|e| panic!("{e}: {line}"));
    let mut values = BTreeMap::new();
    let tags = line.series.tag_set.as_ref().unwrap();
    let names: Vec<String> = tags.iter().map(|(name, _)| name.to_string()).collect();
    assert!(names.is_sorted(), "{names:?}");
    for (name, value) in tags {
        values.insert(name.to_string(), text_of_tag(&value.to_string()).into_owned());
    }
    for (name, value) in &line.field_set {
        let text = match value {
            FieldValue::I64(n) => n.to_string(),
            FieldValue::String(text) => text.to_string(),
            FieldValue::Boolean(b) => b.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(values.insert(name.to_string(), text).is_none(), "{name} twice");
    }
    (line.series.measurement.to_string(), values, line.timestamp)
}

/// The text that a value has in a point: times and truth values are numbers and words there.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::TimeMs(ms) => Some(ms.to_string()),
        other => Some(other.to_string()),
    }
}

fn set() -> DataSet {
    DataSet::new(&Options { flows: 1500, days: 3, detail: true }, &RollupDef::defaults())
}

#[test]
fn a_flows_line_holds_every_column_that_is_not_null() {
    for entry in &set().entries {
        let Record::Flows(batch) = &entry.record else { continue };
        let lines = Lines::of_flows(batch, LOG);
        for row in 0..batch.len() {
            let mut out = Vec::new();
            lines.write(row, -5, &mut out);
            let (measurement, mut values, timestamp) = parsed(std::str::from_utf8(&out).unwrap());
            assert_eq!((measurement.as_str(), timestamp), (FLOWS, Some(-5)));
            assert_eq!(values.remove(COLLECTOR), Some(LOG.to_string()));
            for field in Field::ALL {
                let name = if is_flow_tag(*field) { field.name() } else { field_name(*field) };
                assert_eq!(values.remove(name), shown(&batch.value(*field, row)), "{name}");
            }
            assert!(values.is_empty(), "{values:?}");
        }
    }
}

#[test]
fn a_rollups_line_holds_its_keys_and_the_sums_that_are_not_zero() {
    let set = set();
    let sums = set.entries.iter().filter_map(|e| if let Record::Sums(s) = &e.record { Some(s) } else { None });
    let mut others = 0;
    for rows in sums.flat_map(|sums| &sums.rows) {
        let mut subscribers = Subscribers::new([], 5);
        let lines = Lines::of_rollup(rows, LOG, &mut subscribers);
        for row in 0..rows.len() {
            let mut out = Vec::new();
            lines.write(row, 7, &mut out);
            let (measurement, mut values, _) = parsed(std::str::from_utf8(&out).unwrap());
            assert_eq!(measurement, *rows.rollup);
            values.remove(COLLECTOR);
            if let Some(subscriber) = values.remove(OTHER_FIELD) {
                assert_eq!(values.insert("subscriber_id".to_owned(), subscriber).as_deref(), Some(OTHER));
                others += 1;
            }
            for (key, column) in &rows.keys {
                let name = if is_tag(&rows.rollup, *key) { key.name() } else { key_name(*key) };
                assert_eq!(values.remove(name), shown(&column.value(key.kind(), row)), "{name}");
            }
            let m = rows.measures(row);
            assert_eq!(values.remove("bytes"), Some(m.bytes.to_string()));
            let cut = rows.cut_bytes.get(row).copied().unwrap_or(0);
            let sums = [m.packets, m.flows, m.rtt_ms_sum, m.rtt_count, cut];
            for (sum, name) in sums.iter().zip(["packets", "flows", "rtt_ms_sum", "rtt_count", "cut_bytes"]) {
                assert_eq!(values.remove(name), (*sum > 0).then(|| sum.to_string()), "{name}");
            }
            assert!(values.is_empty(), "{values:?}");
        }
        let tags =
            rows.keys.iter().any(|(key, _)| is_tag(&rows.rollup, *key) && *key == Key::Field(Field::SubscriberId));
        assert!(!tags || subscribers.known.len() == 5);
    }
    assert!(others > 0, "subscribers beyond the bound are fields");
}

#[test]
fn numbers_beyond_the_servers_are_its_largest() {
    let mut out = Vec::new();
    text::whole(&mut out, u64::MAX);
    text::whole(&mut out, 0);
    signed(&mut out, i64::MIN);
    assert_eq!(out, b"9223372036854775807i0i-9223372036854775808");
}
