use apache_avro::{Decimal, Duration as Lasting, schema::Schema, types::Value};
use proptest::prelude::*;
use serde_json::json;
use time::OffsetDateTime;

use super::*;
use crate::source::simulate::Generic;

fn schema(json: &Json) -> Schema {
    Schema::parse(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// A record `R` of these fields.
fn record(fields: Json) -> Schema {
    schema(&json!({"type": "record", "name": "R", "namespace": "n", "fields": fields}))
}

fn encode(writer: &Schema, event: &Value) -> Vec<u8> {
    Encoder::new(writer).unwrap().encode(event).unwrap()
}

fn decode(writer: &Schema, reader: &Schema, body: &[u8]) -> Result<Value, Rejection> {
    WriterSchema::new(writer, reader).decoder(reader)?.decode(body).map(Value::Record)
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn branch(index: u32, value: Value) -> Value {
    Value::Union(index, Box::new(value))
}

/// What one field is read as that was written with another type.
#[track_caller]
fn assert_read_as(writer: &Json, reader: &Json, written: Value, read: Value) {
    let of = |kind: &Json| record(json!([{"name": "f", "type": kind}]));
    let body = encode(&of(writer), &fields([("f", written)]));
    let decoded = decode(&of(writer), &of(reader), &body);
    assert_eq!(decoded, Ok(fields([("f", read)])), "{writer} read as {reader}");
}

#[test]
fn a_value_is_read_as_any_type_that_its_own_promotes_to() {
    use Value::{Bytes, Double, Float, Int, Long};
    for (writer, reader, written, read) in [
        ("int", "long", Int(i32::MIN), Long(i32::MIN.into())),
        ("int", "float", Int(-3), Float(-3.0)),
        ("int", "double", Int(i32::MAX), Double(i32::MAX.into())),
        ("long", "float", Long(1 << 40), Float(1_099_511_627_776.0)),
        ("long", "double", Long(-1), Double(-1.0)),
        ("float", "double", Float(0.5), Double(0.5)),
        ("string", "bytes", text("é"), Bytes(vec![0xc3, 0xa9])),
        ("bytes", "string", Bytes(vec![0xc3, 0xa9]), text("é")),
    ] {
        let (writer, reader) = (json!(writer), json!(reader));
        let nullable = json!(["null", reader]);
        let array = |items: &Json| json!({"type": "array", "items": items});
        assert_read_as(&writer, &reader, written.clone(), read.clone());
        assert_read_as(&writer, &nullable, written.clone(), branch(1, read.clone()));
        let (many_written, many_read) = (Value::Array(vec![written]), Value::Array(vec![read]));
        assert_read_as(&array(&writer), &array(&reader), many_written, many_read);
    }
}

/// A logical type, the plain one below it, and the same value in both.
fn annotated() -> Vec<(Json, Json, Value, Value)> {
    use Value::{Bytes, Date, Duration, Fixed, Int, Long, TimeMicros, TimeMillis, Uuid};
    let logical = |kind: &str, logical: &str| json!({"type": kind, "logicalType": logical});
    let fixed = |size: u32| json!({"type": "fixed", "name": "F", "size": size});
    let on_fixed = |size, logical: &str| {
        let mut fixed = fixed(size);
        fixed["logicalType"] = json!(logical);
        fixed
    };
    let mut money = on_fixed(4, "decimal");
    let mut price = logical("bytes", "decimal");
    for decimal in [&mut money, &mut price] {
        decimal["precision"] = json!(9);
        decimal["scale"] = json!(2);
    }
    let id = "01020304-0506-0708-090a-0b0c0d0e0f10";
    let uuid: uuid::Uuid = id.parse().unwrap();
    let mut cases = vec![
        (logical("int", "date"), json!("int"), Date(-1), Int(-1)),
        (logical("int", "time-millis"), json!("int"), TimeMillis(1), Int(1)),
        (logical("long", "time-micros"), json!("long"), TimeMicros(1), Long(1)),
        (logical("string", "uuid"), json!("string"), Uuid(uuid), text(id)),
        (on_fixed(16, "uuid"), fixed(16), Uuid(uuid), Fixed(16, uuid.as_bytes().into())),
        (
            on_fixed(12, "duration"),
            fixed(12),
            Duration(Lasting::from([1; 12])),
            Fixed(12, vec![1; 12]),
        ),
        (money, fixed(4), Value::Decimal(Decimal::from([0, 0, 1, 2])), Fixed(4, vec![0, 0, 1, 2])),
        (price, json!("bytes"), Value::Decimal(Decimal::from([1, 2])), Bytes(vec![1, 2])),
    ];
    for (name, value) in [
        ("timestamp-millis", Value::TimestampMillis as fn(i64) -> Value),
        ("timestamp-micros", Value::TimestampMicros),
        ("timestamp-nanos", Value::TimestampNanos),
        ("local-timestamp-millis", Value::LocalTimestampMillis),
        ("local-timestamp-micros", Value::LocalTimestampMicros),
        ("local-timestamp-nanos", Value::LocalTimestampNanos),
    ] {
        cases.push((logical("long", name), json!("long"), value(-1), Long(-1)));
    }
    cases
}

#[test]
fn a_logical_type_may_come_and_go() {
    for (logical, plain, meant, bare) in annotated() {
        assert_read_as(&plain, &logical, bare.clone(), meant.clone());
        assert_read_as(&logical, &plain, meant.clone(), bare.clone());
        let nullable = |schema: &Json| json!(["null", schema]);
        let (plain, logical) = (nullable(&plain), nullable(&logical));
        assert_read_as(&plain, &logical, branch(1, bare.clone()), branch(1, meant.clone()));
        assert_read_as(&logical, &plain, branch(1, meant), branch(1, bare));
    }
}

#[test]
fn a_date_is_read_as_any_number_that_an_int_promotes_to() {
    let date = json!({"type": "int", "logicalType": "date"});
    assert_read_as(&date, &json!("long"), Value::Date(7), Value::Long(7));
    assert_read_as(&date, &json!("double"), Value::Date(7), Value::Double(7.0));
}

#[test]
fn a_logical_type_keeps_its_meaning_while_another_field_changes() {
    for (logical, _, meant, _) in annotated() {
        let field = json!({"name": "f", "type": logical});
        let writer = record(json!([field]));
        let added = json!({"name": "added", "type": "int", "default": 1});
        let reader = record(json!([added, field]));
        let body = encode(&writer, &fields([("f", meant.clone())]));
        let read = fields([("added", Value::Int(1)), ("f", meant)]);
        assert_eq!(decode(&writer, &reader, &body), Ok(read), "{logical}");
    }
}

#[test]
fn a_missing_field_is_its_default_of_any_type() {
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2});
    let inner = json!({"type": "record", "name": "Inner", "fields": [
        {"name": "x", "type": "int"},
        {"name": "y", "type": ["null", "string"], "default": "deep"},
    ]});
    let inner_before = json!({"type": "record", "name": "Inner", "fields": [
        {"name": "x", "type": "int"},
    ]});
    let writer = record(json!([{"name": "inner", "type": inner_before}]));
    let reader = record(json!([
        {"name": "inner", "type": inner},
        {"name": "null_first", "type": ["null", "string"], "default": null},
        {"name": "null_last", "type": ["string", "null"], "default": "a"},
        {"name": "later_branch", "type": ["null", "string"], "default": "b"},
        {"name": "bytes", "type": "bytes", "default": "\u{0}\u{ff}"},
        {"name": "fixed", "type": {"type": "fixed", "name": "F", "size": 1}, "default": "\u{ff}"},
        {"name": "decimal", "type": decimal, "default": "\u{ff}"},
        {"name": "again", "type": "n.Inner", "default": {"x": 5}},
    ]));
    let inner = |x, y| fields([("x", Value::Int(x)), ("y", branch(1, text(y)))]);
    let body = encode(&writer, &fields([("inner", fields([("x", Value::Int(4))]))]));
    let expected = fields([
        ("inner", inner(4, "deep")),
        ("null_first", branch(0, Value::Null)),
        ("null_last", branch(0, text("a"))),
        ("later_branch", branch(1, text("b"))),
        ("bytes", Value::Bytes(vec![0, 0xff])),
        ("fixed", Value::Fixed(1, vec![0xff])),
        ("decimal", Value::Decimal(Decimal::from([0xff]))),
        ("again", inner(5, "deep")),
    ]);
    assert_eq!(decode(&writer, &reader, &body), Ok(expected));
}

#[test]
fn aliases_hold_inside_records_arrays_maps_unions_and_references() {
    let place = |name: &str, aliases: Json, field: &str, field_aliases: Json| {
        json!({"type": "record", "name": name, "aliases": aliases, "fields": [
            {"name": field, "type": "int", "aliases": field_aliases},
        ]})
    };
    let of = |place: Json, name: &str| {
        record(json!([
            {"name": "here", "type": place},
            {"name": "array", "type": {"type": "array", "items": name}},
            {"name": "map", "type": {"type": "map", "values": ["null", name]}},
            {"name": "union", "type": ["null", "string", name]},
            {"name": "reference", "type": name},
        ]))
    };
    let writer = of(place("Place", json!([]), "lat", json!([])), "Place");
    let reader = of(place("Spot", json!(["Place"]), "latitude", json!(["lat"])), "Spot");
    let event = |name: &str| {
        let place = |n| fields([(name, Value::Int(n))]);
        fields([
            ("here", place(1)),
            ("array", Value::Array(vec![place(2), place(3)])),
            ("map", Value::Map([("k".to_owned(), branch(1, place(4)))].into())),
            ("union", branch(2, place(5))),
            ("reference", place(6)),
        ])
    };
    let body = encode(&writer, &event("lat"));
    assert_eq!(decode(&writer, &reader, &body), Ok(event("latitude")));
}

#[test]
fn a_value_of_a_union_goes_to_the_branch_of_its_own_type() {
    let shape = |name: &str, more: Json| {
        let x = json!({"name": "x", "type": "int"});
        let fields: Vec<_> = [x].into_iter().chain(more.as_array().unwrap().clone()).collect();
        json!({"type": "record", "name": name, "fields": fields})
    };
    let symbols = |name: &str| json!({"type": "enum", "name": name, "symbols": ["one"]});
    let of = |circle: Json| {
        record(json!([
            {"name": "shape", "type": [circle, shape("Square", json!([]))]},
            {"name": "symbol", "type": [symbols("A"), symbols("B")]},
        ]))
    };
    let writer = of(shape("Circle", json!([])));
    let reader = of(shape("Circle", json!([{"name": "r", "type": "int", "default": 0}])));
    let square = fields([
        ("shape", branch(1, fields([("x", Value::Int(1))]))),
        ("symbol", branch(1, Value::Enum(0, "one".to_owned()))),
    ]);
    assert_eq!(decode(&writer, &reader, &encode(&writer, &square)), Ok(square));
}

#[test]
fn a_symbol_is_read_by_its_name_and_an_unknown_one_as_the_default() {
    let of = |symbols: Json, default: Option<&str>| {
        let mut schema = json!({"type": "enum", "name": "E", "symbols": symbols});
        if let Some(default) = default {
            schema["default"] = json!(default);
        }
        schema
    };
    let symbol = |index, name: &str| Value::Enum(index, name.to_owned());
    let (small, large) = (of(json!(["a", "b"]), Some("b")), of(json!(["c", "b", "a"]), None));
    assert_read_as(&large, &small, symbol(0, "c"), symbol(1, "b"));
    assert_read_as(&large, &small, symbol(2, "a"), symbol(0, "a"));
    assert_read_as(&small, &large, symbol(0, "a"), symbol(2, "a"));
}

#[test]
fn a_schema_that_cannot_be_read_is_refused_with_the_reason() {
    let plain = |kind: Json| record(json!([{"name": "f", "type": kind}]));
    let other = schema(&json!({"type": "record", "name": "Other", "fields": []}));
    for (writer, reader, reason, named) in [
        (other, plain(json!("int")), "wrong_schema", "Other"),
        (Schema::String, plain(json!("int")), "wrong_schema", "no record"),
        (plain(json!("string")), plain(json!("int")), "incompatible_schema", "\"f\""),
        (plain(json!(["null", "string"])), plain(json!("int")), "incompatible_schema", "\"f\""),
        (plain(json!(["int", "string"])), plain(json!("int")), "incompatible_schema", "\"f\""),
    ] {
        let rejection = decode(&writer, &reader, &[]).unwrap_err();
        assert_eq!(rejection.reason, reason);
        assert!(rejection.detail.contains(named), "{}", rejection.detail);
    }
}

#[test]
fn a_value_that_the_readers_type_lacks_is_refused_and_its_neighbours_are_read() {
    let plain = |kind: &Json| record(json!([{"name": "f", "type": kind}]));
    let symbols = |symbols: Json| json!({"type": "enum", "name": "E", "symbols": symbols});
    let symbol = |index, name: &str| Value::Enum(index, name.to_owned());
    let nullable = json!(["null", "int"]);
    for (writer, reader, known, read, unknown, named) in [
        (
            symbols(json!(["a", "b"])),
            symbols(json!(["b"])),
            symbol(1, "b"),
            symbol(0, "b"),
            symbol(0, "a"),
            "\"a\"",
        ),
        (
            nullable,
            json!("int"),
            branch(1, Value::Int(7)),
            Value::Int(7),
            branch(0, Value::Null),
            "null",
        ),
    ] {
        assert_read_as(&writer, &reader, known, read);
        let (writer, reader) = (plain(&writer), plain(&reader));
        let body = encode(&writer, &fields([("f", unknown)]));
        let rejection = decode(&writer, &reader, &body).unwrap_err();
        assert_eq!((rejection.stage, &*rejection.reason), (Stage::Decode, "undecodable"));
        assert!(rejection.detail.contains(named), "{}", rejection.detail);
    }
}

/// A schema whose every end apache-avro would take for null, and one that reads it otherwise.
fn ends_leniently() -> [(Schema, Schema, Vec<u8>); 4] {
    let cases = [
        (json!("string"), text("ab")),
        (json!("boolean"), Value::Boolean(true)),
        (json!(["null", "boolean"]), branch(1, Value::Boolean(true))),
        (json!(["null", "string"]), branch(1, text(""))),
    ];
    cases.map(|(last, value)| {
        let fields_of = |more: Json| {
            let mut fields = vec![
                json!({"name": "text", "type": "string"}),
                json!({"name": "flag", "type": ["null", "boolean"]}),
                json!({"name": "number", "type": "double"}),
                json!({"name": "tags", "type": {"type": "array", "items": "string"}}),
                json!({"name": "last", "type": last}),
            ];
            fields.extend(more.as_array().unwrap().clone());
            record(Json::Array(fields))
        };
        let writer = fields_of(json!([]));
        let reader = fields_of(json!([{"name": "more", "type": "int", "default": 0}]));
        let event = fields([
            ("text", text("abc")),
            ("flag", branch(1, Value::Boolean(false))),
            ("number", Value::Double(1.5)),
            ("tags", Value::Array(vec![text("x"), text("")])),
            ("last", value),
        ]);
        let body = encode(&writer, &event);
        (writer, reader, body)
    })
}

#[test]
fn a_body_that_ends_anywhere_too_early_is_truncated() {
    for (writer, reader, body) in ends_leniently() {
        for reader in [&writer, &reader] {
            assert!(decode(&writer, reader, &body).is_ok());
            for end in 0..body.len() {
                let rejection = decode(&writer, reader, &body[..end]).unwrap_err();
                assert_eq!(rejection.reason, "truncated_body", "{end} of {body:?}");
            }
        }
    }
}

#[test]
fn a_body_that_goes_on_behind_its_event_has_trailing_bytes() {
    for (writer, reader, body) in ends_leniently() {
        for (reader, more) in [(&writer, 1), (&writer, 1000), (&reader, 1)] {
            let body = [&body[..], &vec![0; more]].concat();
            let rejection = decode(&writer, reader, &body).unwrap_err();
            assert_eq!(rejection.reason, "trailing_bytes");
            assert!(rejection.detail.starts_with(&format!("{more} ")), "{}", rejection.detail);
        }
    }
}

#[test]
fn a_length_that_nobody_can_hold_is_out_of_bounds() {
    let number = record(json!([{"name": "f", "type": "long"}]));
    for kind in [
        json!("string"),
        json!("bytes"),
        json!(["null", "string"]),
        json!({"type": "array", "items": "null"}),
        json!({"type": "map", "values": "int"}),
    ] {
        for length in [1 << 60, i64::MAX, i64::MIN, LONGEST as i64 + 1] {
            let mut body = encode(&number, &fields([("f", Value::Long(length))]));
            if kind.is_array() {
                body.insert(0, 2);
            }
            // a negative count of items is followed by the block's size
            body.extend([0; 9]);
            let schema = record(json!([{"name": "f", "type": kind}]));
            let rejection = decode(&schema, &schema, &body).unwrap_err();
            // the one count whose negative is no number
            let no_number = length == i64::MIN && rejection.reason == "malformed_number";
            let reason = &rejection.reason;
            assert!(no_number || reason == "length_out_of_bounds", "{kind} of {length}: {reason}");
        }
    }
}

#[test]
fn text_that_is_not_utf_8_is_said_to_be_so() {
    let of = |kind: &str| record(json!([{"name": "f", "type": kind}]));
    let body = encode(&of("bytes"), &fields([("f", Value::Bytes(vec![0xff]))]));
    for writer in ["string", "bytes"] {
        let rejection = decode(&of(writer), &of("string"), &body).unwrap_err();
        assert_eq!(rejection.reason, "invalid_utf8", "written as {writer}");
    }
}

/// Every type but maps, whose entries have no order.
fn everything() -> Schema {
    let logical = annotated().into_iter().enumerate().map(|(index, (mut logical, ..))| {
        if logical["type"] == "fixed" {
            logical["name"] = json!(format!("F{index}"));
        }
        json!({"name": format!("f{index}"), "type": logical})
    });
    let nested = json!({"type": "record", "name": "Nested", "fields": [
        {"name": "a", "type": ["null", "boolean", "string"]},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["x", "y"]}},
    ]});
    let others = [
        json!({"name": "int", "type": "int"}),
        json!({"name": "float", "type": "float"}),
        json!({"name": "double", "type": "double"}),
        json!({"name": "big", "type": {"type": "bytes", "logicalType": "big-decimal"}}),
        json!({"name": "nested", "type": {"type": "array", "items": nested}}),
        json!({"name": "last", "type": ["null", "n.Nested", "long"]}),
    ];
    record(logical.chain(others).collect())
}

/// Only types whose every value has exactly one encoding.
fn canonical() -> Schema {
    let fixed = |name: &str, size: u32| json!({"type": "fixed", "name": name, "size": size});
    let mut lasting = fixed("Lasting", 12);
    lasting["logicalType"] = json!("duration");
    record(json!([
        {"name": "flag", "type": "boolean"},
        {"name": "float", "type": "float"},
        {"name": "double", "type": "double"},
        {"name": "fixed", "type": fixed("Three", 3)},
        {"name": "duration", "type": lasting},
        {"name": "last", "type": "boolean"},
    ]))
}

proptest! {
    #[test]
    fn whatever_was_written_is_read_and_written_again_as_the_same_bytes(seed: u64) {
        let schema = everything();
        let event = Generic::new(schema.clone(), seed, None, None).next(OffsetDateTime::UNIX_EPOCH);
        let body = encode(&schema, &event);
        let decoded = decode(&schema, &schema, &body).unwrap();
        prop_assert_eq!(&decoded, &event);
        prop_assert_eq!(encode(&schema, &decoded), body);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        body in proptest::collection::vec(prop_oneof![any::<u8>(), 0..6u8], 0..256),
    ) {
        let writer = everything();
        let Schema::Record(mut reader) = writer.clone() else { unreachable!() };
        reader.fields.truncate(3);
        reader.lookup.retain(|_, index| *index < 3);
        for reader in [&writer, &Schema::Record(reader)] {
            if let Err(rejection) = decode(&writer, reader, &body) {
                prop_assert_eq!(rejection.stage, Stage::Decode);
            }
        }
    }

    #[test]
    fn bytes_that_are_read_as_types_with_one_encoding_are_that_encoding(
        body in proptest::collection::vec(prop_oneof![1 => any::<u8>(), 3 => 0..2u8], 27..31),
    ) {
        let schema = canonical();
        match decode(&schema, &schema, &body) {
            Ok(event) => prop_assert_eq!(encode(&schema, &event), body),
            Err(rejection) => {
                let reasons = ["truncated_body", "trailing_bytes", "undecodable"];
                prop_assert!(reasons.contains(&&*rejection.reason), "{}", rejection.reason);
            }
        }
    }
}

#[test]
fn a_type_that_contains_itself_cannot_exhaust_the_stack() {
    let node = json!({"type": "record", "name": "Node", "fields": [
        {"name": "next", "type": ["null", "n.Node"]},
    ]});
    let writer = record(json!([{"name": "node", "type": node}, {"name": "f", "type": "int"}]));
    let reader = record(json!([{"name": "f", "type": "int"}]));
    let rejection = decode(&writer, &reader, &vec![2; 1 << 20]).unwrap_err();
    assert_eq!(rejection.reason, "incompatible_schema");
    assert!(rejection.detail.contains("contains itself"), "{}", rejection.detail);
}
