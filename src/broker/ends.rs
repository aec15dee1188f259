//! Where topics end. Kafka is asked now and then, and not for each scrape: it may be away.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    ClientContext,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Broker, partitions};

/// How often Kafka is asked.
const INTERVAL: Duration = Duration::from_secs(15);

/// How long it may take for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// First and last offset of each partition.
pub(crate) type Ends = BTreeMap<i32, (i64, i64)>;

/// The ends of topics by their names, without those that Kafka does not tell of; none before it was
/// asked.
type Known = Option<BTreeMap<String, Ends>>;

/// Where topics begin and end, as far as it is known.
pub struct TopicEnds {
    known: watch::Receiver<Known>,
    _asking: AbortOnDropHandle<()>,
}

impl TopicEnds {
    /// Asks for them until the value is dropped.
    pub fn watch(broker: Broker, topics: Vec<String>) -> TopicEnds {
        let (tell, known) = watch::channel(None);
        let asking = tokio::spawn(ask_again(broker, topics.into(), tell));
        TopicEnds { known, _asking: AbortOnDropHandle::new(asking) }
    }

    /// Returns once Kafka has been asked, whatever it said.
    pub(crate) async fn asked(&self) {
        // who asks is there for as long as we are
        _ = self.known.clone().wait_for(Option::is_some).await;
    }

    /// Where the partitions of a topic begin and end; none where Kafka has not told.
    pub(crate) fn of(&self, topic: &str) -> Option<Ends> {
        self.known.borrow().as_ref()?.get(topic).cloned()
    }

    /// How many offsets of a topic lie behind the next one of each partition; a partition without
    /// is read from its beginning. None where Kafka has not told where the topic ends.
    pub(crate) fn behind(&self, topic: &str, next: &BTreeMap<i32, i64>) -> Option<i64> {
        let behind = |(partition, ends): (&i32, &(i64, i64))| {
            unread(*ends, next.get(partition).copied().unwrap_or(ends.0))
        };
        Some(self.of(topic)?.iter().map(behind).sum())
    }
}

/// How many offsets a partition has, between its ends, from the next one on that is to be read.
pub(crate) fn unread((low, high): (i64, i64), next: i64) -> i64 {
    // who reads may know more by now than Kafka said
    high.saturating_sub(next.max(low)).max(0)
}

async fn ask_again(broker: Broker, topics: Arc<[String]>, tell: watch::Sender<Known>) {
    // in no group: it neither joins one nor commits
    let consumer: BaseConsumer<Asking> =
        match broker.consumer("sluicegate").create_with_context(Asking) {
            Ok(consumer) => consumer,
            Err(error) => {
                tracing::warn!("where topics end is unknown: {error}");
                _ = tell.send(Some(BTreeMap::new()));
                return;
            }
        };
    let consumer = Arc::new(consumer);
    loop {
        let (asked, of) = (consumer.clone(), topics.clone());
        // it ends where the runtime does, or within a few answers' time
        let ends = tokio::task::spawn_blocking(move || ends(&asked, &of)).await;
        _ = tell.send(Some(ends.unwrap_or_default()));
        tokio::time::sleep(INTERVAL).await;
    }
}

fn ends(consumer: &BaseConsumer<Asking>, topics: &[String]) -> BTreeMap<String, Ends> {
    let mut ends = BTreeMap::new();
    for topic in topics {
        match ends_of(consumer, topic) {
            Ok(Some(of)) => _ = ends.insert(topic.clone(), of),
            Ok(None) => tracing::debug!(topic, "where it ends is unknown: there is no such topic"),
            Err(error) => {
                tracing::warn!(topic, "where it ends is unknown: {error:#}");
                // each time-out would be as long as the first
                break;
            }
        }
    }
    // lets go of what librdkafka has to say besides
    while consumer.poll(Duration::ZERO).is_some() {}
    ends
}

fn ends_of(consumer: &BaseConsumer<Asking>, topic: &str) -> anyhow::Result<Option<Ends>> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let Some(partitions) = partitions(&metadata)? else { return Ok(None) };
    let of = |partition| Ok((partition, consumer.fetch_watermarks(topic, partition, ANSWER)?));
    partitions.into_iter().map(of).collect::<anyhow::Result<_>>().map(Some)
}

/// What librdkafka tells us between answers: the answer that fails says it again.
struct Asking;

impl ClientContext for Asking {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Asking {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lag_is_what_the_ledger_has_not_seen_over_all_partitions() {
        let ends = BTreeMap::from([(0, (0, 10)), (1, (5, 9)), (2, (20, 30)), (3, (0, 4))]);
        let (_tell, known) = watch::channel(Some(BTreeMap::from([("t".to_owned(), ends)])));
        let asking = AbortOnDropHandle::new(tokio::spawn(async {}));
        let watermarks = TopicEnds { known, _asking: asking };
        watermarks.asked().await;
        // 4; none read yet: 4; retention overtook: 10; the ledger knows more than was asked: 0
        let next = BTreeMap::from([(0, 6), (2, 15), (3, 7)]);
        assert_eq!(watermarks.behind("t", &next), Some(18));
        assert_eq!(watermarks.behind("another", &next), None);
    }
}
