//! The `rgz-netflow` command.

fn main() {}
