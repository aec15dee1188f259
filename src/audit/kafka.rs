//! What Kafka says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use indicatif::ProgressBar;
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
    types::RDKafkaErrorCode,
};

use super::{
    copies::{Copies, Copy, print},
    figures::Place,
};
use crate::{
    broker::{Broker, no_committed_offsets, partitions},
    panics::caught,
};

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a log may give nothing while it is read.
const SILENCE: Duration = Duration::from_secs(60);

/// How long a poll waits for a record.
const POLL: Duration = Duration::from_millis(50);

/// How many headers the outbox puts behind a dead letter's own.
const CONTEXT: usize = 8;

/// Where a log begins and ends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watermarks {
    pub(super) low: i64,
    pub(super) high: i64,
}

/// Kafka, asked by somebody who is in no group.
pub(super) struct Kafka<'b> {
    broker: &'b Broker,
    consumer: BaseConsumer<Reader>,
}

impl Kafka<'_> {
    /// Fails with what a person has to mend where no broker answers or lets us in.
    pub(super) async fn reach(broker: &Broker) -> anyhow::Result<Kafka<'_>> {
        broker.metadata().await?;
        Ok(Kafka { broker, consumer: reader(broker)? })
    }

    /// Where each partition of some topics begins and ends; a topic that is not there has none.
    pub(super) fn watermarks(
        &self,
        topics: &[String],
    ) -> anyhow::Result<BTreeMap<Place, Watermarks>> {
        tokio::task::block_in_place(|| {
            let mut all = BTreeMap::new();
            for topic in topics {
                for partition in self.partitions(topic)? {
                    let marks = self.consumer.fetch_watermarks(topic, partition, ANSWER);
                    let (low, high) = marks.map_err(|error| away(&error))?;
                    all.insert((topic.clone(), partition), Watermarks { low, high });
                }
            }
            Ok(all)
        })
    }

    fn partitions(&self, topic: &str) -> anyhow::Result<Vec<i32>> {
        let metadata = self.consumer.fetch_metadata(Some(topic), ANSWER);
        let metadata = metadata.map_err(|error| away(&error))?;
        Ok(partitions(&metadata)?.unwrap_or_default())
    }

    /// What a group has committed, where it has.
    pub(super) fn committed<'p>(
        &self,
        group: &str,
        places: impl Iterator<Item = &'p Place>,
    ) -> anyhow::Result<BTreeMap<Place, i64>> {
        let mut list = TopicPartitionList::new();
        places.for_each(|(topic, partition)| _ = list.add_partition(topic, *partition));
        if list.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let member: BaseConsumer = self.broker.consumer(group).create()?;
        let committed = tokio::task::block_in_place(|| member.committed_offsets(list, ANSWER));
        let committed = committed.map_err(|error| anyhow!(no_committed_offsets(group, &error)))?;
        let offset = |offset| match offset {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        let elements = committed.elements();
        let elements = elements.iter().filter_map(|element| {
            let place = (element.topic().to_owned(), element.partition());
            Some((place, offset(element.offset())?))
        });
        Ok(elements.collect())
    }

    /// The first record from an offset on, where there is one: one that an aborted transaction
    /// wrote is none.
    pub(super) fn first_records(
        &self,
        places: &[(Place, i64)],
    ) -> anyhow::Result<BTreeMap<Place, i64>> {
        let mut by_topic: BTreeMap<&str, BTreeMap<i32, i64>> = BTreeMap::new();
        for ((topic, partition), from) in places {
            by_topic.entry(topic).or_default().insert(*partition, *from);
        }
        let mut first = BTreeMap::new();
        for (topic, from) in by_topic {
            self.read(topic, &from, |message| {
                first.insert((topic.to_owned(), message.partition()), message.offset());
                true
            })?;
        }
        Ok(first)
    }

    /// Shows `copies` the records of a dead-letter topic, up to where they were after the
    /// snapshot.
    pub(super) fn read_copies(
        &self,
        before: &BTreeMap<Place, Watermarks>,
        after: &BTreeMap<Place, Watermarks>,
        copies: &mut Copies,
    ) -> anyhow::Result<()> {
        let Some(((topic, _), _)) = after.first_key_value() else { return Ok(()) };
        let filled = after.iter().filter(|(_, marks)| marks.low < marks.high);
        let from: BTreeMap<i32, i64> =
            filled.map(|((_, partition), marks)| (*partition, marks.low)).collect();
        let count = after.values().map(|marks| marks.high.saturating_sub(marks.low)).sum::<i64>();
        // to standard error, and only where that is a terminal
        let bar = ProgressBar::new(u64::try_from(count).unwrap_or(0)).with_message("copies");
        let end = |marks: &BTreeMap<Place, Watermarks>, partition| {
            marks.get(&(topic.clone(), partition)).map_or(0, |marks| marks.high)
        };
        self.read(topic, &from, |message| {
            bar.inc(1);
            let (partition, offset) = (message.partition(), message.offset());
            if offset < end(after, partition) {
                show(message, offset < end(before, partition), copies);
            }
            offset >= end(after, partition).saturating_sub(1)
        })?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Reads partitions from an offset each until `enough` says so or there is no more.
    fn read(
        &self,
        topic: &str,
        from: &BTreeMap<i32, i64>,
        mut enough: impl FnMut(&BorrowedMessage<'_>) -> bool,
    ) -> anyhow::Result<()> {
        let consumer = reader(self.broker)?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in from {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        consumer.assign(&list)?;
        let mut open: BTreeSet<i32> = from.keys().copied().collect();
        let (mut heard, mut failed) = (Instant::now(), None);
        tokio::task::block_in_place(|| {
            while !open.is_empty() {
                match consumer.poll(POLL) {
                    Some(Ok(message)) => {
                        heard = Instant::now();
                        let partition = message.partition();
                        if open.contains(&partition) && enough(&message) {
                            open.remove(&partition);
                            let mut done = TopicPartitionList::new();
                            done.add_partition(topic, partition);
                            consumer.pause(&done)?;
                        }
                    }
                    Some(Err(KafkaError::PartitionEOF(partition))) => _ = open.remove(&partition),
                    Some(Err(error)) => failed = Some(error),
                    None => {}
                }
                if heard.elapsed() > SILENCE {
                    let why = failed.map_or_else(String::new, |error| format!(": {error}"));
                    bail!("the topic \"{topic}\" gave nothing to read for {SILENCE:?}{why}");
                }
            }
            Ok(())
        })
    }
}

fn reader(broker: &Broker) -> anyhow::Result<BaseConsumer<Reader>> {
    let config = broker.consumer("sluicegate");
    config.create_with_context(Reader).context("librdkafka refuses its properties")
}

/// What librdkafka tells us between records.
struct Reader;

impl ClientContext for Reader {
    fn error(&self, error: KafkaError, reason: &str) {
        // reaching the end of a partition is no error
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "librdkafka");
        }
    }
}

impl ConsumerContext for Reader {}

/// Matches a record of the dead-letter topic with its dead letter.
fn show(message: &BorrowedMessage<'_>, settled: bool, copies: &mut Copies) {
    // rdkafka panics on a header whose name is not UTF-8, and anybody may write one
    let context = caught(|| context(message)).flatten();
    let Some((stream, topic, partition, offset)) = context else { return copies.see_foreign() };
    let print = print(message.key(), message.payload());
    copies.see(&Copy { stream, topic, partition, offset, print, settled });
}

/// Stream, topic, partition and offset of the record that this is a copy of. They are among the
/// last headers; those of the same names before them are the record's own.
fn context<'m>(message: &'m BorrowedMessage<'_>) -> Option<(&'m str, &'m str, i32, i64)> {
    let headers = message.headers()?;
    let find = |name: &str| {
        let last = (0..headers.count()).rev().take(CONTEXT);
        let mut values = last.filter_map(|index| headers.try_get(index));
        let value = values.find(|header| header.key == name)?.value?;
        std::str::from_utf8(value).ok()
    };
    Some((
        find("sluicegate.stream")?,
        find("__connect.errors.topic")?,
        find("__connect.errors.partition")?.parse().ok()?,
        find("__connect.errors.offset")?.parse().ok()?,
    ))
}

/// A broker that says no is there; one that says nothing may have gone since we reached it.
fn away(error: &KafkaError) -> anyhow::Error {
    match error.rdkafka_error_code() {
        None | Some(RDKafkaErrorCode::BrokerTransportFailure) => {
            anyhow!("no Kafka broker answers; start one with `make up`, or set KAFKA_BROKERS")
        }
        Some(code) => anyhow!("Kafka says: {code}"),
    }
}
