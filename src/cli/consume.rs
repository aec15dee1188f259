//! `sluicegate consume`

use std::{process::ExitCode, time::Duration};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::stats::GroupArgs;
use crate::{
    broker::Broker,
    config::{ConfigFile, ContractArgs, KafkaArgs, PostgresArgs, RegistryArgs, seconds},
    consume::{ConsumeOptions, consume},
    registry::RetryPolicy,
};

/// Land the events of the topics in Postgres, each once
///
/// An event that keeps its contract's rules becomes a row, once for its id; any other becomes a
/// dead letter, in dlq_events and on the dead-letter topic. Offsets are committed after the
/// database has the events. Runs until SIGTERM or Ctrl-C, which finish the batches in hand; the
/// exit code is then 0.
#[derive(Debug, Args)]
pub(super) struct ConsumeArgs {
    /// The streams to land [default: all]
    #[arg(value_name = "STREAM")]
    streams: Vec<String>,

    /// Stop once everything that is on the topics has landed
    #[arg(long)]
    exit_when_drained: bool,

    /// Stop after so long, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    duration: Option<Duration>,

    /// How many sink tasks write a stream, each over a database connection of its own
    #[arg(long, env = "SLUICEGATE_SINK_TASKS", default_value_t = 2, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    sink_tasks: u16,

    /// Write a batch once it has so many records
    #[arg(long, default_value_t = 10_000, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_rows: u32,

    /// Write a batch once it has so many bytes
    #[arg(long, default_value_t = 8 << 20, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    batch_bytes: u32,

    /// Write a batch so long after its first record
    #[arg(long, default_value = "100ms", value_name = "TIME", value_parser = seconds)]
    batch_time: Duration,

    /// Ask the registry so often for a schema id that it does not know before the event is a dead letter
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20))]
    unknown_schema_attempts: u32,

    #[command(flatten)]
    group: GroupArgs,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    kafka: KafkaArgs,

    #[command(flatten)]
    registry: RegistryArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

impl ConsumeArgs {
    pub(super) async fn run(
        self,
        file: &ConfigFile,
        stop: CancellationToken,
    ) -> anyhow::Result<ExitCode> {
        let contracts = self.contracts.read(file, &self.streams)?;
        let broker = Broker::new(self.kafka.properties(file)?)?;
        let registry = self.registry.connect()?;
        let postgres = self.postgres.options()?;
        if let Some(duration) = self.duration {
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(duration).await;
                stop.cancel();
            });
        }
        let options = self.options();
        let reports = consume(contracts, broker, registry, postgres, options, stop).await?;
        for report in reports {
            let written = report.written;
            println!(
                "{}: {} inserted, {} duplicates, {} dead letters",
                report.stream, written.inserted, written.duplicate, written.dead_lettered
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(&self) -> ConsumeOptions {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        ConsumeOptions {
            group_prefix: self.group.group_prefix.clone(),
            sink_tasks: usize::from(self.sink_tasks),
            batch_rows: size(self.batch_rows),
            batch_bytes: size(self.batch_bytes),
            batch_time: self.batch_time,
            unknown_schema: RetryPolicy {
                attempts: self.unknown_schema_attempts,
                ..RetryPolicy::default()
            },
            exit_when_drained: self.exit_when_drained,
        }
    }
}
