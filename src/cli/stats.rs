//! `sluicegate stats`

use std::process::ExitCode;

use clap::Args;
use sqlx::postgres::PgConnectOptions;

use crate::{
    broker::Broker,
    config::{ConfigFile, ContractArgs, KafkaArgs, PostgresArgs},
    contract::Contract,
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

/// Where those look who change nothing: at streams, their groups, Kafka and Postgres.
#[derive(Debug, Args)]
pub(super) struct LookArgs {
    #[command(flatten)]
    group: GroupArgs,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    kafka: KafkaArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

/// What is looked at.
pub(super) struct Look {
    pub(super) contracts: Vec<Contract>,
    pub(super) broker: Broker,
    pub(super) postgres: PgConnectOptions,
    pub(super) group_prefix: String,
}

impl LookArgs {
    /// Reads the contracts of `streams`, and how the services are reached.
    pub(super) fn open(&self, file: &ConfigFile, streams: &[String]) -> anyhow::Result<Look> {
        Ok(Look {
            contracts: self.contracts.read(file, streams)?,
            broker: Broker::new(self.kafka.properties(file)?)?,
            postgres: self.postgres.options()?,
            group_prefix: self.group.group_prefix.clone(),
        })
    }
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
    look: LookArgs,
}

impl StatsArgs {
    pub(super) async fn run(self, file: &ConfigFile) -> anyhow::Result<ExitCode> {
        let Look { contracts, broker, postgres, group_prefix } =
            self.look.open(file, &self.streams)?;
        let all = stats(&contracts, &postgres, &broker, &group_prefix).await?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&all)?);
        } else {
            println!("{}", render(&all));
        }
        Ok(ExitCode::SUCCESS)
    }
}
