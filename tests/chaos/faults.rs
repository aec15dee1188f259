//! How each fault is done, and how it is known to have hit: one that does nothing fails the run.

mod events;
mod members;
mod services;

use std::{sync::Arc, time::Duration};

use anyhow::Context;

use crate::{
    events::{Stream, Writer},
    load::Sender,
    members::Members,
    plan::{Fault, Step},
    services::Services,
    support::Fixture,
    watch::Watch,
};

/// How long a fault may take to show.
const SHOWS: Duration = Duration::from_secs(45);

/// How many members there are, but for storms.
pub const MEMBERS: usize = 2;

/// All that can be broken.
pub struct Scene {
    pub services: Services,
    pub fixture: Fixture,
    pub members: Members,
    pub sender: Arc<Sender>,
    pub watch: Watch,
    pub schemas: Schemas,
    /// Records that a member had landed, and that another one reads again.
    pub redelivered: i64,
}

/// The writers' schemas of positions.
pub struct Schemas {
    /// The id that the registry gave last.
    pub last: u32,
    /// How many fields the latest has that the contract does not.
    pub extra: usize,
}

impl Scene {
    /// Breaks something and mends it; says how it showed.
    pub fn inject(&mut self, step: &Step) -> anyhow::Result<String> {
        let mark = self.members.mark();
        match step.fault {
            Fault::MemberKilled => self.kill_member(step),
            Fault::MemberTerminated => self.terminate_member(step),
            Fault::MemberFrozen => self.freeze_member(step),
            Fault::RebalanceStorm => self.storm(step),
            Fault::PostgresKilled => {
                self.services.kill("postgres");
                self.until_said("Postgres", step, &mark, &["postgres"])
            }
            Fault::PostgresStopped => {
                self.services.stop(&["postgres"]);
                self.until_said("Postgres", step, &mark, &["postgres"])
            }
            Fault::PostgresFrozen => self.freeze_postgres(step),
            Fault::BackendsTerminated => self.terminate_backends(&mark),
            Fault::KafkaKilled => {
                self.services.kill("kafka");
                self.until_said("Kafka", step, &mark, &["kafka"])
            }
            Fault::KafkaFrozen => self.freeze_kafka(step),
            Fault::RegistryKilled => {
                let writer = self.evolve()?;
                self.services.kill("registry");
                self.write_with(writer)?;
                self.until_said("registry", step, &mark, &["registry"])
            }
            Fault::RegistryFrozen => self.freeze_registry(step, &mark),
            Fault::EverythingKilled => self.kill_everything(step, &mark),
            Fault::OffsetsSetBack => self.set_back(step),
            Fault::SchemaEvolved => self.use_new_schema(),
            Fault::SchemaLate => self.register_late(step),
            Fault::SchemaUnknown => self.unknown_schema(step),
            Fault::PoisonBurst => self.poison(step),
            Fault::HugeEvents => self.huge(),
        }
    }
}

/// Sets up the first schemas: what the streams' contracts were registered as.
pub fn writers(fixture: &Fixture) -> anyhow::Result<([(Stream, Writer); 2], Schemas)> {
    let writers = Stream::ALL.map(|stream| {
        let topic = format!("{}.{}", fixture.prefix, stream.name());
        (stream, Writer { id: fixture.schema_id(&topic), extra: 0 })
    });
    let last = writers.iter().map(|(_, writer)| writer.id).max().context("no stream")?;
    Ok((writers, Schemas { last, extra: 0 }))
}
