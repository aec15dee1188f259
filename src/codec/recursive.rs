//! Whether a type contains itself.
//!
//! apache-avro decodes by recursion, so bytes of such a type decide how deep the stack gets.

use std::collections::HashSet;

use apache_avro::{
    Schema,
    schema::{Name, ResolvedSchema},
};

/// Whether any type of a schema contains itself.
pub fn is_recursive(schema: &Schema) -> bool {
    // a reference that leads nowhere is somebody else's to report
    ResolvedSchema::new(schema).is_ok_and(|resolved| {
        let (mut open, mut bounded) = (Vec::new(), HashSet::new());
        contains_open(schema, &resolved, &mut open, &mut bounded)
    })
}

fn contains_open<'s>(
    schema: &'s Schema,
    resolved: &ResolvedSchema<'s>,
    open: &mut Vec<&'s Name>,
    bounded: &mut HashSet<&'s Name>,
) -> bool {
    match schema {
        Schema::Array(array) => contains_open(&array.items, resolved, open, bounded),
        Schema::Map(map) => contains_open(&map.types, resolved, open, bounded),
        Schema::Union(union) => {
            union.variants().iter().any(|branch| contains_open(branch, resolved, open, bounded))
        }
        Schema::Ref { name } if open.contains(&name) => true,
        Schema::Ref { name } => match resolved.get_names().get(name).copied() {
            Some(schema @ Schema::Record(_)) => contains_open(schema, resolved, open, bounded),
            _ => false,
        },
        Schema::Record(record) if bounded.contains(&record.name) => false,
        Schema::Record(record) => {
            open.push(&record.name);
            let fields = &record.fields;
            let found =
                fields.iter().any(|field| contains_open(&field.schema, resolved, open, bounded));
            open.pop();
            bounded.insert(&record.name);
            found
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_inside_itself_is_found_at_any_depth() {
        let schema = |field: &str| {
            let text = format!(
                r#"{{"type": "record", "name": "a.Node", "fields": [{{"name": "next", "type": {field}}}]}}"#
            );
            Schema::parse_str(&text).unwrap()
        };
        assert!(is_recursive(&schema(r#"["null", "Node"]"#)));
        assert!(is_recursive(&schema(
            r#"{"type": "array", "items": {"type": "map", "values": "a.Node"}}"#
        )));
        assert!(!is_recursive(&schema(r#"{"type": "array", "items": "long"}"#)));
    }

    #[test]
    fn a_type_that_is_used_twice_is_not_recursive() {
        let text = r#"{"type": "record", "name": "Pair", "fields": [
            {"name": "left", "type": {"type": "record", "name": "Leaf", "fields": []}},
            {"name": "right", "type": "Leaf"}]}"#;
        assert!(!is_recursive(&Schema::parse_str(text).unwrap()));
    }
}
