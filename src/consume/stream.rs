//! One stream's pipeline, put together and taken apart.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, anyhow};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::{Notify, mpsc::unbounded_channel};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Services,
    poll::{Group, Poller},
    prepare::Preparer,
    progress::Progress,
    sink_task::SinkTask,
};
use crate::{
    contract::Contract,
    failure::Failure,
    outbox::Outbox,
    retry::Backoff,
    sink::{Written, next_offsets},
    tables,
};

/// How a stream's run went.
#[derive(Debug, Clone)]
pub struct StreamReport {
    /// The stream.
    pub stream: String,
    /// What it wrote.
    pub written: Written,
    /// Why it stopped for a reason of its own.
    pub stopped: Option<String>,
}

/// Runs one stream to its end.
pub(super) async fn run(
    contract: Arc<Contract>,
    services: Arc<Services>,
    stop: CancellationToken,
) -> StreamReport {
    let stream = contract.stream.clone();
    let (written, stopped) = match run_stream(contract, services, stop).await {
        Ok(ended) => ended,
        Err(error) => (Written::default(), Some(format!("{error:#}"))),
    };
    StreamReport { stream, written, stopped }
}

async fn run_stream(
    contract: Arc<Contract>,
    services: Arc<Services>,
    stop: CancellationToken,
) -> anyhow::Result<(Written, Option<String>)> {
    // before anything is read: what is wrong with a table is better said now than at a batch
    verify(&contract, &services, &stop).await?;
    let options = services.options.clone();
    let tasks = options.sink_tasks.max(1);
    let progress = Arc::new(Progress::new(tasks));
    let consumer = subscribe(&contract, &services, progress.clone())?;
    let policy = options.unknown_schema;
    let preparer = Arc::new(Preparer::new(contract.clone(), services.registry.clone(), policy));
    let dead_letters = Arc::new(Notify::new());
    let outbox_stop = CancellationToken::new();
    let outbox =
        Outbox::new(contract.clone(), services.postgres.clone(), services.publisher.clone());
    let tracker = TaskTracker::new();
    let publishing = tracker.spawn(outbox.run(dead_letters.clone(), outbox_stop.clone()));

    let mut senders = Vec::new();
    let mut sinks = Vec::new();
    for number in 0..tasks {
        let (sender, records) = unbounded_channel();
        senders.push(sender);
        let task = SinkTask {
            number,
            contract: contract.clone(),
            services: services.clone(),
            preparer: preparer.clone(),
            progress: progress.clone(),
            outbox: dead_letters.clone(),
            records,
            stop: stop.clone(),
            next: None,
            sink: None,
            written: Written::default(),
        };
        sinks.push(tracker.spawn(task.run()));
    }
    let poller = Poller {
        consumer,
        topic: contract.topic.name.clone(),
        progress: progress.clone(),
        tasks: senders,
        options,
        stop,
        at_end: BTreeSet::new(),
        full_since: None,
        paused: BTreeSet::new(),
    };
    // the poller lets go of the sink tasks when it returns, and they end
    tokio::task::spawn_blocking(move || poller.run()).await.context("the poller panicked")?;
    let mut written = Written::default();
    for sink in sinks {
        written += sink.await.context("a sink task panicked")?;
    }
    outbox_stop.cancel();
    publishing.await.context("the outbox panicked")?;
    Ok((written, progress.stopped()))
}

/// Holds the stream against its tables and its topic; waits for whoever does not answer.
async fn verify(
    contract: &Contract,
    services: &Services,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut backoff = Backoff::for_dependencies();
    loop {
        let verified = match tables::verify(&services.postgres, contract).await {
            Ok(()) => ledger_fits_topic(contract, services).await,
            failed => failed,
        };
        match verified {
            Err(Failure::Dependency(error)) if !stop.is_cancelled() => {
                let (stream, error) = (&contract.stream, format!("{error:#}"));
                tracing::warn!(stream, error, "waiting to begin");
                tokio::select! {
                    () = tokio::time::sleep(backoff.next().unwrap_or_default()) => {}
                    () = stop.cancelled() => {}
                }
            }
            verified => return Ok(verified?),
        }
    }
}

/// A ledger that is ahead of its topic belongs to a topic of the past: offsets that start again
/// would all be taken for redelivered ones.
async fn ledger_fits_topic(contract: &Contract, services: &Services) -> Result<(), Failure> {
    let (partitions, next_offsets): (Vec<i32>, Vec<i64>) =
        next_offsets(&services.postgres, contract).await?.into_iter().unzip();
    let topic = &contract.topic.name;
    let ends = services.broker.end_offsets(topic, &partitions)?;
    for ((partition, next), end) in partitions.into_iter().zip(next_offsets).zip(ends) {
        if next > end {
            return Err(Failure::Contract(anyhow!(
                "the ledger has seen offset {next} of \"{topic}\" partition {partition}, which ends \
                 at {end}: the topic was made anew; run: DELETE FROM ledger WHERE stream = '{}' AND \
                 topic = '{topic}';",
                contract.stream
            )));
        }
    }
    Ok(())
}

fn subscribe(
    contract: &Contract,
    services: &Services,
    progress: Arc<Progress>,
) -> anyhow::Result<BaseConsumer<Group>> {
    let topic = contract.topic.name.clone();
    let group = format!("{}.{}", services.options.group_prefix, contract.stream);
    let context = Group { topic: topic.clone(), progress };
    let consumer: BaseConsumer<Group> = services
        .broker
        .consumer(&group)
        .create_with_context(context)
        .context("librdkafka refuses its properties")?;
    consumer.subscribe(&[&topic])?;
    Ok(consumer)
}
