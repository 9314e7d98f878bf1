//! The cursor at the server: measurement `netflow_cursor`, one series a log.
//!
//! Its points have few timestamps a day, and the highest position counts: a request that the server carries out long after it
//! was given up can take nothing back.

use std::time::{Duration, Instant};

use sink_api::rollup::Keep;
use sink_api::time::DAY_MS;
use sink_api::{Field, LogId, SinkError, Uuid};

use super::MS_NS;
use crate::http::{Client, WriteError};
use crate::place;
use crate::read::{self, Cell};
use crate::schema::{self, COLLECTOR, CURSOR};

/// Points of a cursor in one day at the most.
const POINTS_A_DAY: u64 = 4096;

/// Where a log stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The last position that is stored.
    pub position: u64,
    /// Flows up to there: the number of the next one.
    pub flows: u64,
    /// Rows of rollups up to there: the number of the next one.
    pub sums: u64,
}

/// Reads the cursor of a log.
pub fn read(client: &Client, log: LogId, timeout: Duration) -> Result<Option<Cursor>, SinkError> {
    let statement = format!(
        "SELECT max(\"position\") AS \"position\", \"flows\", \"sums\" FROM \"{CURSOR}\" WHERE \"{COLLECTOR}\" = '{log}'"
    );
    let mut found = None;
    read::run(client, Keep::Aggregate, &statement, Instant::now() + timeout, &mut |series| {
        if let Some([_, position, flows, sums]) = series.values.first().map(Vec::as_slice) {
            found = Some(Cursor { position: position.sum(), flows: flows.sum(), sums: sums.sum() });
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Stores the cursor of a log.
pub fn write(
    client: &Client,
    log: LogId,
    cursor: Cursor,
    now_ms: i64,
    compressed: &mut Vec<u8>,
) -> Result<(), SinkError> {
    let Cursor { position, flows, sums } = cursor;
    let day_ns = now_ms.div_euclid(DAY_MS).saturating_mul(DAY_MS).saturating_mul(MS_NS);
    let timestamp = day_ns.saturating_add((position % POINTS_A_DAY) as i64);
    let line = format!("{CURSOR},{COLLECTOR}={log} position={position}i,flows={flows}i,sums={sums}i {timestamp}\n");
    client.write(Keep::Aggregate, line.as_bytes(), compressed).map_err(|error| match error {
        WriteError::Sink(error) => error,
        WriteError::Refused(reason) => SinkError::Fatal(format!("the server refuses the cursor: {reason}")),
        WriteError::TooOld(_) => SinkError::Fatal("the server's clock is far from the collector's".to_owned()),
    })
}

/// The subscribers that have a tag at the server: those of `usage`, which is kept so long.
pub fn subscribers(client: &Client, keep: Keep, timeout: Duration) -> Result<Vec<Uuid>, SinkError> {
    let statement = format!(
        "SHOW TAG VALUES ON {} FROM {}.\"{}\" WITH KEY = \"{}\"",
        place::name(&client.tags_database(keep)),
        place::name(&client.policy(keep)),
        schema::BY_SUBSCRIBER,
        Field::SubscriberId.name()
    );
    let mut found = Vec::new();
    read::run(client, keep, &statement, Instant::now() + timeout, &mut |series| {
        found.extend(series.values.iter().filter_map(|row| match row.as_slice() {
            [_, Cell::Text(value)] => value.parse::<Uuid>().ok(),
            _ => None,
        }));
        Ok(true)
    })?;
    Ok(found)
}
