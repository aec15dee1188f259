//! Schemas that refer to other schemas of the registry: fetching them and building them in.

use std::collections::{HashSet, VecDeque};

use apache_avro::Schema;
use schema_registry_converter::{
    async_impl::schema_registry::get_schema_by_subject_and_version,
    schema_registry_common::RegisteredReference,
};

use super::{LookupError, Registry, client::segment, lookup::Why};
use crate::{
    codec::{Unbounded, bounded},
    wire::SchemaId,
};

/// More references than any real schema has; a registry's content is foreign too.
const MAX_REFERENCES: usize = 100;

/// Fetches what a schema refers to, and what that refers to, each once.
pub(super) async fn fetch(
    registry: &Registry,
    id: SchemaId,
    references: Vec<RegisteredReference>,
) -> Result<Vec<String>, LookupError> {
    let unusable = |detail| LookupError::Unusable { id, detail };
    let mut seen = HashSet::new();
    let mut waiting = VecDeque::from(references);
    let mut texts = Vec::new();
    while let Some(RegisteredReference { name, subject, version, .. }) = waiting.pop_front() {
        if !seen.insert((subject.clone(), version)) {
            continue;
        }
        if seen.len() > MAX_REFERENCES {
            return Err(unusable(format!("it refers to more than {MAX_REFERENCES} schemas")));
        }
        let encoded = segment(&subject).map_err(|error| unusable(error.to_string()))?;
        let settings = &registry.inner.settings;
        match get_schema_by_subject_and_version(settings, &encoded, Some(version)).await {
            Ok(found) => {
                texts.push(found.schema);
                waiting.extend(found.references);
            }
            Err(error) => {
                let path = format!("subjects/{encoded}/versions/{version}");
                return Err(match registry.why(&path, &error).await {
                    Why::NotFound(said) => unusable(format!(
                        "it refers to {name:?}, version {version} of subject {subject:?}, which \
                         the registry does not have: {said}"
                    )),
                    Why::Other(error) => error,
                });
            }
        }
    }
    Ok(texts)
}

/// How much stack a schema and all that it refers to are put together on: nobody has looked yet how
/// deep they are nested.
const STACK: usize = 256 << 20;

/// Parses a schema so that it stands alone, each referenced type defined where it is first used.
pub(crate) fn parse(text: &str, others: &[String]) -> Result<Schema, String> {
    if others.is_empty() {
        // one text alone is no deeper than JSON may be
        return Schema::parse_str(text).map_err(|error| error.to_string());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let parsed = thread.spawn_scoped(scope, || put_together(text, others));
        let parsed = parsed.map_err(|error| format!("no thread to read it on: {error}"))?;
        parsed.join().unwrap_or_else(|_| Err("it can't be read".to_owned()))
    })
}

fn put_together(text: &str, others: &[String]) -> Result<Schema, String> {
    let parsed = Schema::parse_str_with_list(text, others);
    let (mut schema, definitions) = parsed.map_err(|error| error.to_string())?;
    schema.denormalize(&definitions).map_err(|error| error.to_string())?;
    match bounded(&schema) {
        Err(unbounded @ Unbounded::TooDeep) => Err(unbounded.to_string()),
        // that a type contains itself is for the stream to say
        _ => Ok(schema),
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::{reader::datum::GenericDatumReader, types::Value};

    use super::*;

    #[test]
    fn referenced_types_are_built_in() {
        let text = r#"{"type": "record", "name": "Outer", "namespace": "a", "fields": [
            {"name": "first", "type": "b.Inner"},
            {"name": "again", "type": ["null", "b.Inner"]},
            {"name": "zone", "type": "a.Zone"}]}"#;
        let inner = r#"{"type": "record", "name": "Inner", "namespace": "b", "fields": [
            {"name": "zone", "type": "a.Zone"}, {"name": "next", "type": ["null", "Inner"]}]}"#;
        let zone = r#"{"type": "enum", "name": "Zone", "namespace": "a", "symbols": ["n", "s"]}"#;

        let schema = parse(text, &[inner.to_owned(), zone.to_owned()]).unwrap();

        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let value = reader.read_value(&mut &[2, 0, 0, 0][..]).unwrap();
        let Value::Record(fields) = value else { panic!("{value:?}") };
        assert_eq!(fields[2].1, Value::Enum(0, "n".into()));
    }

    #[test]
    fn a_chain_of_references_is_built_in_however_long_a_registry_has_it() {
        let nested = |kind: String| {
            let open = r#"{"type": "array", "items": "#.repeat(30);
            format!("{open}{kind}{}", "}".repeat(30))
        };
        let text = |index: usize, kind: &str| {
            let kind = nested(kind.to_owned());
            format!(
                r#"{{"type": "record", "name": "T{index}", "fields": [{{"name": "f", "type": {kind}}}]}}"#
            )
        };
        let others: Vec<String> = (1..=MAX_REFERENCES)
            .map(|index| match index {
                MAX_REFERENCES => text(index, r#""int""#),
                _ => text(index, &format!(r#""T{}""#, index + 1)),
            })
            .collect();
        let schema = parse(&text(0, r#""T1""#), &others);
        assert!(schema.is_err_and(|error| error.contains("nested")));
    }

    #[test]
    fn unparsable_texts_say_why() {
        let error = parse(r#"{"type": "record", "name": "A", "fields": [{"name": "x"}]}"#, &[]);
        assert!(error.unwrap_err().contains("type"));
        let missing = r#"{"type": "record", "name": "A", "fields": [{"name": "x", "type": "B"}]}"#;
        assert!(parse(missing, &[]).unwrap_err().contains('B'));
        assert!(parse("{", &[]).is_err());
    }
}
