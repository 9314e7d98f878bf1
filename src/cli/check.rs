//! `rgz-netflow check`: everything that `run` would stumble over, without starting it, and the memory it may use.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use super::Failure;
use crate::control::alerts;
use crate::control::config::Settings;
use crate::log::Durability;
use crate::telemetry::units::print_bytes;

/// Bytes of one conversation in the pairing table.
const PAIRING_ENTRY_BYTES: u64 = 48;

/// Checks folders, sinks and ports, prints what was found.
///
/// # Errors
/// Every folder that cannot be written and every sink that cannot be reached, a line each.
pub fn run(settings: &Settings) -> Result<(), Failure> {
    let mut problems = unwritable_folders(settings);
    println!("configuration: {} values, no problems", settings.shown.len());
    for sink in &settings.sinks {
        let (name, kind) = (&sink.common.name, &sink.common.kind);
        match sink.config.probe() {
            Ok(Some(there)) => println!("sink {name}: kind {kind}, {there}"),
            Ok(None) => println!("sink {name}: kind {kind}"),
            Err(error) => problems.push(format!("sink {name}: {error}")),
        }
    }
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
    Ok(())
}

/// A line for each folder of a sink that cannot be made or written.
fn unwritable_folders(settings: &Settings) -> Vec<String> {
    let log = settings.base.join(&settings.stages.log.dir);
    let log = (settings.stages.log.durability == Durability::Always).then_some(("log".to_owned(), log));
    let sinks = settings.sinks.iter();
    let folders =
        sinks.flat_map(|sink| sink.config.folders().into_iter().map(|f| (format!("sink {}", sink.common.name), f)));
    let problem = |(whose, folder): (String, std::path::PathBuf)| {
        let error = write_probe(&folder).err()?;
        Some(format!("{whose}: cannot write to {}: {error}", folder.display()))
    };
    log.into_iter().chain(folders).filter_map(problem).collect()
}

/// Whether a file could be made in the folder, or in the nearest one above it that is there. Leaves nothing behind.
fn write_probe(folder: &Path) -> std::io::Result<()> {
    let mut there = folder;
    while !there.exists() {
        there = match there.parent() {
            Some(above) if above.as_os_str().is_empty() => Path::new("."),
            Some(above) => above,
            None => break,
        };
    }
    let probe = there.join(format!(".rgz-netflow-check-{}", std::process::id()));
    std::fs::File::create(&probe)?;
    std::fs::remove_file(&probe)
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
        ("pairing".to_owned(), pairing),
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
    }
    budget
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_probed_above_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        write_probe(&folder.path().join("a/b/c")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(write_probe(&file.join("below")).is_err());
    }
}
