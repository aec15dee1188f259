//! What the consumer group tells us while we poll, and what we tell it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use super::progress::Progress;
use crate::metrics;

/// How long a batch that is being written is waited for when partitions are taken away.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// One stream's membership.
pub(super) struct Group {
    stream: String,
    topic: String,
    progress: Arc<Progress>,
    /// What librdkafka complained of last.
    complaint: Mutex<String>,
}

/// Commits offsets, one a partition.
pub(super) fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    offsets: &BTreeMap<i32, i64>,
    mode: CommitMode,
) {
    if offsets.is_empty() {
        return;
    }
    if let Err(error) = consumer.commit(&list(topic, offsets), mode) {
        tracing::warn!(topic, %error, "offsets can't be committed; their events will be read again");
    }
}

/// Partitions of a topic, each with an offset.
pub(super) fn list(topic: &str, offsets: &BTreeMap<i32, i64>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        // a partition and an offset that Kafka gave us are valid
        _ = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
    }
    list
}

impl Group {
    pub(super) fn new(stream: String, topic: String, progress: Arc<Progress>) -> Group {
        Group { stream, topic, progress, complaint: Mutex::default() }
    }

    /// Whether an error of TLS or SASL is only that a broker went away in the middle of letting us
    /// in. librdkafka has no code of its own for that.
    pub(super) fn is_cut_short(&self, error: &KafkaError) -> bool {
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::SSL) => !complaint.contains("certificate"),
            Some(RDKafkaErrorCode::Authentication) => {
                // its own codes begin so; what a broker says does not
                ["Local:", "isconnected", "timed out", "Connection reset"]
                    .iter()
                    .any(|sign| complaint.contains(sign))
            }
            _ => false,
        }
    }

    fn given(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let partitions: BTreeSet<i32> =
            partitions.elements().iter().map(|element| element.partition()).collect();
        tracing::info!(stream = self.stream, ?partitions, "partitions assigned");
        self.progress.assign(partitions);
        // nothing is fetched before it is known from where
        self.say(consumer.assign(&TopicPartitionList::new()));
    }

    fn taken_away(&self, consumer: &BaseConsumer<Self>) {
        self.progress.revoke(PATIENCE);
        let landed = self.progress.take_landed();
        // one that the group has thrown out may not commit any more, and would wait for the group
        if !consumer.assignment_lost() {
            commit(consumer, &self.topic, &landed, CommitMode::Sync);
        }
        self.say(consumer.unassign());
        tracing::info!(stream = self.stream, "partitions taken away");
    }

    fn say(&self, result: KafkaResult<()>) {
        if let Err(error) = result {
            tracing::warn!(stream = self.stream, %error, "rebalancing failed; it will be tried again");
        }
    }
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.given(consumer, partitions);
            }
            _ => self.taken_away(consumer),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        metrics::offsets_committed(&self.stream, result.is_ok());
        if let Err(error) = result {
            tracing::warn!(stream = self.stream, %error, "offsets not committed; their events will be read again");
        }
    }
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = reason.to_owned();
        // reaching the end of a partition is no error
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(stream = self.stream, %error, reason, "librdkafka");
        }
    }
}
