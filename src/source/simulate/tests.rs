mod scoring;

use super::*;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::to_value;
use apache_avro::writer::datum::GenericDatumWriter;
use cel::{Context as CelContext, Program};
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use time::macros::datetime;

const NIGHT: OffsetDateTime = datetime!(2026-03-02 02:00 UTC);
const RUSH_HOUR: OffsetDateTime = datetime!(2026-03-02 07:30 UTC);

#[test]
fn the_same_seed_and_moments_make_the_same_readings() {
    for stream in typed_streams() {
        assert_eq!(values(stream, 7, 500), values(stream, 7, 500), "{stream}");
    }
    for (name, schema) in schemas() {
        assert_eq!(generic_values(&schema, 7, 100), generic_values(&schema, 7, 100), "{name}");
    }
}

#[test]
fn another_seed_makes_other_readings() {
    for stream in typed_streams() {
        let (one, other) = (values(stream, 7, 500), values(stream, 8, 500));
        assert!(one.iter().zip(&other).all(|(one, other)| one != other), "{stream}");
    }
    let schema = schema("earthquakes");
    assert_ne!(generic_values(&schema, 7, 10), generic_values(&schema, 8, 10));
}

#[test]
fn every_id_is_new_and_ids_sort_by_time() {
    for stream in typed_streams() {
        let readings = readings(stream, 3, moments(NIGHT, 1).take(5_000));
        let ids: Vec<_> = readings.iter().map(|reading| text(&reading["event_id"])).collect();
        assert!(ids.is_sorted(), "{stream}");
        assert_eq!(BTreeSet::from_iter(&ids).len(), ids.len(), "{stream}");
    }
}

#[test]
fn every_typed_reading_survives_encoding_and_decoding() {
    for stream in typed_streams() {
        assert_round_trips(stream, &schema(stream), &values(stream, 1, 5_000));
    }
}

#[test]
fn structs_serialise_straight_into_their_schema() {
    let at = RUSH_HOUR;
    assert_same_reading("heartbeats", Heartbeats::new(1).next(at));
    assert_same_reading("bus_telemetry", Buses::new(1).next(at));
    assert_same_reading("device_telemetry", Devices::new(1).next(at));
    assert_same_reading("events", Events::new(1).next(at));
    let mut traffic = Traffic::new(1);
    for _ in 0..10 {
        assert_same_reading("traffic", traffic.next(at));
    }
}

#[test]
fn every_typed_reading_keeps_the_rules_of_its_contract() {
    for stream in typed_streams() {
        let contract = contract(stream);
        let context = context(&contract);
        // what a rule says about now is that the time is the moment's, which comes first here
        let rules: Vec<_> = contract["rules"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| !text(&rule["check"]).contains("now"))
            .map(|rule| (&rule["name"], Program::compile(text(&rule["check"])).unwrap()))
            .collect();
        for start in [NIGHT, RUSH_HOUR] {
            let moments = moments(start, 1_000).take(2_500);
            for (at, reading) in moments.clone().zip(readings(stream, 5, moments)) {
                assert_eq!(reading[text(&contract["time"])], at.unix_timestamp() * 1000);
                for (name, rule) in &rules {
                    let verdict = evaluate(rule, &context, &reading);
                    assert_eq!(verdict, true.into(), "{stream} {name}: {reading}");
                }
            }
        }
    }
}

#[test]
fn a_schema_that_moved_away_from_its_generator_is_refused() {
    let text = std::fs::read_to_string(path("heartbeats")).unwrap();
    let refusal = |text: String| {
        let schema = Schema::parse_str(&text).unwrap();
        format!("{:#}", Simulator::typed("heartbeats", &schema, 1).err().unwrap())
    };
    let renamed = refusal(text.replace("\"heart_rate\"", "\"bpm\""));
    assert_eq!(
        renamed,
        "the generator of \"heartbeats\" does not fit its schema: \
         the schema has no field \"heart_rate\""
    );
    let retyped = refusal(text.replace("\"double\"", "\"boolean\""));
    assert!(retyped.contains("does not fit its schema: "), "{retyped}");
}

#[test]
fn a_new_field_with_a_default_is_filled() {
    let field = r#"{"name": "unit", "type": "string", "default": "bpm"}, {"name": "heart_rate""#;
    let text = std::fs::read_to_string(path("heartbeats")).unwrap();
    let schema = Schema::parse_str(&text.replace(r#"{"name": "heart_rate""#, field)).unwrap();
    let mut simulator = Simulator::typed("heartbeats", &schema, 1).unwrap().unwrap();
    let Value::Record(fields) = simulator.next(NIGHT).unwrap() else { panic!("no record") };
    assert!(fields.contains(&("unit".to_owned(), Value::String("bpm".to_owned()))));
}

#[test]
fn a_stream_without_its_own_generator_has_none() {
    assert!(Simulator::typed("earthquakes", &schema("earthquakes"), 1).unwrap().is_none());
}

#[test]
fn hearts_are_usually_well_and_each_kind_of_anomaly_occurs() {
    let contract = contract("heartbeats");
    let context = context(&contract);
    let label = Program::compile(text(&contract["labels"][0]["value"])).unwrap();
    for seed in 0..3 {
        let anomalies: Vec<_> = readings("heartbeats", seed, moments(NIGHT, 100).take(6_000))
            .iter()
            .map(|reading| evaluate(&label, &context, reading))
            .collect();
        let share = |of: &str| {
            anomalies.iter().filter(|a| **a == of.into()).count() as f64 / anomalies.len() as f64
        };
        assert!((0.001..0.06).contains(&share("too_low")), "{} too low", share("too_low"));
        assert!((0.001..0.08).contains(&share("too_high")), "{} too high", share("too_high"));
    }
}

#[test]
fn what_lasts_within_bounds_keeps_them_and_its_mean() {
    let mut chance = common::seeded(1);
    let drawn: Vec<f64> =
        std::iter::repeat_with(|| common::lasting_within(600.0, 120.0..3600.0, &mut chance))
            .take(10_000)
            .collect();
    assert!(drawn.iter().all(|seconds| (120.0..3600.0).contains(seconds)));
    let mean = drawn.iter().sum::<f64>() / 10_000.0;
    assert!((580.0..620.0).contains(&mean), "{mean}");
}

#[test]
fn some_customers_fall_silent_for_a_while() {
    let mut hearts = Heartbeats::new(4);
    let mut last = HashMap::new();
    let gaps: Vec<_> = moments(NIGHT, 100)
        .take(36_000)
        .filter_map(|at| last.insert(hearts.next(at).customer_id, at).map(|last| at - last))
        .collect();
    let silences = gaps.iter().filter(|gap| **gap > Duration::seconds(30)).count();
    assert!(silences > 5 && silences * 100 < gaps.len(), "{silences} of {}", gaps.len());
}

#[test]
fn two_to_five_in_a_hundred_device_readings_are_degraded_whenever_and_however_fast() {
    let contract = contract("device_telemetry");
    let context = context(&contract);
    let label = Program::compile(text(&contract["labels"][0]["value"])).unwrap();
    for (seed, step) in [(1, 1), (2, 50), (3, 1_000), (4, 30_000)] {
        let mut devices = Devices::new(seed);
        let degraded = moments(NIGHT, step)
            .take(4_000)
            .filter(|at| {
                let reading = serde_json::to_value(devices.next(*at)).unwrap();
                evaluate(&label, &context, &reading) == true.into()
            })
            .count();
        let share = degraded as f64 / 4_000.0;
        assert!((0.02..=0.05).contains(&share), "{share} at a step of {step} ms");
    }
}

#[test]
fn devices_fail_one_after_the_other() {
    let worn = |at| {
        let mut devices = Devices::new(1);
        let samples = (0..400).map(|_| devices.next(at));
        BTreeSet::from_iter(
            samples.filter(|s| s.kpi == Kpi::Vibration && s.value > 5.0).map(|s| s.device_id),
        )
    };
    let (before, after) = (worn(NIGHT), worn(NIGHT + Duration::minutes(40)));
    assert!(!before.is_empty() && !after.is_empty());
    assert!(before.is_disjoint(&after));
}

#[test]
fn buses_speed_up_gently_and_depart_after_they_arrived() {
    let mut buses = Buses::new(2);
    let mut last: HashMap<String, BusTelemetry> = HashMap::new();
    let mut events: HashMap<String, usize> = HashMap::new();
    for at in moments(RUSH_HOUR, 50).take(144_000) {
        let now = buses.next(at);
        *events.entry(format!("{:?}", now.event)).or_default() += 1;
        if let Some(before) = last.get(&now.bus_id) {
            let seconds = (now.ts - before.ts) as f64 / 1000.0;
            let gained = now.speed_kmh - before.speed_kmh;
            assert!(gained <= 1.1 * 3.6 * seconds + 3.7, "{gained} km/h in {seconds} s");
            assert!(before.event != BusEvent::Arrived || now.event == BusEvent::Departed);
        }
        last.insert(now.bus_id.clone(), now);
    }
    let count = |event: &str| events.get(event).copied().unwrap_or(0);
    assert!(count("Arrived") > 500 && count("Departed") > 500, "{events:?}");
    assert!((1..60).contains(&count("Breakdown")), "{events:?}");
    assert!(count("Moving") > 20 * count("Arrived"), "{events:?}");
}

#[test]
fn buses_are_fuller_and_slower_in_the_rush_hour() {
    let means = |start| {
        let mut buses = Buses::new(2);
        let all: Vec<_> = moments(start, 100).take(36_000).map(|at| buses.next(at)).collect();
        let mean =
            |of: fn(&BusTelemetry) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        (mean(|bus| f64::from(bus.passengers)), mean(|bus| bus.speed_kmh))
    };
    let (night, rush) = (means(NIGHT), means(RUSH_HOUR));
    assert!(rush.0 > 1.5 * night.0, "passengers: {night:?} {rush:?}");
    assert!(rush.1 < 0.9 * night.1, "speed: {night:?} {rush:?}");
}

#[test]
fn traffic_is_slower_in_the_rush_hour() {
    let mean = |start| {
        let mut traffic = Traffic::new(1);
        moments(start, 100).take(20_000).map(|at| traffic.next(at).speed_kmh).sum::<f64>()
            / 20_000.0
    };
    assert!(mean(RUSH_HOUR) < 0.85 * mean(NIGHT), "{} {}", mean(RUSH_HOUR), mean(NIGHT));
}

#[test]
fn jams_last_for_minutes_and_accidents_stop_a_road_at_once() {
    let mut traffic = Traffic::new(1);
    let mut last: HashMap<String, TrafficReading> = HashMap::new();
    let mut slow_since: HashMap<String, i64> = HashMap::new();
    let (mut slow_for, mut sudden) = (BTreeSet::new(), 0);
    for at in moments(NIGHT, 50).take(150_000) {
        let now = traffic.next(at);
        if now.source != TrafficSource::LoopSensor {
            continue;
        }
        if now.speed_kmh < 20.0 {
            let since = *slow_since.entry(now.segment_id.clone()).or_insert(now.ts);
            if now.ts - since > 5 * 60_000 {
                slow_for.insert((now.segment_id.clone(), since));
            }
        } else {
            slow_since.remove(&now.segment_id);
        }
        if let Some(before) = last.insert(now.segment_id.clone(), now.clone()) {
            sudden += usize::from(before.speed_kmh - now.speed_kmh > 15.0);
        }
    }
    assert!(slow_for.len() >= 10, "{} jams", slow_for.len());
    assert!((5..100).contains(&sudden), "{sudden} sudden drops");
}

#[test]
fn vehicles_are_where_their_segment_is() {
    let mut traffic = Traffic::new(1);
    let mut centres: HashMap<String, Vec<(f64, f64)>> = HashMap::new();
    for at in moments(NIGHT, 100).take(20_000) {
        let now = traffic.next(at);
        match (now.source, now.latitude, now.longitude) {
            (TrafficSource::VehicleGps, Some(latitude), Some(longitude)) => {
                assert_eq!(now.vehicle_count, 1);
                centres.entry(now.segment_id).or_default().push((latitude, longitude));
            }
            (source, latitude, longitude) => {
                assert_eq!((source, latitude, longitude), (TrafficSource::LoopSensor, None, None));
            }
        }
    }
    for positions in centres.values() {
        let latitudes = positions.iter().map(|position| position.0);
        let spread =
            latitudes.clone().fold(f64::MIN, f64::max) - latitudes.fold(f64::MAX, f64::min);
        assert!(spread < 0.035, "{spread} degrees");
    }
}

#[test]
fn web_events_form_a_funnel() {
    let mut events = Events::new(1);
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for event in moments(NIGHT, 100).take(20_000).map(|at| events.next(at)) {
        *counts.entry(event.event_type).or_default() += 1;
        assert!(
            ["session_id", "user_id", "path"].iter().all(|key| event.payload.contains_key(key))
        );
        let sold = matches!(event.event_type, "checkout" | "purchase");
        assert_eq!(event.payload.contains_key("amount"), sold);
        assert_ne!(event.payload.get("amount").map(String::as_str), Some("0.00"));
    }
    let funnel = ["page_view", "click", "add_to_cart", "checkout", "purchase", "error", "sign_up"];
    let counts: Vec<_> = funnel.iter().map(|step| counts.get(step).copied().unwrap_or(0)).collect();
    assert!(counts[..5].is_sorted_by(|wide, narrow| wide > narrow), "{counts:?}");
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

#[test]
fn the_generic_generator_fits_every_schema_of_the_project() {
    for (name, schema) in schemas() {
        assert_round_trips(&name, &schema, &generic_values(&schema, 1, 500));
    }
}

#[test]
fn the_generic_generator_fits_every_type_of_avro() {
    let schema = Schema::parse_str(EVERY_TYPE).unwrap();
    assert_round_trips("every type", &schema, &generic_values(&schema, 1, 2_000));
}

#[test]
fn generic_readings_carry_the_moment_and_an_id_of_their_own() {
    for id in [r#""string""#, r#""int""#, r#""long""#, r#"["null", "long"]"#] {
        for time in [
            r#"{"type": "long", "logicalType": "timestamp-micros"}"#,
            r#"["null", {"type": "long", "logicalType": "timestamp-millis"}]"#,
            r#""string""#,
            r#""long""#,
        ] {
            let text = format!(
                r#"{{"type": "record", "name": "R", "fields": [
                    {{"name": "id", "type": {id}}}, {{"name": "time", "type": {time}}}]}}"#
            );
            let all = generic_readings(&Schema::parse_str(&text).unwrap(), 200);
            let ids: BTreeSet<_> = all.iter().map(|reading| reading["id"].to_string()).collect();
            assert_eq!(ids.len(), all.len());
            assert!(ids.iter().all(|id| id != "null" && !id.starts_with('-')));
            for (at, reading) in moments(NIGHT, 100).zip(&all) {
                let expected = match &reading["time"] {
                    Json::String(time) => time.starts_with("2026-03-02T02:00:"),
                    time if text.contains("micros") => {
                        *time == at.unix_timestamp_nanos() as i64 / 1000
                    }
                    time => *time == at.unix_timestamp_nanos() as i64 / 1_000_000,
                };
                assert!(expected, "{reading}");
            }
        }
    }
}

#[test]
fn generic_words_come_again_and_places_are_on_earth() {
    let all = generic_readings(&schema("pedestrian_counts"), 2_000);
    let sensors: BTreeSet<_> = all.iter().map(|r| r["sensor_id"].to_string()).collect();
    assert_eq!(sensors.len(), 20);
    let nulls = all.iter().filter(|r| r["count"].is_null()).count();
    assert!((100..300).contains(&nulls), "{nulls}");
    for reading in &all {
        assert!(reading["latitude"].as_f64().unwrap().abs() <= 90.0);
        assert!(reading["count"].as_i64().is_none_or(|count| count >= 0));
    }
}

#[test]
fn a_schema_without_end_does_not_hang_the_generic_generator() {
    let text = r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}"#;
    if let Ok(schema) = Schema::parse_str(text) {
        Generic::new(schema, 1, None, None).next(NIGHT);
    }
}

const EVERY_TYPE: &str = r#"{
  "type": "record", "name": "Everything", "namespace": "outer.space", "fields": [
    {"name": "nothing", "type": "null"},
    {"name": "boolean", "type": "boolean"},
    {"name": "int", "type": "int"},
    {"name": "long", "type": "long"},
    {"name": "float", "type": "float"},
    {"name": "double", "type": "double"},
    {"name": "bytes", "type": "bytes"},
    {"name": "string", "type": "string"},
    {"name": "symbol", "type": {"type": "enum", "name": "Suit", "symbols": ["hearts", "spades"]}},
    {"name": "fixed", "type": {"type": "fixed", "name": "Hash", "size": 20}},
    {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "uuid_fixed", "type": {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
    {"name": "tiny", "type": {"type": "bytes", "logicalType": "decimal", "precision": 2}},
    {"name": "huge", "type": {"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": 40}},
    {"name": "price_fixed", "type": {
      "type": "fixed", "name": "Price", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 4}},
    {"name": "wide_fixed", "type": {
      "type": "fixed", "name": "Wide", "size": 24, "logicalType": "decimal", "precision": 38, "scale": 10}},
    {"name": "big_decimal", "type": {"type": "bytes", "logicalType": "big-decimal"}},
    {"name": "date", "type": {"type": "int", "logicalType": "date"}},
    {"name": "time_millis", "type": {"type": "int", "logicalType": "time-millis"}},
    {"name": "time_micros", "type": {"type": "long", "logicalType": "time-micros"}},
    {"name": "timestamp_millis", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "timestamp_micros", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "timestamp_nanos", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
    {"name": "local_millis", "type": {"type": "long", "logicalType": "local-timestamp-millis"}},
    {"name": "local_micros", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
    {"name": "local_nanos", "type": {"type": "long", "logicalType": "local-timestamp-nanos"}},
    {"name": "lasted", "type": {"type": "fixed", "name": "Lasted", "size": 12, "logicalType": "duration"}},
    {"name": "maybe", "type": ["null", "string"], "default": null},
    {"name": "maybe_last", "type": ["double", "null"]},
    {"name": "either", "type": ["null", "long", "string", "boolean", "Suit"]},
    {"name": "always", "type": ["int", "string"]},
    {"name": "array", "type": {"type": "array", "items": "int"}},
    {"name": "map", "type": {"type": "map", "values": ["null", "double"]}},
    {"name": "nested", "type": {"type": "record", "name": "Inner", "namespace": "inner.space", "fields": [
      {"name": "suit", "type": "outer.space.Suit"},
      {"name": "leaf", "type": {"type": "enum", "name": "Leaf", "symbols": ["oak", "elm"]}},
      {"name": "same", "type": "Leaf"}]}},
    {"name": "again", "type": "inner.space.Inner"},
    {"name": "tree", "type": {"type": "record", "name": "Node", "fields": [
      {"name": "value", "type": "int"},
      {"name": "next", "type": ["null", "Node"]},
      {"name": "children", "type": {"type": "array", "items": "Node"}}]}}
  ]
}"#;

fn typed_streams() -> impl Iterator<Item = &'static str> {
    TYPED.iter().map(|(stream, _)| *stream)
}

fn moments(
    start: OffsetDateTime,
    step_millis: i64,
) -> impl Iterator<Item = OffsetDateTime> + Clone {
    (0..).map(move |n| start + Duration::milliseconds(n * step_millis))
}

fn values(stream: &str, seed: u64, count: usize) -> Vec<Value> {
    let mut simulator = Simulator::typed(stream, &schema(stream), seed).unwrap().unwrap();
    moments(NIGHT, 100).take(count).map(|at| simulator.next(at).unwrap()).collect()
}

fn readings(stream: &str, seed: u64, moments: impl Iterator<Item = OffsetDateTime>) -> Vec<Json> {
    let mut simulator = Simulator::typed(stream, &schema(stream), seed).unwrap().unwrap();
    moments.map(|at| simulator.next(at).unwrap().try_into().unwrap()).collect()
}

fn generic_values(schema: &Schema, seed: u64, count: usize) -> Vec<Value> {
    let attributes = schema.custom_attributes().unwrap();
    let time = attributes.get("sluicegate").map_or("time", |contract| text(&contract["time"]));
    let id = if attributes.contains_key("sluicegate") { "event_id" } else { "id" };
    let mut generic = Generic::new(schema.clone(), seed, Some(time.into()), Some(id.into()));
    moments(NIGHT, 100).take(count).map(|at| generic.next(at)).collect()
}

fn generic_readings(schema: &Schema, count: usize) -> Vec<Json> {
    generic_values(schema, 1, count).into_iter().map(|value| value.try_into().unwrap()).collect()
}

fn assert_round_trips(name: &str, schema: &Schema, values: &[Value]) {
    let writer = GenericDatumWriter::builder(schema).build().unwrap();
    let reader = GenericDatumReader::builder(schema).build().unwrap();
    for value in values {
        assert!(value.validate(schema), "{name}: {value:?}");
        let bytes = writer.write_value_to_vec(value.clone()).unwrap();
        let mut rest = &bytes[..];
        assert_eq!(reader.read_value(&mut rest).unwrap(), *value, "{name}");
        assert!(rest.is_empty(), "{name}");
        assert_eq!(value.clone().resolve(schema).unwrap(), *value, "{name}");
    }
}

/// Both ways to serialise a struct agree, up to the order of a map's keys.
fn assert_same_reading(stream: &str, reading: impl Serialize) {
    let schema = schema(stream);
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let bytes = writer.write_ser_to_vec(&reading).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let resolved = to_value(&reading).unwrap().resolve(&schema).unwrap();
    assert_eq!(reader.read_value(&mut &bytes[..]).unwrap(), resolved);
}

/// What the expression says of the reading, in a context that knows the contract's parameters.
fn evaluate(expression: &Program, context: &CelContext, reading: &impl Serialize) -> cel::Value {
    let mut scope = context.new_inner_scope();
    scope.add_variable("message", reading).unwrap();
    expression.execute(&scope).unwrap()
}

fn context(contract: &Json) -> CelContext<'static, 'static> {
    let mut context = CelContext::default();
    context.add_variable("params", &contract["params"]).unwrap();
    context
}

fn contract(stream: &str) -> Json {
    schema(stream).custom_attributes().unwrap()["sluicegate"].clone()
}

fn schemas() -> Vec<(String, Schema)> {
    let files = std::fs::read_dir(path("heartbeats").parent().unwrap()).unwrap();
    let names = files.map(|file| file.unwrap().path().file_stem().unwrap().display().to_string());
    names.map(|name| (name.clone(), schema(&name))).collect()
}

fn schema(stream: &str) -> Schema {
    Schema::parse_str(&std::fs::read_to_string(path(stream)).unwrap()).unwrap()
}

fn path(stream: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas").join(stream).with_extension("avsc")
}

fn text(json: &Json) -> &str {
    json.as_str().unwrap()
}
