//! Made-up readings, so that a pipeline can be tried, measured and tested without its real sources.
//!
//! Five streams have a generator of their own, one file each, which keeps their world's laws: hearts
//! do not jump, buses stop at stops, jams build before they clear. Every other schema gets values by
//! its types alone. A seed and the moments that the caller gives decide everything: there is no other
//! clock and no other chance in here.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "everything here is made here: no foreign value is met"
)]

mod bus_telemetry;
mod common;
mod device_telemetry;
mod events;
mod generic;
mod heartbeats;
mod traffic;

pub use bus_telemetry::{BusEvent, BusTelemetry, Buses};
pub use device_telemetry::{DeviceTelemetry, Devices, Kpi};
pub use events::{Event, Events};
pub use generic::Generic;
pub use heartbeats::{Heartbeat, Heartbeats};
pub use traffic::{Traffic, TrafficReading, TrafficSource};

use anyhow::{Context, bail};
use apache_avro::types::Value;
use apache_avro::{AvroResult, Schema, to_value};
use serde::Serialize;
use time::{Duration, OffsetDateTime};

/// Makes the readings of one stream as Avro values of its schema.
pub enum Simulator {
    /// A generator that knows what the stream is about.
    Typed {
        /// What the readings are resolved to.
        schema: Schema,
        /// The readings, as their structs serialise.
        readings: Readings,
    },
    /// A generator that knows the schema only.
    Generic(Generic),
}

/// Gives the reading of a moment.
pub type Readings = Box<dyn FnMut(OffsetDateTime) -> AvroResult<Value> + Send>;

/// Starts the generator that belongs to a seed.
pub type Start = fn(seed: u64) -> Readings;

/// The streams that have a generator of their own: a new one is added here, and nowhere else.
pub const TYPED: &[(&str, Start)] = &[
    ("heartbeats", |seed| readings(Heartbeats::new(seed), Heartbeats::next)),
    ("bus_telemetry", |seed| readings(Buses::new(seed), Buses::next)),
    ("device_telemetry", |seed| readings(Devices::new(seed), Devices::next)),
    ("events", |seed| readings(Events::new(seed), Events::next)),
    ("traffic", |seed| readings(Traffic::new(seed), Traffic::next)),
];

impl Simulator {
    /// The stream's own generator, if it has one. It is an error if the schema has changed so that
    /// the generator's readings no longer fit it.
    pub fn typed(stream: &str, schema: &Schema, seed: u64) -> anyhow::Result<Option<Self>> {
        let Some((_, start)) = TYPED.iter().find(|(name, _)| *name == stream) else {
            return Ok(None);
        };
        check_shape(schema, start(seed))
            .with_context(|| format!("the generator of \"{stream}\" does not fit its schema"))?;
        Ok(Some(Simulator::Typed { schema: schema.clone(), readings: start(seed) }))
    }

    /// The reading of this moment, in the variants that encode under the schema.
    pub fn next(&mut self, at: OffsetDateTime) -> anyhow::Result<Value> {
        match self {
            Simulator::Typed { schema, readings } => Ok(readings(at)?.resolve(schema)?),
            Simulator::Generic(generic) => Ok(generic.next(at)),
        }
    }
}

fn readings<G: Send + 'static, R: Serialize + 'static>(
    mut generator: G,
    next: fn(&mut G, OffsetDateTime) -> R,
) -> Readings {
    Box::new(move |at| to_value(next(&mut generator, at)))
}

/// Tries some readings: resolution finds what the schema wants and does not get, but says nothing of
/// fields that it drops.
fn check_shape(schema: &Schema, mut readings: Readings) -> anyhow::Result<()> {
    const TRIALS: i64 = 100;
    let Schema::Record(record) = schema else { bail!("the schema is not a record") };
    for second in 0..TRIALS {
        let reading = readings(OffsetDateTime::UNIX_EPOCH + Duration::seconds(second))?;
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
