//! `sluicegate rules`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::dlq::moment;
use crate::{
    backtest::{Options, backtest, render},
    config::{ConfigFile, ContractArgs, PostgresArgs, RegistryArgs},
    dlq::width,
};

/// Try the rules and labels of a contract before they are in force
#[derive(Debug, Args)]
pub(super) struct RulesArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Test(Box<TestArgs>),
}

/// Hold a contract against what is there already, and say what would change
///
/// Reads the contract as it is in the folder now, with --param, and evaluates its rules and labels over
/// the rows whose event happened since then, and over the dead letters seen since then that are pending
/// or parked. Says which rows would be refused, which labels would be others, and which dead letters
/// would pass. Nothing is changed; rows that have landed stay as they are. The constraints of the table
/// are not tried: dlq replay --dry-run does.
#[derive(Debug, Args)]
struct TestArgs {
    /// The stream
    #[arg(value_name = "STREAM")]
    stream: String,

    /// From then on: an age such as 24h or 7d, or a moment such as 2026-05-01T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = moment, default_value = "24h")]
    since: OffsetDateTime,

    /// Before then
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<OffsetDateTime>,

    /// Show so many rows of each kind
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    examples: u8,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    registry: RegistryArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl RulesArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Test(args) => args.run(file).await,
        }
    }
}

impl TestArgs {
    async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let contract = self.contracts.read_one(file, &self.stream)?;
        let (since, until, examples) = (self.since, self.until, usize::from(self.examples));
        let options = Options { since, until, examples };
        let (postgres, registry) = (self.postgres.options()?, self.registry.connect()?);
        let report = backtest(contract, &postgres, registry, &options).await?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print!("{}", render(&report, width()));
        }
        Ok(ExitCode::SUCCESS)
    }
}
