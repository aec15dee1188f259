//! The `sluicegate` program: everything is in the library.

use std::process::ExitCode;

use sluicegate::cli;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
