//! `rgz-netflow sample KIND`: a `[[sink]]` table that works as it stands.

use super::Failure;

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
    Ok(())
}
