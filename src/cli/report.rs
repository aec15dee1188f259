//! How a verb ends that holds something against something: its report, and an exit code.

use std::process::ExitCode;

use serde::Serialize;

use super::logging;

/// Exit code: something is missing, or is not as it should be.
pub(super) const WRONG: u8 = 1;

/// Exit code: it could not be found out. A wrong command line has the same.
pub(super) const UNKNOWN: u8 = 2;

/// Prints a report, as JSON or as `render` has it for a person. The exit code is 0 if all is `well`, 1 if
/// it is not, and 2 if there is no report.
pub(super) fn end<R: Serialize>(
    report: anyhow::Result<R>,
    json: bool,
    render: impl Fn(&R) -> String,
    well: impl Fn(&R) -> bool,
) -> anyhow::Result<ExitCode> {
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            logging::error(&error);
            return Ok(ExitCode::from(UNKNOWN));
        }
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", render(&report));
    }
    Ok(if well(&report) { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}
