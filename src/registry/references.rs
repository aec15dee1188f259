//! Schemas that refer to other schemas of the registry: fetching them and building them in.

use std::collections::{HashSet, VecDeque};

use apache_avro::Schema;
use schema_registry_converter::{
    async_impl::schema_registry::get_schema_by_subject_and_version,
    schema_registry_common::RegisteredReference,
};

use super::{LookupError, Registry, client::segment, lookup::Why};
use crate::wire::SchemaId;

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

/// Parses a schema so that it stands alone, each referenced type defined where it is first used.
pub(super) fn parse(text: &str, others: &[String]) -> Result<Schema, String> {
    let parsed = Schema::parse_str_with_list(text, others);
    let (mut schema, definitions) = parsed.map_err(|error| error.to_string())?;
    if !definitions.is_empty() {
        schema.denormalize(&definitions).map_err(|error| error.to_string())?;
    }
    Ok(schema)
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
    fn unparsable_texts_say_why() {
        let error = parse(r#"{"type": "record", "name": "A", "fields": [{"name": "x"}]}"#, &[]);
        assert!(error.unwrap_err().contains("type"));
        let missing = r#"{"type": "record", "name": "A", "fields": [{"name": "x", "type": "B"}]}"#;
        assert!(parse(missing, &[]).unwrap_err().contains('B'));
        assert!(parse("{", &[]).is_err());
    }
}
