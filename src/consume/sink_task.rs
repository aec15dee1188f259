//! One sink task: collects a batch, decides it, writes it, and says how far it got.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::{
    sync::{Notify, mpsc::UnboundedReceiver},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Services,
    poll::Handed,
    prepare::{Lookups, Preparer},
    progress::Progress,
};
use crate::{
    batch::{Batch, Record},
    contract::Contract,
    failure::Failure,
    retry::Backoff,
    sink::{Sink, Written},
};

/// How long one attempt to write a batch may take before its connection is given up.
const WRITE: Duration = Duration::from_secs(120);

/// One sink task's own.
pub(super) struct SinkTask {
    pub(super) number: usize,
    pub(super) contract: Arc<Contract>,
    pub(super) services: Arc<Services>,
    pub(super) preparer: Arc<Preparer>,
    pub(super) progress: Arc<Progress>,
    /// Told when there are new dead letters to publish.
    pub(super) outbox: Arc<Notify>,
    pub(super) records: UnboundedReceiver<Handed>,
    pub(super) stop: CancellationToken,
    /// The first record of the next batch, where it came in another epoch.
    pub(super) next: Option<Handed>,
    pub(super) sink: Option<Sink>,
    pub(super) written: Written,
}

/// Records of one epoch.
struct Collected {
    epoch: u64,
    records: Vec<Record>,
    bytes: usize,
}

/// Why a batch is not written.
enum Abandoned {
    /// Its partitions belong to somebody else, or the program ends.
    NotOurs,
    /// A person has to mend something.
    Stop(String),
}

impl SinkTask {
    /// Runs until the poller lets go of it, or the stream must stop; gives what it wrote.
    ///
    /// Once a batch is given up, nothing of its epoch is written any more: a later batch would
    /// take the offsets past it.
    pub(super) async fn run(mut self) -> Written {
        let progress = self.progress.clone();
        let mut given_up = None;
        while let Some(collected) = self.collect().await {
            let (epoch, count, bytes) = (collected.epoch, collected.records.len(), collected.bytes);
            let begun = if given_up == Some(epoch) { None } else { progress.begin(epoch) };
            if let Some(writing) = begun {
                let outcome = self.decide_and_write(collected).await;
                if let Err(abandoned) = outcome {
                    given_up = Some(epoch);
                    if let Abandoned::Stop(reason) = abandoned {
                        progress.stop(reason);
                    }
                }
                drop(writing);
            } else {
                given_up = Some(epoch);
            }
            progress.finished(self.number, count, bytes);
        }
        self.written
    }

    /// The next batch: full, or as old as a batch may get.
    async fn collect(&mut self) -> Option<Collected> {
        let (epoch, first) = match self.next.take() {
            Some(handed) => handed,
            None => self.records.recv().await?,
        };
        let options = &self.services.options;
        let deadline = Instant::now() + options.batch_time;
        let mut collected = Collected { epoch, bytes: first.weight(), records: vec![first] };
        while collected.records.len() < options.batch_rows && collected.bytes < options.batch_bytes
        {
            match timeout_at(deadline, self.records.recv()).await {
                Ok(Some((epoch, record))) if epoch == collected.epoch => {
                    collected.bytes += record.weight();
                    collected.records.push(record);
                }
                Ok(handed) => {
                    self.next = handed;
                    break;
                }
                Err(_) => break,
            }
        }
        Some(collected)
    }

    async fn decide_and_write(&mut self, collected: Collected) -> Result<(), Abandoned> {
        let Collected { epoch, records, .. } = collected;
        let preparer = self.preparer.clone();
        let mut backoff = Backoff::for_dependencies();
        let lookups = loop {
            match preparer.look_up(&records).await {
                Ok(lookups) => break lookups,
                Err(failure) => {
                    self.wait_out("the schema registry", failure, epoch, &mut backoff).await?
                }
            }
        };
        let mut next_offsets = BTreeMap::new();
        for record in &records {
            let next = next_offsets.entry(record.partition).or_insert(0);
            *next = record.offset.saturating_add(1).max(*next);
        }
        let batch = preparer
            .prepare(records, &lookups, OffsetDateTime::now_utc())
            .map_err(|error| Abandoned::Stop(format!("{error:#}")))?;
        let mut backoff = Backoff::for_dependencies();
        let written = loop {
            match self.write(&preparer, &batch, &lookups).await {
                Ok(written) => break written,
                Err(failure) => self.wait_out("Postgres", failure, epoch, &mut backoff).await?,
            }
        };
        self.progress.landed(epoch, &next_offsets);
        self.written += written;
        if written.dead_lettered > 0 {
            self.outbox.notify_one();
        }
        tracing::debug!(
            stream = self.contract.stream,
            inserted = written.inserted,
            duplicate = written.duplicate,
            dead_lettered = written.dead_lettered,
            skipped = written.skipped,
            "batch landed"
        );
        Ok(())
    }

    /// One attempt. A connection that failed is not used again.
    async fn write(
        &mut self,
        preparer: &Preparer,
        batch: &Batch,
        lookups: &Lookups,
    ) -> Result<Written, Failure> {
        let contract = &self.contract;
        let refuse =
            |batch: &Batch, index, rejection| preparer.refused(batch, lookups, index, rejection);
        let sink = self.sink.take();
        let attempt = async {
            let mut sink = match sink {
                Some(sink) => sink,
                None => Sink::connect(&self.services.postgres, contract).await?,
            };
            let written = sink.write(contract, batch, &refuse).await?;
            Ok::<_, Failure>((sink, written))
        };
        let (sink, written) = timeout(WRITE, attempt).await.map_err(|_| {
            Failure::Dependency(anyhow::anyhow!("Postgres took longer than {WRITE:?}"))
        })??;
        self.sink = Some(sink);
        Ok(written)
    }

    /// Waits before the next attempt, if there is to be one.
    async fn wait_out(
        &self,
        what: &str,
        failure: Failure,
        epoch: u64,
        backoff: &mut Backoff,
    ) -> Result<(), Abandoned> {
        let error = match failure {
            Failure::Dependency(error) => error,
            stop => return Err(Abandoned::Stop(stop.to_string())),
        };
        if !self.progress.is_ours(epoch) || self.stop.is_cancelled() {
            return Err(Abandoned::NotOurs);
        }
        let delay = backoff.next().unwrap_or_default();
        tracing::warn!(
            stream = self.contract.stream,
            error = format!("{error:#}"),
            "waiting for {what}; nothing is lost, and nothing is dead-lettered for it"
        );
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = self.stop.cancelled() => Err(Abandoned::NotOurs),
        }
    }
}
