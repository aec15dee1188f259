//! `sluicegate aggregates`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::report;
use crate::{
    aggregates::{Report, render, verify},
    config::{ConfigFile, ContractArgs, PostgresArgs},
};

/// Hold the aggregates against the rows that they are made of
#[derive(Debug, Args)]
pub(super) struct AggregatesArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Verify(VerifyArgs),
}

/// Make every aggregate again from the rows, and name the buckets that differ
///
/// Needs Postgres only, and consumers may go on meanwhile. Each table is read once for each of its
/// aggregates; nothing is changed. The exit code is 0 if all are equal, 1 if anything differs, and 2
/// if that could not be found out.
#[derive(Debug, Args)]
struct VerifyArgs {
    /// The streams whose aggregates are verified [default: all]
    #[arg(value_name = "STREAM")]
    streams: Vec<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl AggregatesArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Verify(args) => args.run(file).await,
        }
    }
}

impl VerifyArgs {
    async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let report = self.verify(file).await;
        report::end(report, self.json, render, |report| report.equal)
    }

    async fn verify(&self, file: &ConfigFile) -> anyhow::Result<Report> {
        let contracts = self.contracts.read(file, &self.streams)?;
        verify(&contracts, &self.postgres.options()?).await
    }
}
