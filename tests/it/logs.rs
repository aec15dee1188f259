//! Log lines: one JSON object each where that is asked for.

use serde_json::{Value as Json, json};

use crate::support::{Fixture, readings};

const JSON: [&str; 2] = ["--log-format", "json"];

#[test]
fn consume_logs_one_json_object_a_line() {
    let fixture = Fixture::with_stream(readings());
    fixture.produce("readings", &[row(1, json!(1.0)), row(2, json!(-1.0))]);
    let ran = fixture.run(&[&["consume", "--exit-when-drained"][..], &JSON].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let done = line(&ran.stderr, "done");
    assert_eq!((&done["level"], &done["stream"]), (&json!("INFO"), &json!("readings")));
    assert_eq!((&done["inserted"], &done["dead_lettered"]), (&json!(1), &json!(1)));
}

#[test]
fn produce_logs_one_json_object_a_line() {
    let fixture = Fixture::with_stream(readings());
    let file = fixture.schemas.path().join("rows.jsonl");
    let rows = [row(1, json!(1.0)), row(2, json!("warm"))];
    std::fs::write(&file, rows.map(|row| format!("{row}\n")).concat()).unwrap();
    let produce = ["produce", "readings", "--from", file.to_str().unwrap()];
    let ran = fixture.run(&[&produce[..], &JSON].concat());
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let rejected = line(&ran.stderr, "some rows could not be encoded");
    assert_eq!((&rejected["level"], &rejected["stream"]), (&json!("WARN"), &json!("readings")));
    assert_eq!(rejected["rejected"], json!(1));
}

#[test]
fn a_run_that_fails_says_so_as_json_too() {
    let fixture = Fixture::with_stream(readings());
    for verb in [&["consume"][..], &["produce", "readings", "--count", "1"]] {
        let nowhere = ["--kafka-brokers", "127.0.0.1:1"];
        let ran = fixture.run(&[verb, &JSON, &nowhere].concat());
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let errors: Vec<Json> =
            lines(&ran.stderr).into_iter().filter(|line| line["level"] == "ERROR").collect();
        assert_eq!(errors.len(), 1, "{}", ran.stderr);
        assert!(errors[0]["message"].as_str().unwrap().contains("no Kafka broker"), "{errors:?}");
    }
}

fn row(n: u64, value: Json) -> Json {
    json!({"event_id": uuid::Uuid::from_u64_pair(1, n), "device": "d", "ts": n, "value": value})
}

/// Every line as JSON, with what every line must have.
#[track_caller]
fn lines(log: &str) -> Vec<Json> {
    let lines: Vec<Json> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    for line in &lines {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "no {field}: {line}");
        }
    }
    lines
}

/// The one line with this message.
#[track_caller]
fn line(log: &str, message: &str) -> Json {
    let mut found = lines(log).into_iter().filter(|line| line["message"] == message);
    let line = found.next().unwrap_or_else(|| panic!("no {message:?}: {log}"));
    assert_eq!(found.next(), None);
    line
}
