//! Parses, starts, and turns errors into exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    wabbit::cli::main()
}
