//! The `rgz-netflow` command.

fn main() -> std::process::ExitCode {
    rgz_netflow::cli::main()
}
