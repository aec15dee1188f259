//! Whether a new version may follow older ones: apache_avro judges, as a registry that knows Avro
//! alone does. Our own comparison says where, in its words.

use apache_avro::{Schema, schema_compatibility::SchemaCompatibility};

use crate::registry::{Compatibility, incompatibilities};

/// What a level forbids between a new version and the older ones that it is held against, the
/// newest last; empty where it forbids nothing.
pub(super) fn forbidden(level: Compatibility, new: &Schema, older: &[Schema]) -> Vec<String> {
    let held_against = match level {
        Compatibility::None => &[],
        Compatibility::Backward | Compatibility::Forward | Compatibility::Full => {
            older.get(older.len().saturating_sub(1)..).unwrap_or_default()
        }
        Compatibility::BackwardTransitive
        | Compatibility::ForwardTransitive
        | Compatibility::FullTransitive => older,
    };
    let mut problems = Vec::new();
    for old in held_against.iter().rev() {
        if level.reads_older() {
            problems.extend(unreadable(new, old));
        }
        if level.is_read_by_older() {
            let by_older = unreadable(old, new);
            problems.extend(by_older.into_iter().map(|text| format!("for older readers: {text}")));
        }
    }
    problems
}

/// Why a reader's schema can't read what a writer's writes.
fn unreadable(reader: &Schema, writer: &Schema) -> Vec<String> {
    let Err(error) = SchemaCompatibility::can_read(writer, reader) else { return Vec::new() };
    let ours = incompatibilities(reader, writer);
    if ours.is_empty() { vec![error.to_string()] } else { ours }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions() -> [Schema; 3] {
        let record = |fields: &str| {
            let text = format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#);
            Schema::parse_str(&text).unwrap()
        };
        let a = r#"{"name": "a", "type": "int"}"#;
        [
            record(a),
            record(&format!(r#"{a}, {{"name": "b", "type": "int", "default": 0}}"#)),
            record(&format!(r#"{a}, {{"name": "b", "type": "int"}}"#)),
        ]
    }

    #[test]
    fn each_level_forbids_what_it_says() {
        use Compatibility::{
            Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive, None,
        };
        let [first, second, third] = versions();
        // b gets a default in the second version and loses it in the third
        let older = [first, second];
        let allowed = |level| forbidden(level, &third, &older).is_empty();
        assert!([None, Backward, Forward, ForwardTransitive, Full].into_iter().all(allowed));
        assert!(![BackwardTransitive, FullTransitive].into_iter().any(allowed));
        // the same as the only version before
        let [first, _, third] = versions();
        assert!(!forbidden(Backward, &third, std::slice::from_ref(&first)).is_empty());
        assert_eq!(
            forbidden(Forward, &first, std::slice::from_ref(&third)),
            [r#"for older readers: "b": not written, and without a default to read instead"#]
        );
    }
}
