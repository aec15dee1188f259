//! The command line: one verb a role, each in a file of its own.

mod aggregates;
mod audit;
mod check;
mod consume;
mod demo;
mod dlq;
mod logging;
mod migrate;
mod produce;
mod register;
mod report;
mod rules;
mod serve;
mod stats;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::logging::LogFormat;
use crate::{
    config::{ConfigFile, with_defaults},
    panics::end_without_reader,
};

/// How long the last threads are waited for.
const LEAVE: Duration = Duration::from_secs(2);

/// The heading over the flags that every verb has.
const GENERAL: &str = "General";

/// Avro events from Kafka, held against their contracts, landed in Postgres exactly once
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, propagate_version = true, disable_help_subcommand = false)]
#[command(
    after_help = "A stream is one file, schemas/STREAM.avsc: an Avro schema and what must hold of \
    its events. To run one: register, migrate, produce STREAM, consume, serve, stats, audit. A flag wins over \
    its environment variable, and that over sluicegate.toml. A secret belongs into a file or the \
    environment: a flag can be read in the list of processes."
)]
pub struct Cli {
    #[arg(long, global = true, env = "SLUICEGATE_CONFIG", value_name = "FILE")]
    #[arg(
        help = "A file of defaults for flags, as FLAG = VALUE, and the tables [kafka] and [params.STREAM]"
    )]
    #[arg(default_value = "sluicegate.toml", help_heading = GENERAL)]
    config: PathBuf,

    /// How log lines look, on standard error
    #[arg(long, global = true, env = "SLUICEGATE_LOG_FORMAT", value_enum, default_value_t)]
    #[arg(value_name = "FORMAT", help_heading = GENERAL)]
    log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, or a filter such as sluicegate=debug
    #[arg(long, global = true, env = "SLUICEGATE_LOG", default_value = "info")]
    #[arg(value_name = "FILTER", help_heading = GENERAL)]
    log: String,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::DemoArgs),
    Check(check::CheckArgs),
    Register(register::RegisterArgs),
    Migrate(migrate::MigrateArgs),
    Produce(Box<produce::ProduceArgs>),
    Consume(Box<consume::ConsumeArgs>),
    Serve(Box<serve::ServeArgs>),
    Stats(stats::StatsArgs),
    Audit(audit::AuditArgs),
    Aggregates(aggregates::AggregatesArgs),
    Dlq(Box<dlq::DlqArgs>),
    Rules(rules::RulesArgs),
}

impl Cli {
    /// What is logged. A demo has a screen, and says there what is otherwise logged.
    fn log_filter(&self, matches: &ArgMatches) -> &str {
        let said = matches.value_source("log") != Some(ValueSource::DefaultValue);
        if matches!(self.verb, Verb::Demo(_)) && !said { "warn" } else { &self.log }
    }
}

/// Runs the program; gives its exit code.
pub fn run() -> anyhow::Result<ExitCode> {
    end_without_reader();
    let file = config_file()?;
    let command = with_defaults(Cli::command(), &file).context("configuration file")?;
    let matches = command.get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    logging::start(cli.log_format, cli.log_filter(&matches))?;
    let runtime = tokio::runtime::Runtime::new().context("can't start the runtime")?;
    let code = runtime.block_on(async {
        match cli.verb {
            Verb::Demo(args) => args.run(&file, stop_signal()?).await,
            Verb::Check(args) => args.run(&file).await,
            Verb::Register(args) => args.run(&file).await,
            Verb::Migrate(args) => args.run(&file).await,
            Verb::Produce(args) => args.run(&file, stop_signal()?).await,
            Verb::Consume(args) => args.run(&file, stop_signal()?).await,
            Verb::Serve(args) => args.run(&file, stop_signal()?).await,
            Verb::Stats(args) => args.run(&file).await,
            Verb::Audit(args) => args.run(&file).await,
            Verb::Aggregates(args) => args.run(&file).await,
            Verb::Dlq(args) => args.run(&file).await,
            Verb::Rules(args) => args.run(&file).await,
        }
    });
    // what librdkafka and OpenSSL hold is let go of before the process takes them down; a read of
    // standard input can't be taken back, and is not waited for
    runtime.shutdown_timeout(LEAVE);
    Ok(code.unwrap_or_else(|error| {
        logging::error(&error);
        ExitCode::FAILURE
    }))
}

/// The file gives defaults to the parser, so its own flag is looked for before there is one.
fn config_file() -> anyhow::Result<ConfigFile> {
    let mut words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let mut asked_for = std::env::var_os("SLUICEGATE_CONFIG").map(PathBuf::from);
    while let Some(word) = words.next() {
        if let Some(path) = word.strip_prefix("--config=") {
            asked_for = Some(path.into());
        } else if word == "--config" {
            asked_for = words.next().map(PathBuf::from);
        }
    }
    match asked_for {
        Some(path) => ConfigFile::read(&path, true),
        None => ConfigFile::read("sluicegate.toml".as_ref(), false),
    }
}

/// Cancelled by SIGTERM or Ctrl-C; a second one ends the program at once.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    let token = stop.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                std::process::exit(130);
            }
            token.cancel();
            tracing::info!("stopping: what is in hand is finished; once more to stop at once");
        }
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
