//! Rollups, and flows on wish, as points in InfluxDB.
//!
//! Line protocol over HTTP with bytes made here. A point's series and timestamp follow from its place in the log alone, so
//! a group that is sent again replaces itself: what is there counts once, whatever breaks. Questions are answered through
//! InfluxQL, which servers of version 1 and 2 both speak.

mod config;
mod http;
mod line;
mod place;
mod read;
mod schema;
mod sink;
mod store;

pub use config::{Api, Config, KEYS, SAMPLE, parse};
pub use sink_api::Secret;

/// Makes the points of records without sending them; gives their bytes. For benches.
#[doc(hidden)]
pub fn encoded_bytes(records: &[sink_api::Record], log: sink_api::LogId) -> u64 {
    let mut subscribers = line::Subscribers::new([], usize::MAX);
    let mut out = Vec::new();
    let mut bytes = 0;
    let mut write = |lines: &line::Lines<'_>, rows: usize| {
        for row in 0..rows {
            lines.write(row, row as i64, &mut out);
            if out.len() > 1 << 20 {
                bytes += out.len() as u64;
                out.clear();
            }
        }
    };
    for record in records {
        match record {
            sink_api::Record::Flows(batch) => write(&line::Lines::of_flows(batch, log), batch.len()),
            sink_api::Record::Sums(sums) => {
                let lines = |rows| line::Lines::of_rollup(rows, log, &mut subscribers);
                sums.rows.iter().zip(sums.rows.iter().map(lines)).for_each(|(rows, lines)| write(&lines, rows.len()));
            }
            sink_api::Record::Alerts(_) => {}
        }
    }
    bytes + out.len() as u64
}
