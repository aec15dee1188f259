//! `sluicegate serve`

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::{
    analytics::AnalyticsOptions,
    broker::Broker,
    config::{ConfigFile, ContractArgs, KafkaArgs, PostgresArgs, RegistryArgs, seconds, secret},
    contract::Contract,
    metrics,
    notify::{AlertTopic, Delivered, Notifier, Webhook},
    secret::Secret,
    serve::{ServeOptions, Service},
};

/// Make metrics and alerts of what has landed, and serve them
///
/// Looks every minute at the buckets of aggregates that have closed: writes their averages, maxima and
/// counts to the table metrics, and decides the contracts' alerts, which go to the table alerts, to a
/// topic and to a webhook. Of several processes one does so, and another takes over when it is gone.
/// All serve /metrics, /healthz and /readyz. Runs until SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Serve http://ADDRESS/metrics for Prometheus, and /healthz and /readyz
    #[arg(long, env = "SLUICEGATE_SERVE_LISTEN", default_value = "127.0.0.1:9465")]
    #[arg(value_name = "HOST:PORT")]
    listen: SocketAddr,

    /// Show at most so many series of an aggregate in /metrics: those with the most events
    #[arg(long, default_value_t = 500, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    most_series: u32,

    /// Look once, deliver what came of it, and end; serve nothing
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    buckets: BucketArgs,

    #[command(flatten)]
    alerts: AlertArgs,

    #[command(flatten)]
    contracts: ContractArgs,

    #[command(flatten)]
    kafka: KafkaArgs,

    #[command(flatten)]
    registry: RegistryArgs,

    #[command(flatten)]
    postgres: PostgresArgs,
}

/// When a bucket is closed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Closing buckets")]
struct BucketArgs {
    /// Look so often
    #[arg(long, env = "SLUICEGATE_EVERY", default_value = "60s", value_name = "TIME")]
    #[arg(value_parser = seconds)]
    every: Duration,

    /// A bucket is closed so long after its end, by the events' own time
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = seconds)]
    lateness: Duration,

    /// A partition that was read to its end, and got nothing for so long, holds up nobody
    #[arg(long, default_value = "2m", value_name = "TIME", value_parser = seconds)]
    idle: Duration,

    /// Neither does one that has more to read, and of which nothing was read for so long
    #[arg(long, default_value = "6h", value_name = "TIME", value_parser = seconds)]
    hold: Duration,

    /// Where an alert was never looked at: begin so long ago
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = seconds)]
    look_back: Duration,
}

/// Who is told of alerts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Alerts")]
struct AlertArgs {
    /// The topic that alerts are sent to, in Avro; created where it is missing
    #[arg(long, env = "SLUICEGATE_ALERTS_TOPIC", default_value = "alerts", value_name = "TOPIC")]
    alerts_topic: String,

    /// Send alerts to no topic
    #[arg(long)]
    no_alerts_topic: bool,

    /// Post alerts as JSON to this address
    #[arg(long, env = "SLUICEGATE_ALERTS_WEBHOOK", hide_env_values = true, value_name = "URL")]
    alerts_webhook: Option<Secret>,

    /// A file with the address, which may hold a secret
    #[arg(long, env = "SLUICEGATE_ALERTS_WEBHOOK_FILE", value_name = "FILE")]
    alerts_webhook_file: Option<PathBuf>,
}

impl ServeArgs {
    pub(super) async fn run(
        self,
        file: &ConfigFile,
        stop: CancellationToken,
    ) -> anyhow::Result<ExitCode> {
        let contracts = self.contracts.read(file, &[])?;
        let broker = Broker::new(self.kafka.properties(file)?)?;
        let postgres = self.postgres.options()?;
        let notifier = self.notifier(&postgres, &broker, &contracts)?;
        let options = AnalyticsOptions {
            every: self.buckets.every.max(Duration::from_millis(100)),
            lateness: self.buckets.lateness,
            idle: self.buckets.idle,
            hold: self.buckets.hold,
            look_back: self.buckets.look_back,
            targets: notifier.targets(),
        };
        let most_series = usize::try_from(self.most_series).unwrap_or(usize::MAX);
        let options = ServeOptions { analytics: options, most_series };
        let service = Service::new(contracts, broker, postgres, notifier, options).await?;
        if self.once {
            let (Delivered { delivered, failed, refused }, looked) = service.run_once().await?;
            println!("{delivered} told of alerts, {failed} still to be told, {refused} refused");
            return looked.map(|()| ExitCode::SUCCESS);
        }
        let process = metrics::install(&[metrics::PROCESS, metrics::SERVE])?;
        service.listen(&[self.listen], process, stop).await?.run().await;
        Ok(ExitCode::SUCCESS)
    }

    fn notifier(
        &self,
        postgres: &PgConnectOptions,
        broker: &Broker,
        contracts: &[Contract],
    ) -> anyhow::Result<Notifier> {
        let AlertArgs { alerts_topic, no_alerts_topic, alerts_webhook, alerts_webhook_file } =
            &self.alerts;
        let topic = if *no_alerts_topic {
            None
        } else {
            let registry = self.registry.connect()?;
            let strategy = self.registry.subject_strategy;
            Some(AlertTopic::new(alerts_topic, strategy, broker.clone(), registry, contracts)?)
        };
        let webhook = secret(alerts_webhook.as_ref(), alerts_webhook_file.as_ref())?;
        let webhook = webhook.as_ref().map(Webhook::new).transpose()?;
        Ok(Notifier::new(postgres, topic, webhook))
    }
}
