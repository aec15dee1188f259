//! Log lines, on standard error.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// For people; coloured on a terminal
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Starts logging.
pub(super) fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    // a migration of refinery's and a statement of sqlx's are no news to a user
    let filter = format!("{filter},refinery_core=warn,sqlx=warn");
    let filter = EnvFilter::try_new(&filter)
        .context("--log is not a filter; expected a level or one such as sluicegate=debug")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
        }
    }
    Ok(())
}
