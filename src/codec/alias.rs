//! A writer's schema under its reader's names.
//!
//! Avro 1.12, "Aliases": an implementation may use the reader's aliases to rewrite the writer's
//! schema, and then resolve the two as if the names had never differed. apache-avro leaves that
//! step out.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{Alias, Name, RecordSchema},
};

/// Rewrites `writer` with the names that `reader` has an alias for.
pub(super) fn under_readers_names(writer: &Schema, reader: &Schema) -> Schema {
    let mut renamed = Renamed::default();
    let schema = renamed.schema(writer, Some(reader));
    if renamed.types.is_empty() { schema } else { renamed.references(schema) }
}

/// The named types that got another name.
#[derive(Default)]
struct Renamed {
    types: HashMap<Name, Name>,
}

impl Renamed {
    fn schema(&mut self, writer: &Schema, reader: Option<&Schema>) -> Schema {
        let reader = reader.and_then(|reader| counterpart(writer, reader));
        match (writer.clone(), reader) {
            (Schema::Record(writer), Some(Schema::Record(reader))) => self.record(writer, reader),
            (Schema::Enum(mut writer), Some(reader @ Schema::Enum(_))) => {
                writer.name = self.name(writer.name, reader);
                Schema::Enum(writer)
            }
            (Schema::Fixed(mut writer), Some(reader @ Schema::Fixed(_))) => {
                writer.name = self.name(writer.name, reader);
                Schema::Fixed(writer)
            }
            (Schema::Array(mut writer), Some(Schema::Array(reader))) => {
                *writer.items = self.schema(&writer.items, Some(&reader.items));
                Schema::Array(writer)
            }
            (Schema::Map(mut writer), Some(Schema::Map(reader))) => {
                *writer.types = self.schema(&writer.types, Some(&reader.types));
                Schema::Map(writer)
            }
            (Schema::Union(writer), _) => {
                let branches =
                    writer.variants().iter().map(|branch| self.schema(branch, reader)).collect();
                let rebuilt = apache_avro::schema::UnionSchema::new(branches);
                Schema::Union(rebuilt.unwrap_or(writer))
            }
            (writer, _) => writer,
        }
    }

    fn record(&mut self, mut writer: RecordSchema, reader: &RecordSchema) -> Schema {
        let whole = Schema::Record(reader.clone());
        writer.name = self.name(writer.name, &whole);
        for field in &mut writer.fields {
            let target = reader.fields.iter().find(|target| {
                let taken = writer.lookup.contains_key(&target.name);
                target.name == field.name || (!taken && target.aliases.contains(&field.name))
            });
            if let Some(target) = target {
                field.name.clone_from(&target.name);
                field.schema = self.schema(&field.schema, Some(&target.schema));
            }
        }
        writer.lookup = writer
            .fields
            .iter()
            .enumerate()
            .map(|(index, field)| (field.name.clone(), index))
            .collect();
        Schema::Record(writer)
    }

    fn name(&mut self, writer: Name, reader: &Schema) -> Name {
        match reader.name() {
            Some(name) if *name != writer && has_alias(reader, &writer) => {
                self.types.insert(writer, name.clone());
                name.clone()
            }
            _ => writer,
        }
    }

    /// References follow the types that they refer to.
    fn references(&self, schema: Schema) -> Schema {
        match schema {
            Schema::Ref { name } => {
                Schema::Ref { name: self.types.get(&name).cloned().unwrap_or(name) }
            }
            Schema::Array(mut array) => {
                *array.items = self.references(*array.items);
                Schema::Array(array)
            }
            Schema::Map(mut map) => {
                *map.types = self.references(*map.types);
                Schema::Map(map)
            }
            Schema::Union(union) => {
                let branches =
                    union.variants().iter().map(|branch| self.references(branch.clone())).collect();
                let rebuilt = apache_avro::schema::UnionSchema::new(branches);
                Schema::Union(rebuilt.unwrap_or(union))
            }
            Schema::Record(mut record) => {
                for field in &mut record.fields {
                    field.schema = self.references(field.schema.clone());
                }
                Schema::Record(record)
            }
            other => other,
        }
    }
}

/// The part of the reader's schema that the writer's would be resolved to.
fn counterpart<'r>(writer: &Schema, reader: &'r Schema) -> Option<&'r Schema> {
    match (writer, reader) {
        (Schema::Union(_), _) => Some(reader),
        (_, Schema::Union(union)) => {
            union.variants().iter().find(|branch| corresponds(writer, branch))
        }
        _ => corresponds(writer, reader).then_some(reader),
    }
}

fn corresponds(writer: &Schema, reader: &Schema) -> bool {
    if std::mem::discriminant(writer) != std::mem::discriminant(reader) {
        return false;
    }
    match (writer.name(), reader.name()) {
        (Some(theirs), Some(ours)) => theirs.name() == ours.name() || has_alias(reader, theirs),
        _ => true,
    }
}

fn has_alias(reader: &Schema, name: &Name) -> bool {
    let namespace = reader.namespace();
    let matches = |alias: &Alias| {
        alias.fully_qualified_name(namespace).as_ref() == name
            || (alias.namespace().is_none() && alias.name() == name.name())
    };
    reader.aliases().is_some_and(|aliases| aliases.iter().any(matches))
}
