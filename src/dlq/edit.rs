//! A dead letter whose event is mended by hand: as JSON there and back.

use anyhow::{Context, anyhow, bail};
use apache_avro::Schema;
use serde_json::Value as Json;

use super::Letter;
use crate::{
    codec::{Encoder, WriterSchema, event_to_json},
    contract::{Contract, Identity},
    registry::Registry,
    source::{InputMapping, Mode, Readings, Rejected, Row, StreamInput},
    wire::{self, SchemaId, frame},
};

/// The event of a letter in the contract's shape, as JSON that [`encoded`] takes back.
pub async fn decoded(
    contract: &Contract,
    registry: &Registry,
    letter: &Letter,
) -> anyhow::Result<Json> {
    let hint = "it can only be exported, mended elsewhere, and sent again";
    let (id, body) = wire::split(letter.payload.as_deref())
        .map_err(|error| anyhow!("letter {} has no event to edit: {error}; {hint}", letter.id))?;
    let writer = registry
        .writer_schema(id)
        .await
        .with_context(|| format!("the schema {id} of letter {} can't be had", letter.id))?;
    let writer = WriterSchema::new(&writer.parsed, &contract.schema);
    let event = writer.decoder(&contract.schema).and_then(|decoder| decoder.decode(body)).map_err(
        |rejection| {
            let detail = contract.shown_rejection(rejection).detail;
            anyhow!("letter {} can't be decoded: {detail}; {hint}", letter.id)
        },
    )?;
    Ok(event_to_json(&contract.schema, &event))
}

/// An event in the contract's shape as the payload of a record.
pub fn encoded(contract: &Contract, id: SchemaId, event: Json) -> anyhow::Result<Vec<u8>> {
    let Schema::Record(record) = &contract.schema else { bail!("the contract is no record") };
    let unknown = event.as_object().into_iter().flatten().map(|(name, _)| name);
    if let Some(name) = unknown.into_iter().find(|name| !record.lookup.contains_key(*name)) {
        bail!("the contract has no field \"{name}\"");
    }
    let id_field = match contract.identity {
        Identity::Field(_) => Some(contract.id_column()),
        Identity::Coordinates => None,
    };
    // it is in the contract's shape, whatever the shape of the stream's input
    let mapping = InputMapping::default();
    let readings = Readings::new(StreamInput {
        stream: &contract.stream,
        schema: &contract.schema,
        mapping: &mapping,
        id_field,
        id_from: &contract.id_from,
    })?;
    let row = Row { line: 1, json: event, mode: Mode::Json };
    let reading = readings.read(row).map_err(|rejected| {
        let Rejected { field, reason, .. } = rejected;
        anyhow!("the event is not one of the contract's: {field}: {reason}")
    })?;
    Ok(frame(id, &Encoder::new(&contract.schema)?.encode(&reading)?))
}
