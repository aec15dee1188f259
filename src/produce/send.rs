//! Records to the broker, and knowing that each has arrived.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use rdkafka::{
    ClientContext,
    message::DeliveryResult,
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::broker::Broker;

/// How long the queue is left to empty itself when it is full.
const FULL: Duration = Duration::from_millis(5);

/// How long the last records may take.
const FLUSH: Duration = Duration::from_secs(120);

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
}

/// Sends to one topic.
pub(super) struct Sender {
    topic: String,
    producer: ThreadedProducer<Deliveries>,
    deliveries: Deliveries,
    sent: u64,
}

/// What the broker has said of the records.
#[derive(Clone, Default)]
struct Deliveries {
    delivered: Arc<AtomicU64>,
    /// The first record that the broker did not take.
    failed: Arc<Mutex<Option<String>>>,
}

impl Sender {
    pub(super) fn new(broker: &Broker, topic: &str) -> anyhow::Result<Sender> {
        let deliveries = Deliveries::default();
        let producer = broker
            .producer()
            .create_with_context(deliveries.clone())
            .context("librdkafka refuses its properties")?;
        Ok(Sender { topic: topic.to_owned(), producer, deliveries, sent: 0 })
    }

    /// Queues a record; waits while the queue is full. Fails once any record has failed.
    pub(super) async fn send(&mut self, message: Message) -> anyhow::Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).payload(&message.value);
        record.key = message.key.as_deref();
        while let Err((error, unsent)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error).context("a record can't be sent");
            }
            record = unsent;
            tokio::time::sleep(FULL).await;
            self.check()?;
        }
        self.sent += 1;
        self.check()
    }

    /// Waits until every record so far is acknowledged.
    pub(super) async fn flush(&self) -> anyhow::Result<()> {
        tokio::task::block_in_place(|| self.producer.flush(FLUSH))
            .context("the broker did not acknowledge every record")?;
        self.check()
    }

    /// Fails once any record has failed.
    fn check(&self) -> anyhow::Result<()> {
        let delivered = self.deliveries.check();
        // a producer that may not go on purges its records, and that is all that is said of each
        match self.producer.client().fatal_error() {
            Some((RDKafkaErrorCode::ClusterAuthorizationFailed, _)) if delivered.is_err() => {
                bail!("we may not write to \"{}\"; let our user do so", self.topic)
            }
            Some((code, said)) if delivered.is_err() => {
                bail!("a record was not delivered: {said} ({code})")
            }
            _ => delivered,
        }
    }

    /// Waits for the last records, and says how many arrived: all of them.
    pub(super) async fn finish(self) -> anyhow::Result<u64> {
        self.flush().await?;
        let delivered = self.deliveries.delivered.load(Ordering::Acquire);
        if delivered != self.sent {
            bail!("the broker acknowledged {delivered} of {} records", self.sent);
        }
        Ok(delivered)
    }
}

impl Deliveries {
    /// Keeps the first.
    fn fail(&self, said: String) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(said);
    }

    fn check(&self) -> anyhow::Result<()> {
        match &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => bail!("a record was not delivered: {error}"),
            None => Ok(()),
        }
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        match result {
            Ok(_) => _ = self.delivered.fetch_add(1, Ordering::AcqRel),
            Err((error, _)) => self.fail(match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    "we may not write to the topic; let our user do so".to_owned()
                }
                _ => error.to_string(),
            }),
        }
    }
}
