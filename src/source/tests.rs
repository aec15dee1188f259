//! From rows to Avro values: the real data, every Avro type, and whatever else may come.

use std::collections::HashSet;
use std::path::Path;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::json;

use super::*;

mod properties;

/// A stream's schema and what its contract says about its input.
struct Stream {
    name: String,
    schema: Schema,
    mapping: InputMapping,
    id_from: Vec<String>,
}

impl Stream {
    fn of(name: &str, schema: &Json) -> Self {
        let attribute = |key| schema["sluicegate"].get(key).cloned();
        Self {
            name: name.to_owned(),
            schema: Schema::parse(schema).unwrap(),
            mapping: serde_json::from_value(attribute("input").unwrap_or(json!({}))).unwrap(),
            id_from: serde_json::from_value(attribute("id_from").unwrap_or(json!([]))).unwrap(),
        }
    }

    fn named(name: &str) -> Self {
        let path = format!("{}/schemas/{name}.avsc", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        Self::of(name, &serde_json::from_str(&text).unwrap())
    }

    /// A stream of one field beside the event id.
    fn with_field(field: Json) -> Self {
        let id = json!({"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}});
        let id_from = json!({"id_from": [field["name"]]});
        Self::of(
            "test",
            &json!({"type": "record", "name": "Test", "fields": [id, field], "sluicegate": id_from}),
        )
    }

    fn readings(&self) -> Readings<'_> {
        Readings::new(StreamInput {
            stream: &self.name,
            schema: &self.schema,
            mapping: &self.mapping,
            id_field: Some("event_id"),
            id_from: &self.id_from,
        })
        .unwrap()
    }

    fn read_file(&self, path: &Path) -> Vec<Result<Value, Rejected>> {
        let readings = self.readings();
        let rows = file::open(path, &self.mapping).unwrap();
        rows.map(|row| row.unwrap().and_then(|row| readings.read(row))).collect()
    }

    fn read(&self, mode: Mode, json: Json) -> Result<Value, Rejected> {
        self.readings().read(Row { line: 1, json, mode })
    }

    /// Encodes as a producer and decodes as a consumer that resolves to its own schema.
    fn through_avro(&self, value: &Value) -> Value {
        let writer = GenericDatumWriter::builder(&self.schema).build().unwrap();
        let bytes = writer.write_value_to_vec(value.clone()).unwrap();
        let reader =
            GenericDatumReader::builder(&self.schema).reader_schema(&self.schema).build().unwrap();
        let mut rest = bytes.as_slice();
        let decoded = reader.read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        decoded
    }
}

fn get<'v>(value: &'v Value, name: &str) -> &'v Value {
    let Value::Record(fields) = value else { panic!("{value:?}") };
    &fields.iter().find(|(field, _)| field == name).unwrap().1
}

fn null() -> Value {
    Value::Union(0, Box::new(Value::Null))
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

fn data(name: &str) -> std::path::PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", name].iter().collect()
}

#[test]
fn real_data_becomes_readings_with_ids_of_their_own() {
    for (name, file) in [
        ("pedestrian_counts", "pedestrian_counts.csv"),
        ("heartbeats", "heart_rates.csv"),
        ("earthquakes", "earthquakes.geojson"),
    ] {
        let stream = Stream::named(name);
        let readings = stream.read_file(&data(file));
        assert_eq!(readings.len(), 10, "{name}");
        let mut ids = HashSet::new();
        for reading in readings {
            let reading = reading.unwrap();
            assert_eq!(stream.through_avro(&reading), reading);
            let Value::Uuid(id) = get(&reading, "event_id") else { panic!("{reading:?}") };
            assert!(ids.insert(*id), "{name}");
        }
    }
}

#[test]
fn a_blank_count_is_null() {
    let readings = Stream::named("pedestrian_counts").read_file(&data("pedestrian_counts.csv"));
    assert_eq!(get(readings[0].as_ref().unwrap(), "count"), &some(Value::Int(127)));
    assert_eq!(get(readings[9].as_ref().unwrap(), "count"), &null());
}

#[test]
fn an_earthquake_is_found_inside_its_feature() {
    let readings = Stream::named("earthquakes").read_file(&data("earthquakes.geojson"));
    let Ok(Value::Record(fields)) = &readings[0] else { panic!() };
    let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    event_id: Uuid(78e285e5-f75c-531f-b44b-e154ef0304c0)
    usgs_id: String("ci37868143")
    occurred_at: TimestampMillis(1517966773840)
    updated_at: TimestampMillis(1517966996303)
    magnitude: Union(1, Double(2.0))
    magnitude_type: Union(1, String("ml"))
    place: Union(1, String("4km W of Castaic, CA"))
    longitude: Double(-118.6671667)
    latitude: Double(34.4945)
    depth_km: Union(1, Double(26.49))
    kind: String("earthquake")
    status: String("automatic")
    significance: Int(62)
    tsunami: Int(0)
    felt_reports: Union(0, Null)
    url: Union(1, String("https://earthquake.usgs.gov/earthquakes/eventpage/ci37868143"))
    "#);
}

#[test]
fn ids_of_real_readings_never_change() {
    let readings = Stream::named("heartbeats").read_file(&data("heart_rates.csv"));
    let Value::Uuid(id) = get(readings[0].as_ref().unwrap(), "event_id") else { panic!() };
    insta::assert_snapshot!(id, @"0e2986cf-cc06-5120-89a8-3f866c523f78");
}

#[test]
fn the_same_instant_gives_the_same_id_however_it_is_written() {
    let stream = Stream::named("heartbeats");
    let id = |mode, timestamp: Json, heart_rate: Json| {
        let row = json!({"customer_id": "c", "timestamp": timestamp, "heart_rate": heart_rate});
        get(&stream.read(mode, row).unwrap(), "event_id").clone()
    };
    let expected = id(Mode::Json, json!(1_479_995_939_334_i64), json!(60));
    assert_eq!(id(Mode::Json, json!("2016-11-24T13:58:59.334Z"), json!(61)), expected);
    assert_eq!(id(Mode::Text, json!("2016-11-24 14:58:59.334+01:00"), json!("62")), expected);
    assert_eq!(id(Mode::Text, json!("1479995939334"), json!("63")), expected);
}

#[test]
fn an_id_in_the_input_stands_and_a_blank_one_is_derived() {
    let stream = Stream::with_field(json!({"name": "place", "type": "string"}));
    let id = |id: Json| {
        let reading = stream.read(Mode::Json, json!({"event_id": id, "place": "here"}));
        reading.map(|reading| get(&reading, "event_id").clone())
    };
    let given = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_eq!(id(json!(given)), Ok(Value::Uuid(given.parse().unwrap())));
    let derived = id(json!(null)).unwrap();
    assert_eq!(id(json!(" ")), Ok(derived));
    assert_eq!(id(json!("7")).unwrap_err().field, "event_id");
}

#[test]
fn a_row_without_an_id_and_no_id_from_says_what_to_do() {
    let row = json!({"event_type": "x", "occurred_at": 0});
    let rejected = Stream::named("events").read(Mode::Json, row.clone()).unwrap_err();
    assert_eq!((rejected.field.as_str(), &rejected.row), ("event_id", &row));
    assert_eq!(
        rejected.reason,
        "no event id in the input; add the field, or name the fields that identify an event in \
         \"id_from\""
    );
}

#[test]
fn an_absent_member_takes_the_default_then_null_then_is_rejected() {
    let with_default = json!({"name": "a", "type": ["null", "int"], "default": null});
    let of_seven = json!({"name": "a", "type": "int", "default": 7});
    let nullable = json!({"name": "a", "type": ["int", "null"]});
    let plain = json!({"name": "a", "type": "int"});
    let read = |field: Json| {
        let read = Stream::with_field(field).read(Mode::Json, json!({"b": 1}));
        read.map(|reading| get(&reading, "a").clone())
    };
    assert_eq!(read(with_default), Ok(null()));
    assert_eq!(read(of_seven.clone()), Ok(Value::Int(7)));
    assert_eq!(read(nullable), Ok(some(Value::Null)));
    let rejected = read(plain).unwrap_err();
    assert_eq!(rejected.field, "a");
    assert_eq!(rejected.reason, "is missing, and the schema has neither a default nor null for it");
    let present = Stream::with_field(of_seven).read(Mode::Text, json!({"a": ""})).unwrap_err();
    assert_eq!(present.reason, "expected an int, found \"\"");
}

#[test]
fn a_string_is_not_a_number_in_json_and_is_one_in_csv() {
    let stream = Stream::with_field(json!({"name": "a", "type": "double"}));
    assert!(stream.read(Mode::Json, json!({"a": "1.5"})).is_err());
    let reading = stream.read(Mode::Text, json!({"a": " 1.5 "})).unwrap();
    assert_eq!(get(&reading, "a"), &Value::Double(1.5));
    let reading = stream.read(Mode::Json, json!({"a": 2})).unwrap();
    assert_eq!(get(&reading, "a"), &Value::Double(2.0));
}

#[test]
fn a_decimal_keeps_every_digit_or_is_refused() {
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2});
    let stream = Stream::with_field(json!({"name": "a", "type": decimal}));
    let unscaled = |json: Json| {
        let reading = stream.read(Mode::Json, json!({"a": json})).map_err(|r| r.reason)?;
        let Value::Decimal(decimal) = get(&reading, "a") else { panic!("{reading:?}") };
        let bytes = Vec::try_from(decimal).unwrap();
        let sign = if bytes[0] < 0x80 { 0 } else { 0xff };
        let mut wide = [sign; 16];
        wide[16 - bytes.len()..].copy_from_slice(&bytes);
        Ok::<_, String>(i128::from_be_bytes(wide))
    };
    assert_eq!(unscaled(json!("-123456789012345678.91")), Ok(-12_345_678_901_234_567_891));
    assert_eq!(unscaled(json!(0.1)), Ok(10));
    assert_eq!(unscaled(json!(u64::MAX / 1_000)), Ok(1_844_674_407_370_955_100));
    for refused in [json!(0.001), json!("1234567890123456789"), json!(1_234_567_890_123_456.7)] {
        assert!(unscaled(refused.clone()).is_err(), "{refused}");
    }
}

#[test]
fn a_nested_field_is_named_with_dots() {
    let inner = json!({"type": "record", "name": "Inner", "fields": [
        {"name": "tags", "type": {"type": "array", "items": "long"}}]});
    let stream = Stream::with_field(json!({"name": "a", "type": ["null", inner]}));
    let rejected = stream.read(Mode::Json, json!({"a": {"tags": [1, "x"]}})).unwrap_err();
    assert_eq!(rejected.field, "a.tags.1");
    assert_eq!(rejected.reason, "expected a long, found \"x\"");
}

#[test]
fn a_value_that_is_nested_too_deeply_is_refused_and_not_followed_for_ever() {
    let tree = json!({"type": "record", "name": "Tree", "fields": [
        {"name": "branch", "type": ["null", "Tree"], "default": null}]});
    let stream = Stream::with_field(json!({"name": "a", "type": tree}));
    let nested = |levels| (0..levels).fold(json!({}), |inner, _| json!({"branch": inner}));
    assert!(stream.read(Mode::Json, json!({"a": nested(50)})).is_ok());
    let rejected = stream.read(Mode::Json, json!({"a": nested(300)})).unwrap_err();
    assert!(rejected.field.starts_with("a.branch.branch"), "{}", rejected.field);
    assert_eq!(rejected.reason, "is nested too deeply");
}

#[test]
fn a_map_in_a_csv_cell_is_json() {
    let stream = Stream::with_field(json!({"name": "a", "type": {"type": "map", "values": "int"}}));
    let reading = stream.read(Mode::Text, json!({"a": "{\"x\": 1}"})).unwrap();
    assert_eq!(get(&reading, "a"), &Value::Map([("x".to_owned(), Value::Int(1))].into()));
    assert!(stream.read(Mode::Text, json!({"a": "{\"x\": \"1\"}"})).is_err());
    assert!(stream.read(Mode::Text, json!({"a": ""})).is_err());
}

#[test]
fn a_contract_that_names_a_missing_field_is_refused_before_the_first_row() {
    let stream = Stream::named("heartbeats");
    let problem = |mapping: &InputMapping, id_from: &[String]| {
        let (stream, schema, id_field) = (stream.name.as_str(), &stream.schema, "event_id");
        let input = StreamInput { stream, schema, mapping, id_field: Some(id_field), id_from };
        Readings::new(input).err().unwrap().to_string()
    };
    let mapped = |field: &str, pointer: &str| InputMapping {
        fields: [(field.to_owned(), pointer.to_owned())].into(),
        ..Default::default()
    };
    assert!(problem(&mapped("pulse", "/pulse"), &[]).contains("\"pulse\""));
    assert!(problem(&mapped("heart_rate", "pulse"), &[]).contains("not a JSON pointer"));
    assert!(problem(&InputMapping::default(), &["pulse".into()]).contains("\"pulse\""));
    assert!(problem(&InputMapping::default(), &["event_id".into()]).contains("itself"));
}
