//! The short way gives what the tree gives, for any flat schemas and any bytes.

use std::{path::Path, sync::LazyLock};

use apache_avro::{Schema, schema::UuidSchema, types::Value};
use proptest::{prelude::*, sample::Index};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    codec::{Cell, Decoder, Encoder, WriterSchema, cells},
    contract::{ColumnType, Contract},
    registry::base,
    sink::{EncodedRow, RowEncoder},
    source::simulate::Generic,
};

/// apache-avro takes no default of some types.
const NO_DEFAULT: Json = Json::Null;

/// Types of the writer's or reader's field with this number, and a default of each.
const TYPES: [fn(usize) -> (Json, Json); 22] = [
    |_| (json!("boolean"), json!(true)),
    |_| (json!("int"), json!(-7)),
    |_| (json!("long"), json!(1_u64 << 40)),
    |_| (json!("float"), json!(0.5)),
    |_| (json!("double"), json!(-1.5)),
    |_| (json!("bytes"), json!("\u{0}\u{ff}")),
    |_| (json!("string"), json!("é")),
    |n| (json!({"type": "fixed", "name": format!("F{n}"), "size": 3}), json!("abc")),
    |n| (symbols(n, json!(["a", "b", "c"]), None), json!("b")),
    |n| (symbols(n, json!(["c", "d", "a"]), Some("d")), json!("c")),
    |_| (json!({"type": "string", "logicalType": "uuid"}), json!(Uuid::max().to_string())),
    |_| (json!({"type": "bytes", "logicalType": "uuid"}), NO_DEFAULT),
    |n| {
        let fixed = json!({"type": "fixed", "name": format!("U{n}"), "size": 16,
            "logicalType": "uuid"});
        (fixed, json!("\u{1}".repeat(16)))
    },
    |_| (json!({"type": "int", "logicalType": "date"}), json!(1)),
    |_| (json!({"type": "int", "logicalType": "time-millis"}), json!(2)),
    |_| (json!({"type": "long", "logicalType": "time-micros"}), json!(3)),
    |_| (json!({"type": "long", "logicalType": "timestamp-millis"}), json!(4)),
    |_| (json!({"type": "long", "logicalType": "timestamp-micros"}), json!(5)),
    |_| (json!({"type": "long", "logicalType": "timestamp-nanos"}), json!(6)),
    |_| (json!({"type": "long", "logicalType": "local-timestamp-millis"}), json!(7)),
    |_| (json!({"type": "long", "logicalType": "local-timestamp-micros"}), json!(8)),
    |_| (json!({"type": "long", "logicalType": "local-timestamp-nanos"}), json!(9)),
];

fn symbols(number: usize, symbols: Json, default: Option<&str>) -> Json {
    let mut schema = json!({"type": "enum", "name": format!("E{number}"), "symbols": symbols});
    if let Some(default) = default {
        schema["default"] = json!(default);
    }
    schema
}

/// Writers' and readers' types that go together.
static PAIRS: LazyLock<Vec<(usize, usize)>> = LazyLock::new(|| {
    let of = |index: usize| record(json!([{"name": "f", "type": TYPES[index](0).0}]));
    let kind = |index: usize| Schema::parse(&TYPES[index](0).0).unwrap();
    let all = (0..TYPES.len()).flat_map(|from| (0..TYPES.len()).map(move |to| (from, to)));
    all.filter(|(from, to)| {
        let (writer, reader) = (kind(*from), kind(*to));
        // a string goes for bytes, but apache-avro makes no uuid of it then
        let is_other_uuid = matches!(reader, Schema::Uuid(UuidSchema::String | UuidSchema::Bytes))
            && base(&writer) != base(&reader);
        let (writer, reader) = (of(*from), of(*to));
        !is_other_uuid && WriterSchema::new(&writer, &reader).decoder(&reader).is_ok()
    })
    .collect()
});

fn record(fields: Json) -> Schema {
    Schema::parse(&json!({"type": "record", "name": "R", "fields": fields})).unwrap()
}

/// What became of a field between two versions of a schema.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Stayed,
    Renamed,
    Removed,
    Added,
}

#[derive(Debug, Clone, Copy)]
enum Nullable {
    Never,
    First,
    Last,
}

type Field = (Fate, (usize, usize), (Nullable, Nullable));

fn any_nullable() -> impl Strategy<Value = Nullable> {
    prop_oneof![3 => Just(Nullable::Never), 1 => Just(Nullable::First), 1 => Just(Nullable::Last)]
}

/// Fields of two versions, and the same of one.
fn any_fields() -> impl Strategy<Value = (Vec<Field>, bool)> {
    let fate = prop_oneof![
        4 => Just(Fate::Stayed),
        1 => Just(Fate::Renamed),
        1 => Just(Fate::Removed),
        1 => Just(Fate::Added),
    ];
    let pair = prop::sample::select(PAIRS.clone());
    let field = (fate, pair, (any_nullable(), any_nullable()));
    (prop::collection::vec(field, 0..8), any::<bool>())
}

/// The writer's schema, and the reader's as the text of a contract.
fn schemas(fields: &[Field], is_reversed: bool) -> (Schema, Json) {
    let numbered = || fields.iter().enumerate();
    let writers = numbered().filter(|(_, (fate, ..))| !matches!(fate, Fate::Added));
    let writers = writers.map(|(number, (_, (from, _), (nullable, _)))| {
        field(&format!("f{number}"), TYPES[*from](number), *nullable)
    });
    let readers = numbered().filter(|(_, (fate, ..))| !matches!(fate, Fate::Removed));
    let readers = readers.map(|(number, (fate, (_, to), (_, nullable)))| {
        let renamed = matches!(fate, Fate::Renamed);
        let name = format!("{}{number}", if renamed { "g" } else { "f" });
        let (kind, default) = TYPES[*to](number);
        let needs_default = matches!(fate, Fate::Added) && default == NO_DEFAULT;
        let nullable = if needs_default { Nullable::First } else { *nullable };
        let mut field = field(&name, (kind, default), nullable);
        if renamed {
            field["aliases"] = json!([format!("f{number}")]);
        }
        field
    });
    let always = [
        json!({"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}}),
        json!({"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}),
    ];
    let mut writers: Vec<Json> = always.iter().cloned().chain(writers).collect();
    if is_reversed {
        writers.reverse();
    }
    let readers: Vec<Json> = always.iter().cloned().chain(readers).collect();
    let reader = json!({"type": "record", "name": "R", "sluicegate": {"time": "at"},
        "fields": readers});
    (record(Json::Array(writers)), reader)
}

fn field(name: &str, (kind, default): (Json, Json), nullable: Nullable) -> Json {
    match nullable {
        Nullable::First => json!({"name": name, "type": ["null", kind], "default": null}),
        Nullable::Never if default == NO_DEFAULT => json!({"name": name, "type": kind}),
        Nullable::Last if default == NO_DEFAULT => json!({"name": name, "type": [kind, "null"]}),
        Nullable::Never => json!({"name": name, "type": kind, "default": default}),
        Nullable::Last => json!({"name": name, "type": [kind, "null"], "default": default}),
    }
}

fn any_value(schema: &Schema) -> BoxedStrategy<Value> {
    let long = || prop_oneof![any::<i64>(), -1_000..1_000_i64];
    let bytes = |size| prop::collection::vec(any::<u8>(), size);
    let id = || any::<u128>().prop_map(Uuid::from_u128);
    let text = prop_oneof![
        any::<String>(),
        Just("a\0b".to_owned()),
        id().prop_map(|id| id.to_string()),
        id().prop_map(|id| id.simple().to_string().to_uppercase()),
        id().prop_map(|id| id.braced().to_string()),
        id().prop_map(|id| id.urn().to_string()),
    ];
    match schema {
        Schema::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Schema::Int => any::<i32>().prop_map(Value::Int).boxed(),
        Schema::Long => long().prop_map(Value::Long).boxed(),
        Schema::Float => prop::num::f32::ANY.prop_map(Value::Float).boxed(),
        Schema::Double => prop::num::f64::ANY.prop_map(Value::Double).boxed(),
        Schema::Bytes => prop_oneof![bytes(0..20), bytes(16..17)].prop_map(Value::Bytes).boxed(),
        Schema::String => text.prop_map(Value::String).boxed(),
        Schema::Fixed(fixed) => {
            let size = fixed.size;
            bytes(size..size + 1).prop_map(move |bytes| Value::Fixed(size, bytes)).boxed()
        }
        Schema::Enum(symbols) => {
            let symbols: Vec<(u32, String)> = (0..).zip(symbols.symbols.clone()).collect();
            prop::sample::select(symbols).prop_map(|(at, name)| Value::Enum(at, name)).boxed()
        }
        Schema::Uuid(_) => id().prop_map(Value::Uuid).boxed(),
        Schema::Date => any::<i32>().prop_map(Value::Date).boxed(),
        Schema::TimeMillis => any::<i32>().prop_map(Value::TimeMillis).boxed(),
        Schema::TimeMicros => long().prop_map(Value::TimeMicros).boxed(),
        Schema::TimestampMillis => long().prop_map(Value::TimestampMillis).boxed(),
        Schema::TimestampMicros => long().prop_map(Value::TimestampMicros).boxed(),
        Schema::TimestampNanos => long().prop_map(Value::TimestampNanos).boxed(),
        Schema::LocalTimestampMillis => long().prop_map(Value::LocalTimestampMillis).boxed(),
        Schema::LocalTimestampMicros => long().prop_map(Value::LocalTimestampMicros).boxed(),
        Schema::LocalTimestampNanos => long().prop_map(Value::LocalTimestampNanos).boxed(),
        Schema::Null => Just(Value::Null).boxed(),
        Schema::Union(union) => {
            let branch = |(at, schema)| {
                any_value(schema).prop_map(move |value| Value::Union(at, Box::new(value)))
            };
            let branches: Vec<_> = (0..).zip(union.variants()).map(branch).collect();
            prop::strategy::Union::new(branches).boxed()
        }
        Schema::Record(record) => {
            let fields = record.fields.iter();
            let fields: Vec<_> =
                fields.map(|field| (Just(field.name.clone()), any_value(&field.schema))).collect();
            fields.prop_map(Value::Record).boxed()
        }
        other => panic!("no field is {other:?}"),
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Overwrite(Index, u8),
    Insert(Index, u8),
    Cut(Index),
    Extend(Vec<u8>),
}

fn any_damage() -> impl Strategy<Value = Vec<Damage>> {
    let byte = || prop_oneof![any::<u8>(), 0..6_u8, Just(0x80), Just(0xff)];
    let damage = prop_oneof![
        4 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Overwrite(at, byte)),
        2 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => prop::collection::vec(byte(), 1..4).prop_map(Damage::Extend),
    ];
    prop::collection::vec(damage, 1..3)
}

fn damaged(mut body: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let place = |at: &Index| at.index(body.len() + 1);
        match damage {
            Damage::Overwrite(at, byte) => {
                let place = place(at);
                body.get_mut(place).into_iter().for_each(|found| *found = *byte);
            }
            Damage::Insert(at, byte) => body.insert(place(at), *byte),
            Damage::Cut(at) => body.truncate(place(at)),
            Damage::Extend(bytes) => body.extend(bytes),
        }
    }
    body
}

/// Both ways of a body take it or neither does, and give the same cells and the same row.
fn same_both_ways(
    decoder: &Decoder<'_>,
    contract: &Contract,
    body: &[u8],
) -> Result<(), TestCaseError> {
    let tree = decoder.decode(body);
    let mut flat = Vec::new();
    let is_flat = decoder.cells(body, &mut flat);
    prop_assert_eq!(is_flat, tree.is_ok(), "{:?} of {:?}", tree, body);
    let Ok(event) = tree else { return Ok(()) };
    let reference = cells(&event, &contract.columns);
    // not the values: NaN is not itself
    prop_assert_eq!(format!("{flat:?}"), format!("{reference:?}"));
    let encoder = RowEncoder::new(contract).unwrap();
    let row = |cells: &[Cell<'_>]| {
        let mut row = b"a row before".to_vec();
        let encoded = encoder.encode(cells, [], Uuid::nil(), &mut row);
        (encoded, row)
    };
    let (encoded, bytes) = row(&flat);
    prop_assert_eq!(&(encoded.clone(), bytes.clone()), &row(&reference));
    match encoded {
        Ok(EncodedRow { columns, id, .. }) => {
            prop_assert_eq!(columns, 12..bytes.len());
            prop_assert_eq!(id, 16..32);
        }
        Err(_) => prop_assert_eq!(bytes, b"a row before"),
    }
    Ok(())
}

fn contract(schema: &Json) -> Contract {
    Contract::parse(Path::new("r.avsc"), schema.to_string()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_another_version_wrote_is_the_same_by_both_ways(
        ((writer, reader), event, damages) in any_fields().prop_flat_map(|(fields, is_reversed)| {
            let (writer, reader) = schemas(&fields, is_reversed);
            let event = any_value(&writer);
            (Just((writer, reader)), event, prop::collection::vec(any_damage(), 24))
        })
    ) {
        let contract = contract(&reader);
        let made = WriterSchema::new(&writer, &contract.schema);
        let decoder = made.decoder(&contract.schema).unwrap();
        let body = Encoder::new(&writer).unwrap().encode(&event).unwrap();
        same_both_ways(&decoder, &contract, &body)?;
        for damages in &damages {
            same_both_ways(&decoder, &contract, &damaged(body.clone(), damages))?;
        }
    }

    #[test]
    fn what_the_same_version_wrote_is_always_read_the_short_way(
        (schema, event, damages) in any_fields().prop_flat_map(|(fields, _)| {
            let (_, schema) = schemas(&fields, false);
            let event = any_value(&Schema::parse(&schema).unwrap());
            (Just(schema), event, prop::collection::vec(any_damage(), 24))
        })
    ) {
        let contract = contract(&schema);
        let made = WriterSchema::new(&contract.schema, &contract.schema);
        let decoder = made.decoder(&contract.schema).unwrap();
        let body = Encoder::new(&contract.schema).unwrap().encode(&event).unwrap();
        prop_assert!(decoder.cells(&body, &mut Vec::new()));
        for damages in &damages {
            same_both_ways(&decoder, &contract, &damaged(body.clone(), damages))?;
        }
    }
}

#[test]
fn every_flat_contract_of_ours_is_read_the_short_way() {
    let is_flat = |contract: &Contract| {
        let mut kinds = contract.columns.iter().map(|column| &column.kind);
        kinds.all(|kind| {
            !matches!(kind, ColumnType::Jsonb | ColumnType::Numeric(_) | ColumnType::Interval)
        })
    };
    let contracts = Contract::read_all(Path::new("schemas")).unwrap();
    let flat: Vec<&Contract> = contracts.iter().filter(|contract| is_flat(contract)).collect();
    assert!(flat.iter().any(|contract| contract.stream == "device_telemetry"));
    for contract in flat {
        let schema = &contract.schema;
        let made = WriterSchema::new(schema, schema);
        let decoder = made.decoder(schema).unwrap();
        for seed in 0..20 {
            let mut events = Generic::new(schema.clone(), seed, None, None);
            let event = events.next(OffsetDateTime::UNIX_EPOCH);
            let body = Encoder::new(schema).unwrap().encode(&event).unwrap();
            assert!(decoder.cells(&body, &mut Vec::new()), "{event:?}");
        }
    }
}

/// Reads a body by both ways, of which the short one has to take it.
#[track_caller]
fn assert_short_way(writer: &Json, reader: &Json, body: &[u8]) {
    let contract = contract(reader);
    let made = WriterSchema::new(&Schema::parse(writer).unwrap(), &contract.schema);
    let decoder = made.decoder(&contract.schema).unwrap();
    assert!(decoder.cells(body, &mut Vec::new()));
    same_both_ways(&decoder, &contract, body).unwrap();
}

/// A record of sixteen bytes of an id, and these fields.
fn with_id(fields: &[Json]) -> Json {
    let kind = json!({"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"});
    let id = json!({"name": "event_id", "type": kind});
    let fields: Vec<Json> = std::iter::once(id).chain(fields.iter().cloned()).collect();
    json!({"type": "record", "name": "R", "namespace": "n", "fields": fields})
}

#[test]
fn a_type_may_be_named_again() {
    let kind = json!({"type": "enum", "name": "E", "symbols": ["a", "b"]});
    let named = |default: &str| {
        with_id(&[
            json!({"name": "defined", "type": kind}),
            json!({"name": "again", "type": ["null", "E"]}),
            json!({"name": "in_full", "type": "n.E", "default": default}),
        ])
    };
    let body = [&[7; 16][..], &[2, 2, 0, 2]].concat();
    assert_short_way(&named("a"), &named("a"), &body);
    let mut evolved = named("b");
    evolved["fields"].as_array_mut().unwrap().swap(2, 3);
    assert_short_way(&named("a"), &evolved, &body);
}

#[test]
fn a_field_that_two_of_ours_stand_for_goes_to_the_first() {
    let written = with_id(&[json!({"name": "old", "type": "int"})]);
    let claim = |name: &str| json!({"name": name, "type": "int", "aliases": ["old"], "default": 9});
    let read = with_id(&[claim("first"), claim("second")]);
    assert_short_way(&written, &read, &[&[7; 16][..], &[4]].concat());
}

#[test]
fn a_record_that_takes_more_than_its_body_is_worth_is_left_to_the_tree() {
    let null = |number: usize| {
        let name = format!("{}{number}", "n".repeat(100_000));
        json!({"name": name, "type": ["null", "int"]})
    };
    let schema = record((0..20).map(null).collect());
    let made = WriterSchema::new(&schema, &schema);
    let decoder = made.decoder(&schema).unwrap();
    assert_eq!(decoder.decode(&[0; 20]).unwrap_err().reason, "length_out_of_bounds");
    assert!(!decoder.cells(&[0; 20], &mut Vec::new()));
}
