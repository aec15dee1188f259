//! Foreign bytes ask for no more memory than they are worth: every allocation is counted.

#![allow(
    clippy::unwrap_used,
    reason = "clippy lets tests unwrap, and not the functions that they share"
)]

use std::{
    collections::HashMap,
    path::Path,
    sync::{LazyLock, Mutex, PoisonError},
};

use apache_avro::{
    BigDecimal, Decimal, Schema,
    schema::{Name, RecordField, ResolvedSchema},
    types::Value,
};
use num_bigint::BigInt;
use peak_alloc::PeakAlloc;
use proptest::{prelude::*, sample::Index};
use serde_json::{Value as Json, json};
use sluicegate::{
    check::check,
    codec::{Encoder, WriterSchema, cells, event_to_json},
    contract::{Contract, Scope},
    failure::Rejection,
    label::{Fact, label},
    sink::RowEncoder,
    source::simulate::Generic,
    wire,
};
use time::OffsetDateTime;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What reading a body may take whatever its length: the event's free mebibyte, twice since the
/// event may be resolved to another schema, and what schemas and threads of the test itself take.
const FREE: usize = 4 << 20;

/// What it may take for each byte of the body.
const PER_BYTE: usize = 2 * 512;

/// Tests take turns: the allocator counts them all.
static TURN: Mutex<()> = Mutex::new(());

/// What a call gives, and how much memory it held at its highest.
fn measured<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = call();
    (result, ALLOCATOR.peak_usage().saturating_sub(before))
}

fn schema(fields: Json) -> Schema {
    let json = json!({"type": "record", "name": "n.R", "fields": fields});
    Schema::parse_str(&json.to_string()).unwrap()
}

fn of(kind: Json) -> Schema {
    schema(json!([{"name": "f", "type": kind}]))
}

/// Reads a body within bounds, or fails; gives the reason of a refusal.
fn decode_within_bounds(writer: &Schema, reader: &Schema, body: &[u8]) -> Result<(), Rejection> {
    let made = WriterSchema::new(writer, reader);
    let decoder = made.decoder(reader)?;
    let (result, peak) = measured(|| decoder.decode(body));
    let bound = FREE + PER_BYTE * body.len();
    assert!(peak <= bound, "{} bytes took {peak} of {bound}: {writer:?}", body.len());
    result.map(drop)
}

fn number(number: i64) -> Vec<u8> {
    let mut zigzag = (number << 1 ^ number >> 63).cast_unsigned();
    let mut bytes = Vec::new();
    while zigzag > 0x7f {
        bytes.push(u8::try_from(zigzag & 0x7f).unwrap() | 0x80);
        zigzag >>= 7;
    }
    bytes.push(u8::try_from(zigzag).unwrap());
    bytes
}

#[test]
fn a_length_is_not_believed_beyond_its_body() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let nullable = |names: usize| -> Json {
        (0..names).map(|n| json!({"name": format!("f{n}"), "type": ["null", "string"]})).collect()
    };
    let record = json!({"type": "record", "name": "I", "fields": nullable(40)});
    for kind in [
        json!("string"),
        json!("bytes"),
        json!({"type": "bytes", "logicalType": "decimal", "precision": 4}),
        json!({"type": "bytes", "logicalType": "big-decimal"}),
        json!({"type": "array", "items": "int"}),
        json!({"type": "array", "items": "null"}),
        json!({"type": "array", "items": "boolean"}),
        json!({"type": "array", "items": ["null", "int"]}),
        json!({"type": "map", "values": "int"}),
        json!({"type": "array", "items": record}),
        json!({"type": "array", "items": {"type": "array", "items": "boolean"}}),
    ] {
        let schema = of(kind.clone());
        for length in [1_000, 100_000, 290_000, 16 << 20, 1 << 40, i64::MAX, -290_000, i64::MIN] {
            for behind in [0, 1, 9] {
                let body = [number(length), vec![0; behind]].concat();
                _ = decode_within_bounds(&schema, &schema, &body);
            }
        }
    }
}

#[test]
fn values_without_bytes_cannot_be_asked_for_without_end() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let nulls = of(json!({"type": "array", "items": {"type": "array", "items": "null"}}));
    // a thousand times four bytes, each for 290000 nulls
    let inner = [number(290_000), number(0)].concat();
    let body = [number(1_000), inner.repeat(1_000), number(0)].concat();
    let refused = decode_within_bounds(&nulls, &nulls, &body).unwrap_err();
    assert_eq!(refused.reason, "length_out_of_bounds");

    // ten fields of a type with ten fields of a type, and so on: 10^8 nulls in no byte at all
    let types = (0..8).fold(json!("null"), |inner, level| {
        let first = json!({"name": "f0", "type": inner});
        let name = match level {
            0 => json!("null"),
            _ => json!(format!("T{}", level - 1)),
        };
        let more = (1..10).map(|n| json!({"name": format!("f{n}"), "type": name}));
        let fields: Vec<Json> = std::iter::once(first).chain(more).collect();
        json!({"type": "record", "name": format!("T{level}"), "fields": fields})
    });
    let many = of(types);
    let refused = decode_within_bounds(&many, &many, &[]).unwrap_err();
    assert_eq!(refused.reason, "length_out_of_bounds");
}

#[test]
fn a_writers_schema_cannot_ask_for_more_than_its_body_is_worth() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let fixed = of(json!({"type": "fixed", "name": "F", "size": 1_u64 << 40}));
    let refused = decode_within_bounds(&fixed, &fixed, &[0; 100]).unwrap_err();
    assert_eq!(refused.reason, "truncated_body");

    let name = "n".repeat(100_000);
    let record = json!({"type": "record", "name": "I", "fields": [{"name": name, "type": "int"}]});
    let named = of(json!({"type": "array", "items": record}));
    let body = [number(10_000), vec![0; 10_000], number(0)].concat();
    let refused = decode_within_bounds(&named, &named, &body).unwrap_err();
    assert_eq!(refused.reason, "length_out_of_bounds");
}

#[test]
fn an_array_may_have_as_many_items_as_its_body_holds() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let ints = of(json!({"type": "array", "items": "int"}));
    let body = [number(2_000_000), vec![2; 2_000_000], number(0)].concat();
    assert_eq!(decode_within_bounds(&ints, &ints, &body), Ok(()));
    let text = of(json!("string"));
    let body = [number(20 << 20), vec![b'a'; 20 << 20]].concat();
    assert_eq!(decode_within_bounds(&text, &text, &body), Ok(()));
}

/// The repository's own contracts.
fn contracts() -> Vec<Contract> {
    Contract::read_all(Path::new("schemas")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_event_takes_no_more_than_it_is_worth(
        seed: u64,
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<Index>()),
    ) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        for contract in contracts() {
            let now = OffsetDateTime::UNIX_EPOCH;
            let event = Generic::new(contract.schema.clone(), seed, None, None).next(now);
            let encoder = Encoder::new(&contract.schema).unwrap();
            let mut body = encoder.encode(&event).unwrap();
            for (place, byte) in &flips {
                let place = place.index(body.len());
                body[place] = *byte;
            }
            if let Some(cut) = &cut {
                body.truncate(cut.index(body.len()));
            }
            let value = wire::frame(wire::SchemaId(1), &body);
            let (taken, peak) = measured(|| whole_way(&contract, &value));
            let bound = FREE + PER_BYTE * body.len();
            prop_assert!(peak <= bound, "{peak} of {bound}: {taken:?}");
        }
    }
}

/// Header, decoder and everything after, of one value.
fn whole_way(contract: &Contract, value: &[u8]) -> Result<(), Rejection> {
    let writer = WriterSchema::new(&contract.schema, &contract.schema);
    let Ok((_, body)) = wire::split(Some(value)) else { return Ok(()) };
    let event = writer.decoder(&contract.schema)?.decode(body)?;
    decide(contract, &event)
}

/// Rules, labels, row and JSON of one event.
fn decide(contract: &Contract, event: &[(String, Value)]) -> Result<(), Rejection> {
    let scope = Scope::new(contract, OffsetDateTime::UNIX_EPOCH);
    _ = event_to_json(&contract.schema, event).to_string();
    let cells = cells(event, &contract.columns);
    let kept = check(&cells, contract, &scope);
    let labels = label(&cells, contract, &scope);
    let rows = RowEncoder::new(contract).unwrap();
    let mut row = Vec::new();
    _ = rows.encode(&cells, [], Uuid::nil(), &mut row);
    let labels = labels?;
    rows.encode(&cells, labels.iter().map(Fact::cell), Uuid::nil(), &mut row)?;
    kept
}

/// A contract with every type, and rules over each.
static EVERYTHING: LazyLock<Contract> =
    LazyLock::new(|| Contract::read(Path::new("fuzz/everything.avsc")).unwrap());

/// Any value of a schema, the far ends more often than by chance.
fn any_value(schema: &Schema, names: &HashMap<Name, Schema>) -> BoxedStrategy<Value> {
    let int = || prop_oneof![any::<i32>(), Just(i32::MIN), Just(i32::MAX), -3..3];
    let long = || prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), -3..3_i64];
    let bytes = |sizes| prop::collection::vec(any::<u8>(), sizes);
    let text = prop_oneof![
        8 => any::<String>(),
        1 => Just("x".repeat(100_000)),
        1 => Just("\0".to_owned()),
        1 => Just("\u{10ffff}".repeat(1_000)),
    ];
    match schema {
        Schema::Null => Just(Value::Null).boxed(),
        Schema::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Schema::Int => int().prop_map(Value::Int).boxed(),
        Schema::Long => long().prop_map(Value::Long).boxed(),
        Schema::Float => prop::num::f32::ANY.prop_map(Value::Float).boxed(),
        Schema::Double => prop::num::f64::ANY.prop_map(Value::Double).boxed(),
        Schema::String => text.prop_map(Value::String).boxed(),
        Schema::Bytes => bytes(0..100).prop_map(Value::Bytes).boxed(),
        Schema::Fixed(fixed) => {
            let size = fixed.size;
            bytes(size..size + 1).prop_map(move |bytes| Value::Fixed(size, bytes)).boxed()
        }
        Schema::Enum(symbols) => {
            let symbols: Vec<(u32, String)> = (0..).zip(symbols.symbols.clone()).collect();
            prop::sample::select(symbols).prop_map(|(at, name)| Value::Enum(at, name)).boxed()
        }
        Schema::Uuid(_) => any::<u128>().prop_map(|id| Value::Uuid(Uuid::from_u128(id))).boxed(),
        Schema::Decimal(_) => {
            bytes(0..50).prop_map(|bytes| Value::Decimal(Decimal::from(bytes))).boxed()
        }
        Schema::BigDecimal => (any::<i128>(), long())
            .prop_map(|(unscaled, scale)| {
                // what proptest prints a failure with can't negate the least
                let scale = scale.max(-i64::MAX);
                Value::BigDecimal(BigDecimal::new(BigInt::from(unscaled), scale))
            })
            .boxed(),
        Schema::Date => int().prop_map(Value::Date).boxed(),
        Schema::TimeMicros => long().prop_map(Value::TimeMicros).boxed(),
        Schema::TimestampMillis => long().prop_map(Value::TimestampMillis).boxed(),
        Schema::TimestampNanos => long().prop_map(Value::TimestampNanos).boxed(),
        Schema::LocalTimestampMicros => long().prop_map(Value::LocalTimestampMicros).boxed(),
        Schema::Duration(_) => any::<[u8; 12]>().prop_map(|it| Value::Duration(it.into())).boxed(),
        Schema::Array(array) => {
            let items = any_value(&array.items, names);
            prop::collection::vec(items, 0..5).prop_map(Value::Array).boxed()
        }
        Schema::Map(map) => {
            let values = any_value(&map.types, names);
            prop::collection::hash_map(any::<String>(), values, 0..5).prop_map(Value::Map).boxed()
        }
        Schema::Union(union) => {
            let branch = |(at, schema)| {
                any_value(schema, names).prop_map(move |value| Value::Union(at, Box::new(value)))
            };
            let branches: Vec<_> = (0..).zip(union.variants()).map(branch).collect();
            prop::strategy::Union::new(branches).boxed()
        }
        Schema::Record(record) => {
            let field =
                |field: &RecordField| (Just(field.name.clone()), any_value(&field.schema, names));
            let fields: Vec<_> = record.fields.iter().map(field).collect();
            fields.prop_map(Value::Record).boxed()
        }
        Schema::Ref { name } => any_value(&names[name], names),
        other => panic!("fuzz/everything.avsc has no {other:?}"),
    }
}

fn any_event() -> BoxedStrategy<Value> {
    let schema = &EVERYTHING.schema;
    let resolved = ResolvedSchema::new(schema).unwrap();
    let names = resolved.get_names().iter();
    let names = names.map(|(name, schema)| (name.clone(), (*schema).clone())).collect();
    any_value(schema, &names)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_event_is_decided_within_bounds(event in any_event()) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let contract = &*EVERYTHING;
        let body = Encoder::new(&contract.schema).unwrap().encode(&event);
        let Value::Record(fields) = &event else { unreachable!() };
        let (_, peak) = measured(|| decide(contract, fields));
        // an event that no body can hold is decided all the same
        let size = body.as_ref().map_or(200_000, Vec::len);
        prop_assert!(peak <= FREE + PER_BYTE * size, "{peak} for {size} bytes");
        if let Ok(body) = body {
            let read = decode_within_bounds(&contract.schema, &contract.schema, &body);
            prop_assert_eq!(read, Ok(()));
        }
    }
}
