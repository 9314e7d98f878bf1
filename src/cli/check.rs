//! `rgz-netflow check`: everything that `run` would stumble over, without starting it, and the memory it may use.

use std::net::{TcpListener, UdpSocket};

use super::Failure;
use crate::app;
use crate::control::alerts;
use crate::control::config::Settings;
use crate::deliver;
use crate::enrich::sql::{self, Probed};
use crate::enrich::{Enrichment, leases};
use crate::log::{self, Durability};
use crate::pipeline;
use crate::telemetry::units::print_bytes;

/// Bytes of one conversation in the pairing table.
const PAIRING_ENTRY_BYTES: u64 = 48;

/// Checks folders, sinks and ports, prints what was found.
///
/// # Errors
/// Every folder that cannot be written, every sink and database that cannot be reached, every file that cannot be read, and
/// a log that is damaged: a line each.
pub fn run(settings: &Settings) -> Result<(), Failure> {
    let mut problems = app::unwritable_folders(settings, true);
    println!("configuration: {} values, no problems", settings.shown.len());
    for sink in &settings.sinks {
        let (name, kind) = (&sink.common.name, &sink.common.kind);
        match sink.config.probe() {
            Ok(Some(there)) => println!("sink {name}: kind {kind}, {there}"),
            Ok(None) => println!("sink {name}: kind {kind}"),
            Err(error) => problems.push(format!("sink {name}: {error}")),
        }
    }
    let table_bytes = enrichment(settings).unwrap_or_else(|more| {
        problems.extend(more);
        0
    });
    problems.extend(log_damage(settings));
    if !problems.is_empty() {
        return Err(Failure::new(problems.join("\n")));
    }
    for line in ports(settings) {
        println!("{line}");
    }
    println!("\nmemory, at most:");
    let budget = memory(settings);
    for (what, bytes) in &budget {
        println!("  {what:<32}{:>10}", print_bytes(*bytes));
    }
    println!("  {:<32}{:>10}", "together", print_bytes(budget.iter().map(|(_, bytes)| bytes).sum()));
    println!("  {:<32}{:>10}  now, apart: as large as its data", "prefix table", print_bytes(table_bytes));
    Ok(())
}

/// Reads the sources of enrichment and tries its queries. Prints what they hold; gives the table's size in bytes, or a line for
/// each problem.
fn enrichment(settings: &Settings) -> Result<u64, Vec<String>> {
    let mut config = app::enrich_config(settings);
    let queries = config.sql.take();
    let (mut problems, mut table_bytes) = (Vec::new(), 0);
    match Enrichment::open(config) {
        Ok((enrichment, report)) => {
            table_bytes = enrichment.table_bytes() as u64;
            for source in report.sources {
                println!("enrichment: {}, {} rows from {}", source.kind, source.rows, source.file.display());
            }
            report.hints.iter().for_each(|hint| println!("enrichment: {hint}"));
        }
        Err(error) => problems.extend(error.errors.iter().map(|error| format!("enrichment: {error}"))),
    }
    match queries.as_ref().map(sql::probe) {
        Some(Ok(probed)) => {
            for Probed { query, rows } in probed {
                println!("[enrich.sql] {query}: answered, the first {rows} rows are right");
            }
        }
        Some(Err(errors)) => problems.extend(errors.iter().map(ToString::to_string)),
        None => {}
    }
    if problems.is_empty() { Ok(table_bytes) } else { Err(problems) }
}

/// Reads the whole log, when there is one. A line when anything in it is damaged.
fn log_damage(settings: &Settings) -> Option<String> {
    let dir = settings.base.join(&settings.stages.log.dir);
    if settings.stages.log.durability != Durability::Always || !dir.is_dir() {
        return None;
    }
    match log::verify(&dir) {
        Ok(report) if report.is_sound() => {
            println!("log: {} records with {} flows, sound", report.records, report.flows);
            None
        }
        Ok(report) => Some(format!(
            "log: {} bytes in {} are no records, {} records cannot be read, {} files are none of its own; a start goes on \
             behind them",
            report.corrupt_bytes,
            dir.display(),
            report.undecodable_records,
            report.refused_files
        )),
        // Nothing has been written there yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("log: {} cannot be read: {error}", dir.display())),
    }
}

/// Whether each port is free now. In use is no problem of the configuration: a collector may be running.
fn ports(settings: &Settings) -> Vec<String> {
    let state = |free: std::io::Result<()>| match free {
        Ok(()) => "free".to_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => "in use now".to_owned(),
        Err(e) => format!("cannot be opened: {e}"),
    };
    let listeners = settings.stages.receive.listen.iter();
    let udp = listeners.map(|addr| format!("udp {addr}: {}", state(UdpSocket::bind(addr).map(|_| ()))));
    let admin = settings.stages.admin.listen_addr().into_iter();
    let tcp = admin.map(|addr| format!("tcp {addr}: {}", state(TcpListener::bind(addr).map(|_| ()))));
    udp.chain(tcp).collect()
}

/// The bound of every stage that has one, bytes.
fn memory(settings: &Settings) -> Vec<(String, u64)> {
    let stages = &settings.stages;
    let pairing = if stages.enrich.pairing { stages.enrich.pairing_entries as u64 * PAIRING_ENTRY_BYTES } else { 0 };
    let mut budget = vec![
        ("slabs and their queue".to_owned(), stages.receive.queue_bytes),
        (
            "batches being filled or reused".to_owned(),
            pipeline::memory_bytes_max(stages.decode.workers(), stages.receive.slab_bytes),
        ),
        ("pairing".to_owned(), pairing),
        ("leases".to_owned(), leases::MEMORY_BYTES_MAX as u64),
        (
            "verdicts of inspection".to_owned(),
            stages.enrich.dpi.as_ref().map_or(0, |_| stages.enrich.dpi_memory_max_bytes),
        ),
        ("recent records of the log".to_owned(), stages.log.memory_budget_bytes()),
        ("keys and sums of rollups".to_owned(), stages.aggregate.memory_max_bytes),
        (
            "counters of alerts".to_owned(),
            if stages.alerts.enabled { alerts::counters::MEMORY_BYTES_MAX as u64 } else { 0 },
        ),
    ];
    for sink in &settings.sinks {
        budget.push((format!("sink {}", sink.common.name), sink.config.memory_bytes_max()));
        budget.push((format!("quarantine of {}", sink.common.name), deliver::QUARANTINE_MEMORY_BYTES_MAX));
    }
    budget.push(("bodies of HTTP requests".to_owned(), stages.admin.bodies_bytes_max()));
    budget
}
