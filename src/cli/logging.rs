//! Log lines, on standard error.

use std::{
    io::{self, IsTerminal, Write},
    sync::OnceLock,
};

use anyhow::Context;
use indicatif::ProgressBar;
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

/// How log lines look in this run.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// What is at the bottom of the terminal.
static BOTTOM: OnceLock<ProgressBar> = OnceLock::new();

/// From now on, log lines are written above a bar.
pub(super) fn log_above(bar: &ProgressBar) {
    BOTTOM.get_or_init(|| bar.clone());
}

/// Standard error, above what is at the bottom of the terminal.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match BOTTOM.get() {
            Some(bar) => bar.suspend(|| io::stderr().write(line)),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Whether standard error is read by people, so that it may have lines that are no log lines.
pub(super) fn is_for_people() -> bool {
    FORMAT.get() != Some(&LogFormat::Json)
}

/// Says why something failed.
pub(super) fn error(error: &anyhow::Error) {
    match is_for_people() {
        true => _ = writeln!(io::stderr(), "error: {error:#}"),
        false => tracing::error!("{error:#}"),
    }
}

/// Starts logging.
pub(super) fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    // a migration of refinery's and a statement of sqlx's are no news to a user
    let filter = format!("{filter},refinery_core=warn,sqlx=warn");
    let filter = EnvFilter::try_new(&filter)
        .context("--log is not a filter; expected a level or one such as sluicegate=debug")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Lines);
    // nobody may be reading any more, which is nothing to panic about
    let builder = builder.log_internal_errors(false);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
        }
    }
    FORMAT.get_or_init(|| format);
    Ok(())
}
