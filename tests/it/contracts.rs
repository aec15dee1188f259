//! A contract is checked whole, and a sound one is a working stream.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use sluicegate::{
    check::check,
    codec::cells,
    contract::{Contract, Identity, Scope},
    label::label,
    source::simulate::{Generic, Simulator, TYPED},
};
use time::{Duration, OffsetDateTime};

use crate::support::{Fixture, readings, repository};

#[test]
fn every_broken_rule_and_label_is_reported_with_its_place() {
    let mut avsc = readings();
    avsc["sluicegate"]["rules"] = json!([
        {"name": "misspelt", "chek": "true"},
        {"name": "missing_field", "check": "message.valu > 0.0"},
        {"name": "not_cel", "check": "message.value >"},
        {"name": "number_and_text", "check": "message.value > 'high'"},
        {"name": "unguarded", "check": "message.note.startsWith('a')"},
        {"name": "not_boolean", "check": "message.value + 1.0"},
        {"name": "missing_param", "check": "message.value < params.ceiling"},
        {"name": "missing_param", "check": "true"},
    ]);
    avsc["sluicegate"]["labels"] = json!([
        {"name": "is_high", "type": "boolean", "value": "message.value"},
        {"name": "device", "type": "string", "value": "message.device"},
    ]);
    let note = json!({"name": "note", "type": ["null", "string"], "default": null});
    avsc["fields"].as_array_mut().unwrap().push(note);
    insta::assert_snapshot!(problems(&[("broken", avsc)]), @r#"
    error: 10 problems in the contracts
    ./broken.avsc: sluicegate.rules[0].chek: unknown field `chek`, expected `name` or `check`
    ./broken.avsc: sluicegate.rules[1].check: the record has no field "valu"; expected one of event_id, device, ts, value, note
    ./broken.avsc: sluicegate.rules[2].check: is not valid CEL: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
    ./broken.avsc: sluicegate.rules[3].check: can't be evaluated: found no matching overload for '_>_' applied to '(double, string)'
    ./broken.avsc: sluicegate.rules[4].check: fails where "note" is null: can't be evaluated: found no matching overload for 'startsWith' applied to 'null_type.(string)'; guard it with "message.note == null || ..."
    ./broken.avsc: sluicegate.rules[5].check: gives float; expected a boolean
    ./broken.avsc: sluicegate.rules[6].check: "params.ceiling" is not in params
    ./broken.avsc: sluicegate.rules[7].name: "missing_param" is already taken
    ./broken.avsc: sluicegate.labels[0].value: gives float; the label's type is boolean
    ./broken.avsc: sluicegate.labels[1].name: "device" is already taken
    "#);
}

#[test]
fn every_broken_key_of_the_attribute_is_reported_with_its_place() {
    let mut avsc = readings();
    let attribute = json!({
        "tpic": "readings", "partitions": 0, "key": "sensor", "time": "value", "id": "note",
        "compatibility": "SIDEWAYS", "on_conflict": "newest", "id_from": ["sensor"],
        "input": {"records": "features", "fields": {"sensor": "/sensor"}},
        "aggregates": [
            {"every": "1 minute"},
            {"every": "1h", "by": ["zone"], "of": ["device"]},
        ],
        "alerts": [{"name": "quiet", "by": ["zone"], "when": "count <", "for": "3m"}],
    });
    avsc["sluicegate"] = attribute;
    avsc["fields"][0] = json!({"name": "note", "type": ["null", "string"]});
    let mapping = json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}],
        "sluicegate": {"input": {"record": "/features"}}});
    insta::assert_snapshot!(problems(&[("broken", avsc), ("mapping", mapping)]), @r#"
    error: 16 problems in the contracts
    ./broken.avsc: sluicegate.on_conflict: unknown variant `newest`, expected `ignore` or `latest`
    ./broken.avsc: sluicegate.compatibility: unknown variant `SIDEWAYS`, expected one of `BACKWARD`, `BACKWARD_TRANSITIVE`, `FORWARD`, `FORWARD_TRANSITIVE`, `FULL`, `FULL_TRANSITIVE`, `NONE`
    ./broken.avsc: sluicegate.aggregates[0].every: "1 minute" is not a width of time; expected one like 30s, 1m, 1h or 1d
    ./broken.avsc: sluicegate.tpic: unknown key; expected one of topic, partitions, replication, dead_letter_topic, dead_letter_partitions, table, id, id_from, key, time, on_conflict, compatibility, private, params, input, rules, labels, aggregates, alerts
    ./broken.avsc: sluicegate.id: the idempotency key "note" must be a string, uuid, int or long, and never null
    ./broken.avsc: sluicegate.id_from: the record has no field "sensor"; expected one of note, device, ts, value
    ./broken.avsc: sluicegate.key: the record has no field "sensor"; expected one of note, device, ts, value
    ./broken.avsc: sluicegate.time: "value" is double precision; expected a logical type timestamp-*
    ./broken.avsc: sluicegate.input.fields.sensor: the record has no field "sensor"; expected one of note, device, ts, value
    ./broken.avsc: sluicegate.input.records: "features" is not a JSON pointer; expected "/..."
    ./broken.avsc: sluicegate.aggregates[1].by: there is no field or label "zone"
    ./broken.avsc: sluicegate.aggregates[1].of: "device" is text; expected a number
    ./broken.avsc: sluicegate.alerts[0].by: there is no field or label "zone"
    ./broken.avsc: sluicegate.alerts[0].when: is not valid CEL: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
    ./broken.avsc: sluicegate.partitions: is 0; expected 1 or more
    ./mapping.avsc: sluicegate.input.record: unknown field `record`, expected `records` or `fields`
    "#);
}

#[test]
fn what_needs_an_event_time_says_so_where_there_is_none() {
    let mut avsc = readings();
    avsc["sluicegate"].as_object_mut().unwrap().remove("time");
    avsc["sluicegate"]["on_conflict"] = json!("latest");
    avsc["fields"][0]["type"] = json!(["null", "string"]);
    insta::assert_snapshot!(problems(&[("broken", avsc)]), @r#"
    error: 3 problems in the contracts
    ./broken.avsc: sluicegate.id: the idempotency key "event_id" must be a string, uuid, int or long, and never null
    ./broken.avsc: sluicegate.on_conflict: "latest" compares event times; name the time field with "time"
    ./broken.avsc: sluicegate.aggregates[0]: needs an event time; name its field with "time"
    "#);
}

#[test]
fn what_is_no_finite_record_is_reported_file_by_file() {
    let fixture = Fixture::new();
    let write = |name: &str, text: &str| {
        std::fs::write(fixture.schemas.path().join(name), text).unwrap();
    };
    write("cut.avsc", r#"{"type": "record","#);
    write("no_avro.avsc", r#"{"type": "rekord", "name": "R"}"#);
    write("no_record.avsc", r#"{"type": "map", "values": "int"}"#);
    write("unknown_type.avsc", &record(json!([{"name": "a", "type": "Elsewhere"}])).to_string());
    let node = json!([{"name": "id", "type": "int"}, {"name": "next", "type": ["null", "R"]}]);
    write("recursive.avsc", &record(node).to_string());
    write("no-name.avsc", &record(json!([{"name": "ctid", "type": "int"}])).to_string());
    insta::assert_snapshot!(report(&fixture), @r#"
    error: 7 problems in the contracts
    ./cut.avsc: is not JSON: EOF while parsing a value at line 1 column 18
    ./no-name.avsc: the file's name is the stream's; expected letters, digits and "_"
    ./no-name.avsc: fields[0]: "ctid" is a system column of Postgres; rename it
    ./no_avro.avsc: is not an Avro schema: Unknown primitive type: rekord
    ./no_record.avsc: type: expected a record
    ./recursive.avsc: fields: a type contains itself; expected types of a bounded depth
    ./unknown_type.avsc: is not an Avro schema: Unknown primitive type: Elsewhere
    "#);
}

#[test]
fn two_streams_that_claim_one_topic_or_table_are_reported() {
    let claim = |topic: &str, table: &str| {
        let mut avsc = record(json!([{"name": "a", "type": "int"}]));
        avsc["sluicegate"] = json!({"topic": topic, "table": table});
        avsc
    };
    let contracts = [
        ("first", claim("shared", "one")),
        ("second", claim("shared", "two")),
        ("third", claim("shared.dlq", "two")),
    ];
    insta::assert_snapshot!(problems(&contracts), @r#"
    error: 4 problems in the contracts
    ./second.avsc: sluicegate: the topic "shared" is also claimed by "first"; every topic and table belongs to one purpose
    ./second.avsc: sluicegate: the topic "shared.dlq" is also claimed by "first"; every topic and table belongs to one purpose
    ./third.avsc: sluicegate: the topic "shared.dlq" is also claimed by "second"; every topic and table belongs to one purpose
    ./third.avsc: sluicegate: the table "two" is also claimed by "second"; every topic and table belongs to one purpose
    "#);
}

#[test]
fn a_parameter_that_an_enum_picks_must_be_there_for_every_symbol() {
    let mut avsc = readings();
    avsc["sluicegate"]["params"] = json!({"limits": {"heat": 80.0}, "limit": 1.0});
    avsc["sluicegate"]["labels"][0]["value"] = json!("message.value > params.limits[message.kpi]");
    let symbols = json!({"type": "enum", "name": "Kpi", "symbols": ["heat", "cold", "noise"]});
    let mut closed = avsc.clone();
    closed["fields"].as_array_mut().unwrap().push(json!({"name": "kpi", "type": symbols}));
    insta::assert_snapshot!(problems(&[("closed", closed)]), @"
    error: 2 problems in the contracts
    ./closed.avsc: sluicegate.labels[0].value: can't be evaluated: No such key: cold
    ./closed.avsc: sluicegate.labels[0].value: can't be evaluated: No such key: noise
    ");

    // any text may come in a string, and only the event will tell
    let mut open = avsc;
    open["fields"].as_array_mut().unwrap().push(json!({"name": "kpi", "type": "string"}));
    assert_sound(&[("open", open)]);
}

#[test]
fn the_schemas_of_the_repository_are_sound() {
    let fixture = Fixture::new();
    let schemas = repository("schemas");
    let ran = fixture.run(&["check", "--offline", "--schemas", schemas.to_str().unwrap()]);
    let stdout = ran.success();
    let files = std::fs::read_dir(&schemas).unwrap().map(|file| file.unwrap().path());
    let schemas = files.filter(|path| path.extension().is_some_and(|end| end == "avsc"));
    let expected: BTreeSet<String> =
        schemas.map(|path| format!("{}: ok", path.display())).collect();
    assert!(!expected.is_empty());
    let said: BTreeSet<String> = stdout.lines().map(str::to_owned).collect();
    assert_eq!(said, expected);
}

#[test]
fn every_rule_and_label_of_the_repository_works_on_simulated_events() {
    let start = OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap();
    for contract in Contract::read_all(&repository("schemas")).unwrap() {
        let scope = Scope::new(&contract, start + Duration::hours(1));
        let mut simulator = simulator(&contract);
        let mut labels: Vec<BTreeSet<String>> = vec![BTreeSet::new(); contract.labels.len()];
        for second in 0..3_000 {
            let reading = simulator.next(start + Duration::seconds(second)).unwrap();
            let apache_avro::types::Value::Record(event) = reading else { panic!("no record") };
            let event = cells(&event, &contract.columns);
            match check(&event, &contract, &scope) {
                Ok(()) => {}
                // a generator that knows the schema only does not know the rules
                Err(wrong) if matches!(simulator, Simulator::Generic(_)) => {
                    assert!(wrong.reason.starts_with("rule:"), "{}: {wrong}", contract.stream);
                }
                Err(wrong) => panic!("{}: {wrong}", contract.stream),
            }
            for (seen, value) in labels.iter_mut().zip(label(&event, &contract, &scope).unwrap()) {
                seen.insert(format!("{value:?}"));
            }
        }
        for (label, seen) in contract.labels.iter().zip(labels) {
            assert!(seen.len() > 1, "{}: {} is always {seen:?}", contract.stream, label.name);
        }
    }
}

#[test]
fn a_bare_schema_is_a_working_stream() {
    let mut fixture = Fixture::new();
    let mut avsc = readings();
    avsc.as_object_mut().unwrap().remove("sluicegate");
    // the file has no attribute at all, so its topic is the stream's name
    let stream = fixture.prefix.clone();
    fixture.bare_stream(&stream, &avsc);
    fixture.run(&["check"]).success();
    fixture.run(&["register"]).success();
    fixture.run(&["migrate"]).success();
    fixture.run(&["produce", &stream, "--count", "500", "--seed", "1"]).success();
    fixture.drain();
    assert_eq!(fixture.number(&format!("SELECT count(*) FROM {stream}")), 500);
    assert_eq!(fixture.ledger().inserted, 500);
}

#[test]
fn an_event_without_an_id_is_its_place_in_the_topic() {
    let mut avsc = readings();
    avsc["fields"].as_array_mut().unwrap().remove(0);
    avsc["sluicegate"]["aggregates"] = json!([]);
    let fixture = Fixture::with_stream(avsc);
    fixture.run(&["produce", "readings", "--count", "300", "--seed", "1"]).success();
    fixture.drain();
    let landed = fixture.rows("SELECT * FROM readings ORDER BY event_id");
    assert_eq!(landed.len(), 300);
    let ledger = fixture.ledger();

    // a group that has committed nothing is given every record again
    let again = format!("{}again", fixture.prefix);
    let drain = ["consume", "--exit-when-drained", "--group-prefix", &again];
    fixture.run(&drain).success();
    assert_eq!(fixture.rows("SELECT * FROM readings ORDER BY event_id"), landed);
    assert_eq!(fixture.ledger(), ledger);

    // sent a second time, the same events are other ones
    fixture.run(&["produce", "readings", "--count", "300", "--seed", "1"]).success();
    fixture.drain();
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 600);
}

/// What `check` says of contracts, each of which is broken.
fn problems(contracts: &[(&str, Json)]) -> String {
    report(&written(contracts))
}

fn assert_sound(contracts: &[(&str, Json)]) {
    written(contracts).run(&["check", "--offline"]).success();
}

fn written(contracts: &[(&str, Json)]) -> Fixture {
    let fixture = Fixture::new();
    for (stream, avsc) in contracts {
        let file = fixture.schemas.path().join(format!("{stream}.avsc"));
        std::fs::write(file, avsc.to_string()).unwrap();
    }
    fixture
}

fn report(fixture: &Fixture) -> String {
    let ran = fixture.run(&["check", "--offline", "--schemas", "."]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
    ran.stderr
}

fn record(fields: Json) -> Json {
    json!({"type": "record", "name": "R", "fields": fields})
}

fn simulator(contract: &Contract) -> Simulator {
    let typed = Simulator::typed(&contract.stream, &contract.schema, 7).unwrap();
    assert_eq!(typed.is_some(), TYPED.iter().any(|(stream, _)| *stream == contract.stream));
    typed.unwrap_or_else(|| {
        assert!(matches!(contract.identity, Identity::Field(_)));
        let time = contract.time_column().map(|column| column.name.clone());
        let id = Some(contract.id_column().to_owned());
        Simulator::Generic(Generic::new(contract.schema.clone(), 7, time, id))
    })
}
