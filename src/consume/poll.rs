//! One stream's polling thread: it polls, hands records to sink tasks, and commits.
//!
//! Polling never stops for long, or the group would take the partitions away. While a sink task
//! is full the thread first just waits a little: pausing a partition throws away what was fetched
//! ahead (librdkafka issue 2703), so that is done only when the wait gets long.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult},
    message::{BorrowedMessage, Headers as _},
    types::RDKafkaErrorCode,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::{ConsumeOptions, progress::Progress};
use crate::{
    batch::{Headers, Record},
    failure::Failure,
};

/// How long a poll waits for a record.
const POLL: Duration = Duration::from_millis(50);

/// How many records are polled before offsets and limits are looked at again.
const BURST: usize = 256;

/// How long a full sink task is waited for before its partitions are paused.
const PAUSE_AFTER: Duration = Duration::from_secs(2);

/// How long a batch that is being written is waited for when partitions are taken away.
const PATIENCE: Duration = Duration::from_secs(20);

/// A record on its way to a sink task, with the epoch it was polled in.
pub(super) type Handed = (u64, Record);

/// The polling thread's own.
pub(super) struct Poller {
    pub(super) consumer: BaseConsumer<Group>,
    pub(super) topic: String,
    pub(super) progress: Arc<Progress>,
    pub(super) tasks: Vec<UnboundedSender<Handed>>,
    pub(super) options: ConsumeOptions,
    pub(super) stop: CancellationToken,
    /// Partitions whose end has been reached.
    pub(super) at_end: BTreeSet<i32>,
    /// Since when a sink task has been full.
    pub(super) full_since: Option<Instant>,
    /// Sink tasks whose partitions are paused.
    pub(super) paused: BTreeSet<usize>,
}

impl Poller {
    /// Runs until it is told to stop, the stream must stop, or everything has landed.
    pub(super) fn run(mut self) {
        let mut epoch = self.progress.epoch();
        while !self.is_over() {
            self.commit(CommitMode::Async);
            if self.hold_back() {
                continue;
            }
            let mut bytes = 0;
            for _ in 0..BURST {
                if bytes >= self.options.batch_bytes {
                    break;
                }
                let polled = self.consumer.poll(POLL);
                if self.progress.epoch() != epoch {
                    epoch = self.progress.epoch();
                    self.at_end.clear();
                    self.paused.clear();
                }
                match polled {
                    None => break,
                    Some(Ok(message)) => {
                        self.at_end.remove(&message.partition());
                        bytes += hand_over(&message, &self.tasks, &self.progress);
                    }
                    Some(Err(KafkaError::PartitionEOF(partition))) => {
                        self.at_end.insert(partition);
                        break;
                    }
                    Some(Err(error)) => {
                        self.failed(error);
                        break;
                    }
                }
            }
        }
        // the batches in hand are finished, and nothing new is begun
        self.progress.revoke(PATIENCE);
        self.commit(CommitMode::Sync);
    }

    fn is_over(&self) -> bool {
        self.stop.is_cancelled()
            || self.progress.stopped().is_some()
            || (self.options.exit_when_drained && self.is_drained())
    }

    fn is_drained(&self) -> bool {
        let all_at_end = |partitions: BTreeSet<i32>| partitions.is_subset(&self.at_end);
        self.progress.assigned().is_some_and(all_at_end) && self.progress.is_idle()
    }

    fn commit(&self, mode: CommitMode) {
        let offsets = self.progress.take_landed();
        commit(&self.consumer, &self.topic, &offsets, mode);
    }

    /// Whether polling has to wait because a sink task is full.
    fn hold_back(&mut self) -> bool {
        let (records, bytes) = (self.options.batch_rows * 2, self.options.batch_bytes * 2);
        let roomy: Vec<usize> = self
            .paused
            .iter()
            .copied()
            .filter(|task| self.progress.has_room(*task, records, bytes))
            .collect();
        for task in roomy {
            self.paused.remove(&task);
            self.set_paused(task, false);
        }
        let full: Vec<usize> = (0..self.tasks.len())
            .filter(|task| !self.paused.contains(task))
            .filter(|task| self.progress.is_full(*task, records, bytes))
            .collect();
        if full.is_empty() {
            self.full_since = None;
            return false;
        }
        if self.full_since.get_or_insert_with(Instant::now).elapsed() < PAUSE_AFTER {
            self.progress.wait(POLL);
            return true;
        }
        for task in full {
            self.paused.insert(task);
            self.set_paused(task, true);
        }
        false
    }

    fn set_paused(&self, task: usize, paused: bool) {
        let mut list = TopicPartitionList::new();
        for partition in self.progress.assigned().into_iter().flatten() {
            if task_of(partition, self.tasks.len()) == task {
                list.add_partition(&self.topic, partition);
            }
        }
        let result = match paused {
            true => self.consumer.pause(&list),
            false => self.consumer.resume(&list),
        };
        match result {
            Ok(()) => tracing::info!(topic = self.topic, task, paused, "back-pressure"),
            Err(error) => tracing::warn!(topic = self.topic, %error, "can't pause or resume"),
        }
    }

    fn failed(&self, error: KafkaError) {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        match Failure::from(error) {
            Failure::Dependency(error) if !fatal => {
                tracing::warn!(
                    topic = self.topic,
                    error = format!("{error:#}"),
                    "waiting for Kafka"
                );
            }
            failure => self.progress.stop(format!("Kafka refuses us: {failure}")),
        }
    }
}

/// Which sink task a partition belongs to.
fn task_of(partition: i32, tasks: usize) -> usize {
    usize::try_from(partition).unwrap_or(0) % tasks.max(1)
}

/// Gives a record to its partition's sink task; says what it weighs.
fn hand_over(
    message: &BorrowedMessage<'_>,
    tasks: &[UnboundedSender<Handed>],
    progress: &Progress,
) -> usize {
    let record = record(message);
    let (task, weight) = (task_of(record.partition, tasks.len()), record.weight());
    let epoch = progress.handed(task, weight);
    let sent = tasks.get(task).map(|sender| sender.send((epoch, record)));
    if !matches!(sent, Some(Ok(()))) {
        progress.stop("a sink task has ended".to_owned());
    }
    weight
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers(message),
    }
}

/// rdkafka panics on a header whose name is not UTF-8, and anybody may write one.
fn headers(message: &BorrowedMessage<'_>) -> Headers {
    let Some(headers) = message.headers() else { return Headers::default() };
    let read = || {
        let header = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        };
        headers.iter().map(header).collect()
    };
    catch_unwind(AssertUnwindSafe(read)).map_or(Headers::Unreadable, Headers::Known)
}

fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    offsets: &BTreeMap<i32, i64>,
    mode: CommitMode,
) {
    if offsets.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        // a partition and an offset that Kafka gave us are valid
        _ = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
    }
    if let Err(error) = consumer.commit(&list, mode) {
        tracing::warn!(topic, %error, "offsets can't be committed; their events will be read again");
    }
}

/// What the group tells us while we poll.
pub(super) struct Group {
    pub(super) topic: String,
    pub(super) progress: Arc<Progress>,
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        // reaching the end of a partition is no error
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(topic = self.topic, %error, reason, "librdkafka");
        }
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(_) = rebalance {
            self.progress.revoke(PATIENCE);
            commit(consumer, &self.topic, &self.progress.take_landed(), CommitMode::Sync);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                // librdkafka remembers a pause from an earlier assignment
                if let Err(error) = consumer.resume(list) {
                    tracing::warn!(topic = self.topic, %error, "can't resume");
                }
                let partitions: BTreeSet<i32> =
                    list.elements().iter().map(|element| element.partition()).collect();
                tracing::info!(topic = self.topic, ?partitions, "partitions assigned");
                self.progress.assign(partitions);
            }
            Rebalance::Revoke(_) => tracing::info!(topic = self.topic, "partitions taken away"),
            Rebalance::Error(error) => {
                tracing::warn!(topic = self.topic, %error, "rebalancing failed; it will be tried again");
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::warn!(topic = self.topic, %error, "offsets not committed; their events will be read again");
        }
    }
}
