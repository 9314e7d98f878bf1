//! `rgz-netflow sample KIND`: a `[[sink]]` table that works as it stands.

use super::Failure;
use crate::control::config::Common;
use crate::telemetry::units::{print_bytes, print_duration_ms};

/// Options of `sample`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Kind of sink; without it every kind with a line about it
    kind: Option<String>,
}

/// Prints the sample, or the kinds.
///
/// # Errors
/// An unknown kind, with the known ones.
pub fn run(options: &Options) -> Result<(), Failure> {
    let Some(name) = &options.kind else {
        sinks::KINDS.iter().for_each(|kind| println!("{:<14}{}", kind.name, kind.about));
        return Ok(());
    };
    let Some(kind) = sinks::KINDS.iter().find(|kind| kind.name == name) else {
        let known: Vec<&str> = sinks::KINDS.iter().map(|kind| kind.name).collect();
        return Err(Failure::new(format!("unknown kind of sink {name:?} (known kinds: {})", known.join(", "))));
    };
    print!("{}", kind.sample);
    let Common { batch_rows, flush_interval_ms, quarantine_bytes_max, .. } = Common::default();
    println!("\n# Keys that every kind has:");
    println!("# start = \"now\"             # a new sink begins now, or with the \"oldest\" record that the log has");
    println!("# batch_rows = {batch_rows}      # flows that it commits together at most");
    println!(
        "# flush_interval = \"{}\"    # time after which it commits what it has",
        print_duration_ms(flush_interval_ms)
    );
    println!(
        "# quarantine_bytes_max = \"{}\" # room for records that the store refuses",
        print_bytes(quarantine_bytes_max)
    );
    Ok(())
}
