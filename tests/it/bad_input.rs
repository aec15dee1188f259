//! Whatever bytes arrive, each bad record is one dead letter with a reason of its own, and the next
//! event lands.

use serde_json::{Value as Json, json};
use sluicegate::wire::{SchemaId, frame};

use crate::{
    avro::{double, id, items, long, string},
    support::{Fixture, Ledger, readings},
};

/// An event in parts, so that each can be spoiled alone.
#[derive(Clone)]
struct Event {
    event_id: Vec<u8>,
    device: Vec<u8>,
    ts: Vec<u8>,
    value: Vec<u8>,
    price: Vec<u8>,
    every: Vec<u8>,
    tags: Vec<u8>,
    samples: Vec<u8>,
}

impl Event {
    fn good(number: u64) -> Event {
        Event {
            event_id: string(id(number)),
            device: string("d1"),
            ts: long(1_700_000_000_000),
            value: double(1.5),
            price: string([0x01, 0x00]),
            every: long(250),
            tags: items(&[tag("grade", "A")]),
            samples: items(&[double(0.5)]),
        }
    }

    fn body(&self) -> Vec<u8> {
        let Event { event_id, device, ts, value, price, every, tags, samples } = self;
        [event_id, device, ts, value, price, every, tags, samples].map(Vec::as_slice).concat()
    }
}

fn tag(key: &str, value: &str) -> Vec<u8> {
    [string(key), string(value)].concat()
}

fn contract() -> Json {
    json!({
        "type": "record", "name": "Reading", "namespace": "test",
        "sluicegate": {
            "time": "ts",
            "rules": [
                {"name": "value_is_not_negative", "check": "!(message.value < 0.0)"},
                {"name": "not_from_the_future", "check": "message.ts <= now + duration('5m')"},
                {"name": "grade_is_known", "check": "message.tags['grade'] in ['A', 'B']"},
            ],
            "labels": [{"name": "per_second", "type": "long", "value": "1000 / message.every"}],
        },
        "fields": [
            {"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "device", "type": "string"},
            {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "value", "type": "double"},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
            {"name": "every", "type": "long"},
            {"name": "tags", "type": {"type": "map", "values": "string"}},
            {"name": "samples", "type": {"type": "array", "items": "double"}},
        ],
    })
}

/// Sends each bad value with a good event behind it, in one partition; gives a line for each dead
/// letter.
fn dead_letters_of(fixture: &Fixture, ours: u32, cases: Vec<(&str, Option<Vec<u8>>)>) -> String {
    let (names, bad): (Vec<&str>, Vec<_>) = cases.into_iter().unzip();
    let good = |n| Some(frame(SchemaId(ours), &Event::good(n).body()));
    let values: Vec<_> = (0..).zip(bad).flat_map(|(n, bad)| [bad, good(n)]).collect();
    fixture.send_values(&fixture.topic(), &values);
    fixture.drain();

    let count = i64::try_from(names.len()).unwrap();
    assert_eq!(fixture.number("SELECT count(DISTINCT event_id) FROM readings"), count);
    let (inserted, dead_lettered) = (count, count);
    let offsets = 2 * count;
    let ledger = Ledger { inserted, duplicate: 0, dead_lettered, skipped: 0, offsets };
    assert_eq!(fixture.ledger(), ledger);
    let letters = fixture.rows("SELECT * FROM dlq_events ORDER BY \"offset\"");
    let offsets: Vec<_> = letters.iter().map(|letter| letter["offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, (0..count).map(|n| 2 * n).collect::<Vec<_>>());
    assert!(letters.iter().all(|letter| !letter["event_time"].is_null()), "{letters:#?}");
    let text = |letter: &Json, column: &str| letter[column].as_str().unwrap().to_owned();
    let lines = names.iter().zip(&letters).map(|(name, letter)| {
        let [stage, reason, detail] = ["stage", "reason", "detail"].map(|name| text(letter, name));
        format!("{name:<24} {stage:<6} {reason:<26} {detail}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn bytes_that_are_no_event_of_the_stream_are_one_dead_letter_each() {
    let fixture = Fixture::with_stream(contract());
    let ours = fixture.schema_id(&fixture.topic());
    let others = fixture.register("others-value", &OTHERS.parse::<Json>().unwrap(), "AVRO");
    let no_avro =
        fixture.register("json-value", &json!({"type": "object", "properties": {}}), "JSON");
    let good = Event::good(1_000).body();
    let event = |id| Some(frame(SchemaId(id), &good));
    let body = |body: &[u8]| Some(frame(SchemaId(ours), body));
    let spoiled = |spoil: fn(&mut Event)| {
        let mut event = Event::good(1_000);
        spoil(&mut event);
        body(&event.body())
    };
    let cases = vec![
        ("tombstone", None),
        ("empty value", Some(vec![])),
        ("wrong magic byte", Some(b"{\"value\": 1}".to_vec())),
        ("four bytes", Some(vec![0; 4])),
        ("unknown schema id", event(2_000_000_000)),
        ("schema id above i32", event(u32::MAX)),
        ("another stream's schema", event(others)),
        ("a JSON schema", event(no_avro)),
        ("no body", body(&[])),
        ("a byte short", body(&good[..good.len() - 1])),
        ("cut in the first field", body(&good[..10])),
        ("a byte too long", body(&[&good[..], &[0]].concat())),
        ("a string of 2^60 bytes", spoiled(|event| event.device = long(1 << 60))),
        ("a string of -1 bytes", spoiled(|event| event.device = long(-1))),
        ("2^60 samples", spoiled(|event| event.samples = long(1 << 60))),
        ("more samples than bytes", spoiled(|event| event.samples = long(1_000_000))),
        ("a varint without an end", spoiled(|event| event.ts = vec![0xff; 11])),
        ("a string not in UTF-8", spoiled(|event| event.device = string(b"d\xff"))),
        ("no UUID", spoiled(|event| event.event_id = string("17"))),
    ];
    let letters = dead_letters_of(&fixture, ours, cases);
    let letters = letters.replace(&format!("schema {no_avro} "), "schema [id] ");
    insta::assert_snapshot!(letters, @r#"
    tombstone                wire   tombstone                  the record is a tombstone: it has no value
    empty value              wire   empty_value                the value is empty: it lacks the 5-byte schema header
    wrong magic byte         wire   bad_magic_byte             the value begins with byte 0x7b instead of 0x00, so it has no schema header
    four bytes               wire   truncated_header           the value has 4 bytes and its schema header alone needs 5
    unknown schema id        decode unknown_schema_id          the schema registry knows no schema with id 2000000000
    schema id above i32      decode unknown_schema_id          the schema registry knows no schema with id 4294967295
    another stream's schema  decode wrong_schema               written as "test.Order"; this stream's is "test.Reading"
    a JSON schema            decode unusable_schema            schema [id] cannot be used to read events: its type is JSON, not AVRO
    no body                  decode truncated_body             the body ends before the event does
    a byte short             decode truncated_body             the body ends before the event does
    cut in the first field   decode truncated_body             the body ends before the event does
    a byte too long          decode trailing_bytes             1 bytes are left over behind the event
    a string of 2^60 bytes   decode length_out_of_bounds       a length says 1152921504606846976, which is more than there is
    a string of -1 bytes     decode length_out_of_bounds       -1 is no length
    2^60 samples             decode length_out_of_bounds       a length says 1152921504606846976, which is more than there is
    more samples than bytes  decode length_out_of_bounds       a length says 1000000, which is more than there is
    a varint without an end  decode malformed_number           a number has more bits than its type
    a string not in UTF-8    decode invalid_utf8               a string is not UTF-8
    no UUID                  decode undecodable                a string is no uuid: invalid length: found 2
    "#);
}

/// What another stream's topic would carry.
const OTHERS: &str = r#"{"type": "record", "name": "Order", "namespace": "test",
    "fields": [{"name": "event_id", "type": "string"}]}"#;

#[test]
fn events_that_break_a_rule_or_do_not_fit_postgres_are_one_dead_letter_each() {
    let fixture = Fixture::with_stream(contract());
    let ours = fixture.schema_id(&fixture.topic());
    let spoiled = |spoil: fn(&mut Event)| {
        let mut event = Event::good(1_000);
        spoil(&mut event);
        Some(frame(SchemaId(ours), &event.body()))
    };
    let cases = vec![
        ("a rule broken", spoiled(|event| event.value = double(-0.5))),
        ("a rule without its key", spoiled(|event| event.tags = items(&[]))),
        ("a label divided by zero", spoiled(|event| event.every = long(0))),
        ("NUL in a string", spoiled(|event| event.device = string("d\0"))),
        (
            "NUL in a map's value",
            spoiled(|event| event.tags = items(&[tag("grade", "A"), tag("b", "\0")])),
        ),
        (
            "NUL in a map's key",
            spoiled(|event| event.tags = items(&[tag("grade", "A"), tag("\0", "b")])),
        ),
        ("NaN", spoiled(|event| event.value = double(f64::NAN))),
        ("infinity", spoiled(|event| event.value = double(f64::INFINITY))),
        ("NaN in an array", spoiled(|event| event.samples = items(&[double(f64::NAN)]))),
        (
            "infinity in an array",
            spoiled(|event| event.samples = items(&[double(f64::NEG_INFINITY)])),
        ),
        ("after 294276 AD", spoiled(|event| event.ts = long(9_300_000_000_000_000))),
        ("the last long", spoiled(|event| event.ts = long(i64::MAX))),
        ("before 4713 BC", spoiled(|event| event.ts = long(-211_000_000_000_000_000 - 1))),
        ("a price of 10000.00", spoiled(|event| event.price = string([0x0f, 0x42, 0x40]))),
        ("-10000.00", spoiled(|event| event.price = string([0xf0, 0xbd, 0xc0]))),
    ];
    insta::assert_snapshot!(dead_letters_of(&fixture, ours, cases), @r#"
    a rule broken            check  rule:value_is_not_negative does not hold: !(message.value < 0.0)
    a rule without its key   check  rule_error:grade_is_known  No such key: grade, in message.tags['grade'] in ['A', 'B']
    a label divided by zero  label  label_error:per_second     Division by zero of Int(1000), in 1000 / message.every
    NUL in a string          land   nul_character              "device": has a NUL at byte 1, which text can't hold
    NUL in a map's value     land   nul_character              "tags": has a NUL at byte 0, which text can't hold
    NUL in a map's key       land   nul_character              "tags": has a NUL at byte 0, which text can't hold
    NaN                      land   not_finite                 "value": is NaN
    infinity                 land   not_finite                 "value": is inf
    NaN in an array          land   not_finite                 "samples": is NaN
    infinity in an array     land   not_finite                 "samples": is -inf
    after 294276 AD          land   timestamp_out_of_range     "ts": is 9300000000000000 ms from 1970; Postgres goes from 4713 BC to 294276 AD
    the last long            land   timestamp_out_of_range     "ts": is 9223372036854775807 ms from 1970; Postgres goes from 4713 BC to 294276 AD
    before 4713 BC           land   timestamp_out_of_range     "ts": is -211000000000000001 ms from 1970; Postgres goes from 4713 BC to 294276 AD
    a price of 10000.00      land   numeric_out_of_range       "price": has 7 digits; expected up to 6
    -10000.00                land   numeric_out_of_range       "price": has 7 digits; expected up to 6
    "#);
}

#[test]
fn an_event_of_the_far_future_that_breaks_a_rule_keeps_a_time_to_be_found_by() {
    let fixture = Fixture::with_stream(readings());
    let ours = fixture.schema_id(&fixture.topic());
    // the year 10000 is beyond what RFC 3339 writes, and well within Postgres's reach
    let far = 253_402_300_800_000;
    fixture.send_values(&fixture.topic(), &[crate::avro::reading(ours, &id(1), far, -1.0)]);
    fixture.drain();
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_events WHERE event_time IS NOT NULL"), 1);
}
