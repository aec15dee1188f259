//! A value as it was written, in the shape that the reader's schema asks for.
//!
//! Avro 1.12, "Schema Resolution", <https://avro.apache.org/docs/1.12.0/specification/#schema-resolution>.
//! apache-avro's own resolution knows the reader's schema only, and so takes the first branch of a
//! union that a value fits; it has no aliases, no default of a later branch, and no way from a
//! logical type to the plain one below it. Here both schemas are gone through side by side.
//!
//! The writer's values are plain: [`plain`] takes the logical types off the schema that they are
//! decoded with. What a value means is the reader's to say.

use std::collections::HashMap;

use apache_avro::{
    Decimal, Schema,
    schema::{
        DecimalSchema, EnumSchema, InnerDecimalSchema, RecordField, RecordSchema, ResolvedSchema,
        UnionSchema, UuidSchema,
    },
    types::Value,
};

use super::undecodable;
use crate::{
    failure::{Rejection, Stage},
    registry::{base, definition, promotes, same_name},
    source::{Converter, Mode},
};

/// From values of one schema to values of another. The two have been found compatible.
pub(super) struct Resolution<'s> {
    writer: &'s Schema,
    reader: &'s Schema,
    writers: ResolvedSchema<'s>,
    readers: ResolvedSchema<'s>,
}

impl<'s> Resolution<'s> {
    /// From a plain writer's schema to the reader's.
    pub(super) fn new(
        writer: &'s Schema,
        reader: &'s Schema,
    ) -> Result<Resolution<'s>, apache_avro::Error> {
        let (writers, readers) = (ResolvedSchema::new(writer)?, ResolvedSchema::new(reader)?);
        Ok(Resolution { writer, reader, writers, readers })
    }

    /// The whole event.
    pub(super) fn resolve(&self, event: Value) -> Result<Value, Rejection> {
        self.value(event, self.writer, self.reader)
    }

    fn value(&self, value: Value, writer: &Schema, reader: &Schema) -> Result<Value, Rejection> {
        let writer = definition(writer, self.writers.get_names());
        let reader = definition(reader, self.readers.get_names());
        match (value, writer, reader) {
            (Value::Union(branch, value), Schema::Union(union), _) => {
                let branch = usize::try_from(branch).ok().and_then(|at| union.variants().get(at));
                let writer = branch.ok_or_else(|| refused("a branch that its union lacks"))?;
                self.value(*value, writer, reader)
            }
            (value, _, Schema::Union(union)) => {
                let (branch, reader) = self.branch(writer, union)?;
                Ok(Value::Union(branch, Box::new(self.value(value, writer, reader)?)))
            }
            (Value::Null, _, reader) if !matches!(reader, Schema::Null) => {
                Err(refused("a null, where the reader's schema has none"))
            }
            (Value::Record(fields), _, Schema::Record(reader)) => {
                let Schema::Record(writer) = writer else { return Err(refused("a record")) };
                self.record(fields, writer, reader)
            }
            (Value::Array(items), Schema::Array(from), Schema::Array(to)) => {
                let items = items.into_iter().map(|item| self.value(item, &from.items, &to.items));
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            (Value::Map(entries), Schema::Map(from), Schema::Map(to)) => {
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| Ok((key, self.value(value, &from.types, &to.types)?)));
                Ok(Value::Map(entries.collect::<Result<_, _>>()?))
            }
            (Value::Enum(_, symbol), _, Schema::Enum(reader)) => self::symbol(symbol, reader),
            // apache-avro would want as many bytes as the precision may need
            (Value::Bytes(bytes) | Value::Fixed(_, bytes), _, Schema::Decimal(_)) => {
                Ok(Value::Decimal(Decimal::from(bytes)))
            }
            (value, _, reader) => {
                value.resolve_with_names(reader, self.readers.get_names()).map_err(undecodable)
            }
        }
    }

    /// Each of the reader's fields: what was written under its name or an alias, or its default.
    fn record(
        &self,
        fields: Vec<(String, Value)>,
        writer: &RecordSchema,
        reader: &RecordSchema,
    ) -> Result<Value, Rejection> {
        let mut written: HashMap<&str, (&Schema, Value)> = writer
            .fields
            .iter()
            .zip(fields)
            .map(|(field, (_, value))| (field.name.as_str(), (&field.schema, value)))
            .collect();
        let fields = reader.fields.iter().map(|field| {
            let mut names = std::iter::once(&field.name).chain(&field.aliases);
            let value = match names.find_map(|name| written.remove(name.as_str())) {
                Some((schema, value)) => self.value(value, schema, &field.schema),
                None => self.default(field),
            };
            Ok((field.name.clone(), value?))
        });
        Ok(Value::Record(fields.collect::<Result<_, Rejection>>()?))
    }

    fn default(&self, field: &RecordField) -> Result<Value, Rejection> {
        Converter::new(&self.readers, Mode::Default).field(None, field).map_err(|rejection| {
            refused(&format!(
                "\"{}\" was not written, and its default {}",
                rejection.field, rejection.reason
            ))
        })
    }

    /// The branch for a writer's type: its own if there is one, else the first that it promotes to.
    fn branch<'r>(
        &self,
        writer: &Schema,
        union: &'r UnionSchema,
    ) -> Result<(u32, &'r Schema), Rejection> {
        let branches = || (0..).zip(union.variants());
        let named = |branch| definition(branch, self.readers.get_names());
        let is_own = |(_, branch): &(u32, &'r Schema)| {
            let branch = named(branch);
            base(branch) == base(writer) && same_name(branch, writer)
        };
        let is_wider =
            |(_, branch): &(u32, &'r Schema)| promotes(base(writer), base(named(branch)));
        let found = branches().find(is_own).or_else(|| branches().find(is_wider));
        found.ok_or_else(|| refused("a type that the reader's union lacks"))
    }
}

/// A schema with the types that are on the wire alone.
pub(super) fn plain(schema: Schema) -> Schema {
    match schema {
        Schema::Date | Schema::TimeMillis => Schema::Int,
        Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => Schema::Long,
        Schema::Uuid(UuidSchema::String) => Schema::String,
        Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. })
        | Schema::Uuid(UuidSchema::Bytes)
        | Schema::BigDecimal => Schema::Bytes,
        Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. })
        | Schema::Uuid(UuidSchema::Fixed(fixed))
        | Schema::Duration(fixed) => Schema::Fixed(fixed),
        Schema::Array(mut array) => {
            *array.items = plain(*array.items);
            Schema::Array(array)
        }
        Schema::Map(mut map) => {
            *map.types = plain(*map.types);
            Schema::Map(map)
        }
        Schema::Record(mut record) => {
            for field in &mut record.fields {
                field.schema = plain(std::mem::replace(&mut field.schema, Schema::Null));
            }
            Schema::Record(record)
        }
        Schema::Union(union) => {
            let branches = union.variants().iter().cloned().map(plain).collect();
            // types that differ without their logical ones alone can't be in one union
            Schema::Union(UnionSchema::new(branches).unwrap_or(union))
        }
        other => other,
    }
}

fn symbol(symbol: String, reader: &EnumSchema) -> Result<Value, Rejection> {
    let position =
        |wanted: &String| (0..).zip(&reader.symbols).find(|(_, symbol)| *symbol == wanted);
    let found = position(&symbol).or_else(|| reader.default.as_ref().and_then(position));
    let (index, symbol) = found.ok_or_else(|| refused(&format!("the symbol \"{symbol}\"")))?;
    Ok(Value::Enum(index, symbol.clone()))
}

fn refused(what: &str) -> Rejection {
    Rejection::new(Stage::Decode, "undecodable", format!("can't be read: {what}"))
}
