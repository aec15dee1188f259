//! One sink task: writes its batches, and says how far it got.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc::Receiver, time::timeout};

use super::{
    collect::{Collected, Decided, decide},
    group::PATIENCE,
    stream::Stream,
    wait::{Abandoned, Wait},
};
use crate::{
    batch::Batch,
    failure::Failure,
    metrics::{self, Timed},
    retry::Outage,
    sink::{Attempt, Recent, Sink, Way, Written},
    sql::within,
};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long one attempt to write a batch may take before its connection is given up.
const WRITE: Duration = Duration::from_secs(120);

/// One sink task's own.
pub(super) struct SinkTask {
    number: usize,
    stream: Arc<Stream>,
    batches: Receiver<Collected>,
    sink: Option<Sink>,
    /// What this task landed lately.
    recent: Recent,
    /// The epoch that is being written, and from where each partition's next batch begins in it.
    reading: (u64, BTreeMap<i32, i64>),
    written: Written,
}

/// What came of one attempt to write a batch.
enum Outcome {
    Landed(Written, Way),
    /// The breaker opened: why, and for how long the stream pauses.
    HeldBack(String, Duration),
    /// Not all of it was tried, and by now the breaker would let it pass.
    Undecided,
    /// See [`Attempt::LedgerIsBehind`].
    LedgerIsBehind,
}

impl SinkTask {
    /// One of a stream's, that has written nothing yet.
    pub(super) fn new(
        number: usize,
        stream: Arc<Stream>,
        batches: Receiver<Collected>,
    ) -> SinkTask {
        SinkTask {
            number,
            stream,
            batches,
            sink: None,
            recent: Recent::default(),
            reading: (0, BTreeMap::new()),
            written: Written::default(),
        }
    }

    /// Runs until the poller lets go of it, or the stream must stop; gives what it wrote.
    ///
    /// Once a batch is given up, nothing of its epoch is written any more: a later batch would
    /// take the offsets past it.
    pub(super) async fn run(mut self) -> Written {
        let stream = self.stream.clone();
        let mut given_up = None;
        while let Some(collected) = self.batches.recv().await {
            let Collected { epoch, count, bytes, next_offsets, decided } = collected;
            let begun = if given_up == Some(epoch) { None } else { stream.progress.begin(epoch) };
            if let Some(writing) = begun {
                let outcome = match decided {
                    Ok(decided) => self.land(decided, next_offsets, epoch).await,
                    Err(abandoned) => Err(abandoned),
                };
                if let Err(abandoned) = outcome {
                    given_up = Some(epoch);
                    // a batch that is given up holds nobody back
                    if stream.breaker.close(self.number) {
                        self.unpause().await;
                    }
                    if let Abandoned::Stop(reason) = abandoned {
                        stream.progress.stop(reason);
                    }
                }
                drop(writing);
            } else {
                given_up = Some(epoch);
            }
            stream.progress.finished(self.number, count, bytes);
        }
        self.written
    }

    async fn land(
        &mut self,
        mut decided: Decided,
        next_offsets: BTreeMap<i32, i64>,
        epoch: u64,
    ) -> Result<(), Abandoned> {
        let stream = self.stream.clone();
        if self.reading.0 != epoch {
            self.reading = (epoch, stream.progress.begins());
        }
        let (written, way) = loop {
            let closed = stream.breaker.until_closed(self.number);
            self.wait(epoch).unless_given_up(closed).await?;
            // what held another batch up may have been mended since this one was decided
            if decided.breaks != stream.breaker.breaks() {
                decided = decide(&stream, decided.batch.records, epoch).await?;
            }
            match self.write(&decided, &next_offsets, epoch).await? {
                Outcome::Landed(written, way) => break (written, way),
                Outcome::HeldBack(reason, probe) => self.hold_back(reason, probe, epoch).await?,
                Outcome::Undecided => {}
                Outcome::LedgerIsBehind => {
                    tracing::warn!(
                        stream = stream.name(),
                        "the ledger was put back; what it lacks is read again"
                    );
                    stream.progress.reopen();
                    return Err(Abandoned::NotOurs);
                }
            }
            // tried again from the start: a schema, a table or the clock may be another by then
            decided = decide(&stream, decided.batch.records, epoch).await?;
        };
        self.reading.1.extend(&next_offsets);
        stream.progress.landed(epoch, &next_offsets);
        if stream.breaker.landed(self.number, &written) {
            let stream = stream.name();
            tracing::info!(stream, "the breaker is closed and the stream goes on");
            self.unpause().await;
        }
        self.count(written, way, decided.batch.records.len());
        Ok(())
    }

    /// Writes a batch, as often as Postgres is away.
    async fn write(
        &mut self,
        decided: &Decided,
        next_offsets: &BTreeMap<i32, i64>,
        epoch: u64,
    ) -> Result<Outcome, Abandoned> {
        let Some(begins) = self.begins(next_offsets) else { return Err(Abandoned::NotOurs) };
        let stream = self.stream.clone();
        let mut outage = Outage::new(stream.options().max_outage);
        loop {
            let limit = outage.attempt(WRITE);
            let attempt = tokio::select! {
                attempt = within(limit, self.attempt(decided, &begins)) => attempt,
                // what is being written is finished, unless that takes too long
                () = async {
                    stream.progress.until_given_up(epoch).await;
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
        decided: &Decided,
        begins: &BTreeMap<i32, i64>,
    ) -> Result<Outcome, Failure> {
        let Decided { batch, lookups, .. } = decided;
        let stream = self.stream.clone();
        let Stream { contract, services, preparer, breaker, .. } = &*stream;
        let refuse =
            |batch: &Batch, index, rejection| preparer.refused(batch, lookups, index, rejection);
        let mut sink = match self.sink.take() {
            Some(sink) => sink,
            None => {
                let connecting = Sink::connect(&services.postgres, contract);
                timeout(CONNECT, connecting).await.map_err(|_| {
                    Failure::Dependency(anyhow::anyhow!("no connection within {CONNECT:?}"))
                })??
            }
        };
        let enough = |landed, refused| breaker.is_enough(landed, refused);
        let since = Instant::now();
        match sink.write(contract, batch, begins, &mut self.recent, &refuse, &enough).await? {
            Attempt::LedgerIsBehind => Ok(Outcome::LedgerIsBehind),
            Attempt::Hopeless { landed, refused } => {
                let dead_lettered = i64::try_from(refused.len()).unwrap_or(i64::MAX);
                let tried = Written { inserted: landed, dead_lettered, ..Written::default() };
                let judged = breaker.judge(self.number, &tried, &[&refused]);
                Ok(judged
                    .map_or(Outcome::Undecided, |(reason, probe)| Outcome::HeldBack(reason, probe)))
            }
            Attempt::Ready { written, way, refused } => {
                let letters = [batch.dead_letters.as_slice(), &refused];
                if let Some((reason, probe)) = breaker.judge(self.number, &written, &letters) {
                    return Ok(Outcome::HeldBack(reason, probe));
                }
                metrics::took(&contract.stream, Timed::Write, since.elapsed());
                self.commit(sink, batch).await?;
                metrics::dead_lettered(&contract.stream, letters, written.dead_lettered);
                Ok(Outcome::Landed(written, way))
            }
        }
    }

    async fn commit(&mut self, mut sink: Sink, batch: &Batch) -> Result<(), Failure> {
        let since = Instant::now();
        sink.commit().await?;
        metrics::took(self.stream.name(), Timed::Commit, since.elapsed());
        self.stream.newest_event.landed(self.stream.name(), batch);
        self.recent.landed(batch.rows.iter().map(|row| batch.id(row)));
        self.sink = Some(sink);
        Ok(())
    }

    /// Pauses the stream before the batch is tried again.
    async fn hold_back(
        &self,
        reason: String,
        probe: Duration,
        epoch: u64,
    ) -> Result<(), Abandoned> {
        let stream = self.stream.name();
        let advice = "mend the producer or the contract, or let them through with --no-breaker";
        if self.stream.options().exit_when_drained {
            return Err(Abandoned::Stop(format!("the breaker opened: {reason}; {advice}")));
        }
        tracing::error!(
            stream,
            "the breaker is open and the stream pauses: {reason}; nothing is dead-lettered for it, \
             and the batch is tried again in {probe:?}; {advice}"
        );
        metrics::breaker(stream, true);
        self.stream.paused.note(&reason, probe).await;
        self.wait(epoch).unless_given_up(tokio::time::sleep(probe)).await
    }

    /// Others no longer see that the stream pauses.
    async fn unpause(&self) {
        metrics::breaker(self.stream.name(), false);
        self.stream.paused.forget().await;
    }

    fn wait(&self, epoch: u64) -> Wait<'_> {
        Wait { stream: &self.stream, epoch }
    }

    fn count(&mut self, written: Written, way: Way, records: usize) {
        let stream = self.stream.name();
        let Written { inserted, duplicate, dead_lettered, skipped } = written;
        self.written += written;
        if dead_lettered > 0 {
            self.stream.dead_letters.notify_one();
        }
        metrics::batch_landed(stream, &written, way);
        let way = way.name();
        tracing::debug!(
            stream,
            records,
            inserted,
            duplicate,
            dead_lettered,
            skipped,
            way,
            "batch landed"
        );
    }
}
