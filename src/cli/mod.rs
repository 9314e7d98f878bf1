//! The command line: one module a command. Errors are one line on stderr and exit code 2.

pub mod generate;
mod interrupt;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code for anything that the user must mend: a port in use, a missing file, a bad configuration.
pub const EXIT_FAILURE: u8 = 2;

/// What ends a command: one clear line.
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

/// The `rgz-netflow` command.
#[derive(Debug, Parser)]
#[command(name = "rgz-netflow", version, about = "NetFlow collector: receives, enriches, sums up and stores flows")]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send synthetic flows whose totals are exactly known
    #[command(
        after_help = "Example:\n  rgz-netflow generate --rate 1000 --duration 10s --write-subscribers subscribers.csv"
    )]
    Generate(generate::Options),
}

/// Reads the arguments, does what they say, gives the exit code.
pub fn main() -> ExitCode {
    let command = Command::parse();
    let done = match command.action {
        Action::Generate(options) => generate::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("rgz-netflow: {failure}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}
