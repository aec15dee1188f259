//! Event <-> Avro: the writer's schema resolved to ours.
//!
//! apache-avro does the decoding. What it leaves out is here: a body that ends too early or too
//! late, or asks for more memory than it is worth, is refused, and so is a schema that can't be
//! read; `resolve` brings what was written with one schema into the shape of another. What is
//! simple enough, which is nearly everything, goes by a shorter way: `flat`.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod cell;
mod flat;
mod json;
mod locate;
mod measure;
mod nesting;
mod resolve;
mod varint;
mod walk;

use std::sync::OnceLock;

use anyhow::Context;
use apache_avro::{
    Schema, error::Details, reader::datum::GenericDatumReader, schema::ResolvedSchema,
    types::Value, writer::datum::GenericDatumWriter,
};
use serde_json::Value as Json;

pub use cell::{Cell, Instant, cells};
pub use json::{event_to_json, value_to_json};
pub use locate::{Located, Stopped, locate};
pub use nesting::{DEEPEST, Unbounded, bounded};

use self::{flat::Flat, measure::measure, resolve::Resolution};
use crate::{
    failure::{Rejection, Stage},
    registry::{same_name, unreadable},
};

/// The longest string, bytes or block of items that anybody would announce in a body that ends
/// before it.
const LONGEST: usize = 16 << 20;

/// What apache-avro allocates for one length or count. `measure` has found before that a body
/// holds what it announces, and no record of Kafka's is larger.
const LARGEST: usize = 2 << 30;

/// One writer's schema made ready for our readers. Built once per schema id.
#[derive(Debug)]
pub struct WriterSchema {
    /// The schema to decode with, or why nothing written with the writer's can be read.
    readable: Result<Schema, Rejection>,
    /// Whether the two say the same, so that there is nothing to resolve.
    same: bool,
    /// The short way, where the two are simple enough.
    flat: Option<Flat>,
}

impl WriterSchema {
    /// Compares a writer's schema with ours.
    pub fn new(writer: &Schema, reader: &Schema) -> WriterSchema {
        apache_avro::util::max_allocation_bytes(LARGEST);
        let same = essence(writer) == essence(reader);
        let readable = match refusal(writer, reader) {
            None if same => usable(writer.clone(), None),
            None => usable(resolve::plain(writer.clone()), Some(reader)),
            Some(rejection) => Err(rejection),
        };
        let flat = readable.as_ref().ok().and_then(|writer| {
            let reader = if same { writer } else { reader };
            Flat::new(writer, reader)
        });
        WriterSchema { readable, same, flat }
    }

    /// The schema that bodies are decoded with; none where nothing written with it can be read.
    pub fn readable(&self) -> Option<&Schema> {
        self.readable.as_ref().ok()
    }

    /// Whether the writer's schema says the same as ours.
    pub fn is_ours(&self) -> bool {
        self.same
    }

    /// A decoder for one batch, with the schema that this was made with.
    pub fn decoder<'s>(&'s self, reader: &'s Schema) -> Result<Decoder<'s>, Rejection> {
        let writer = self.readable.as_ref().map_err(Rejection::clone)?;
        let reader = (!self.same).then_some(reader);
        Ok(Decoder { writer, reader, flat: self.flat.as_ref(), trees: OnceLock::new() })
    }
}

/// A schema that trees can be decoded with.
fn usable(writer: Schema, reader: Option<&Schema>) -> Result<Schema, Rejection> {
    Trees::new(&writer, reader)?;
    Ok(writer)
}

/// Reads bodies that were written with one schema.
pub struct Decoder<'s> {
    writer: &'s Schema,
    /// What is resolved to, where it is another schema.
    reader: Option<&'s Schema>,
    flat: Option<&'s Flat>,
    /// Made once there is a body that needs them, which is seldom.
    trees: OnceLock<Result<Trees<'s>, Rejection>>,
}

impl<'s> Decoder<'s> {
    /// A body, without its header, as the event's cells in our schema's order; `into` holds nothing
    /// else afterwards. Where this says no, [`decode`](Self::decode) has the event or the reason why
    /// there is none.
    #[must_use]
    pub fn cells<'c>(&self, body: &'c [u8], into: &mut Vec<Cell<'c>>) -> bool
    where
        's: 'c,
    {
        self.flat.is_some_and(|flat| flat.cells(body, into).is_some())
    }

    /// A body, without its header, as the event's fields in our schema's order.
    pub fn decode(&self, body: &[u8]) -> Result<Vec<(String, Value)>, Rejection> {
        let trees = self.trees.get_or_init(|| Trees::new(self.writer, self.reader));
        trees.as_ref().map_err(Rejection::clone)?.decode(body)
    }
}

/// Reads any body, by apache-avro, as a tree of values.
struct Trees<'s> {
    writer: &'s Schema,
    names: ResolvedSchema<'s>,
    datum: GenericDatumReader<'s>,
    resolution: Option<Resolution<'s>>,
}

impl<'s> Trees<'s> {
    fn new(writer: &'s Schema, reader: Option<&'s Schema>) -> Result<Trees<'s>, Rejection> {
        let unusable = |error: apache_avro::Error| {
            Rejection::new(Stage::Decode, "unusable_schema", error.to_string())
        };
        let names = ResolvedSchema::new(writer).map_err(unusable)?;
        let datum = GenericDatumReader::builder(writer).build().map_err(unusable)?;
        let resolution = reader.map(|reader| Resolution::new(writer, reader));
        let resolution = resolution.transpose().map_err(unusable)?;
        Ok(Trees { writer, names, datum, resolution })
    }

    fn decode(&self, body: &[u8]) -> Result<Vec<(String, Value)>, Rejection> {
        measure(self.writer, self.names.get_names(), body)?;
        let mut rest = body;
        let value = self.datum.read_value(&mut rest).map_err(undecodable)?;
        if !rest.is_empty() {
            let detail = format!("{} bytes are left over behind the event", rest.len());
            return Err(Rejection::new(Stage::Decode, "trailing_bytes", detail));
        }
        let value = match &self.resolution {
            None => value,
            Some(resolution) => resolution.resolve(value)?,
        };
        match value {
            Value::Record(fields) => Ok(fields),
            _ => Err(Rejection::new(Stage::Decode, "undecodable", "the event is not a record")),
        }
    }
}

/// Writes events of one schema.
pub struct Encoder<'s> {
    datum: GenericDatumWriter<'s>,
}

impl<'s> Encoder<'s> {
    /// For one schema.
    pub fn new(schema: &'s Schema) -> anyhow::Result<Encoder<'s>> {
        Ok(Encoder { datum: GenericDatumWriter::builder(schema).build()? })
    }

    /// An event as a body, without header. An event that does not fit the schema is an error.
    pub fn encode(&self, event: &Value) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::with_capacity(128);
        self.datum
            .write_value_ref(&mut body, event)
            .context("the event does not fit its schema")?;
        Ok(body)
    }
}

/// apache-avro's error in words for somebody who does not know it.
fn undecodable(error: apache_avro::Error) -> Rejection {
    let (reason, detail) = match error.details() {
        Details::MemoryAllocation { desired: Some(desired), maximum } => (
            "length_out_of_bounds",
            format!("a length asks for {desired} bytes of memory; up to {maximum} are given"),
        ),
        Details::MemoryAllocation { .. } => {
            ("length_out_of_bounds", "a length asks for more memory than there is".to_owned())
        }
        Details::ConvertI64ToUsize(_, length) => {
            ("length_out_of_bounds", format!("{length} is no length"))
        }
        Details::IntegerOverflow | Details::ZagI32(..) => {
            ("malformed_number", "a number has more bits than its type".to_owned())
        }
        Details::ConvertToUtf8(_) | Details::ConvertToUtf8Error(_) => {
            ("invalid_utf8", "a string is not UTF-8".to_owned())
        }
        Details::ConvertStrToUuid(error) => {
            ("undecodable", format!("a string is no uuid: {error}"))
        }
        _ => ("undecodable", error.to_string()),
    };
    Rejection::new(Stage::Decode, reason, detail)
}

/// Why nothing written with `writer` can be read with `reader`.
fn refusal(writer: &Schema, reader: &Schema) -> Option<Rejection> {
    let refused =
        |reason: &'static str, detail| Some(Rejection::new(Stage::Decode, reason, detail));
    // a few bytes of such a type could be nested deeper than any stack
    if let Err(unbounded) = bounded(writer) {
        let detail = format!("{unbounded} in the writer's schema, so its events can't be bounded");
        return refused("incompatible_schema", detail);
    }
    match (writer.name(), reader.name()) {
        (Some(_), Some(_)) if same_name(reader, writer) => {}
        (theirs, ours) => {
            let name = |name: Option<&apache_avro::schema::Name>| {
                name.map_or_else(|| "no record".to_owned(), |name| format!("\"{name}\""))
            };
            let detail = format!("written as {}; this stream's is {}", name(theirs), name(ours));
            return refused("wrong_schema", detail);
        }
    }
    let problems = unreadable(reader, writer);
    if !problems.is_empty() {
        return refused("incompatible_schema", problems.join("; "));
    }
    None
}

/// A schema without what does not change how bytes are read.
fn essence(schema: &Schema) -> Option<Json> {
    fn strip(json: &mut Json) {
        match json {
            Json::Object(object) => {
                for key in ["doc", "aliases", "default", "order", "sluicegate", "namespace"] {
                    object.remove(key);
                }
                object.values_mut().for_each(strip);
            }
            Json::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut json = serde_json::to_value(schema).ok()?;
    strip(&mut json);
    Some(json)
}

#[cfg(test)]
mod tests;
