//! One stream's pipeline, put together and taken apart.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Error};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::{
    Notify,
    mpsc::{channel, unbounded_channel},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ConsumeOptions, Services, breaker::Breaker, collect::Collector, group::Group, paused::Paused,
    poll::Poller, progress::Progress, sink_task::SinkTask, wait::delay,
};
use crate::{
    contract::Contract,
    metrics::{self, NewestEvent},
    outbox::Outbox,
    prepare::Preparer,
    retry::Outage,
    sink::{Written, has_landed},
    sql::within,
    tables,
};

/// How long looking at the tables may take.
const VERIFY: Duration = Duration::from_secs(60);

/// What the parts of one stream's pipeline share.
pub(super) struct Stream {
    pub(super) contract: Arc<Contract>,
    pub(super) services: Arc<Services>,
    pub(super) preparer: Preparer,
    pub(super) progress: Arc<Progress>,
    pub(super) breaker: Breaker,
    pub(super) paused: Paused,
    /// Told when there are new dead letters to publish.
    pub(super) dead_letters: Arc<Notify>,
    pub(super) newest_event: NewestEvent,
    pub(super) stop: CancellationToken,
}

impl Stream {
    pub(super) fn name(&self) -> &str {
        &self.contract.stream
    }

    pub(super) fn topic(&self) -> &str {
        &self.contract.topic.name
    }

    pub(super) fn options(&self) -> &ConsumeOptions {
        &self.services.options
    }
}

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
    metrics::began(&stream);
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
    let Some(has_landed) = verify(&contract, &services, &stop).await? else {
        return Ok((Written::default(), None));
    };
    // a pause that a run noted that is over
    let paused = Paused::new(services.postgres.clone(), contract.stream.clone());
    paused.forget().await;
    let options = &services.options;
    let tasks = options.sink_tasks.max(1);
    let progress = Arc::new(Progress::new(tasks));
    let consumer = subscribe(&contract, &services, progress.clone())?;
    let policy = options.unknown_schema;
    let breaker = Breaker::new(options.breaker, has_landed);
    let preparer = Preparer::new(contract.clone(), services.registry.clone(), policy);
    let dead_letters = Arc::new(Notify::new());
    let stream = Arc::new(Stream {
        contract,
        services,
        preparer,
        progress,
        breaker,
        paused,
        dead_letters,
        newest_event: NewestEvent::default(),
        stop,
    });
    let Services { postgres, publisher, .. } = &*stream.services;
    let outbox = Outbox::new(stream.contract.clone(), postgres.clone(), publisher.clone());
    let outbox_stop = CancellationToken::new();
    let tracker = TaskTracker::new();
    let publishing = tracker.spawn(outbox.run(stream.dead_letters.clone(), outbox_stop.clone()));

    let mut senders = Vec::new();
    let (mut collectors, mut sinks) = (Vec::new(), Vec::new());
    for number in 0..tasks {
        let (sender, records) = unbounded_channel();
        let (batches, collected) = channel(1);
        senders.push(sender);
        let collector = Collector { stream: stream.clone(), records, rest: None, batches };
        collectors.push(tracker.spawn(collector.run()));
        let task = SinkTask::new(number, stream.clone(), collected);
        sinks.push(tracker.spawn(task.run()));
    }
    let poller = Poller::new(consumer, stream.clone(), senders);
    // the poller lets go of the sink tasks when it returns, and they end
    tokio::task::spawn_blocking(move || poller.run()).await.context("the poller panicked")?;
    let mut written = Written::default();
    for collector in collectors {
        collector.await.context("a collector panicked")?;
    }
    for sink in sinks {
        written += sink.await.context("a sink task panicked")?;
    }
    outbox_stop.cancel();
    publishing.await.context("the outbox panicked")?;
    Ok((written, stream.progress.stopped()))
}

/// Holds the stream against its tables, and says whether anything valid of it has landed before;
/// none where it is told to stop meanwhile. Waits for a database that does not answer.
async fn verify(
    contract: &Contract,
    services: &Services,
    stop: &CancellationToken,
) -> anyhow::Result<Option<bool>> {
    let (stream, mut outage) = (&contract.stream, Outage::new(services.options.max_outage));
    loop {
        let verified = within(outage.attempt(VERIFY), async {
            tables::verify(&services.postgres, contract).await?;
            has_landed(&services.postgres, contract).await
        });
        let verified = tokio::select! {
            verified = verified => verified,
            () = stop.cancelled() => return Ok(None),
        };
        let failure = match verified {
            Ok(has_landed) => return Ok(Some(has_landed)),
            Err(failure) => failure,
        };
        let delay = delay(stream, "Postgres", failure, &mut outage).map_err(Error::msg)?;
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

fn subscribe(
    contract: &Contract,
    services: &Services,
    progress: Arc<Progress>,
) -> anyhow::Result<BaseConsumer<Group>> {
    let topic = contract.topic.name.clone();
    let group = format!("{}.{}", services.options.group_prefix, contract.stream);
    let context = Group::new(contract.stream.clone(), topic.clone(), progress);
    let consumer: BaseConsumer<Group> = services
        .broker
        .consumer(&group)
        .create_with_context(context)
        .context("librdkafka refuses its properties")?;
    consumer.subscribe(&[&topic])?;
    Ok(consumer)
}
