//! The batches of one sink task: collected, and decided while the one before is written.

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use time::OffsetDateTime;
use tokio::{
    sync::mpsc::{Sender, UnboundedReceiver},
    time::{Instant, sleep_until},
};

use super::{
    poll::Handed,
    stream::Stream,
    wait::{Abandoned, Wait},
};
use crate::{
    batch::{Batch, Record},
    metrics::{self, Timed},
    prepare::Lookups,
    retry::Outage,
};

/// One sink task's batches in the making.
pub(super) struct Collector {
    pub(super) stream: Arc<Stream>,
    pub(super) records: UnboundedReceiver<Handed>,
    /// What did not fit into the batch before.
    pub(super) rest: Option<Handed>,
    pub(super) batches: Sender<Collected>,
}

/// A batch of one epoch.
pub(super) struct Collected {
    pub(super) epoch: u64,
    /// How many records it has,
    pub(super) count: usize,
    /// and what they weigh in memory, in bytes.
    pub(super) bytes: usize,
    /// One behind the last offset of each partition.
    pub(super) next_offsets: BTreeMap<i32, i64>,
    pub(super) decided: Result<Decided, Abandoned>,
}

/// A batch, and the writers' schemas that it was decoded with.
pub(super) struct Decided {
    pub(super) batch: Batch,
    pub(super) lookups: Lookups,
    /// How often the breaker had opened or closed before.
    pub(super) breaks: u64,
}

impl Collector {
    /// Runs until the poller lets go of it, or there is no task any more: then the poller notices
    /// that nobody takes its records.
    pub(super) async fn run(mut self) {
        while let Some(handed) = self.collect().await {
            let Handed { epoch, records, bytes } = handed;
            let (count, mut next_offsets) = (records.len(), BTreeMap::new());
            for record in &records {
                let next = next_offsets.entry(record.partition).or_insert(0);
                *next = record.offset.saturating_add(1).max(*next);
            }
            // no more than one is decided ahead
            let Ok(room) = self.batches.reserve().await else { return };
            let decided = decide(&self.stream, records, epoch).await;
            room.send(Collected { epoch, count, bytes, next_offsets, decided });
        }
    }

    /// The next batch: full, or as old as a batch may get. While the task has enough to do it gets
    /// older, and larger, than that.
    async fn collect(&mut self) -> Option<Handed> {
        let first = match self.rest.take() {
            Some(rest) => rest,
            None => self.records.recv().await?,
        };
        let options = self.stream.options();
        let (rows, bytes) = (options.batch_rows, options.batch_bytes);
        let old_enough = Instant::now() + options.batch_time;
        let mut due = pin!(async {
            sleep_until(old_enough).await;
            // an error says that there is no task any more
            _ = self.batches.reserve().await;
        });
        let mut batch = Handed::new(first.epoch);
        let mut next = Some(first);
        while let Some(handed) = next.take() {
            if handed.epoch != batch.epoch {
                self.rest = Some(handed);
                break;
            }
            self.rest = batch.add(handed, rows, bytes);
            if self.rest.is_some() || batch.is_full(rows, bytes) {
                break;
            }
            next = tokio::select! {
                handed = self.records.recv() => handed,
                () = &mut due => None,
            };
        }
        Some(batch)
    }
}

impl Handed {
    /// Takes as many records of another as there is room for, and gives back the rest.
    fn add(&mut self, other: Handed, rows: usize, bytes: usize) -> Option<Handed> {
        let Handed { epoch, records, .. } = other;
        let mut records = records.into_iter();
        while !self.is_full(rows, bytes)
            && let Some(record) = records.next()
        {
            self.push(record);
        }
        let mut rest = Handed::new(epoch);
        records.for_each(|record| _ = rest.push(record));
        (!rest.records.is_empty()).then_some(rest)
    }

    fn is_full(&self, rows: usize, bytes: usize) -> bool {
        self.records.len() >= rows || self.bytes >= bytes
    }
}

/// Decides a batch; waits for a registry that is away.
pub(super) async fn decide(
    stream: &Stream,
    records: Vec<Record>,
    epoch: u64,
) -> Result<Decided, Abandoned> {
    if !stream.progress.goes_on(epoch) {
        return Err(Abandoned::NotOurs);
    }
    let breaks = stream.breaker.breaks();
    let lookups = look_up(stream, &records, epoch).await?;
    let (now, since) = (OffsetDateTime::now_utc(), Instant::now());
    let batch = stream.preparer.prepare(records, &lookups, now);
    metrics::took(stream.name(), Timed::Decide, since.elapsed());
    let batch = batch.map_err(|error| Abandoned::Stop(format!("{error:#}")))?;
    Ok(Decided { batch, lookups, breaks })
}

async fn look_up(stream: &Stream, records: &[Record], epoch: u64) -> Result<Lookups, Abandoned> {
    let mut outage = Outage::new(stream.options().max_outage);
    let wait = Wait { stream, epoch };
    loop {
        match wait.unless_given_up(stream.preparer.look_up(records)).await? {
            Ok(lookups) => return Ok(lookups),
            Err(failure) => wait.out("the schema registry", failure, &mut outage).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(values: &[usize]) -> Handed {
        let mut handed = Handed::new(1);
        for (offset, size) in (0..).zip(values) {
            let value = Some(vec![0; *size].into());
            handed.push(Record { offset, value, ..Record::default() });
        }
        handed
    }

    #[test]
    fn a_batch_ends_at_its_rows_or_bytes_and_the_rest_goes_into_the_next() {
        let mut batch = handed(&[]);
        let rest = batch.add(handed(&[1, 1, 1]), 2, 1_000_000).unwrap();
        assert_eq!((batch.records.len(), rest.records[0].offset, rest.records.len()), (2, 2, 1));
        let mut batch = handed(&[]);
        let rest = batch.add(handed(&[100, 900, 5]), 10, 1_000).unwrap();
        assert_eq!((batch.records.len(), rest.records.len()), (2, 1));
        let whole = handed(&[100, 900, 5]).bytes;
        assert_eq!(batch.bytes + rest.bytes, whole);
        assert!(handed(&[]).add(handed(&[7, 7]), 3, 1_000_000).is_none());
    }
}
