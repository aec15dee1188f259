//! Log lines: one JSON object each where that is asked for, and never a secret in any of them.

use serde_json::{Value as Json, json};

use crate::support::{Fixture, readings};

const JSON: [&str; 2] = ["--log-format", "json"];

/// A part of every secret that a test here gives.
const SECRET: &str = "hunter2";

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

#[test]
fn no_failing_command_shows_a_secret() {
    let fixture = Fixture::with_stream(readings());
    let verbs: [&[&str]; 6] = [
        &["consume", "--duration", "1s"],
        &["produce", "readings", "--count", "1"],
        &["migrate"],
        &["register"],
        &["check"],
        &["stats"],
    ];
    for verb in verbs {
        for wrong in &wrong_addresses() {
            for more in [&["--log", "trace"][..], &["--help"], &["--no-such-flag"]] {
                let mut command = fixture.command(&[verb, more].concat());
                let output = command.envs(wrong.clone()).output().unwrap();
                let shown = [output.stdout, output.stderr].concat();
                assert_shows_no_secret(&String::from_utf8(shown).unwrap());
            }
        }
    }
}

#[test]
fn a_configuration_file_shows_none_of_its_secrets() {
    let fixture = Fixture::with_stream(readings());
    let file = fixture.schemas.path().join("sluicegate.toml");
    let sound = format!(
        "database-url = 'postgres://sluicegate:{SECRET}@127.0.0.1:1/none'\n\
         registry-url = 'http://user:{SECRET}@127.0.0.1:1'\nregistry-user = 'user'\n\
         registry-password = '{SECRET}'\nkafka-sasl-password = '{SECRET}'\n\
         [kafka]\n'ssl.key.password' = '{SECRET}'\n"
    );
    let broken = [
        format!("registry-password = '{SECRET}"),
        format!("registry-password = ['{SECRET}']"),
        format!("registry-password = '{SECRET}'\nregistry-password = '{SECRET}'"),
        format!("registry_password = '{SECRET}'"),
    ];
    for text in [&[sound][..], &broken].concat() {
        std::fs::write(&file, &text).unwrap();
        for run in [&["consume", "--help"][..], &["register"], &["migrate"], &["stats"]] {
            let mut command = fixture.command(run);
            // the file is weaker than the environment
            command.env_remove("DATABASE_URL").env_remove("SCHEMA_REGISTRY_URL");
            let output = command.output().unwrap();
            let shown = [output.stdout, output.stderr].concat();
            assert_shows_no_secret(&String::from_utf8(shown).unwrap());
        }
    }
}

/// Services that are not there or do not let us in, each with a secret in its address or beside.
fn wrong_addresses() -> [Vec<(&'static str, String)>; 3] {
    let database = |place: &str| format!("postgres://sluicegate:{SECRET}@{place}");
    let here = crate::support::variable("DATABASE_URL");
    let (_, place) = here.rsplit_once('@').unwrap();
    [
        vec![
            ("DATABASE_URL", database(place)),
            ("SCHEMA_REGISTRY_USER", "user".into()),
            ("SCHEMA_REGISTRY_PASSWORD", SECRET.into()),
        ],
        vec![
            ("DATABASE_URL", database("127.0.0.1:1/none")),
            ("SCHEMA_REGISTRY_URL", format!("http://user:{SECRET}@127.0.0.1:1")),
        ],
        vec![
            ("DATABASE_URL", database("[/none")),
            ("SCHEMA_REGISTRY_TOKEN", SECRET.into()),
            ("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext".into()),
            ("KAFKA_SASL_MECHANISM", "PLAIN".into()),
            ("KAFKA_SASL_USERNAME", "user".into()),
            ("KAFKA_SASL_PASSWORD", SECRET.into()),
        ],
    ]
}

#[track_caller]
fn assert_shows_no_secret(shown: &str) {
    assert!(!shown.is_empty());
    let leaks: Vec<&str> = shown.lines().filter(|line| line.contains(SECRET)).collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
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
