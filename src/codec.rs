//! Event <-> Avro: the writer's schema resolved to ours.
//!
//! apache-avro does the decoding and the resolution. Three things that it leaves out are here:
//! aliases are applied, a body that ends too early or too late is refused, and so is a schema
//! that it would read more leniently than Avro's specification allows.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod alias;
mod json;
mod recursive;

use std::io::Read;

use anyhow::Context;
use apache_avro::{
    Schema, error::Details, reader::datum::GenericDatumReader, types::Value,
    writer::datum::GenericDatumWriter,
};
use serde_json::Value as Json;

pub use json::{event_to_json, value_to_json};
pub use recursive::is_recursive;

use crate::{
    failure::{Rejection, Stage},
    registry::incompatibilities,
};

/// The longest string, bytes or block of items that a length in foreign bytes is believed.
const LONGEST: usize = 16 << 20;

/// One writer's schema made ready for our readers. Built once per schema id.
#[derive(Debug)]
pub struct WriterSchema {
    /// The writer's schema under our names, or why nothing written by it can be read.
    readable: Result<Schema, Rejection>,
    /// Whether the two say the same, so that there is nothing to resolve.
    same: bool,
}

impl WriterSchema {
    /// Compares a writer's schema with ours.
    pub fn new(writer: &Schema, reader: &Schema) -> WriterSchema {
        apache_avro::util::max_allocation_bytes(LONGEST);
        let writer = alias::under_readers_names(writer, reader);
        let same = essence(&writer) == essence(reader);
        let readable = match refusal(&writer, reader) {
            None => Ok(writer),
            Some(rejection) => Err(rejection),
        };
        WriterSchema { readable, same }
    }

    /// A decoder for one batch.
    pub fn decoder<'s>(&'s self, reader: &'s Schema) -> Result<Decoder<'s>, Rejection> {
        let writer = self.readable.as_ref().map_err(Rejection::clone)?;
        let builder = GenericDatumReader::builder(writer);
        let datum = match self.same {
            true => builder.build(),
            false => builder.reader_schema(reader).build(),
        };
        let datum = datum
            .map_err(|error| Rejection::new(Stage::Decode, "unusable_schema", error.to_string()))?;
        Ok(Decoder { datum })
    }
}

/// Reads bodies that were written with one schema.
pub struct Decoder<'s> {
    datum: GenericDatumReader<'s>,
}

impl Decoder<'_> {
    /// A body, without its header, as the event's fields in our schema's order.
    pub fn decode(&self, body: &[u8]) -> Result<Vec<(String, Value)>, Rejection> {
        let mut body = Body { rest: body, overrun: false };
        let value = self.datum.read_value(&mut body);
        if body.overrun {
            let detail = "the body ends before the event does";
            return Err(Rejection::new(Stage::Decode, "truncated_body", detail));
        }
        let value = value.map_err(undecodable)?;
        if !body.rest.is_empty() {
            let detail = format!("{} bytes are left over behind the event", body.rest.len());
            return Err(Rejection::new(Stage::Decode, "trailing_bytes", detail));
        }
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

/// A body that remembers whether more was asked of it than it has: at its end apache-avro reads a
/// missing string or boolean as null.
struct Body<'b> {
    rest: &'b [u8],
    overrun: bool,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.overrun |= buffer.len() > self.rest.len();
        self.rest.read(buffer)
    }
}

fn undecodable(error: apache_avro::Error) -> Rejection {
    let reason = match error.details() {
        Details::MemoryAllocation { .. }
        | Details::IntegerOverflow
        | Details::ConvertI64ToUsize(..) => "length_out_of_bounds",
        Details::ConvertToUtf8(_) | Details::ConvertToUtf8Error(_) => "invalid_utf8",
        _ => "undecodable",
    };
    let detail = match error.details() {
        Details::MemoryAllocation { desired: Some(desired), maximum } => {
            format!("a length asks for {desired} bytes of memory; up to {maximum} are given")
        }
        _ => error.to_string(),
    };
    Rejection::new(Stage::Decode, reason, detail)
}

/// Why nothing written with `writer` can be read with `reader`.
fn refusal(writer: &Schema, reader: &Schema) -> Option<Rejection> {
    let refused =
        |reason: &'static str, detail| Some(Rejection::new(Stage::Decode, reason, detail));
    // Avro 1.12, schema resolution: records match by their unqualified name
    match (writer.name(), reader.name()) {
        (Some(theirs), Some(ours)) if theirs.name() == ours.name() => {}
        (theirs, ours) => {
            let name = |name: Option<&apache_avro::schema::Name>| {
                name.map_or_else(|| "no record".to_owned(), |name| format!("\"{name}\""))
            };
            let detail = format!("written as {}; this stream's is {}", name(theirs), name(ours));
            return refused("wrong_schema", detail);
        }
    }
    if is_recursive(writer) {
        let detail = "the writer's schema contains a type that contains itself".to_owned();
        return refused("incompatible_schema", detail);
    }
    let problems = incompatibilities(reader, writer);
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
