//! The `sluicegate` program: everything is in the library.

use std::{io::Write as _, process::ExitCode};

use sluicegate::cli;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
