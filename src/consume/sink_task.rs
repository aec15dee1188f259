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
    breaker::Breaker,
    group::PATIENCE,
    paused::Paused,
    poll::Handed,
    prepare::{Lookups, Preparer},
    progress::Progress,
    wait::{Abandoned, Wait},
};
use crate::{
    batch::{Batch, Record},
    contract::Contract,
    failure::Failure,
    metrics,
    retry::Outage,
    sink::{Attempt, Recent, Sink, Written},
    sql::within,
};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long one attempt to write a batch may take before its connection is given up.
const WRITE: Duration = Duration::from_secs(120);

/// One sink task's own.
pub(super) struct SinkTask {
    pub(super) number: usize,
    pub(super) contract: Arc<Contract>,
    pub(super) services: Arc<Services>,
    pub(super) preparer: Arc<Preparer>,
    pub(super) progress: Arc<Progress>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) paused: Arc<Paused>,
    /// Told when there are new dead letters to publish.
    pub(super) outbox: Arc<Notify>,
    pub(super) records: UnboundedReceiver<Handed>,
    pub(super) stop: CancellationToken,
    /// The first record of the next batch, where it came in another epoch.
    pub(super) next: Option<Handed>,
    pub(super) sink: Option<Sink>,
    /// What this task landed lately.
    pub(super) recent: Recent,
    /// The epoch that is being written, and from where each partition's next batch begins in it.
    pub(super) reading: (u64, BTreeMap<i32, i64>),
    pub(super) written: Written,
}

/// Records of one epoch.
struct Collected {
    epoch: u64,
    records: Vec<Record>,
    bytes: usize,
}

/// What came of one attempt to write a batch.
enum Outcome {
    Landed(Written),
    /// The breaker opened: why, and for how long the stream pauses.
    HeldBack(String, Duration),
    /// Not all of it was tried, and by now the breaker would let it pass.
    Undecided,
    /// See [`Attempt::LedgerIsBehind`].
    LedgerIsBehind,
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
                    // a batch that is given up holds nobody back
                    if self.breaker.close(self.number) {
                        self.unpause().await;
                    }
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
        let Collected { epoch, mut records, .. } = collected;
        if self.reading.0 != epoch {
            self.reading = (epoch, self.progress.begins());
        }
        let mut next_offsets = BTreeMap::new();
        for record in &records {
            let next = next_offsets.entry(record.partition).or_insert(0);
            *next = record.offset.saturating_add(1).max(*next);
        }
        let written = loop {
            let lookups = self.look_up(&records, epoch).await?;
            let batch = self
                .preparer
                .prepare(records, &lookups, OffsetDateTime::now_utc())
                .map_err(|error| Abandoned::Stop(format!("{error:#}")))?;
            let closed = self.breaker.until_closed(self.number);
            self.wait(epoch).unless_given_up(closed).await?;
            match self.write(&batch, &lookups, &next_offsets, epoch).await? {
                Outcome::Landed(written) => break written,
                Outcome::HeldBack(reason, probe) => self.hold_back(reason, probe, epoch).await?,
                Outcome::Undecided => {}
                Outcome::LedgerIsBehind => {
                    tracing::warn!(
                        stream = self.contract.stream,
                        "the ledger was put back; what it lacks is read again"
                    );
                    self.progress.reopen();
                    return Err(Abandoned::NotOurs);
                }
            }
            // tried again from the start: a schema, a table or the clock may be another by then
            records = batch.records;
        };
        self.reading.1.extend(&next_offsets);
        self.progress.landed(epoch, &next_offsets);
        if self.breaker.landed(self.number, &written) {
            let stream = &self.contract.stream;
            tracing::info!(stream, "the breaker is closed and the stream goes on");
            self.unpause().await;
        }
        self.count(written);
        Ok(())
    }

    async fn look_up(&self, records: &[Record], epoch: u64) -> Result<Lookups, Abandoned> {
        let mut outage = Outage::new(self.services.options.max_outage);
        loop {
            let wait = self.wait(epoch);
            match wait.unless_given_up(self.preparer.look_up(records)).await? {
                Ok(lookups) => return Ok(lookups),
                Err(failure) => wait.out("the schema registry", failure, &mut outage).await?,
            }
        }
    }

    /// Writes a batch, as often as Postgres is away.
    async fn write(
        &mut self,
        batch: &Batch,
        lookups: &Lookups,
        next_offsets: &BTreeMap<i32, i64>,
        epoch: u64,
    ) -> Result<Outcome, Abandoned> {
        let Some(begins) = self.begins(next_offsets) else { return Err(Abandoned::NotOurs) };
        let progress = self.progress.clone();
        let mut outage = Outage::new(self.services.options.max_outage);
        loop {
            let limit = outage.attempt(WRITE);
            let attempt = tokio::select! {
                attempt = within(limit, self.attempt(batch, lookups, &begins)) => attempt,
                // what is being written is finished, unless that takes too long
                () = async {
                    progress.until_given_up(epoch).await;
                    tokio::time::sleep(PATIENCE).await;
                } => return Err(Abandoned::NotOurs),
            };
            match attempt {
                Ok(outcome) => return Ok(outcome),
                Err(failure) => self.wait(epoch).out("Postgres", failure, &mut outage).await?,
            }
        }
    }

    /// From where the partitions of a batch are read for it.
    fn begins(&self, next_offsets: &BTreeMap<i32, i64>) -> Option<BTreeMap<i32, i64>> {
        let begin = |partition: &i32| Some((*partition, *self.reading.1.get(partition)?));
        next_offsets.keys().map(begin).collect()
    }

    /// One attempt. A connection that failed, or whose transaction is not wanted, is dropped.
    async fn attempt(
        &mut self,
        batch: &Batch,
        lookups: &Lookups,
        begins: &BTreeMap<i32, i64>,
    ) -> Result<Outcome, Failure> {
        let contract = &self.contract;
        let refuse = |batch: &Batch, index, rejection| {
            self.preparer.refused(batch, lookups, index, rejection)
        };
        let mut sink = match self.sink.take() {
            Some(sink) => sink,
            None => {
                let connecting = Sink::connect(&self.services.postgres, contract);
                timeout(CONNECT, connecting).await.map_err(|_| {
                    Failure::Dependency(anyhow::anyhow!("no connection within {CONNECT:?}"))
                })??
            }
        };
        let enough = |landed, refused| self.breaker.is_enough(landed, refused);
        match sink.write(contract, batch, begins, &mut self.recent, &refuse, &enough).await? {
            Attempt::LedgerIsBehind => Ok(Outcome::LedgerIsBehind),
            Attempt::Hopeless { landed, refused } => {
                let dead_lettered = i64::try_from(refused.len()).unwrap_or(i64::MAX);
                let tried = Written { inserted: landed, dead_lettered, ..Written::default() };
                let judged = self.breaker.judge(self.number, &tried, &[&refused]);
                Ok(judged
                    .map_or(Outcome::Undecided, |(reason, probe)| Outcome::HeldBack(reason, probe)))
            }
            Attempt::Ready { written, refused } => {
                let letters = [batch.dead_letters.as_slice(), &refused];
                if let Some((reason, probe)) = self.breaker.judge(self.number, &written, &letters) {
                    return Ok(Outcome::HeldBack(reason, probe));
                }
                sink.commit().await?;
                self.recent.landed(batch.rows.iter().map(|row| batch.id(row)));
                self.sink = Some(sink);
                Ok(Outcome::Landed(written))
            }
        }
    }

    /// Pauses the stream before the batch is tried again.
    async fn hold_back(
        &self,
        reason: String,
        probe: Duration,
        epoch: u64,
    ) -> Result<(), Abandoned> {
        let stream = &self.contract.stream;
        let advice = "mend the producer or the contract, or let them through with --no-breaker";
        if self.services.options.exit_when_drained {
            return Err(Abandoned::Stop(format!("the breaker opened: {reason}; {advice}")));
        }
        tracing::error!(
            stream,
            "the breaker is open and the stream pauses: {reason}; nothing is dead-lettered for it, \
             and the batch is tried again in {probe:?}; {advice}"
        );
        metrics::breaker(stream, true);
        self.paused.note(&reason, probe).await;
        self.wait(epoch).unless_given_up(tokio::time::sleep(probe)).await
    }

    /// Others no longer see that the stream pauses.
    async fn unpause(&self) {
        metrics::breaker(&self.contract.stream, false);
        self.paused.forget().await;
    }

    fn wait(&self, epoch: u64) -> Wait<'_> {
        let (progress, stop) = (&self.progress, &self.stop);
        Wait { stream: &self.contract.stream, epoch, progress, stop }
    }

    fn count(&mut self, written: Written) {
        let stream = &self.contract.stream;
        let Written { inserted, duplicate, dead_lettered, skipped } = written;
        self.written += written;
        if dead_lettered > 0 {
            self.outbox.notify_one();
        }
        metrics::landed(stream, &written);
        tracing::debug!(stream, inserted, duplicate, dead_lettered, skipped, "batch landed");
    }
}
