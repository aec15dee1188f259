//! `sluicegate stats`

use std::process::ExitCode;

use clap::Args;

use crate::{
    broker::Broker,
    config::{ConfigFile, ContractArgs, KafkaArgs, PostgresArgs},
    stats::{render, stats},
};

/// The consumer groups' names.
#[derive(Debug, Args)]
pub(super) struct GroupArgs {
    /// The consumer group of a stream is PREFIX.STREAM
    #[arg(
        long,
        env = "SLUICEGATE_GROUP_PREFIX",
        default_value = "sluicegate",
        value_name = "PREFIX"
    )]
    pub(super) group_prefix: String,
}

/// Show what landed and what did not: rows, labels, duplicates, dead letters, lag
///
/// Rows and labels are counted in the tables, duplicates and dead letters in the ledger. Lag is
/// what the topic has and the consumer group has not committed; it is ? where Kafka does not say.
#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// The streams to count [default: all]
    #[arg(value_name = "STREAM")]
    streams: Vec<String>,

    /// Print a JSON array, one object a stream
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    group: GroupArgs,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    kafka: KafkaArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl StatsArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let contracts = self.contracts.read(file, &self.streams)?;
        let broker = Broker::new(self.kafka.properties(file)?)?;
        let options = self.postgres.options()?;
        let all = stats(&contracts, &options, &broker, &self.group.group_prefix).await?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&all)?);
        } else {
            println!("{}", render(&all));
        }
        Ok(ExitCode::SUCCESS)
    }
}
