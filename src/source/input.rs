//! Where in the input a record and its fields are found: the contract's `"input"` attribute.

use std::collections::BTreeMap;

use apache_avro::schema::RecordSchema;
use serde::Deserialize;
use serde_json::Value as Json;

/// The contract's `"input"` attribute.
///
/// A field without a mapping is read from the top-level member, or CSV column, of its own name.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct InputMapping {
    /// JSON pointer to the array of records in a document; without one, the document is the array,
    /// or is itself the only record.
    pub records: Option<String>,
    /// Avro field to JSON pointer inside a record; a CSV column is `/column`.
    pub fields: BTreeMap<String, String>,
}

impl InputMapping {
    /// Fails where a mapping names a field that the schema lacks, or is no JSON pointer.
    pub fn check(&self, record: &RecordSchema) -> anyhow::Result<()> {
        for (field, pointer) in &self.fields {
            anyhow::ensure!(
                record.lookup.contains_key(field),
                "\"input\" maps the field {field:?}, which the schema does not have"
            );
            check_pointer(pointer)?;
        }
        self.records.as_deref().map_or(Ok(()), check_pointer)
    }

    /// The part of `record` that holds the value of `field`, if there is one.
    pub fn locate<'j>(&self, field: &str, record: &'j Json) -> Option<&'j Json> {
        match self.fields.get(field) {
            Some(pointer) => record.pointer(pointer),
            None => record.get(field),
        }
    }

    /// The records inside a document.
    pub fn records(&self, mut document: Json) -> anyhow::Result<Vec<Json>> {
        let Some(pointer) = &self.records else {
            return match document {
                Json::Array(records) => Ok(records),
                record @ Json::Object(_) => Ok(vec![record]),
                _ => anyhow::bail!("the document is neither an array nor an object"),
            };
        };
        match document.pointer_mut(pointer).map(Json::take) {
            Some(Json::Array(records)) => Ok(records),
            Some(_) => anyhow::bail!("{pointer:?}, where the records should be, is not an array"),
            None => anyhow::bail!("the document has nothing at {pointer:?}, named in \"input\""),
        }
    }
}

fn check_pointer(pointer: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        pointer.is_empty() || pointer.starts_with('/'),
        "{pointer:?} is not a JSON pointer; it begins with \"/\", as in \"/properties/time\""
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mapping(json: Json) -> InputMapping {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = serde_json::from_value::<InputMapping>(json!({"record": "/a"})).unwrap_err();
        assert!(error.to_string().contains("unknown field `record`"));
    }

    #[test]
    fn records_are_taken_from_the_pointer_the_array_or_the_object() {
        let document = json!({"features": [1, 2]});
        let by_pointer = mapping(json!({"records": "/features"}));
        assert_eq!(by_pointer.records(document.clone()).unwrap(), [json!(1), json!(2)]);
        let plain = InputMapping::default();
        assert_eq!(plain.records(document.clone()).unwrap(), [document]);
        assert_eq!(plain.records(json!([3])).unwrap(), [json!(3)]);
    }

    #[test]
    fn a_document_without_its_records_is_an_error_that_names_the_pointer() {
        let by_pointer = mapping(json!({"records": "/features"}));
        for document in [json!({}), json!({"features": {}}), json!(7)] {
            let error = by_pointer.records(document).unwrap_err();
            assert!(error.to_string().contains("/features"), "{error}");
        }
        assert!(InputMapping::default().records(json!("text")).is_err());
    }

    #[test]
    fn a_mapped_field_is_found_inside_and_another_at_the_top() {
        let mapping = mapping(json!({"fields": {"longitude": "/geometry/coordinates/0"}}));
        let record = json!({"geometry": {"coordinates": [-118.5]}, "place": "here"});
        assert_eq!(mapping.locate("longitude", &record), Some(&json!(-118.5)));
        assert_eq!(mapping.locate("place", &record), Some(&json!("here")));
        assert_eq!(mapping.locate("depth", &record), None);
    }
}
