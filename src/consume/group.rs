//! What the consumer group tells us while we poll, and what we tell it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use super::progress::Progress;
use crate::metrics;

/// How long a batch that is being written is waited for when partitions are taken away.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What librdkafka calls it when a commit fails that nobody waits for.
const COMMIT_FAILED: &str = "COMMITFAIL";

/// One stream's membership.
pub(super) struct Group {
    stream: String,
    topic: String,
    progress: Arc<Progress>,
    /// What librdkafka complained of last.
    complaint: Mutex<String>,
}

/// Commits offsets, one a partition.
pub(super) fn commit(
    consumer: &BaseConsumer<Group>,
    offsets: &BTreeMap<i32, i64>,
    mode: CommitMode,
) {
    if offsets.is_empty() {
        return;
    }
    let Group { stream, topic, .. } = &**consumer.context();
    metrics::commit_sent(stream);
    if let Err(error) = consumer.commit(&list(topic, offsets), mode) {
        metrics::commit_failed(stream);
        tracing::warn!(stream, %error, "offsets can't be committed; their events will be read again");
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
            commit(consumer, &landed, CommitMode::Sync);
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
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = reason.to_owned();
        // reaching the end of a partition is no error
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(stream = self.stream, %error, reason, "librdkafka");
        }
    }

    /// That a commit that nobody waits for has failed is said here alone: rdkafka never asks for
    /// librdkafka's callback.
    fn log(&self, level: RDKafkaLogLevel, what: &str, line: &str) {
        if what == COMMIT_FAILED {
            metrics::commit_failed(&self.stream);
            let stream = &self.stream;
            tracing::warn!(stream, line, "offsets not committed; their events will be read again");
        } else {
            DefaultClientContext.log(level, what, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_failed_behind_our_back_is_counted_and_other_lines_are_not() {
        let group = Group::new("s".into(), "t".into(), Arc::new(Progress::new(1)));
        let text = metrics::shown(|| {
            metrics::began("s");
            for what in ["FAIL", COMMIT_FAILED] {
                group.log(RDKafkaLogLevel::Warning, what, "Offset commit (manual) failed");
            }
        });
        let failed = r#"sluicegate_offset_commits_failed_total{stream="s"} 1"#;
        assert!(text.lines().any(|line| line == failed), "{text}");
    }
}
