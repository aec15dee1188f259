//! What the demo runs on.

use std::{collections::BTreeMap, time::Duration};

use super::{ALERTS, DemoOptions};
use crate::{
    broker::Broker,
    contract::{Contract, Topic},
    embedded::{EmbeddedBroker, EmbeddedRegistry, PrivatePostgres},
    registry::{Registry, RegistryAuth, RegistryConfig},
    secret::Secret,
};

/// A broker, a registry and a database of the demo's own.
pub(super) struct Services {
    pub(super) postgres: PrivatePostgres,
    pub(super) broker: EmbeddedBroker,
    pub(super) registry: EmbeddedRegistry,
}

impl Services {
    pub(super) async fn start(
        contracts: &[Contract],
        options: &DemoOptions,
    ) -> anyhow::Result<Services> {
        let alerts = Topic { name: ALERTS.to_owned(), partitions: 1, replication: -1 };
        let streams = contracts.iter();
        let topics = streams.flat_map(|contract| [&contract.topic, &contract.dead_letter_topic]);
        Ok(Services {
            broker: EmbeddedBroker::start(topics.chain([&alerts]))?,
            registry: EmbeddedRegistry::start().await?,
            postgres: PrivatePostgres::start(options.postgres_programs.as_deref(), options.keep)
                .await?,
        })
    }

    /// Kafka, as any program of ours reaches it.
    pub(super) fn broker_client(&self) -> anyhow::Result<Broker> {
        let brokers = Secret::new(self.broker.brokers()?);
        Broker::new(BTreeMap::from([("bootstrap.servers".to_owned(), brokers)]))
    }

    /// The registry, as any program of ours reaches it.
    pub(super) fn registry_client(&self) -> anyhow::Result<Registry> {
        Registry::new(&RegistryConfig {
            urls: vec![self.registry.url()],
            auth: RegistryAuth::None,
            ca_file: None,
            identity: None,
            timeout: Duration::from_secs(10),
        })
    }

    /// The settings with which another program reaches them.
    pub(super) fn settings(&self) -> anyhow::Result<[(&'static str, String); 3]> {
        Ok([
            ("KAFKA_BROKERS", self.broker.brokers()?),
            ("SCHEMA_REGISTRY_URL", self.registry.url()),
            ("DATABASE_URL", self.postgres.url()),
        ])
    }
}
