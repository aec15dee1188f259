//! Every Avro type through Kafka into Postgres: what SQL reads back is what was sent.

use apache_avro::{BigDecimal, types::Value};
use num_bigint::BigInt;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value as Json, json};
use sluicegate::{codec::cells, contract::Contract, sink::RowEncoder};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    avro::id,
    support::{Fixture, readings, variable},
};

#[test]
fn numbers_and_booleans_are_read_back_as_they_were_sent() {
    same_in_sql(&[
        (json!("boolean"), "boolean", &[("true", "true"), ("false", "false")]),
        (
            json!("int"),
            "integer",
            &[("0", "0"), ("-2147483648", "-2147483648"), ("2147483647", "2147483647")],
        ),
        (
            json!("long"),
            "bigint",
            &[
                ("-1", "-1"),
                ("-9223372036854775808", "-9223372036854775808"),
                ("9223372036854775807", "9223372036854775807"),
            ],
        ),
        (
            json!("float"),
            "real",
            &[("0.1", "0.1"), ("-3.4028235e38", "-3.4028235e+38"), ("1e-45", "1e-45")],
        ),
        (
            json!("double"),
            "double precision",
            &[
                ("0.1", "0.1"),
                ("-0.0", "-0"),
                ("5e-324", "5e-324"),
                ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ],
        ),
    ]);
}

#[test]
fn texts_bytes_and_ids_are_read_back_as_they_were_sent() {
    let id = ["00000000-0000-0000-0000-000000000000", "01020304-0506-0708-090a-0b0c0d0e0fff"];
    let quoted = id.map(|id| format!("{id:?}"));
    let ids = [(&*quoted[0], id[0]), (&*quoted[1], id[1])];
    same_in_sql(&[
        (
            json!("string"),
            "text",
            &[
                ("\"\"", ""),
                ("\" a\\n\\\\N\\t\"", " a\n\\N\t"),
                ("\"Zürich 東京 🚲\"", "Zürich 東京 🚲"),
            ],
        ),
        (json!("bytes"), "bytea", &[("\"\"", "\\x"), (r#""\u0000aÿ""#, "\\x0061ff")]),
        (
            json!({"type": "fixed", "name": "Two", "size": 2}),
            "bytea",
            &[(r#""\u0000\u0000""#, "\\x0000"), ("\"ÿa\"", "\\xff61")],
        ),
        (
            json!({"type": "enum", "name": "Colour", "symbols": ["red", "green"]}),
            "text",
            &[("\"red\"", "red"), ("\"green\"", "green")],
        ),
        (json!({"type": "string", "logicalType": "uuid"}), "uuid", &ids),
        (json!({"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}), "uuid", &ids),
    ]);
}

#[test]
fn decimals_keep_every_digit_and_their_scale() {
    let decimal = |precision: u32, scale: u32| json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale});
    let fixed = json!({
        "type": "fixed", "name": "Money", "size": 8,
        "logicalType": "decimal", "precision": 18, "scale": 4,
    });
    let large = format!("{}.{}", "9".repeat(30), "8".repeat(20));
    let negative = format!("-{}.{}1", "1".repeat(30), "0".repeat(19));
    let quoted = [format!("{large:?}"), format!("{negative:?}")];
    same_in_sql(&[
        (
            decimal(9, 2),
            "numeric(9,2)",
            &[("\"0\"", "0.00"), ("\"-0.01\"", "-0.01"), ("\"9999999.99\"", "9999999.99")],
        ),
        (
            decimal(50, 20),
            "numeric(50,20)",
            &[(&quoted[0], &large), (&quoted[1], &negative), ("\"-1\"", "-1.00000000000000000000")],
        ),
        (
            decimal(12, 0),
            "numeric(12,0)",
            &[("\"0\"", "0"), ("\"-10000\"", "-10000"), ("\"999999999999\"", "999999999999")],
        ),
        (decimal(4, 4), "numeric(4,4)", &[("\"0.0001\"", "0.0001"), ("\"-0.9999\"", "-0.9999")]),
        (
            fixed,
            "numeric(18,4)",
            &[("\"0\"", "0.0000"), ("\"-99999999999999.9999\"", "-99999999999999.9999")],
        ),
        (
            json!({"type": "bytes", "logicalType": "big-decimal"}),
            "numeric",
            &[("\"123.4500\"", "123.4500"), ("\"-0.00001\"", "-0.00001"), ("\"0\"", "0")],
        ),
    ]);
}

#[test]
fn dates_and_times_are_read_back_as_they_were_sent() {
    let logical = |kind: &str, logical: &str| json!({"type": kind, "logicalType": logical});
    let instant = "timestamp with time zone";
    let local = "timestamp without time zone";
    let millis: &[_] = &[
        ("0", "1970-01-01 00:00:00"),
        ("-1", "1969-12-31 23:59:59.999"),
        ("-62135596800000", "0001-01-01 00:00:00"),
        ("253402300799999", "9999-12-31 23:59:59.999"),
    ];
    let micros: &[_] = &[("1", "1970-01-01 00:00:00.000001"), ("-1", "1969-12-31 23:59:59.999999")];
    // Postgres keeps microseconds; what is finer is cut off towards the past
    let nanos: &[_] = &[
        ("1999", "1970-01-01 00:00:00.000001"),
        ("-1", "1969-12-31 23:59:59.999999"),
        ("-1000", "1969-12-31 23:59:59.999999"),
        ("-1001", "1969-12-31 23:59:59.999998"),
    ];
    let duration =
        json!({"type": "fixed", "name": "Lasting", "size": 12, "logicalType": "duration"});
    same_in_sql(&[
        (
            logical("int", "date"),
            "date",
            &[("0", "1970-01-01"), ("-1", "1969-12-31"), ("\"2024-02-29\"", "2024-02-29")],
        ),
        (
            logical("int", "time-millis"),
            "time without time zone",
            &[("0", "00:00:00"), ("86399999", "23:59:59.999")],
        ),
        (
            logical("long", "time-micros"),
            "time without time zone",
            &[("1", "00:00:00.000001"), ("86399999999", "23:59:59.999999")],
        ),
        (logical("long", "timestamp-millis"), instant, millis),
        (logical("long", "timestamp-micros"), instant, micros),
        (logical("long", "timestamp-nanos"), instant, nanos),
        (logical("long", "local-timestamp-millis"), local, millis),
        (logical("long", "local-timestamp-micros"), local, micros),
        (logical("long", "local-timestamp-nanos"), local, nanos),
        (
            duration,
            "interval",
            &[("\"P1Y2M3DT4.005S\"", "1 year 2 mons 3 days 00:00:04.005"), ("\"P0D\"", "00:00:00")],
        ),
    ]);
}

#[test]
fn nested_values_are_read_back_as_json() {
    let point = json!({"type": "record", "name": "Point", "fields": [
        {"name": "x", "type": "double"},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "cost", "type":
            {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2}},
    ]});
    let cost = "1234567890123456789012345678.90";
    let sent = [
        json!({"x": 0.1, "at": -1, "cost": cost}).to_string(),
        json!({"x": -1e300, "at": null, "cost": "0"}).to_string(),
    ];
    let landed = [
        format!(r#"{{"x": 0.1, "at": "1969-12-31T23:59:59.999Z", "cost": "{cost}"}}"#),
        format!(r#"{{"x": -1{}, "at": null, "cost": "0.00"}}"#, "0".repeat(300)),
    ];
    same_in_sql(&[
        (
            json!({"type": "array", "items": "string"}),
            "jsonb",
            &[("[]", "[]"), (r#"["", "é\n"]"#, r#"["", "é\n"]"#)],
        ),
        (
            json!({"type": "map", "values": {"type": "array", "items": "long"}}),
            "jsonb",
            &[
                ("{}", "{}"),
                (
                    r#"{"a": [9223372036854775807], "b": []}"#,
                    r#"{"a": [9223372036854775807], "b": []}"#,
                ),
            ],
        ),
        (point, "jsonb", &[(&sent[0], &landed[0]), (&sent[1], &landed[1])]),
        (
            json!(["long", "string", "boolean"]),
            "jsonb",
            &[
                ("-9223372036854775808", "-9223372036854775808"),
                ("\"a\"", "\"a\""),
                ("true", "true"),
            ],
        ),
    ]);
}

#[test]
fn any_decimal_reads_as_postgres_itself_would_write_it() {
    let mut fixture = Fixture::new();
    fixture.stream(
        "numbers",
        json!({"type": "record", "name": "Number", "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "value", "type": {"type": "bytes", "logicalType": "big-decimal"}},
        ]}),
    );
    let contract = Contract::read(&fixture.schemas.path().join("numbers.avsc")).unwrap();
    let encoder = RowEncoder::new(&contract).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut connection = runtime.block_on(async {
        let mut connection = PgConnection::connect(&variable("DATABASE_URL")).await.unwrap();
        let table = "CREATE TEMPORARY TABLE numbers (event_id text, value numeric)";
        sqlx::raw_sql(table).execute(&mut connection).await.unwrap();
        connection
    });
    let decimals = proptest::collection::vec(("-?[0-9]{1,60}", -40i64..60), 100);
    let copied = std::cell::RefCell::new(&mut connection);
    TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(32) })
        .run(&decimals, |decimals| {
            let rows = decimals.iter().map(|(digits, scale)| {
                // Postgres reads this notation; an Avro decimal is its two numbers
                let text = format!("{digits}e{}", -scale);
                let decimal = BigDecimal::new(digits.parse::<BigInt>().unwrap(), *scale);
                let id = ("event_id".to_owned(), Value::String(text));
                let event = [id, ("value".to_owned(), Value::BigDecimal(decimal))];
                let mut row = Vec::new();
                let cells = cells(&event, &contract.columns);
                encoder.encode(&cells, [], Uuid::nil(), &mut row).unwrap();
                row
            });
            let wrong = runtime.block_on(differing(&mut copied.borrow_mut(), rows));
            prop_assert_eq!(wrong, Vec::<(String, String, String)>::new());
            Ok(())
        })
        .unwrap();
}

/// Copies rows into `numbers` and gives those where Postgres reads another number than was sent.
async fn differing(
    connection: &mut PgConnection,
    rows: impl Iterator<Item = Vec<u8>>,
) -> Vec<(String, String, String)> {
    sqlx::raw_sql("TRUNCATE numbers").execute(&mut *connection).await.unwrap();
    let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows {
        bytes.extend_from_slice(&2i16.to_be_bytes());
        bytes.extend_from_slice(&row);
    }
    bytes.extend_from_slice(&(-1i16).to_be_bytes());
    let copy = "COPY numbers FROM STDIN (FORMAT binary)";
    let mut copy = connection.copy_in_raw(copy).await.unwrap();
    copy.send(bytes).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 100);
    sqlx::query_as(
        "SELECT event_id, value::text, event_id::numeric::text FROM numbers \
         WHERE value::text <> event_id::numeric::text OR value <> event_id::numeric",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

/// An Avro type, the Postgres type of its column, and values: as JSON that is sent and as the text
/// that SQL reads.
type Case<'c> = (Json, &'c str, &'c [(&'c str, &'c str)]);

/// Sends every value twice, once as it is and once where it may be null, and null besides.
fn same_in_sql(cases: &[Case<'_>]) {
    let fixture = Fixture::with_stream(contract(cases));
    let events = cases.iter().map(|(.., values)| values.len()).max().unwrap();
    let lines = (0..events).map(|event| {
        let fields = cases.iter().enumerate().map(|(field, (.., values))| {
            let sent = values[event % values.len()].0;
            // every field is null in one of the events
            let nullable = if event == field % events { "null" } else { sent };
            format!(r#""c{field}": {sent}, "n{field}": {nullable}"#)
        });
        format!("{{\"event_id\": {event}, {}}}\n", fields.collect::<Vec<_>>().join(", "))
    });
    let file = fixture.schemas.path().join("events.jsonl");
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    fixture.run(&["produce", "readings", "--from", file.to_str().unwrap()]).success();
    fixture.drain();
    for (field, (avro, column, values)) in cases.iter().enumerate() {
        for (name, nullable) in [(format!("c{field}"), false), (format!("n{field}"), true)] {
            let text = match *column {
                "timestamp with time zone" => format!("({name} AT TIME ZONE 'UTC')::text"),
                _ => format!("{name}::text"),
            };
            let query = format!(
                "SELECT {text} AS value, (SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
                 WHERE attrelid = 'readings'::regclass AND attname = '{name}') AS type \
                 FROM readings ORDER BY event_id"
            );
            let expected: Vec<Json> = (0..events)
                .map(|event| match nullable && event == field % events {
                    true => json!({"value": null, "type": column}),
                    false => json!({"value": values[event % values.len()].1, "type": column}),
                })
                .collect();
            assert_eq!(fixture.rows(&query), expected, "{avro}");
        }
    }
}

/// A contract with each type twice, the second time nullable.
fn contract(cases: &[Case<'_>]) -> Json {
    let mut fields = vec![json!({"name": "event_id", "type": "long"})];
    for (index, (avro, ..)) in cases.iter().enumerate() {
        let again = avro.get("name").unwrap_or(avro);
        let mut branches = vec![json!("null")];
        branches.extend(again.as_array().cloned().unwrap_or_else(|| vec![again.clone()]));
        fields.push(json!({"name": format!("c{index}"), "type": avro}));
        fields.push(json!({"name": format!("n{index}"), "type": branches}));
    }
    json!({"type": "record", "name": "Reading", "fields": fields})
}

#[test]
fn large_values_are_compressed_in_the_quick_way() {
    let mut contract = readings();
    let fields = contract["fields"].as_array_mut().unwrap();
    fields.push(json!({"name": "note", "type": "string"}));
    let fixture = Fixture::with_stream(contract);
    let note = "large ".repeat(5_000);
    let event = json!({"event_id": id(1), "device": "d", "ts": 0, "value": 1.0, "note": note});
    fixture.produce("readings", &[event]);
    fixture.drain();
    let kept = "SELECT pg_column_compression(note) AS by, length(note) AS length FROM readings";
    assert_eq!(fixture.rows(kept), [json!({"by": "lz4", "length": 30_000})]);
}
