//! `rgz-netflow config`: every value and where it came from, secrets masked.

use crate::control::config::Settings;

/// Prints a line for each value.
pub fn run(settings: &Settings) {
    let lines: Vec<String> = settings.shown.iter().map(|shown| format!("{} = {}", shown.key, shown.value)).collect();
    // Origins stand in a column; a long value pushes only its own.
    const COLUMN_MAX: usize = 60;
    let width = lines.iter().map(|line| line.chars().count()).filter(|width| *width <= COLUMN_MAX).max().unwrap_or(0);
    for (line, shown) in lines.iter().zip(&settings.shown) {
        println!("{line:<width$}  # {}", shown.origin);
    }
}
