use std::path::Path;

use hashbrown::HashMap;

use super::rows::{Row, RowError, Spec, optional, read_rows, required};
use super::{Reading, SourceError};
use crate::enrich::table::{Holder, Prefix};
use crate::flow::Uuid;

const PREFIX: usize = 0;
const SUBSCRIBER: usize = 1;
const RESELLER: usize = 2;
const NAS: usize = 3;
const SITE: usize = 4;
const FROM: usize = 5;
const TO: usize = 6;
const COLUMNS: &[Spec] = &[
    required("prefix"),
    required("subscriber_id"),
    optional("reseller_id"),
    optional("nas_id"),
    optional("site"),
    optional("from"),
    optional("to"),
];

/// Static subscribers: who has an address or prefix, since and until when. Intervals of one prefix do not overlap.
pub(super) fn read(reading: &mut Reading<'_>, file: &Path) {
    let mut rows: Vec<(Prefix, Holder, u64)> = Vec::new();
    read_rows(reading, "subscribers", file, COLUMNS, |reading, row, line| {
        rows.push((prefix(row)?, holder(reading, row)?, line));
        Ok(())
    });
    rows.sort_by_key(|(prefix, holder, line)| (*prefix, holder.from_ms, *line));
    for pair in rows.windows(2) {
        let [(prefix, first, line), (next, second, next_line)] = pair else { continue };
        if prefix == next && first.overlaps(second) && reading.errors.len() < super::ERRORS_MAX {
            let problem = format!("{prefix} belongs to another row at the same time: line {}", line.min(next_line));
            let line = Some(*line.max(next_line));
            reading.errors.push(SourceError { file: file.into(), line, column: Some("prefix"), problem });
        }
    }
    let mut by_prefix: HashMap<Prefix, Vec<Holder>, foldhash::fast::RandomState> = HashMap::default();
    for (prefix, holder, _) in rows {
        by_prefix.entry(prefix).or_default().push(holder);
    }
    by_prefix.into_iter().for_each(|(prefix, holders)| reading.builder.holders(prefix, holders));
}

fn prefix(row: &Row<'_>) -> Result<Prefix, RowError> {
    row.text(PREFIX).parse().map_err(|error: String| row.error(PREFIX, error))
}

fn holder(reading: &Reading<'_>, row: &Row<'_>) -> Result<Holder, RowError> {
    let name = |column| reading.text(row.text(column)).map_err(|error| row.error(column, error));
    let (from_ms, to_ms) = (time(row, FROM)?.unwrap_or(i64::MIN), time(row, TO)?.unwrap_or(i64::MAX));
    if from_ms >= to_ms {
        return Err(row.error(TO, "is not after from"));
    }
    Ok(Holder {
        from_ms,
        to_ms,
        subscriber: uuid(reading, row, SUBSCRIBER)?,
        reseller: uuid(reading, row, RESELLER)?,
        nas: name(NAS)?,
        site: name(SITE)?,
    })
}

/// The number of a UUID, 0 when the field is empty.
pub(super) fn uuid(reading: &Reading<'_>, row: &Row<'_>, column: usize) -> Result<u32, RowError> {
    match row.parse(column, "a UUID like 6f9619ff-8b86-d011-b42d-00c04fc964ff", |text| Uuid::parse_str(text).ok())? {
        Some(uuid) => reading.names.uuids.number(&uuid).map_err(|error| row.error(column, error)),
        None => Ok(0),
    }
}

/// The time of a field, ms; the infinite times are those of PostgreSQL.
pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Option<i64>, RowError> {
    row.parse(column, "a time like 2026-01-31T12:00:00Z or a date like 2026-01-31 (0 h UTC)", |text| {
        match text {
            "infinity" => return Some(i64::MAX),
            "-infinity" => return Some(i64::MIN),
            _ => {}
        }
        let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
        let timestamp = text.parse::<jiff::Timestamp>().ok().or_else(|| date().map(|zoned| zoned.timestamp()));
        timestamp.map(jiff::Timestamp::as_millisecond)
    })
}
