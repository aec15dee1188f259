//! `sluicegate consume`

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::stats::GroupArgs;
use crate::{
    broker::Broker,
    config::{ConfigFile, ContractArgs, KafkaArgs, PostgresArgs, RegistryArgs, seconds},
    consume::{BreakerOptions, ConsumeOptions, consume},
    http::{self, Page, Serving},
    metrics,
    produce::Share,
    registry::RetryPolicy,
    sink::OnGap,
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
    #[arg(long, env = "SLUICEGATE_SINK_TASKS", default_value_t = 3, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    sink_tasks: u16,

    /// Write a batch once it has so many records
    #[arg(long, default_value_t = 15_000, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_rows: u32,

    /// Write a batch once it has so many bytes
    #[arg(long, default_value_t = 8 << 20, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    batch_bytes: u32,

    /// Write a batch so long after its first record, or once the one before is written
    #[arg(long, default_value = "100ms", value_name = "TIME", value_parser = seconds)]
    batch_time: Duration,

    /// Serve http://ADDRESS/metrics for Prometheus, and /healthz and /readyz
    ///
    /// /healthz says that the process lives, /readyz whether it can go on: while a stream waits
    /// for what is away, is paused by its breaker or has stopped, it answers 503 and says which.
    #[arg(long, env = "SLUICEGATE_METRICS_LISTEN", value_name = "HOST:PORT")]
    metrics_listen: Option<SocketAddr>,

    #[command(flatten)]
    failures: FailureArgs,

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

/// What is done about what goes wrong.
#[derive(Debug, Args)]
#[command(next_help_heading = "When something goes wrong")]
struct FailureArgs {
    /// Ask the registry so often for a schema id that it does not know before the event is a dead letter
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20))]
    unknown_schema_attempts: u32,

    /// Wait so long before asking the second time, and twice as long each further time
    #[arg(long, default_value = "300ms", value_name = "TIME", value_parser = seconds)]
    unknown_schema_delay: Duration,

    /// End with an error when Postgres, the registry or Kafka has been away for so long [default: wait]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_outage: Option<Duration>,

    /// What to do about offsets that Kafka deleted before they were read
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    on_gap: OnGap,

    /// Pause a stream when more than this share of its last events would be dead letters
    #[arg(long, default_value = "80%", value_name = "SHARE")]
    breaker_share: Share,

    /// Look at so many events for that
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    breaker_window: u32,

    /// Try the batch again after so long
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = seconds)]
    breaker_probe: Duration,

    /// Never pause a stream for its dead letters
    #[arg(long)]
    no_breaker: bool,
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
        // for as long as there is something to say: the last batches' figures among it
        let done = CancellationToken::new();
        let serving = match self.metrics_listen {
            Some(address) => Some(serve(address, &done).await?),
            None => None,
        };
        let options = self.options();
        let reports = consume(contracts, broker, registry, postgres, options, stop).await;
        done.cancel();
        if let Some(serving) = serving {
            serving.ended().await;
        }
        let reports = reports?;
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
        let failures = &self.failures;
        ConsumeOptions {
            group_prefix: self.group.group_prefix.clone(),
            sink_tasks: usize::from(self.sink_tasks),
            batch_rows: size(self.batch_rows),
            batch_bytes: size(self.batch_bytes),
            batch_time: self.batch_time,
            unknown_schema: RetryPolicy {
                attempts: failures.unknown_schema_attempts,
                first_delay: failures.unknown_schema_delay,
            },
            breaker: (!failures.no_breaker).then_some(BreakerOptions {
                share: failures.breaker_share.as_fraction(),
                window: failures.breaker_window,
                probe: failures.breaker_probe,
            }),
            max_outage: failures.max_outage,
            on_gap: failures.on_gap,
            exit_when_drained: self.exit_when_drained,
        }
    }
}

async fn serve(address: SocketAddr, done: &CancellationToken) -> anyhow::Result<Serving> {
    let process = metrics::install(&[metrics::PROCESS, metrics::CONSUME])?;
    http::serve(&[address], http::routes(Page::new(process)), done.clone()).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        consume: ConsumeArgs,
    }

    #[test]
    fn what_is_not_said_is_what_the_library_does_by_itself() {
        let line = Line::try_parse_from(["consume"]).unwrap();
        assert_eq!(line.consume.options(), ConsumeOptions::default());
    }
}
