//! librdkafka's settings, each with its reason, and topics.

mod ends;
mod original;
mod reach;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    metadata::Metadata,
    types::RDKafkaErrorCode,
};

pub use ends::TopicEnds;
pub(crate) use ends::{Ends, unread};
pub(crate) use original::send_with_its_time;

use crate::{
    contract::{Contract, Topic},
    secret::Secret,
};

/// How long a broker may take to answer when we start.
const ANSWER: Duration = Duration::from_secs(10);

/// The largest record of a dead-letter topic, in bytes.
const LARGEST_DEAD_LETTER: &str = "16777216";

/// Kafka, as the configuration describes it.
#[derive(Debug, Clone)]
pub struct Broker {
    properties: BTreeMap<String, Secret>,
}

/// What a consumer promises. Offsets by hand, after the database has the events; and the rest of
/// what "nothing is lost" rests on.
const CONSUMER: [(&str, &str); 6] = [
    // the offset is committed once Postgres has the events, and never before
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // offsets that are gone before they were read are a gap to be accounted for, not jumped over
    ("auto.offset.reset", "error"),
    // cooperative rebalancing with commits by hand is unsafe (librdkafka issue 4059)
    ("partition.assignment.strategy", "range"),
    // --exit-when-drained waits for these
    ("enable.partition.eof", "true"),
    // events of an aborted transaction never were
    ("isolation.level", "read_committed"),
];

/// What a producer promises: nothing is lost, doubled or reordered on the way to the broker.
const PRODUCER: [(&str, &str); 2] = [("enable.idempotence", "true"), ("acks", "all")];

impl Broker {
    /// From librdkafka's properties, those that say how to connect among them. One that would
    /// break a promise, or that librdkafka does not know, is an error.
    pub fn new(properties: BTreeMap<String, Secret>) -> anyhow::Result<Broker> {
        let promised = CONSUMER
            .iter()
            .chain(&PRODUCER)
            .map(|(key, _)| *key)
            .chain(["group.id", "group.protocol"]);
        if let Some(key) = promised.into_iter().find(|key| properties.contains_key(*key)) {
            bail!("\"{key}\" can't be set: what Sluicegate promises rests on it");
        }
        for (key, value) in &properties {
            check(key, value)?;
        }
        Ok(Broker { properties })
    }

    /// A consumer's settings.
    pub fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        for (key, value) in [
            // what is fetched ahead bounds the memory of a stream that waits for Postgres
            ("queued.max.messages.kbytes", "16384"),
            // once as much has been fetched, it would be a second until the next fetch
            ("fetch.queue.backoff.ms", "5"),
            // how long the partitions of a member that was killed wait for another
            ("session.timeout.ms", "10000"),
        ] {
            config.set(key, value);
        }
        self.pass_through(&mut config);
        CONSUMER.into_iter().for_each(|(key, value)| _ = config.set(key, value));
        config.set("group.id", group);
        config
    }

    /// A producer's settings.
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        for (key, value) in [
            // Java's partitioner, so that a key goes where every other producer sends it
            ("partitioner", "murmur2_random"),
            ("compression.type", "zstd"),
            // waiting a moment makes batches, which is most of a producer's throughput
            ("linger.ms", "5"),
            ("message.timeout.ms", "60000"),
            // the topic's own limit decides
            ("message.max.bytes", LARGEST_DEAD_LETTER),
        ] {
            config.set(key, value);
        }
        self.pass_through(&mut config);
        PRODUCER.into_iter().for_each(|(key, value)| _ = config.set(key, value));
        config
    }

    /// Creates the topics of contracts that are missing. Fails when no broker answers.
    pub async fn ensure_topics(&self, contracts: &[Contract]) -> anyhow::Result<()> {
        let topics = contracts.iter().flat_map(|contract| {
            // an event of the largest size must fit with its context headers on top
            let dead = new_topic(&contract.dead_letter_topic);
            [new_topic(&contract.topic), dead.set("max.message.bytes", LARGEST_DEAD_LETTER)]
        });
        self.create_missing(topics.collect()).await
    }

    /// Creates a topic of our own where it is missing. Fails when no broker answers.
    pub async fn ensure_topic(&self, topic: &Topic) -> anyhow::Result<()> {
        self.create_missing(vec![new_topic(topic)]).await
    }

    async fn create_missing(&self, mut new: Vec<NewTopic<'_>>) -> anyhow::Result<()> {
        let metadata = self.metadata().await?;
        let existing: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
        new.retain(|topic| !existing.contains(&topic.name));
        if new.is_empty() {
            return Ok(());
        }
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        let created = self.admin()?.create_topics(&new, &options).await;
        for result in created.context("topics can't be created")? {
            match result {
                Ok(name) => tracing::info!(topic = name, "created the topic"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, RDKafkaErrorCode::TopicAuthorizationFailed)) => bail!(
                    "the topic \"{name}\" is not there for us, and we may not create it; let our \
                     user describe it, or create it"
                ),
                Err((name, error)) => bail!("the topic \"{name}\" can't be created: {error}"),
            }
        }
        Ok(())
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        let mut config = self.client();
        self.pass_through(&mut config);
        config.create().context("librdkafka refuses its properties")
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "sluicegate").set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// What the user says.
    fn pass_through(&self, config: &mut ClientConfig) {
        for (key, value) in &self.properties {
            config.set(key, value.expose());
        }
    }
}

/// The partitions of the one topic that metadata were asked for; none where there is no such topic.
pub(crate) fn partitions(metadata: &Metadata) -> anyhow::Result<Option<Vec<i32>>> {
    let Some(topic) = metadata.topics().first() else { return Ok(None) };
    match topic.error().map(RDKafkaErrorCode::from) {
        None => Ok(Some(topic.partitions().iter().map(|partition| partition.id()).collect())),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Ok(None)
        }
        Some(error) => bail!("Kafka says of the topic \"{}\": {error}", topic.name()),
    }
}

/// That Kafka does not say how far a group is. A group that we may not read is one that it looks for
/// until the time is over.
pub(crate) fn no_committed_offsets(group: &str, error: &KafkaError) -> String {
    let said = error.rdkafka_error_code().map_or_else(String::new, |code| format!(": {code}"));
    format!(
        "Kafka does not say what the group \"{group}\" has committed{said}; may our user read it?"
    )
}

/// librdkafka's own error repeats the value, which may be a secret under a misspelt name.
fn check(key: &str, value: &Secret) -> anyhow::Result<()> {
    let set = ClientConfig::new().set(key, value.expose()).create_native_config();
    match set {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(_, said, ..)) => bail!("librdkafka refuses \"{key}\": {said}"),
        Err(_) => bail!("librdkafka refuses \"{key}\""),
    }
}

fn new_topic(topic: &Topic) -> NewTopic<'_> {
    NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(topic.replication))
}
