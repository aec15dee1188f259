//! Made-up readings, so that a pipeline can be tried, measured and tested without its real sources.
//!
//! Five streams have a generator of their own, one file each, which keeps their world's laws: hearts
//! do not jump, buses stop at stops, jams build before they clear. They know which anomalies they have
//! planted. Every other schema gets values by its types alone. A seed and the moments that the caller gives decide everything: there is no other
//! clock and no other chance in here.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "everything here is made here: no foreign value is met"
)]

mod anomaly;
mod bus_telemetry;
mod common;
mod device_telemetry;
mod events;
mod generic;
mod heartbeats;
mod segment;
mod traffic;

pub use anomaly::Anomaly;
pub use bus_telemetry::{BusEvent, BusTelemetry, Buses};
pub use device_telemetry::{DeviceTelemetry, Devices, Kpi};
pub use events::{Event, Events};
pub use generic::Generic;
pub use heartbeats::{Heartbeat, Heartbeats};
pub use traffic::{Traffic, TrafficReading, TrafficSource};

use anyhow::{Context, bail};
use apache_avro::types::Value;
use apache_avro::{AvroResult, Schema};
use time::{Duration, OffsetDateTime};

/// Makes the readings of one stream as Avro values of its schema.
pub enum Simulator {
    /// A generator that knows what the stream is about.
    Typed {
        /// What the readings are resolved to.
        schema: Schema,
        /// What makes them.
        generator: Box<dyn Generator>,
    },
    /// A generator that knows the schema only.
    Generic(Generic),
}

/// A small world that readings come from.
pub trait Generator: Send {
    /// The reading of this moment, as its struct serialises. Moments must not go back.
    fn reading(&mut self, at: OffsetDateTime) -> AvroResult<Value>;

    /// What was planted until the last reading, in the order in which it began.
    fn anomalies(&self) -> Vec<Anomaly>;
}

/// Starts the generator that belongs to a seed.
pub type Start = fn(seed: u64) -> Box<dyn Generator>;

/// The streams that have a generator of their own: a new one is added here, and nowhere else.
pub const TYPED: &[(&str, Start)] = &[
    ("heartbeats", |seed| Box::new(Heartbeats::new(seed))),
    ("bus_telemetry", |seed| Box::new(Buses::new(seed))),
    ("device_telemetry", |seed| Box::new(Devices::new(seed))),
    ("events", |seed| Box::new(Events::new(seed))),
    ("traffic", |seed| Box::new(Traffic::new(seed))),
];

impl Simulator {
    /// The stream's own generator, if it has one. It is an error if the schema has changed so that
    /// the generator's readings no longer fit it.
    pub fn typed(stream: &str, schema: &Schema, seed: u64) -> anyhow::Result<Option<Self>> {
        let Some((_, start)) = TYPED.iter().find(|(name, _)| *name == stream) else {
            return Ok(None);
        };
        check_shape(schema, &mut *start(seed))
            .with_context(|| format!("the generator of \"{stream}\" does not fit its schema"))?;
        Ok(Some(Simulator::Typed { schema: schema.clone(), generator: start(seed) }))
    }

    /// The reading of this moment, in the variants that encode under the schema.
    pub fn next(&mut self, at: OffsetDateTime) -> anyhow::Result<Value> {
        match self {
            Simulator::Typed { schema, generator } => Ok(generator.reading(at)?.resolve(schema)?),
            Simulator::Generic(generic) => Ok(generic.next(at)),
        }
    }

    /// What the stream's own generator has planted so far; nothing if it has none.
    pub fn anomalies(&self) -> Vec<Anomaly> {
        match self {
            Simulator::Typed { generator, .. } => generator.anomalies(),
            Simulator::Generic(_) => Vec::new(),
        }
    }
}

/// Tries some readings: resolution finds what the schema wants and does not get, but says nothing of
/// fields that it drops.
fn check_shape(schema: &Schema, generator: &mut dyn Generator) -> anyhow::Result<()> {
    const TRIALS: i64 = 100;
    let Schema::Record(record) = schema else { bail!("the schema is not a record") };
    for second in 0..TRIALS {
        let reading = generator.reading(OffsetDateTime::UNIX_EPOCH + Duration::seconds(second))?;
        if let Value::Record(fields) = &reading
            && let Some((name, _)) =
                fields.iter().find(|(name, _)| !record.lookup.contains_key(name))
        {
            bail!("the schema has no field \"{name}\"");
        }
        reading.resolve(schema)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
