//! A dead letter keeps all that is known of its record, and its copy on the dead-letter topic is the
//! record itself, with the reason behind its own headers.

use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::FutureRecord,
};
use serde_json::{Value as Json, json};

use crate::{
    avro::{id, reading},
    support::{Fixture, Ledger, Read, readings, repository},
};

/// 2026-05-01T12:00:00Z.
const NOON: i64 = 1_777_636_800_000;

/// Headers of every awkward kind.
const HEADERS: [(&str, Option<&[u8]>); 6] = [
    ("trace", Some(b"first")),
    ("trace", Some(b"second")),
    ("nothing", None),
    ("empty", Some(b"")),
    ("binary", Some(b"\x00\xff\n")),
    ("", Some("grüße".as_bytes())),
];

fn with_headers<'r>(record: FutureRecord<'r, [u8], [u8]>) -> FutureRecord<'r, [u8], [u8]> {
    let insert = |all: OwnedHeaders, (key, value)| all.insert(Header { key, value });
    record.headers(HEADERS.into_iter().fold(OwnedHeaders::new(), insert))
}

/// The one row of `dlq_events`, complete, with what differs from run to run checked and hidden.
fn only_row(fixture: &Fixture, value: &[u8]) -> Json {
    let rows = fixture.rows("SELECT * FROM dlq_events");
    let [row] = <[Json; 1]>::try_from(rows).unwrap();
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(row["payload"], format!("\\x{hex}"));
    assert_eq!(row["topic"], fixture.topic());
    assert_eq!(row["schema_id"], fixture.schema_id(&fixture.topic()));
    let hidden = ["payload", "topic", "schema_id", "seen_at", "fingerprint"];
    let Json::Object(mut row) = row else { panic!("{row}") };
    row.retain(|column, _| !hidden.contains(&column.as_str()));
    Json::Object(row)
}

#[test]
fn a_row_keeps_all_that_is_known_of_an_event_that_breaks_a_rule() {
    let fixture = Fixture::with_stream(readings());
    let topic = fixture.topic();
    let value = reading(fixture.schema_id(&topic), &id(7), NOON, -1.5).unwrap();
    let record = FutureRecord::to(&topic).key(&b"d1"[..]).payload(&value[..]).timestamp(5);
    fixture.send_records([with_headers(record)]);
    fixture.drain();
    insta::assert_json_snapshot!(only_row(&fixture, &value), @r#"
    {
      "attempts": 1,
      "decoded": {
        "device": "d1",
        "event_id": "00000000-0000-0000-0000-000000000007",
        "ts": "2026-05-01T12:00:00Z",
        "value": -1.5
      },
      "detail": "does not hold: message.value >= 0.0",
      "event_id": "00000000-0000-0000-0000-000000000007",
      "event_time": "2026-05-01T12:00:00+00:00",
      "headers": [
        {
          "name": "trace",
          "text": "first"
        },
        {
          "name": "trace",
          "text": "second"
        },
        {
          "name": "nothing"
        },
        {
          "name": "empty",
          "text": ""
        },
        {
          "base64": "AP8K",
          "name": "binary"
        },
        {
          "name": "",
          "text": "grüße"
        }
      ],
      "id": 1,
      "key": "\\x6431",
      "offset": 0,
      "partition": 0,
      "purged_at": null,
      "reason": "rule:value_is_positive",
      "record_time": 5,
      "replays": 0,
      "stage": "check",
      "status": "pending",
      "stream": "readings"
    }
    "#);
}

#[test]
fn a_fingerprint_is_the_one_that_the_migration_gave_to_older_dead_letters() {
    let mut contract = readings();
    contract["fields"][0]["type"] = json!("string");
    let fixture = Fixture::with_stream(contract);
    let topic = fixture.topic();
    let schema = fixture.schema_id(&topic);
    let letters = ["plain", "\u{e9}\0"].map(|id| reading(schema, id, NOON, -1.5));
    fixture.send_values(&topic, &letters);
    fixture.send_values(&topic, &[Some(vec![0xff])]);
    fixture.drain();
    fixture.send_values(&topic, &letters);
    fixture.drain();
    let ledger = fixture.ledger();
    assert_eq!((ledger.dead_lettered, ledger.duplicate), (3, 2));
    let migration = std::fs::read_to_string(repository("migrations/V5__dlq_outbox.sql")).unwrap();
    let expression = migration.split_once("USING ").unwrap().1.split_once(";").unwrap().0;
    let told = fixture.rows(&format!(
        "SELECT event_id, fingerprint IS NOT DISTINCT FROM {expression} AS same, \
         fingerprint IS NULL AS none FROM dlq_events ORDER BY id"
    ));
    insta::assert_json_snapshot!(told, @r#"
    [
      {
        "event_id": "plain",
        "none": false,
        "same": true
      },
      {
        "event_id": "é␀",
        "none": false,
        "same": true
      },
      {
        "event_id": null,
        "none": true,
        "same": true
      }
    ]
    "#);
}

#[test]
fn a_row_keeps_all_that_is_known_of_bytes_that_could_not_be_decoded() {
    let fixture = Fixture::with_stream(readings());
    let topic = fixture.topic();
    let whole = reading(fixture.schema_id(&topic), &id(7), NOON, 1.5).unwrap();
    let value = &whole[..whole.len() - 3];
    let record = FutureRecord::to(&topic).key(&b"\x00\xff"[..]).payload(value);
    fixture.send_records([record.timestamp(NOON)]);
    fixture.drain();
    insta::assert_json_snapshot!(only_row(&fixture, value), @r#"
    {
      "attempts": 1,
      "decoded": null,
      "detail": "the body ends before the event does",
      "event_id": null,
      "event_time": "2026-05-01T12:00:00+00:00",
      "headers": [],
      "id": 1,
      "key": "\\x00ff",
      "offset": 0,
      "partition": 0,
      "purged_at": null,
      "reason": "truncated_body",
      "record_time": 1777636800000,
      "replays": 0,
      "stage": "decode",
      "status": "pending",
      "stream": "readings"
    }
    "#);
}

#[test]
fn the_copy_on_the_dead_letter_topic_is_the_record_byte_for_byte() {
    let fixture = Fixture::with_stream(readings());
    let topic = fixture.topic();
    let schema_id = fixture.schema_id(&topic);
    let bad = reading(schema_id, &id(1), NOON, -1.0).unwrap();
    let other = reading(schema_id, &id(2), NOON, -1.0).unwrap();
    let large = vec![7; 900_000];
    let mut records = vec![FutureRecord::to(&topic).payload(&bad[..])];
    for value in [&other[..], b"", b"\x00", b"\xffnot avro", &large] {
        let key = &b"\x00binary\xff"[..];
        records.push(with_headers(FutureRecord::to(&topic).key(key).payload(value)));
    }
    records.push(with_headers(FutureRecord::to(&topic).key(&b""[..])));
    let sent = records.len();
    let now = now();
    let minutes_ago = |n: i64| now - n * 60_000;
    let records = (0..).zip(records).map(|(n, record)| record.timestamp(minutes_ago(n)));
    fixture.send_records(records);
    fixture.drain();

    let originals = fixture.read_topic(&topic);
    let copies = fixture.read_topic(&format!("{topic}.dlq"));
    assert_eq!((originals.len(), copies.len()), (sent, sent));
    for copy in &copies {
        let offset: usize = copy.header("__connect.errors.offset").unwrap().parse().unwrap();
        let original = &originals[offset];
        assert_eq!((&copy.key, &copy.value), (&original.key, &original.value));
        assert_eq!(copy.timestamp, Some(minutes_ago(original.offset)));
        let (own, context) = copy.headers.split_at(original.headers.len());
        assert_eq!(own, original.headers);
        assert!(size(context) <= 1_000, "{context:?}");
    }
    let of_offset = |copy: &&Read| copy.header("__connect.errors.offset").unwrap() == "0";
    insta::assert_snapshot!(context_of(copies.iter().find(of_offset).unwrap(), &topic), @r#"
    __connect.errors.topic: [topic]
    __connect.errors.partition: 0
    __connect.errors.offset: 0
    __connect.errors.stage: check
    sluicegate.stream: readings
    sluicegate.reason: rule:value_is_positive
    sluicegate.attempts: 1
    __connect.errors.exception.message: does not hold: message.value >= 0.0
    "#);
}

/// Milliseconds since 1970: what is much older may be deleted at any moment.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// The bytes that headers take.
fn size(headers: &[(String, Option<Vec<u8>>)]) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum()
}

/// The headers of a copy whose original has none.
fn context_of(copy: &Read, topic: &str) -> String {
    let line = |(name, value): &(String, Option<Vec<u8>>)| {
        let value = String::from_utf8(value.clone().unwrap()).unwrap();
        format!("{name}: {}", value.replace(topic, "[topic]"))
    };
    copy.headers.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A contract with names of the given length, and with a rule longer than any header may be.
fn longwinded(length: usize) -> Json {
    let mut contract = readings();
    let check = format!("message.device != '{}' && message.value >= 0.0", "long".repeat(1_000));
    contract["sluicegate"]["rules"] = json!([{"name": "r".repeat(length), "check": check}]);
    contract["sluicegate"]["aggregates"] = json!([]);
    contract
}

#[test]
fn context_headers_stay_under_a_kilobyte_however_much_there_is_to_say() {
    let mut fixture = Fixture::new();
    let topic = fixture.stream(&"s".repeat(63), longwinded(63));
    fixture.create_topic(&topic, 1);
    fixture.run(&["register"]).success();
    fixture.run(&["migrate"]).success();
    let bad = reading(fixture.schema_id(&topic), &id(1), NOON, -1.0);
    fixture.send_values(&topic, &[bad]);
    fixture.drain();
    let copies = fixture.read_topic(&format!("{topic}.dlq"));
    let detail = copies[0].header("__connect.errors.exception.message").unwrap();
    assert!(detail.starts_with("does not hold: message.device != 'longlong"), "{detail}");
    assert!((990..=1_000).contains(&size(&copies[0].headers)), "{:?}", copies[0].headers);
    assert_eq!(copies[0].header("__connect.errors.topic"), Some(topic));
    assert_eq!(copies[0].header("sluicegate.reason"), Some(format!("rule:{}", "r".repeat(63))));
}

#[test]
fn a_copy_has_no_timestamp_of_its_record_where_the_topic_would_refuse_that() {
    let fixture = Fixture::with_stream(readings());
    let topic = fixture.topic();
    let dead_letters = format!("{topic}.dlq");
    fixture.create_topic(&dead_letters, 1);
    fixture.configure_topic(&dead_letters, "message.timestamp.before.max.ms", "3600000");
    let sent = now();
    // several of one batch, and one beside them that would not be refused
    let record = |age: i64| FutureRecord::to(&topic).payload(&b"\xffold"[..]).timestamp(sent - age);
    fixture.send_records([record(2 * 3_600_000), record(60_000), record(3 * 3_600_000)]);
    fixture.drain();
    let copies = fixture.read_topic(&dead_letters);
    let mut times: Vec<i64> = copies.iter().map(|copy| copy.timestamp.unwrap()).collect();
    times.sort_unstable();
    assert_eq!(times.len(), 3);
    assert_eq!(times[0], sent - 60_000);
    assert!(times[1] >= sent && times[2] >= sent, "{times:?}");
    // written before there was a column for it
    fixture.sql("UPDATE dlq_events SET record_time = NULL");
    fixture.sql("INSERT INTO dlq_outbox SELECT stream, id FROM dlq_events");
    fixture.drain();
    let copies = fixture.read_topic(&dead_letters);
    assert_eq!(copies.len(), 6);
    assert!(copies[3..].iter().all(|copy| copy.timestamp >= Some(times[2])));
    fixture.run(&["audit", "--drained"]).success();
}

#[test]
fn a_rule_whose_name_is_too_long_for_a_header_is_refused() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", longwinded(64));
    let checked = fixture.run(&["check"]);
    assert_ne!(checked.code, 0);
    let said = "sluicegate.rules[0].name: is 64 bytes long; expected up to 63";
    assert!(format!("{}{}", checked.stdout, checked.stderr).contains(said), "{checked:?}");
}

#[test]
fn a_dead_letter_is_published_once_and_again_only_where_that_was_not_recorded() {
    let fixture = Fixture::with_stream(readings());
    let topic = fixture.topic();
    let bad = |n: u8| Some(vec![0xff, n]);
    fixture.send_values(&topic, &(0..5).map(bad).collect::<Vec<_>>());
    let published = || {
        let copies = fixture.read_topic(&format!("{topic}.dlq"));
        copies.into_iter().map(|copy| copy.value.unwrap()[1]).collect::<Vec<u8>>()
    };
    fixture.drain();
    assert_eq!(published(), [0, 1, 2, 3, 4]);
    fixture.drain();
    assert_eq!(published(), [0, 1, 2, 3, 4]);

    // as if the program had been killed between the acknowledgement and its record
    fixture
        .sql("INSERT INTO dlq_outbox SELECT stream, id FROM dlq_events WHERE \"offset\" IN (1, 3)");
    fixture.sql(&format!(
        "WITH letter AS (INSERT INTO dlq_events (stream, topic, partition, \"offset\", payload, stage, \
         reason, detail) VALUES ('readings', '{topic}', 0, 99, '\\xff63', 'wire', 'bad_magic_byte', '') \
         RETURNING stream, id) INSERT INTO dlq_outbox SELECT * FROM letter"
    ));
    // and as if somebody had deleted one that still waits
    fixture.sql("INSERT INTO dlq_outbox VALUES ('readings', 500), ('readings', 1000)");
    fixture.drain();
    assert_eq!(published(), [0, 1, 2, 3, 4, 1, 3, 99]);
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_outbox"), 0);
}

#[test]
fn more_dead_letters_than_are_copied_at_once_are_all_copied() {
    let fixture = Fixture::with_stream(readings());
    let topic = fixture.topic();
    let large = |n: u8| Some([&[0xff, n], &[0; 900_000][..]].concat());
    let mut values: Vec<_> = (0..12).map(large).collect();
    values.push(None);
    fixture.send_values(&topic, &values);
    fixture.drain();
    let copied = || {
        let copies = fixture.read_topic(&format!("{topic}.dlq"));
        copies
            .iter()
            .map(|copy| copy.header("__connect.errors.offset").unwrap())
            .collect::<Vec<_>>()
    };
    let all = |offsets: &[u32]| offsets.iter().map(u32::to_string).collect::<Vec<_>>();
    let before = copied();
    assert_eq!(before, all(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]));
    // all at once, and one of them deleted by somebody
    fixture.sql("INSERT INTO dlq_outbox SELECT stream, id FROM dlq_events");
    fixture.sql("DELETE FROM dlq_events WHERE \"offset\" = 5");
    fixture.drain();
    assert_eq!(copied()[13..], all(&[0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]));
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_outbox"), 0);
}

#[test]
fn redelivery_changes_neither_dead_letters_nor_table_nor_aggregates_nor_ledger() {
    let fixture = Fixture::with_stream(readings());
    let topic = fixture.topic();
    let schema = fixture.schema_id(&topic);
    fixture.sql("ALTER TABLE readings ADD CONSTRAINT sane CHECK (value < 1000)");
    let values = [1.0, -1.0, 2.0, 5_000.0, f64::NAN, 3.0];
    let event = |(n, value)| reading(schema, &id(n), NOON, value);
    let mut records: Vec<_> = (0..).zip(values).map(event).collect();
    records.extend([None, reading(schema, &id(0), NOON, 4.0)]);
    fixture.send_values(&topic, &records);
    fixture.drain();
    let tables = || {
        let columns = "to_jsonb(kept) - 'updated_at'";
        ["dlq_events", "readings", "agg_readings_minute", "ledger"].map(|table| {
            fixture.rows(&format!("SELECT {columns} AS row FROM {table} AS kept ORDER BY 1"))
        })
    };
    let before = tables();
    let ledger = Ledger { inserted: 3, duplicate: 1, dead_lettered: 4, skipped: 0, offsets: 8 };
    assert_eq!(fixture.ledger(), ledger);

    fixture.drain_again();
    assert_eq!(tables(), before);
    let copies = fixture.read_topic(&format!("{topic}.dlq"));
    assert_eq!(copies.len(), 4);
}
