//! What was set aside, for the admin endpoint: records that stores refuse, which can be brought to them again, and records that
//! cannot be true. Ids are `sink/NAME/RECORD` and `decode/NUMBER`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::collector::Running;
use crate::control::http::{HeldBy, HeldDropped, HeldError, HeldItem, HeldPage, HeldRecord, HeldReplayed, HeldWanted};
use crate::decode::SetAside;
use crate::deliver::{DropError, Head, Quarantine, Wish};
use crate::flow::time::rfc3339;
use crate::flow::{AlertRow, Field, FlowBatch, Record, RollupSums, Value};

/// How long a replay is waited for. It goes on when nobody waits any more.
const REPLAY_TIME_MAX: Duration = Duration::from_secs(25);

/// A page of what was set aside: by sinks as they are configured, then by decoding.
pub(super) fn list(running: &Running, wanted: &HeldWanted<'_>) -> Result<HeldPage, HeldError> {
    let (sinks, decoded) =
        (wanted.by != Some(HeldBy::Decode), wanted.by != Some(HeldBy::Sink) && wanted.sink.is_none());
    let mut page = HeldPage::default();
    // Where the page begins: nothing before has to be looked at.
    let mut after = wanted.after;
    for (sink, quarantine) in quarantines(running, wanted.sink)? {
        if !sinks {
            continue;
        }
        let totals = quarantine.totals().map_err(|e| unreadable(&sink, &e))?;
        page.total += totals.records;
        page.flows += totals.flows;
        page.bytes += totals.bytes;
        let prefix = format!("sink/{sink}/");
        let name = match after {
            None => None,
            Some(id) => match id.strip_prefix(&prefix) {
                Some(name) => {
                    after = None;
                    Some(name)
                }
                None => continue,
            },
        };
        let left = (wanted.records_max + 1).saturating_sub(page.items.len());
        let listed = quarantine.list(name, left).map_err(|e| unreadable(&sink, &e))?;
        page.items.extend(listed.iter().map(|listed| item(&sink, &listed.name, &listed.head, listed.bytes)));
    }
    if decoded {
        let number = after.and_then(|id| id.strip_prefix("decode/")).and_then(|n| n.parse().ok());
        let all = running.set_aside.list();
        page.total += all.len() as u64;
        page.flows += all.len() as u64;
        page.bytes += all.iter().map(|aside| aside.record().len() as u64).sum::<u64>();
        if after.is_none() || number.is_some() {
            let rest = all.iter().filter(|aside| aside.number > number.unwrap_or(0));
            page.items.extend(rest.take((wanted.records_max + 1).saturating_sub(page.items.len())).map(decoded_item));
        }
    }
    if page.items.len() > wanted.records_max {
        page.items.truncate(wanted.records_max);
        page.next = page.items.last().map(|item| item.id.clone());
    }
    Ok(page)
}

/// A record with its rows.
pub(super) fn record(running: &Running, id: &str, rows_max: usize) -> Result<HeldRecord, HeldError> {
    if let Some(number) = id.strip_prefix("decode/") {
        let all = running.set_aside.list();
        let found = all.iter().find(|aside| aside.number.to_string() == number).ok_or_else(|| unknown(id))?;
        return Ok(HeldRecord { record: decoded_item(found), ..HeldRecord::default() });
    }
    let (sink, name) = id.strip_prefix("sink/").and_then(|rest| rest.rsplit_once('/')).ok_or_else(|| unknown(id))?;
    let (_, quarantine) = quarantines(running, Some(sink))?.pop().ok_or_else(|| unknown(id))?;
    let kept = quarantine.read(name).map_err(|e| unreadable(id, &e))?.ok_or_else(|| unknown(id))?;
    let (rows, total) = match &kept.record {
        Record::Flows(batch) => (flow_rows(batch, rows_max), batch.len()),
        Record::Sums(sums) => (sum_rows(sums, rows_max), sums.rows.iter().map(|rows| rows.len()).sum()),
        Record::Alerts(rows) => (alert_rows(rows, rows_max), rows.len()),
    };
    let bytes = quarantine.bytes(name).unwrap_or_default();
    Ok(HeldRecord { record: item(sink, name, &kept.head, bytes), rows, total: total as u64 })
}

/// Brings what a sink refused to it again, and waits for it.
pub(super) fn replay(
    running: &Running,
    sink: &str,
    id: Option<&str>,
    after: Option<&str>,
) -> Result<HeldReplayed, HeldError> {
    let prefix = format!("sink/{sink}/");
    let name = |id: &str| id.strip_prefix(&prefix).map(str::to_owned).ok_or_else(|| unknown(id));
    let wish = Wish { name: id.map(name).transpose()?, after: after.map(name).transpose()? };
    let waits = {
        let sinks = running.sinks_read();
        let sink = sinks.get(sink).ok_or_else(|| no_sink(sink))?;
        if let (Some(name), Some(id)) = (&wish.name, id)
            && sink.quarantine().bytes(name).is_none()
        {
            return Err(unknown(id));
        }
        sink.replay(wish).ok_or_else(|| HeldError::Busy("another replay of this sink goes on".into()))?
    };
    let replayed = waits.recv_timeout(REPLAY_TIME_MAX).map_err(|_| {
        HeldError::Busy(format!("sink {sink} is at work for longer; the replay follows when it is done"))
    })?;
    let moved = replayed.records + replayed.returned_records + replayed.refused_records;
    if let Some(problem) = replayed.problem.as_ref().filter(|_| moved == 0) {
        return Err(HeldError::Busy(format!("sink {sink}: {problem}")));
    }
    Ok(HeldReplayed {
        sink: sink.to_owned(),
        records: replayed.records,
        flows: replayed.flows,
        expired_flows: replayed.expired_flows,
        returned_records: replayed.returned_records,
        refused_records: replayed.refused_records,
        reasons: replayed.reasons,
        next: replayed.next.map(|name| format!("{prefix}{name}")),
        problem: replayed.problem,
    })
}

/// Drops what a sink refused.
pub(super) fn drop_records(running: &Running, sink: &str, id: Option<&str>) -> Result<HeldDropped, HeldError> {
    let sinks = running.sinks_read();
    let found = sinks.get(sink).ok_or_else(|| no_sink(sink))?;
    let name = id.map(|id| id.strip_prefix(&format!("sink/{sink}/")).ok_or_else(|| unknown(id))).transpose()?;
    let dropped = found.quarantine().drop_records(name, found.status()).map_err(|error| match error {
        DropError::Replaying => HeldError::Busy("a replay of this sink goes on".into()),
        DropError::Io(error) => unreadable(sink, &error),
    })?;
    match id {
        Some(id) if dropped.records == 0 => Err(unknown(id)),
        _ => Ok(HeldDropped { sink: sink.to_owned(), records: dropped.records, flows: dropped.flows }),
    }
}

/// Every sink's quarantine, or that of one.
fn quarantines(running: &Running, sink: Option<&str>) -> Result<Vec<(String, Arc<Quarantine>)>, HeldError> {
    let sinks = running.sinks_read();
    let wanted = sinks.iter().filter(|found| sink.is_none_or(|sink| sink == found.name()));
    let found: Vec<_> = wanted.map(|sink| (sink.name().to_owned(), sink.quarantine().clone())).collect();
    match sink {
        Some(sink) if found.is_empty() => Err(no_sink(sink)),
        _ => Ok(found),
    }
}

fn item(sink: &str, name: &str, head: &Head, bytes: u64) -> HeldItem {
    HeldItem {
        id: format!("sink/{sink}/{name}"),
        by: HeldBy::Sink,
        at: rfc3339(head.at_ms),
        reason: head.reason.clone(),
        flows: head.flows,
        bytes,
        sink: Some(sink.to_owned()),
        log_id: Some(head.log.to_string()),
        position: Some(head.position),
        row: head.row,
        holds: Some(match (head.sums, head.alerts) {
            (true, _) => "sums",
            (_, true) => "alerts",
            _ => "flows",
        }),
        ..HeldItem::default()
    }
}

fn decoded_item(aside: &SetAside) -> HeldItem {
    HeldItem {
        id: format!("decode/{}", aside.number),
        by: HeldBy::Decode,
        at: rfc3339(aside.received_at_ms),
        reason: aside.why.text().to_owned(),
        flows: 1,
        bytes: aside.record().len() as u64,
        exporter: Some(aside.exporter.to_string()),
        source_port: Some(aside.source_port),
        version: Some(aside.version),
        raw: Some(aside.record().iter().map(|byte| format!("{byte:02x}")).collect()),
        ..HeldItem::default()
    }
}

fn flow_rows(batch: &FlowBatch, rows_max: usize) -> Vec<Map<String, Json>> {
    let row = |row: usize| {
        let values = Field::ALL.iter().map(|field| (field.name(), batch.value(*field, row)));
        values.filter(|(_, value)| *value != Value::Null).map(|(name, value)| (name.to_owned(), json!(value))).collect()
    };
    (0..batch.len().min(rows_max)).map(row).collect()
}

fn sum_rows(sums: &RollupSums, rows_max: usize) -> Vec<Map<String, Json>> {
    let all = sums.rows.iter().flat_map(|rows| (0..rows.len()).map(move |row| (rows, row)));
    let row = |(rows, row): (&crate::flow::RollupRows, usize)| {
        let mut shown = Map::new();
        shown.insert("rollup".into(), json!(&*rows.rollup));
        shown.insert("bucket".into(), json!(rfc3339(rows.bucket[row])));
        for (key, column) in &rows.keys {
            shown.insert(key.name().into(), json!(column.value(key.kind(), row)));
        }
        if let Ok(Json::Object(measures)) = serde_json::to_value(rows.measures(row)) {
            shown.extend(measures);
        }
        shown
    };
    all.take(rows_max).map(row).collect()
}

fn alert_rows(rows: &[AlertRow], rows_max: usize) -> Vec<Map<String, Json>> {
    let row = |row: &AlertRow| {
        let values = AlertRow::COLUMNS.iter().zip(row.values());
        let mut shown: Map<String, Json> = values.map(|(column, value)| (column.name.into(), json!(value))).collect();
        shown.insert("time".into(), json!(rfc3339(row.time_ms)));
        shown
    };
    rows.iter().take(rows_max).map(row).collect()
}

fn unknown(id: &str) -> HeldError {
    HeldError::Unknown(format!("there is no record {id} in quarantine"))
}

fn no_sink(sink: &str) -> HeldError {
    HeldError::Unknown(format!("there is no sink named {sink:?}"))
}

fn unreadable(what: &str, error: &io::Error) -> HeldError {
    HeldError::Failed(format!("{what}: the quarantine cannot be read or written: {error}"))
}
