//! Producers in other languages know nothing of Sluicegate: an Avro schema and a topic will do.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value as Json, json};

use crate::{
    avro::id,
    support::{Fixture, Ledger, ended, readings, repository},
};

/// Sends events with Python's confluent-kafka and its Avro serializer.
fn produce_with_python(fixture: &Fixture, schema: &Path, events: &[Json]) {
    let made = Command::new(repository("scripts/python")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut python = Command::new(String::from_utf8(made.stdout).unwrap().trim_end())
        .arg(repository("tests/python/produce.py"))
        .args(["KAFKA_BROKERS", "SCHEMA_REGISTRY_URL"].map(|name| fixture.address(name)))
        .arg(fixture.topic())
        .arg(schema)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    for event in events {
        writeln!(stdin, "{event}").unwrap();
    }
    drop(stdin);
    assert!(ended(&mut python).is_some_and(|status| status.success()));
}

/// The schema as its producer keeps it: plain Avro with a text of its own, the fields in another
/// order, and one that our contract does not know.
fn their_schema() -> Json {
    json!({
        "type": "record", "name": "Reading", "namespace": "test", "doc": "Sent by Python.",
        "fields": [
            {"name": "firmware", "type": ["null", "string"], "default": null},
            {"name": "device", "type": "string"},
            {"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "value", "type": "double"},
            {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    })
}

#[test]
fn events_of_a_python_producer_land_and_its_bad_ones_are_kept_byte_for_byte() {
    events_of_python_land(&Fixture::with_stream(readings()));
}

#[test]
fn so_they_do_by_the_broker_and_the_registry_inside_the_process() {
    events_of_python_land(&Fixture::embedded(readings()));
}

fn events_of_python_land(fixture: &Fixture) {
    let topic = fixture.topic();
    let schema = fixture.schemas.path().join("theirs.json");
    std::fs::write(&schema, their_schema().to_string()).unwrap();
    let event = |n: u64, value: f64| {
        let ts = 1_777_636_800_000 + n * 1_000;
        json!({"event_id": id(n), "device": "grün", "ts": ts, "value": value, "firmware": "1.2"})
    };
    let events = [event(0, 20.5), event(1, -1.0), event(2, 90.25)];
    produce_with_python(fixture, &schema, &events);
    fixture.drain();

    insta::allow_duplicates! {
        insta::assert_json_snapshot!(fixture.rows("SELECT * FROM readings ORDER BY event_id"), @r#"
        [
          {
            "device": "grün",
            "event_id": "00000000-0000-0000-0000-000000000000",
            "is_high": false,
            "ts": "2026-05-01T12:00:00+00:00",
            "value": 20.5
          },
          {
            "device": "grün",
            "event_id": "00000000-0000-0000-0000-000000000002",
            "is_high": true,
            "ts": "2026-05-01T12:00:02+00:00",
            "value": 90.25
          }
        ]
        "#);
    }
    let ledger = Ledger { inserted: 2, duplicate: 0, dead_lettered: 1, skipped: 0, offsets: 3 };
    assert_eq!(fixture.ledger(), ledger);
    let original = &fixture.read_topic(&topic)[1];
    let copies = fixture.read_topic(&format!("{topic}.dlq"));
    // one that was under way at the end is sent once more
    assert!(!copies.is_empty() && original.headers.len() == 2);
    for copy in &copies {
        assert_eq!((&copy.key, &copy.value), (&original.key, &original.value));
        assert!(copy.headers.starts_with(&original.headers), "{copy:?}");
        assert_eq!(copy.header("sluicegate.reason").unwrap(), "rule:value_is_positive");
    }
}
