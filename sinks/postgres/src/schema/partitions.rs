//! Native partitions: made before rows land in them, dropped whole when their time is over.

use std::collections::HashSet;

use postgres::Client;
use sink_api::SinkError;
use sink_api::rollup::Keep;
use sink_api::time::DAY_MS;

use super::{Table, failed, lock};
use crate::config::{Config, literal, quote};

/// Width of a partition: a day of detail, four weeks of sums that are kept for months.
pub fn width_ms(keep: Keep) -> i64 {
    match keep {
        Keep::Detail => DAY_MS,
        Keep::Aggregate => 28 * DAY_MS,
    }
}

/// Which partitions are known to be there. Belongs to one connection.
#[derive(Debug, Default)]
pub struct Partitions {
    known: HashSet<(String, i64)>,
}

impl Partitions {
    /// Makes the partitions in which rows of these times will land. In transactions of its own: attaching a partition does
    /// not stop readers or writers of the others.
    pub fn ensure(
        &mut self,
        client: &mut Client,
        config: &Config,
        table: &Table,
        times: impl Iterator<Item = i64>,
    ) -> Result<(), SinkError> {
        let width = width_ms(table.keep);
        let mut starts: Vec<i64> = Vec::new();
        for start in times.map(|time| time.div_euclid(width) * width) {
            if starts.last() != Some(&start) && !starts.contains(&start) {
                starts.push(start);
            }
        }
        starts.retain(|start| !self.known.contains(&(table.name.clone(), *start)));
        for start in starts {
            make(client, config, table, start, start + width)?;
            self.known.insert((table.name.clone(), start));
        }
        Ok(())
    }
}

/// The partition's name: the table's and its first day.
pub fn name(table: &Table, start_ms: i64) -> String {
    let day = sink_api::time::rfc3339(start_ms);
    let digits: String = day.chars().take_while(|c| *c != 'T').filter(|c| *c != '-').collect();
    format!("{}_p{digits}", table.name)
}

fn make(client: &mut Client, config: &Config, table: &Table, start_ms: i64, end_ms: i64) -> Result<(), SinkError> {
    let name = name(table, start_ms);
    let mut tx = client.transaction().map_err(failed)?;
    lock(&mut tx)?;
    let sql = "SELECT 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    if tx.query_opt(sql, &[&config.schema, &name]).map_err(failed)?.is_none() {
        let bound = |ms| literal(&sink_api::time::rfc3339(ms));
        let partition = config.quoted(&name);
        tx.batch_execute(&format!(
            "CREATE TABLE {partition} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS); \
             ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({}) TO ({})",
            bound(start_ms),
            bound(end_ms),
            parent = table.quoted,
        ))
        .map_err(failed)?;
    }
    tx.commit().map_err(failed)
}

/// Drops the partitions that end before a time; gives how many.
pub fn drop_before(client: &mut Client, config: &Config, table: &Table, cutoff_ms: i64) -> Result<u64, SinkError> {
    let sql = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
               JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace \
               WHERE n.nspname = $1 AND p.relname = $2";
    let rows = client.query(sql, &[&config.schema, &table.name]).map_err(failed)?;
    let last_start = cutoff_ms.saturating_sub(width_ms(table.keep)).div_euclid(width_ms(table.keep));
    let newest = name(table, last_start * width_ms(table.keep));
    let mut dropped = 0;
    for found in rows.iter().map(|row| row.get::<_, String>(0)) {
        // Names of one table differ in their date alone, so they order as their dates do.
        let ours = found.len() == newest.len() && found.starts_with(&format!("{}_p", table.name));
        if ours && found <= newest {
            let partition = format!("{}.{}", quote(&config.schema), quote(&found));
            client
                .batch_execute(&format!("SET lock_timeout = '2s'; DROP TABLE {partition}; RESET lock_timeout"))
                .map_err(failed)?;
            dropped += 1;
        }
    }
    Ok(dropped)
}
