//! The command line: one module a command. Errors are clear lines on stderr and exit code 2.

mod ask;
mod check;
mod client;
mod config;
mod doctor;
pub mod generate;
mod health;
mod interrupt;
pub mod replay;
mod run;
mod sample;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::control::config::{Settings, Sources, load, of_process};

/// Exit code for anything that the user must mend: a port in use, a missing file, a bad configuration.
pub const EXIT_FAILURE: u8 = 2;

/// Exit code of a command that did what it should and found something amiss.
pub const EXIT_FOUND: u8 = 1;

/// What ends a command: a clear line, or several problems of the configuration, a line each.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// From anything that prints.
    pub fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// NetFlow collector: receives flow exports, says who and where each flow is, sums it up and stores it
#[derive(Debug, Parser)]
#[command(name = "rgz-netflow", version, max_term_width = 100)]
#[command(after_help = "Example:\n  rgz-netflow -c pipeline.toml -p 2055")]
struct Command {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Option<Action>,
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Configuration; without it ./pipeline.toml when that is there, else the defaults
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// File with environment variables, NAME=value a line
    #[arg(long, value_name = "FILE", global = true)]
    env_file: Option<PathBuf>,
    /// UDP port to listen on
    #[arg(short, long, value_name = "PORT", global = true, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

impl Common {
    /// Reads the configuration.
    fn load(&self) -> Result<Settings, Failure> {
        load(&self.sources()).map_err(Failure::new)
    }

    fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            env_file: self.env_file.clone(),
            environment: of_process(),
            port: self.port,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Subscribers over a volume, what fires, and trying a receiver
    #[command(subcommand, after_help = "Example:\n  rgz-netflow alerts check --period 24h --threshold 1073741824")]
    Alerts(ask::Alerts),
    /// Check the configuration, its files and folders, and print the memory it may use
    #[command(after_help = "Example:\n  rgz-netflow check -c pipeline.toml")]
    Check,
    /// Print every value of the configuration and where it came from
    #[command(after_help = "Example:\n  NETFLOW_PORT=9995 rgz-netflow config")]
    Config,
    /// Look at what a running collector sees, and say what to mend
    #[command(subcommand, after_help = "Example:\n  rgz-netflow doctor exporter 192.0.2.1")]
    Doctor(doctor::Doctor),
    /// Write flow records of a running collector or a data folder to a file
    #[command(subcommand, after_help = "Example:\n  rgz-netflow export csv --period 1h --out flows.csv")]
    Export(ask::Export),
    /// Send synthetic flows whose totals are exactly known
    #[command(
        after_help = "Example:\n  rgz-netflow generate --rate 1000 --duration 10s --write-subscribers subscribers.csv"
    )]
    Generate(generate::Options),
    /// Ask the collector of this configuration whether it is alive; exit code 0 or 2
    #[command(after_help = "Example:\n  rgz-netflow health -c /etc/rgz-netflow/pipeline.toml")]
    Health,
    /// Ask a running collector or a data folder for sums by any keys and time steps
    #[command(after_help = "Example:\n  rgz-netflow query --by direction --interval 1h --period 24h")]
    Query(ask::QueryOptions),
    /// What was set aside: see it, bring it to its sink again, drop it
    #[command(subcommand, after_help = "Example:\n  rgz-netflow quarantine list")]
    Quarantine(ask::Quarantine),
    /// Send the flow exports of a capture again
    #[command(after_help = "Example:\n  rgz-netflow replay exports.pcap --speed 10 --shift-to-now")]
    Replay(replay::Options),
    /// Reports of a running collector or a data folder
    #[command(
        subcommand,
        after_help = "Example:\n  rgz-netflow report monthly --month 2026-01 --format csv --out january.csv"
    )]
    Report(ask::Report),
    /// Receive, store and answer until told to stop (the default)
    #[command(after_help = "Example:\n  rgz-netflow run -c pipeline.toml -p 2055")]
    Run(run::Options),
    /// Print a [[sink]] table of a kind, every key with its default
    #[command(after_help = "Example:\n  rgz-netflow sample parquet >> pipeline.toml")]
    Sample(sample::Options),
    /// Ask a running collector or a data folder for the addresses with the most bytes
    #[command(after_help = "Example:\n  rgz-netflow top --period 1h --filter 'dst port 443'")]
    Top(ask::TopOptions),
}

/// Reads the arguments, does what they say, gives the exit code.
pub fn main() -> ExitCode {
    let command = Command::parse();
    let common = &command.common;
    let done = match command.action.unwrap_or_else(|| Action::Run(run::Options::default())) {
        Action::Alerts(alerts) => ask::alerts(common, &alerts),
        Action::Check => common.load().and_then(|settings| check::run(&settings)),
        Action::Config => common.load().map(|settings| config::run(&settings)),
        Action::Doctor(doctor) => match doctor::run(common, &doctor) {
            Ok(false) => return ExitCode::from(EXIT_FOUND),
            done => done.map(|_| ()),
        },
        Action::Export(export) => ask::export(common, &export),
        Action::Generate(options) => generate::run(&options),
        Action::Health => common.load().and_then(|settings| health::run(&settings)),
        Action::Query(options) => ask::query(common, &options),
        Action::Quarantine(what) => match ask::quarantine(common, &what) {
            Ok(false) => return ExitCode::from(EXIT_FOUND),
            done => done.map(|_| ()),
        },
        Action::Replay(options) => replay::run(&options),
        Action::Report(report) => ask::report(common, &report),
        Action::Run(options) => {
            match common.load().and_then(|settings| run::run(&options, settings, common.sources())) {
                Ok(false) => return ExitCode::from(EXIT_FOUND),
                done => done.map(|_| ()),
            }
        }
        Action::Sample(options) => sample::run(&options),
        Action::Top(options) => ask::top(common, &options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Several lines are several problems; each stands on its own.
            failure.0.lines().for_each(|line| eprintln!("rgz-netflow: {line}"));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_has_help_with_an_example() {
        let mut command = Command::command();
        command.build();
        for command in std::iter::once(&command).chain(command.get_subcommands().filter(|c| c.get_name() != "help")) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:\n  "), "{}", command.get_name());
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
