//! A broker that speaks Kafka's protocol inside the process: librdkafka's own mock cluster.
//!
//! It keeps 5 MiB of each partition, in memory, and drops older records without a word. It creates no
//! topic for a client: those that are needed are there from the start.

use anyhow::Context;
use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseProducer, DefaultProducerContext, Producer as _},
};

use crate::contract::Topic;

/// A broker that answers until it is dropped.
pub struct EmbeddedBroker {
    /// The client that the cluster belongs to.
    owner: BaseProducer,
}

/// That librdkafka makes no cluster.
const UNABLE: &str = "the embedded Kafka broker can't start";

impl EmbeddedBroker {
    /// Starts one, with these topics, on a port of this machine's that is free.
    pub fn start<'t>(
        topics: impl IntoIterator<Item = &'t Topic>,
    ) -> anyhow::Result<EmbeddedBroker> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1");
        let broker = EmbeddedBroker { owner: config.create().context(UNABLE)? };
        broker.cluster()?;
        for topic in topics {
            broker.create_topic(topic)?;
        }
        Ok(broker)
    }

    /// Creates a topic, which no client can.
    pub fn create_topic(&self, topic: &Topic) -> anyhow::Result<()> {
        self.cluster()?
            .create_topic(&topic.name, topic.partitions, 1)
            .with_context(|| format!("the topic \"{}\" can't be created", topic.name))
    }

    /// Where it is, as KAFKA_BROKERS has it.
    pub fn brokers(&self) -> anyhow::Result<String> {
        Ok(self.cluster()?.bootstrap_servers())
    }

    fn cluster(&self) -> anyhow::Result<MockCluster<'_, DefaultProducerContext>> {
        self.owner.client().mock_cluster().context(UNABLE)
    }
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedBroker").field("brokers", &self.brokers()).finish_non_exhaustive()
    }
}
