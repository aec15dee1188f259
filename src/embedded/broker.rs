//! A broker that speaks Kafka's protocol inside the process: librdkafka's own mock cluster.
//!
//! It keeps 5 MiB of each partition, in memory, and drops older records without a word. It creates no
//! topic for a client: those that are needed are there from the start.

use anyhow::{Context, anyhow};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, Producer as _},
};

use crate::contract::Topic;

/// A broker that answers until it is dropped.
pub struct EmbeddedBroker {
    /// The client that the cluster belongs to.
    _owner: BaseProducer,
    brokers: String,
}

impl EmbeddedBroker {
    /// Starts one, with these topics, on a port of this machine's that is free.
    pub fn start<'t>(topics: impl IntoIterator<Item = &'t Topic>) -> anyhow::Result<EmbeddedBroker> {
        const UNABLE: &str = "the embedded Kafka broker can't start";
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1");
        let owner: BaseProducer = config.create().context(UNABLE)?;
        let cluster = owner.client().mock_cluster().ok_or_else(|| anyhow!(UNABLE))?;
        for topic in topics {
            cluster
                .create_topic(&topic.name, topic.partitions, 1)
                .with_context(|| format!("the topic \"{}\" can't be created", topic.name))?;
        }
        let brokers = cluster.bootstrap_servers();
        drop(cluster);
        Ok(EmbeddedBroker { _owner: owner, brokers })
    }

    /// Where it is, as KAFKA_BROKERS has it.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedBroker").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}
