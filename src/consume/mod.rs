//! The pipeline: topic -> poll -> decode -> check -> label -> sink -> commit -> outbox.
//!
//! Each stream has a consumer of its own, so that one that waits or stops leaves the others
//! alone. A consumer is one thread that polls and commits, and a few sink tasks that it hands the
//! records to; a partition always goes to the same task, which keeps its order.

mod breaker;
mod collect;
mod group;
mod opening;
mod paused;
mod poll;
mod progress;
mod receive;
mod sink_task;
mod stream;
mod wait;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use breaker::BreakerOptions;
pub use stream::StreamReport;

use crate::{
    broker::Broker,
    contract::Contract,
    metrics,
    outbox::DeadLetterPublisher,
    registry::{Registry, RetryPolicy},
    sink::OnGap,
    tables,
};

/// How the pipeline runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumeOptions {
    /// Consumer groups are `<prefix>.<stream>`.
    pub group_prefix: String,
    /// Sink tasks, and so database connections, a stream.
    pub sink_tasks: usize,
    /// A batch ends at so many records,
    pub batch_rows: usize,
    /// so many bytes,
    pub batch_bytes: usize,
    /// or so long after its first record and once the one before is written.
    pub batch_time: Duration,
    /// How a schema id that the registry does not know is asked for again.
    pub unknown_schema: RetryPolicy,
    /// When a stream pauses because nearly everything would be a dead letter; none for never.
    pub breaker: Option<BreakerOptions>,
    /// How long a dependency may be away before the stream ends; none for as long as it takes.
    pub max_outage: Option<Duration>,
    /// What to do about offsets that are gone before they were read.
    pub on_gap: OnGap,
    /// Stop when everything that is there has landed.
    pub exit_when_drained: bool,
}

/// What the command line has where nothing is said.
impl Default for ConsumeOptions {
    fn default() -> ConsumeOptions {
        ConsumeOptions {
            group_prefix: "sluicegate".to_owned(),
            sink_tasks: 3,
            batch_rows: 15_000,
            batch_bytes: 8 << 20,
            batch_time: Duration::from_millis(100),
            unknown_schema: RetryPolicy { attempts: 3, first_delay: Duration::from_millis(300) },
            breaker: Some(BreakerOptions {
                share: 0.8,
                window: 1_000,
                probe: Duration::from_secs(30),
            }),
            max_outage: None,
            on_gap: OnGap::Skip,
            exit_when_drained: false,
        }
    }
}

/// What every stream's tasks share.
pub(crate) struct Services {
    pub(crate) broker: Broker,
    pub(crate) registry: Registry,
    pub(crate) postgres: PgConnectOptions,
    pub(crate) publisher: DeadLetterPublisher,
    pub(crate) options: ConsumeOptions,
}

/// Runs the streams until they are drained, `stop` is cancelled, or each has stopped for its own
/// reason. Ends well only if no stream stopped for a reason of its own.
///
/// Cancelling ends in order: the batches in hand are written and committed, nothing new is begun.
pub async fn consume(
    contracts: Vec<Contract>,
    broker: Broker,
    registry: Registry,
    postgres: PgConnectOptions,
    options: ConsumeOptions,
    stop: CancellationToken,
) -> anyhow::Result<Vec<StreamReport>> {
    tables::verify_migrated(&postgres).await?;
    broker.ensure_topics(&contracts).await?;
    let publisher = DeadLetterPublisher::new(&broker)?;
    let services = Arc::new(Services { broker, registry, postgres, publisher, options });
    let mut streams = JoinSet::new();
    for contract in contracts {
        streams.spawn(stream::run(Arc::new(contract), services.clone(), stop.clone()));
    }
    let mut reports = Vec::new();
    while let Some(report) = streams.join_next().await {
        let report = report.context("a stream's task panicked")?;
        log(&report, !streams.is_empty());
        reports.push(report);
    }
    reports.sort_by(|a, b| a.stream.cmp(&b.stream));
    let stopped: Vec<String> = reports
        .iter()
        .filter_map(|report| Some(format!("{}: {}", report.stream, report.stopped.as_ref()?)))
        .collect();
    if !stopped.is_empty() {
        bail!("{}", stopped.join("; "));
    }
    Ok(reports)
}

/// Says how a stream ended. Of the last one to stop the error that ends the run says enough.
fn log(report: &StreamReport, others_go_on: bool) {
    let StreamReport { stream, written, stopped } = report;
    if let Some(reason) = stopped {
        metrics::stopped(stream, reason);
    }
    match stopped {
        Some(reason) if others_go_on => {
            tracing::error!(stream, %reason, "the stream stopped; other streams go on");
        }
        Some(_) => {}
        None => tracing::info!(
            stream,
            inserted = written.inserted,
            duplicate = written.duplicate,
            dead_lettered = written.dead_lettered,
            "done"
        ),
    }
}
