//! Where readings come from when they are not simulated: files, standard input and HTTP APIs.
//!
//! ```text
//! file, HTTP body -> Row (JSON and its line) -> Readings::read -> Avro value
//!                                                             \-> Rejected -> RejectFile
//! ```
//!
//! One bad row costs one row: it is kept with its line, its field and the reason, and the next one
//! goes on. Everything here meets foreign input, so nothing here may panic on it.

mod convert;
mod csv_rows;
pub mod file;
pub mod http;
pub mod identity;
mod input;
mod instant;
mod lines;
mod number;
mod reject;
mod scalar;
pub mod simulate;

use apache_avro::schema::{RecordSchema, ResolvedSchema, Schema};
use apache_avro::types::Value;
use serde_json::Value as Json;

pub use convert::{Converter, Mode, Rejection};
pub use input::InputMapping;
pub use reject::{RejectFile, Rejected};

/// One record of the input as it was found, before its stream's schema is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The line a person sees in an editor, from 1; in a document, the record's place among its
    /// records, from 1.
    pub line: u64,
    /// The record; a CSV row is an object of strings, one member a column.
    pub json: Json,
    /// How its values are written.
    pub mode: Mode,
}

/// What a stream's contract says about its input.
#[derive(Clone, Copy, Debug)]
pub struct StreamInput<'s> {
    /// The stream's name; event ids are derived under it.
    pub stream: &'s str,
    /// The stream's schema, a record.
    pub schema: &'s Schema,
    /// Where the record's fields are found.
    pub mapping: &'s InputMapping,
    /// The field that holds the event id, where the schema has one.
    pub id_field: Option<&'s str>,
    /// The fields that identify an event whose input has no id; may be empty.
    pub id_from: &'s [String],
}

/// Turns the rows of one stream into Avro values.
pub struct Readings<'s> {
    input: StreamInput<'s>,
    record: &'s RecordSchema,
    names: ResolvedSchema<'s>,
}

impl<'s> Readings<'s> {
    /// Fails where the contract names a field that the schema lacks, or a bad JSON pointer.
    pub fn new(input: StreamInput<'s>) -> anyhow::Result<Self> {
        let Schema::Record(record) = input.schema else {
            anyhow::bail!("the schema of {:?} is not a record", input.stream);
        };
        input.mapping.check(record)?;
        for name in input.id_from.iter().map(String::as_str).chain(input.id_field) {
            anyhow::ensure!(record.lookup.contains_key(name), "the schema has no field {name:?}");
        }
        anyhow::ensure!(
            input.id_from.iter().all(|name| Some(name.as_str()) != input.id_field),
            "\"id_from\" names {:?}, the event id itself",
            input.id_field.unwrap_or_default()
        );
        Ok(Self { input, record, names: ResolvedSchema::new(input.schema)? })
    }

    /// The row as a value that encodes under the stream's schema.
    pub fn read(&self, row: Row) -> Result<Value, Rejected> {
        self.record(&row).map_err(|rejection| rejection.of(row.line, row.json))
    }

    fn record(&self, row: &Row) -> Result<Value, Rejection> {
        if !row.json.is_object() && !row.json.is_array() {
            return Err(Rejection::new("a record must be a JSON object"));
        }
        let converter = Converter::new(&self.names, row.mode);
        let mut fields = Vec::with_capacity(self.record.fields.len());
        let mut id_missing = false;
        for field in &self.record.fields {
            let found = self.input.mapping.locate(&field.name, &row.json);
            if Some(field.name.as_str()) == self.input.id_field && found.is_none_or(is_blank) {
                id_missing = true;
                // its place is kept, so that the record's fields stay in the schema's order
                fields.push((field.name.clone(), Value::Null));
            } else {
                fields.push((field.name.clone(), converter.field(found, field)?));
            }
        }
        if id_missing {
            self.derive_id(&mut fields, converter)?;
        }
        Ok(Value::Record(fields))
    }

    fn derive_id(
        &self,
        fields: &mut [(String, Value)],
        converter: Converter<'_>,
    ) -> Result<(), Rejection> {
        let Some(id_field) = self.input.id_field else { return Ok(()) };
        if self.input.id_from.is_empty() {
            let reason = "no event id in the input; add the field, or name the fields that \
                          identify an event in \"id_from\"";
            return Err(Rejection::new(reason).within(id_field));
        }
        let identifying = self.input.id_from.iter().filter_map(|name| {
            fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
        });
        let id = Json::String(identity::event_id(self.input.stream, identifying).to_string());
        let schema = self.record.fields.iter().find(|field| field.name == id_field);
        for (name, value) in fields.iter_mut().filter(|(name, _)| name == id_field) {
            if let Some(field) = schema {
                *value = converter.field(Some(&id), field).map_err(|_| {
                    let reason = "no event id in the input, and only a uuid or a string can be \
                                  derived; add the field";
                    Rejection::new(reason).within(name)
                })?;
            }
        }
        Ok(())
    }
}

fn is_blank(input: &Json) -> bool {
    match input {
        Json::Null => true,
        Json::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
