use apache_avro::{
    Schema,
    schema_compatibility::{Compatibility, SchemaCompatibility},
};

use super::super::incompatibilities;

fn schema(text: &str) -> Schema {
    Schema::parse_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A record R with these fields; a bare word as schema is a primitive type.
fn record(fields: &str) -> String {
    format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#)
}

fn problems(reader: &str, writer: &str) -> Vec<String> {
    incompatibilities(&schema(reader), &schema(writer))
}

/// A mark, reader, writer, and the one problem expected. The mark `*` is for the cases where
/// apache_avro answers otherwise: aliases of named types, and units of time.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("", r#""int""#, r#""int""#, ""),
    ("", r#""long""#, r#""int""#, ""),
    ("", r#""float""#, r#""int""#, ""),
    ("", r#""double""#, r#""int""#, ""),
    ("", r#""float""#, r#""long""#, ""),
    ("", r#""double""#, r#""long""#, ""),
    ("", r#""double""#, r#""float""#, ""),
    ("", r#""string""#, r#""bytes""#, ""),
    ("", r#""bytes""#, r#""string""#, ""),
    ("", r#""int""#, r#""long""#, "written as long, read as int"),
    ("", r#""long""#, r#""double""#, "written as double, read as long"),
    ("", r#""float""#, r#""double""#, "written as double, read as float"),
    ("", r#""string""#, r#""int""#, "written as int, read as string"),
    ("", r#""boolean""#, r#""null""#, "written as null, read as boolean"),
    ("", r#"{"type": "array", "items": "long"}"#, r#"{"type": "array", "items": "int"}"#, ""),
    (
        "",
        r#"{"type": "array", "items": "int"}"#,
        r#"{"type": "array", "items": "long"}"#,
        "\"[]\": written as long, read as int",
    ),
    (
        "",
        r#"{"type": "map", "values": "int"}"#,
        r#"{"type": "map", "values": "string"}"#,
        "\"{}\": written as string, read as int",
    ),
    (
        "",
        r#"{"type": "map", "values": "int"}"#,
        r#"{"type": "array", "items": "int"}"#,
        "written as array, read as map",
    ),
    ("", r#"["null", "long"]"#, r#""int""#, ""),
    ("", r#"["null", "long"]"#, r#"["null", "int"]"#, ""),
    ("", r#""string""#, r#"["string"]"#, ""),
    ("", r#""string""#, r#"["null", "string"]"#, "written as null, read as string"),
    (
        "",
        r#"["null", "long"]"#,
        r#"["null", "string"]"#,
        "written as string, read as none of that: null, long",
    ),
    (
        "",
        r#"["null", "int"]"#,
        r#""boolean""#,
        "written as boolean, read as none of that: null, int",
    ),
    (
        "",
        r#"{"type": "enum", "name": "E", "symbols": ["a"]}"#,
        r#"{"type": "enum", "name": "E", "symbols": ["a", "b", "c"]}"#,
        "written with symbols the reader's enum E lacks, and it has no default: [\"b\", \"c\"]",
    ),
    (
        "",
        r#"{"type": "enum", "name": "E", "symbols": ["a"], "default": "a"}"#,
        r#"{"type": "enum", "name": "E", "symbols": ["a", "b"]}"#,
        "",
    ),
    (
        "",
        r#"{"type": "enum", "name": "E", "symbols": ["a", "b"]}"#,
        r#"{"type": "enum", "name": "E", "symbols": ["a"]}"#,
        "",
    ),
    (
        "",
        r#"{"type": "enum", "name": "E", "symbols": ["a"]}"#,
        r#"{"type": "enum", "name": "F", "symbols": ["a"]}"#,
        "written as enum F, read as enum E: the name differs and is no alias of the reader's",
    ),
    (
        "*",
        r#"{"type": "enum", "name": "E", "aliases": ["F"], "symbols": ["a"]}"#,
        r#"{"type": "enum", "name": "F", "symbols": ["a"]}"#,
        "",
    ),
    (
        "",
        r#"{"type": "fixed", "name": "F", "size": 16}"#,
        r#"{"type": "fixed", "name": "F", "size": 12}"#,
        "written with 12 bytes, read with 16",
    ),
    (
        "*",
        r#"{"type": "fixed", "name": "a.F", "aliases": ["b.G"], "size": 4}"#,
        r#"{"type": "fixed", "name": "b.G", "size": 4}"#,
        "",
    ),
    (
        "",
        r#"{"type": "record", "name": "a.R", "fields": []}"#,
        r#"{"type": "record", "name": "b.R", "fields": []}"#,
        "",
    ),
    (
        "*",
        r#"{"type": "record", "name": "a.R", "aliases": ["S"], "fields": []}"#,
        r#"{"type": "record", "name": "a.S", "fields": []}"#,
        "",
    ),
    (
        "",
        r#"{"type": "record", "name": "a.R", "aliases": ["S"], "fields": []}"#,
        r#"{"type": "record", "name": "b.S", "fields": []}"#,
        "written as record b.S, read as record a.R: the name differs and is no alias of the reader's",
    ),
    (
        "",
        r#"{"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 3}"#,
        r#"{"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}"#,
        "written as bytes (decimal(10,2)), read as bytes (decimal(10,3)): the values would mean something else",
    ),
    (
        "*",
        r#"{"type": "long", "logicalType": "timestamp-micros"}"#,
        r#"{"type": "long", "logicalType": "timestamp-millis"}"#,
        "written as long (timestamp-millis), read as long (timestamp-micros): the values would mean something else",
    ),
    ("", r#"{"type": "long", "logicalType": "timestamp-millis"}"#, r#""long""#, ""),
    ("", r#""string""#, r#"{"type": "string", "logicalType": "uuid"}"#, ""),
];

#[test]
fn types_are_judged_as_the_specification_says_and_mostly_as_apache_avro_does() {
    for (note, reader, writer, expected) in CASES {
        let found = problems(reader, writer);
        let expected = if expected.is_empty() { vec![] } else { vec![(*expected).to_owned()] };
        assert_eq!(found, expected, "{writer} read as {reader}");
        agree(reader, writer, found.is_empty() == note.is_empty());
    }
}

/// `Partial` means that some values cannot be read.
fn agree(reader: &str, writer: &str, expected: bool) {
    let theirs = SchemaCompatibility::can_read(&schema(writer), &schema(reader));
    assert_eq!(
        theirs == Ok(Compatibility::Full),
        expected,
        "apache_avro on {writer} read as {reader}: {theirs:?}"
    );
}

#[test]
fn fields_are_named_with_their_path() {
    let inner = |fields| format!(r#"{{"type": "record", "name": "Inner", "fields": [{fields}]}}"#);
    let old = record(&format!(
        r#"{{"name": "gone", "type": "int"}}, {{"name": "kpi", "type": "double"}},
           {{"name": "places", "type": {{"type": "array", "items": ["null", {}]}}}}"#,
        inner(r#"{"name": "zip", "type": "string"}"#)
    ));
    let new = record(&format!(
        r#"{{"name": "added", "type": "int"}}, {{"name": "kpi", "type": "int"}},
           {{"name": "fine", "type": ["null", "int"], "default": null}},
           {{"name": "places", "type": {{"type": "array", "items": ["null", {}]}}}}"#,
        inner(r#"{"name": "zip", "type": "int"}, {"name": "town", "type": "string"}"#)
    ));
    insta::assert_snapshot!(problems(&new, &old).join("\n"), @r#"
    "added": not written, and without a default to read instead
    "kpi": written as double, read as int
    "places[].zip": written as string, read as int
    "places[].town": not written, and without a default to read instead
    "#);
    agree(&new, &old, false);
    assert_eq!(problems(&old, &old), [""; 0]);
}

#[test]
fn only_the_readers_aliases_count() {
    let renamed = record(r#"{"name": "speed", "aliases": ["velocity"], "type": "double"}"#);
    let old = record(r#"{"name": "velocity", "type": "float"}"#);
    assert_eq!(problems(&renamed, &old), [""; 0]);
    agree(&renamed, &old, true);
    assert_eq!(
        problems(&old, &renamed),
        [r#""velocity": not written, and without a default to read instead"#]
    );
}

#[test]
fn recursive_schemas_end() {
    let list = |value: &str| {
        record(&format!(
            r#"{{"name": "next", "type": ["null", "R"]}}, {{"name": "value", "type": "{value}"}}"#
        ))
    };
    assert_eq!(problems(&list("long"), &list("int")), [""; 0]);
    assert_eq!(problems(&list("int"), &list("long")), [r#""value": written as long, read as int"#]);
    agree(&list("int"), &list("int"), true);
}

#[test]
fn a_type_used_twice_is_compared_once_and_reported_twice() {
    let twice = |value: &str| {
        record(&format!(
            r#"{{"name": "a", "type": {{"type": "record", "name": "Inner",
                 "fields": [{{"name": "x", "type": "{value}"}}]}}}},
               {{"name": "b", "type": ["null", "Inner"]}}"#
        ))
    };
    assert_eq!(
        problems(&twice("int"), &twice("long")),
        [
            r#""a.x": written as long, read as int"#,
            r#""b": record Inner cannot be read: "a.x": written as long, read as int"#
        ]
    );
}

#[test]
fn an_assumption_that_fails_takes_its_conclusions_with_it() {
    // Tree is readable only as far as Node is, and Node turns out not to be
    let schema = |value: &str| {
        record(&format!(
            r#"{{"name": "root", "type": {{"type": "record", "name": "Node", "fields": [
                 {{"name": "tree", "type": ["null", {{"type": "record", "name": "Tree",
                   "fields": [{{"name": "node", "type": ["null", "Node"]}}]}}]}},
                 {{"name": "x", "type": "{value}"}}]}}}},
               {{"name": "tree", "type": "Tree"}}"#
        ))
    };
    let found = problems(&schema("int"), &schema("long"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].starts_with(r#""tree.node": record Node cannot be read"#), "{found:?}");
}

#[test]
fn many_uses_of_one_type_take_no_time() {
    let nested = (1..60).fold(String::new(), |fields, level| {
        let below = if level == 1 { "\"int\"".into() } else { format!("\"T{}\"", level - 1) };
        format!(
            r#"{fields}{{"name": "f{level}", "type": {{"type": "record", "name": "T{level}",
               "fields": [{{"name": "a", "type": {below}}}, {{"name": "b", "type": {below}}}]}}}}{}"#,
            if level == 59 { "" } else { "," }
        )
    });
    assert_eq!(problems(&record(&nested), &record(&nested)), [""; 0]);
}
