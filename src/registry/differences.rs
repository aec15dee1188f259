//! How two schemas of one record differ, field by field, whether or not that matters.

use apache_avro::{
    Schema,
    schema::{NamesRef, RecordField, RecordSchema, ResolvedSchema},
};
use serde::Serialize;

use super::{compatibility::definition, types::describe};

/// How deep records are gone into; a record in itself would have no end.
const DEEPEST: usize = 16;

/// One difference, at the reader's name of a field, or the writer's where the reader has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The reader drops it.
    OnlyWriter {
        /// Its path.
        field: String,
        /// Its type.
        written: String,
    },
    /// The reader takes its default, if it has one.
    OnlyReader {
        /// Its path.
        field: String,
        /// Its type.
        read: String,
        /// The default.
        #[serde(skip_serializing_if = "Option::is_none")]
        default: Option<serde_json::Value>,
    },
    /// It is in both.
    OtherType {
        /// Its path.
        field: String,
        /// The writer's type.
        written: String,
        /// The reader's.
        read: String,
    },
}

/// Every difference, in the reader's order; what only the writer has is behind.
pub fn differences(reader: &Schema, writer: &Schema) -> Vec<Difference> {
    let (Ok(readers), Ok(writers)) = (ResolvedSchema::new(reader), ResolvedSchema::new(writer))
    else {
        return Vec::new();
    };
    let (readers, writers) = (readers.get_names(), writers.get_names());
    let mut search = Search { readers, writers, found: Vec::new() };
    if let (Schema::Record(reader), Schema::Record(writer)) = (reader, writer) {
        search.records(reader, writer, "", 0);
    }
    search.found
}

struct Search<'s> {
    readers: &'s NamesRef<'s>,
    writers: &'s NamesRef<'s>,
    found: Vec<Difference>,
}

impl Search<'_> {
    fn records(&mut self, reader: &RecordSchema, writer: &RecordSchema, path: &str, depth: usize) {
        let place = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        let is = |field: &RecordField, name: &str| {
            field.name == name || field.aliases.iter().any(|alias| alias == name)
        };
        for field in &reader.fields {
            let path = place(&field.name);
            match writer.fields.iter().find(|written| is(field, &written.name)) {
                Some(written) => self.fields(field, written, path, depth),
                None => self.found.push(Difference::OnlyReader {
                    field: path,
                    read: spelled(&field.schema, self.readers),
                    default: field.default.clone(),
                }),
            }
        }
        for field in &writer.fields {
            if !reader.fields.iter().any(|known| is(known, &field.name)) {
                let written = spelled(&field.schema, self.writers);
                self.found.push(Difference::OnlyWriter { field: place(&field.name), written });
            }
        }
    }

    fn fields(&mut self, reader: &RecordField, writer: &RecordField, path: String, depth: usize) {
        let to = definition(&reader.schema, self.readers);
        let from = definition(&writer.schema, self.writers);
        if let (Schema::Record(to), Schema::Record(from)) = (to, from)
            && depth < DEEPEST
        {
            return self.records(to, from, &path, depth + 1);
        }
        let (read, written) = (spelled(to, self.readers), spelled(from, self.writers));
        if read != written {
            self.found.push(Difference::OtherType { field: path, written, read });
        }
    }
}

/// A type with what is in it.
fn spelled(schema: &Schema, names: &NamesRef<'_>) -> String {
    match definition(schema, names) {
        Schema::Union(union) => {
            let branches = union.variants().iter().map(|branch| spelled(branch, names));
            branches.collect::<Vec<_>>().join(" or ")
        }
        Schema::Array(array) => format!("array of {}", spelled(&array.items, names)),
        Schema::Map(map) => format!("map of {}", spelled(&map.types, names)),
        Schema::Enum(symbols) => {
            format!("{} of {}", describe(schema), symbols.symbols.join(", "))
        }
        other => describe(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(fields: serde_json::Value) -> Schema {
        Schema::parse(&json!({"type": "record", "name": "R", "fields": fields})).unwrap()
    }

    #[test]
    fn fields_are_only_the_writers_only_ours_or_of_another_type() {
        let place = |fields| json!({"type": "record", "name": "Place", "fields": fields});
        let zone = |kind: &str| json!({"name": "zone", "type": kind});
        let writer = record(json!([
            {"name": "old_id", "type": "string"},
            {"name": "value", "type": "float"},
            {"name": "place", "type": place(json!([zone("int"), {"name": "door", "type": "string"}]))},
            {"name": "note", "type": ["null", "string"]},
            {"name": "way", "type": {"type": "enum", "name": "Way", "symbols": ["up"]}},
            {"name": "gone", "type": {"type": "array", "items": "Place"}},
        ]));
        let reader = record(json!([
            {"name": "id", "aliases": ["old_id"], "type": "string"},
            {"name": "value", "type": "double"},
            {"name": "place", "type": place(json!([zone("long")]))},
            {"name": "note", "type": "string"},
            {"name": "way", "type": {"type": "enum", "name": "Way", "symbols": ["up", "down"]}},
            {"name": "more", "type": "int", "default": 7},
            {"name": "must", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ]));
        let lines: Vec<_> = differences(&reader, &writer)
            .iter()
            .map(|difference| serde_json::to_string(difference).unwrap())
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"other_type":{"field":"value","written":"float","read":"double"}}
        {"other_type":{"field":"place.zone","written":"int","read":"long"}}
        {"only_writer":{"field":"place.door","written":"string"}}
        {"other_type":{"field":"note","written":"null or string","read":"string"}}
        {"other_type":{"field":"way","written":"enum Way of up","read":"enum Way of up, down"}}
        {"only_reader":{"field":"more","read":"int","default":7}}
        {"only_reader":{"field":"must","read":"long (timestamp-millis)"}}
        {"only_writer":{"field":"gone","written":"array of record Place"}}
        "#);
        assert_eq!(differences(&reader, &reader), []);
    }

    #[test]
    fn a_record_in_itself_has_an_end() {
        let schema = record(json!([{"name": "next", "type": ["null", "R"]}]));
        assert_eq!(differences(&schema, &schema), []);
    }
}
