//! Alerts on a topic of their own, in Confluent wire format.

use std::time::Duration;

use anyhow::{Context, Error, anyhow, bail};
use apache_avro::Schema;
use rdkafka::{
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    Undelivered,
    notice::{Notice, SCHEMA},
};
use crate::{
    broker::Broker,
    codec::Encoder,
    contract::{Contract, Topic},
    registry::{RegisterError, Registry, RegistryError, SubjectStrategy},
    wire::{SchemaId, frame},
};

/// How long one alert may take to be acknowledged.
const ACKNOWLEDGED: Duration = Duration::from_secs(60);

/// Where alerts are sent.
pub struct AlertTopic {
    topic: Topic,
    subject: String,
    broker: Broker,
    registry: Registry,
    producer: FutureProducer,
    schema: Schema,
    /// The schema's id, once topic and subject are there.
    ready: OnceCell<SchemaId>,
}

impl AlertTopic {
    /// Prepares it; topic and subject are created with the first alert. It is no stream's.
    pub fn new(
        name: &str,
        strategy: SubjectStrategy,
        broker: Broker,
        registry: Registry,
        contracts: &[Contract],
    ) -> anyhow::Result<AlertTopic> {
        let streams = contracts.iter().map(|contract| (&contract.stream, &contract.topic.name));
        let mut streams = streams.filter(|(_, topic)| *topic == name);
        if let Some((stream, _)) = streams.next() {
            bail!("the topic \"{name}\" is the stream \"{stream}\"'s; name another for alerts");
        }
        let subject = strategy.subject(name, "sluicegate.Alert");
        let producer = broker.producer().create().context("librdkafka refuses its properties")?;
        let schema = Schema::parse_str(SCHEMA)?;
        let topic = Topic { name: name.to_owned(), partitions: 1, replication: -1 };
        Ok(AlertTopic {
            topic,
            subject,
            broker,
            registry,
            producer,
            schema,
            ready: OnceCell::new(),
        })
    }

    /// Sends an alert, and returns when the broker has it.
    pub(super) async fn deliver(&self, notice: &Notice) -> Result<(), Undelivered> {
        let id = *self.ready.get_or_try_init(|| self.make_ready()).await?;
        let body = notice
            .to_avro(&self.schema)
            .map_err(Error::from)
            .and_then(|avro| Encoder::new(&self.schema)?.encode(&avro));
        let (key, value) = (notice.key(), frame(id, &body.map_err(Undelivered::Refused)?));
        let record = FutureRecord::to(&self.topic.name).key(&key).payload(&value);
        // however long librdkafka is told to try: somebody else may take the message after
        let sending = self.producer.send(record, Timeout::After(ACKNOWLEDGED));
        match timeout(ACKNOWLEDGED, sending).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(away(Error::from(error))),
            Err(_) => Err(away(anyhow!("no acknowledgement within {ACKNOWLEDGED:?}"))),
        }
    }

    async fn make_ready(&self) -> Result<SchemaId, Undelivered> {
        self.broker.ensure_topic(&self.topic).await.map_err(away)?;
        let registered = self.registry.register(&self.subject, SCHEMA).await;
        let registered = registered.map_err(|error| match error {
            RegisterError::Registry(RegistryError::Away(error)) => away(error.into()),
            // a person has to mend it, and then they are still to be told
            other => away(Error::from(other)),
        })?;
        Ok(registered.id)
    }
}

fn away(error: Error) -> Undelivered {
    Undelivered::Away { error, retry_after: None }
}
