//! What a person reads: help, statistics, and one clear line where something is set up wrongly.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use crate::support::{Fixture, Ran, readings, variable};

/// Nothing listens here.
const NOWHERE: &str = "127.0.0.1:1";

/// How long a person is kept waiting to be told.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn every_verb_explains_itself() {
    insta::assert_snapshot!("help", help(&[]));
    for verb in
        ["demo", "check", "register", "migrate", "produce", "consume", "serve", "stats", "audit"]
    {
        insta::assert_snapshot!(format!("help_of_{verb}"), help(&[verb]));
    }
    insta::assert_snapshot!("help_of_aggregates", help(&["aggregates"]));
    insta::assert_snapshot!("help_of_rules", help(&["rules"]));
    insta::assert_snapshot!("help_of_rules_test", help(&["rules", "test"]));
    insta::assert_snapshot!("help_of_aggregates_verify", help(&["aggregates", "verify"]));
    insta::assert_snapshot!("help_of_dlq", help(&["dlq"]));
    for verb in ["list", "stats", "show", "explain", "replay", "edit", "park", "purge", "export"] {
        insta::assert_snapshot!(format!("help_of_dlq_{verb}"), help(&["dlq", verb]));
    }
}

#[test]
fn a_wrong_command_line_is_told_from_a_failure_by_its_exit_code() {
    let fixture = Fixture::new();
    for wrong in [
        &["consume", "--batch-rows", "0"][..],
        &["produce"],
        &["produce", "readings", "--rate", "-1"],
        &["produce", "readings", "--duplicates", "200%"],
        &["produce", "readings", "--every", "1s"],
        &["produce", "readings", "--from", "a.csv", "--poll", "http://localhost"],
        &["migrate", "--param", "readings"],
        &["dance"],
        &[],
    ] {
        let ran = fixture.run(wrong);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{wrong:?}: {}", ran.stderr);
        assert!(wrong.is_empty() || ran.one_clear_error().len() > "error: ".len());
    }
}

#[test]
fn no_broker_is_one_line() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    fixture.run(&["migrate"]).success();
    let run = |verb: &[&str]| told(&fixture, &[verb, &["--kafka-brokers", NOWHERE]].concat());
    let (consume, produce) = std::thread::scope(|scope| {
        let consume = scope.spawn(|| run(&["consume"]));
        (scope.spawn(|| run(&["produce", "readings"])).join().unwrap(), consume.join().unwrap())
    });
    insta::assert_snapshot!(consume, @"error: no Kafka broker answers at 127.0.0.1:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused; start one with `make up`, or set KAFKA_BROKERS");
    assert_eq!(produce, consume);
}

#[test]
fn a_database_that_lets_nobody_in_is_one_line() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    let url = variable("DATABASE_URL");
    let (scheme, rest) = url.split_once("://").unwrap();
    let (login, place) = rest.split_once('@').unwrap();
    let (user, _) = login.split_once(':').unwrap();
    let (host, _) = place.split_once('/').unwrap();
    let wrong = |url: String| {
        let lines = [&["migrate"][..], &["consume"], &["stats"]].map(|verb| {
            told(&fixture, &[verb, &["--database-url", &url]].concat()).replace(host, "[postgres]")
        });
        assert!(lines.iter().all(|line| *line == lines[0]), "{lines:#?}");
        lines.into_iter().next().unwrap().replace(user, "[user]")
    };
    insta::assert_snapshot!(wrong(format!("{scheme}://{user}:wrong@{place}")), @r#"error: can't connect to Postgres at [postgres]: password authentication failed for user "[user]"; check DATABASE_URL"#);
    insta::assert_snapshot!(wrong(format!("{scheme}://{login}@{host}/nonesuch")), @r#"error: can't connect to Postgres at [postgres]: database "nonesuch" does not exist; check DATABASE_URL"#);
    insta::assert_snapshot!(wrong(format!("{scheme}://{login}@{NOWHERE}/any")), @"error: can't connect to Postgres at 127.0.0.1:1: Connection refused (os error 111); start it with `make up`, or set DATABASE_URL");
    insta::assert_snapshot!(wrong("nonsense".into()), @"error: the database's address can't be read; expected DATABASE_URL=postgres://USER:PASSWORD@HOST:PORT/NAME");
    // the address holds a password, and so is not repeated
    assert!(!wrong("postgres://user:hunter2@[/x".into()).contains("hunter2"));
}

#[test]
fn a_table_that_is_missing_is_one_line() {
    let fixture = Fixture::embedded(readings());
    fixture.sql("DROP TABLE readings");
    insta::assert_snapshot!(told(&fixture, &["consume"]), @r#"error: readings: the tables are not as the contract says: not yet run: CREATE TABLE "readings"; run `sluicegate migrate`"#);
    insta::assert_snapshot!(told(&fixture, &["stats"]), @r#"error: readings: can't be counted: relation "readings" does not exist; `sluicegate migrate` creates what is missing"#);
}

#[test]
fn alerts_that_could_reach_nobody_are_one_line() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    let serve = |args: &[&str]| told(&fixture, &[&["serve"], args].concat());
    insta::assert_snapshot!(serve(&["--alerts-webhook", "nonsense"]), @"error: the webhook's address can't be read; expected http:// or https://");
    let topic = format!("{}.readings", fixture.prefix);
    insta::assert_snapshot!(serve(&["--alerts-topic", &topic]), @r#"error: the topic "[prefix].readings" is the stream "readings"'s; name another for alerts"#);
    insta::assert_snapshot!(serve(&[]), @r#"error: the table "ledger" is missing; run `sluicegate migrate`"#);
}

#[test]
fn no_registry_is_one_line() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    fixture.stream("others", readings());
    let nowhere = format!("http://{NOWHERE}");
    let register = ["register", "--registry-url", &nowhere];
    insta::assert_snapshot!(told(&fixture, &register), @"error: no schema registry answers; start it with `make up`, or set SCHEMA_REGISTRY_URL: the schema registry is away: error sending request for url (http://127.0.0.1:1/config/[prefix].others-value): client error (Connect): tcp connect error: Connection refused (os error 111)");
    let produce = ["produce", "readings", "--registry-url", &nowhere];
    assert_eq!(told(&fixture, &produce), told(&fixture, &register).replace("others", "readings"));
    insta::assert_snapshot!(told(&fixture, &["register", "--registry-url", "nonsense"]), @"error: schema registry address number 1 is unusable; expected SCHEMA_REGISTRY_URL=http://HOST:PORT: relative URL without a base");

    // contracts can be checked without one
    let ran = fixture.run(&["check", "--registry-url", &nowhere]);
    insta::assert_snapshot!(redacted(&fixture, &ran.stderr), @"compatibility was not checked: the schema registry is away: error sending request for url (http://127.0.0.1:1/subjects/[prefix].others-value/versions/latest): client error (Connect): tcp connect error: Connection refused (os error 111)");
    insta::assert_snapshot!(redacted(&fixture, &ran.success()), @"
    [schemas]/others.avsc: ok
    [schemas]/readings.avsc: ok
    ");
}

#[test]
fn a_stream_or_schema_that_is_not_there_is_one_line() {
    let mut fixture = Fixture::new();
    insta::assert_snapshot!(told(&fixture, &["check"]), @"error: [schemas]: has no .avsc file; name the folder of your schemas with --schemas");
    fixture.stream("readings", readings());
    fixture.stream("others", readings());
    insta::assert_snapshot!(told(&fixture, &["consume", "reading"]), @r#"error: there is no stream "reading"; expected one of others, readings"#);
    insta::assert_snapshot!(told(&fixture, &["produce", "reading"]), @r#"error: there is no stream "reading"; expected one of others, readings"#);
    insta::assert_snapshot!(told(&fixture, &["check", "--schemas", "nowhere"]), @"error: nowhere: can't be listed: No such file or directory (os error 2); name the folder of your schemas with --schemas");
    std::fs::create_dir(fixture.schemas.path().join("folder.avsc")).unwrap();
    insta::assert_snapshot!(told(&fixture, &["check"]), @"error: [schemas]/folder.avsc: can't be read: Is a directory (os error 21)");
    std::fs::remove_dir(fixture.schemas.path().join("folder.avsc")).unwrap();
    std::fs::write(fixture.schemas.path().join("latin.avsc"), b"{\"doc\": \"\xe9\"}").unwrap();
    insta::assert_snapshot!(told(&fixture, &["check"]), @"error: [schemas]/latin.avsc: can't be read: stream did not contain valid UTF-8");
}

#[test]
fn input_that_is_not_there_is_one_line() {
    let fixture = Fixture::embedded(readings());
    std::fs::write(fixture.schemas.path().join("cut.json"), "[{").unwrap();
    let from = |file: &str| told(&fixture, &["produce", "readings", "--from", file]);
    insta::assert_snapshot!(from("nowhere.csv"), @"error: cannot open nowhere.csv: No such file or directory (os error 2)");
    insta::assert_snapshot!(from("readings.xlsx"), @"error: readings.xlsx is of no known kind; known are .csv, .jsonl, .ndjson, .json, .geojson, and - for JSON lines from standard input");
    insta::assert_snapshot!(from("cut.json"), @"error: cannot read records from cut.json: the document is not JSON: EOF while parsing an object at line 1 column 2");
    let poll = |url: &str| told(&fixture, &["produce", "readings", "--poll", url]);
    insta::assert_snapshot!(poll(&format!("http://user:hunter2@{NOWHERE}/feed")), @"error: GET http://127.0.0.1:1/feed failed: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)");
    insta::assert_snapshot!(poll("ftp://localhost/feed"), @"error: only http and https can be polled, not ftp");
}

#[test]
fn a_parameter_that_the_contract_does_not_have_is_one_line() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    let param = |param: &str| told(&fixture, &["check", "--offline", "--param", param]);
    insta::assert_snapshot!(param("readings.limits=80"), @r#"error: --param readings: "limits" is not in the contract's params; expected one of limit"#);
    insta::assert_snapshot!(param("readings.limit=high"), @r#"error: --param readings: limit: is "high"; expected a value like the contract's 80.0"#);
    insta::assert_snapshot!(param("reading.limit=80"), @r#"error: params of "reading": there is no such stream; expected one of readings"#);
}

#[test]
fn a_wrong_configuration_file_is_one_line() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    let told_of = |toml: &str| {
        configure(&fixture, toml);
        told(&fixture, &["check", "--offline"])
    };
    insta::assert_snapshot!(told_of("kafka-broker = \"localhost\""), @r#"error: configuration file: "kafka-broker" is not a flag that takes a value; see `sluicegate help VERB` for their names"#);
    insta::assert_snapshot!(told_of("\n\nschemas = ["), @"error: sluicegate.toml: line 3 is not TOML: unclosed array, expected `]`");
    insta::assert_snapshot!(told_of("schemas = [\"a\", \"b\"]"), @r#"error: sluicegate.toml: "schemas": expected a string, a number or a boolean"#);
    insta::assert_snapshot!(told_of("[params.readings]\nlimits = 7"), @r#"error: params.readings: "limits" is not in the contract's params; expected one of limit"#);
    insta::assert_snapshot!(told_of("config = \"other.toml\""), @r#"error: configuration file: "config" is not a flag that takes a value; see `sluicegate help VERB` for their names"#);
    let missing = ["check", "--offline", "--config", "nowhere.toml"];
    insta::assert_snapshot!(told(&fixture, &missing), @"error: nowhere.toml can't be read: No such file or directory (os error 2)");
    let secret = ["migrate", "--database-password-file", "nowhere"];
    configure(&fixture, "");
    insta::assert_snapshot!(told(&fixture, &secret), @"error: the secret in nowhere can't be read: No such file or directory (os error 2)");
    insta::assert_snapshot!(told(&fixture, &["check", "--log", ",=,"]), @"error: --log is not a filter; expected a level or one such as sluicegate=debug: invalid filter directive");
    let property = ["produce", "readings", "--kafka-property", "no.such=1"];
    insta::assert_snapshot!(told(&fixture, &property), @r#"error: librdkafka refuses "no.such": No such configuration property: "no.such""#);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let fixture = Fixture::new();
    configure(&fixture, "schemas = \"of-the-file\"");
    let check = |environment: Option<&str>, flags: &[&str]| {
        let mut command = fixture.command(&[&["check", "--offline"], flags].concat());
        command.env_remove("SLUICEGATE_SCHEMAS");
        command.envs(environment.map(|folder| ("SLUICEGATE_SCHEMAS", folder)));
        let line = Ran::of(&mut command).one_clear_error();
        line.split(": ").nth(1).unwrap().to_owned()
    };
    assert_eq!(check(Some("of-the-environment"), &["--schemas", "of-the-flag"]), "of-the-flag");
    assert_eq!(check(Some("of-the-environment"), &[]), "of-the-environment");
    assert_eq!(check(None, &[]), "of-the-file");
    let other = fixture.schemas.path().join("other.toml");
    std::fs::write(&other, "schemas = \"of-the-other-file\"").unwrap();
    assert_eq!(check(None, &["--config", "other.toml"]), "of-the-other-file");
    configure(&fixture, "");
    assert_eq!(check(None, &[]), "schemas");
}

#[test]
fn what_every_verb_takes_may_stand_in_the_file_too() {
    let fixture = Fixture::embedded(readings());
    configure(&fixture, "log-format = \"json\"\n[kafka]\n\"linger.ms\" = \"soon\"");
    let consume = ["consume", "--exit-when-drained", "--kafka-property", "linger.ms=1"];
    let mut command = fixture.command(&consume);
    let is_json = |line: &str| serde_json::from_str::<Json>(line).is_ok();
    let ran = Ran::of(&mut command);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stderr.is_empty() && ran.stderr.lines().all(is_json), "{}", ran.stderr);
    let ran = Ran::of(command.env("SLUICEGATE_LOG_FORMAT", "text"));
    assert!(!ran.stderr.is_empty() && !ran.stderr.lines().any(is_json), "{}", ran.stderr);
    // without the flag the file's property counts
    let ran = fixture.run(&["consume", "--exit-when-drained"]);
    assert_ne!(ran.code, 0);
    let said: Json = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert!(said["message"].as_str().unwrap().contains("linger.ms"), "{said}");
}

#[test]
fn a_parameter_of_the_flag_wins_over_the_files_and_that_over_the_contracts() {
    let fixture = Fixture::embedded(readings());
    let land = |value: f64, flags: &[&str]| {
        let id = uuid::Uuid::new_v4();
        produce(&fixture, &[json!({"event_id": id, "value": value})]);
        fixture.run(&[&["consume", "--exit-when-drained"], flags].concat()).success();
        let row = format!("SELECT is_high FROM readings WHERE event_id = '{id}'");
        fixture.rows(&row)[0]["is_high"].as_bool().unwrap()
    };
    assert!(!land(50.0, &[]));
    configure(&fixture, "[params.readings]\nlimit = 40");
    assert!(land(50.0, &[]));
    assert!(!land(50.0, &["--param", "readings.limit=60"]));
}

#[test]
fn stats_count_what_landed_and_what_did_not() {
    let fixture = Fixture::embedded(readings());
    let ids: Vec<uuid::Uuid> = (1..=6).map(uuid::Uuid::from_u128).collect();
    let reading = |id: usize, value: f64| json!({"event_id": ids[id], "value": value});
    produce(&fixture, &[reading(0, 1.0), reading(1, 2.0), reading(2, 90.0), reading(3, -1.0)]);
    produce(&fixture, &[reading(0, 1.0), reading(4, -2.0), reading(1, 2.0), reading(5, 3.0)]);
    fixture.send(&fixture.topic(), None, Some(b"not Avro"));
    let lag = |stats: &Json| stats[0]["lag"].as_i64();
    let before: Json = serde_json::from_str(&fixture.run(&["stats", "--json"]).success()).unwrap();
    assert_eq!((lag(&before), before[0]["total"].as_i64()), (Some(9), Some(0)));

    fixture.drain();
    insta::assert_snapshot!(fixture.run(&["stats", "--json"]).success(), @r#"
    [
      {
        "stream": "readings",
        "rows": 4,
        "total": 9,
        "inserted": 4,
        "duplicates": 2,
        "skipped": 0,
        "dead_lettered": 3,
        "expired": 0,
        "paused": null,
        "dead_letters": {
          "bad_magic_byte": 1,
          "rule:value_is_positive": 2
        },
        "labels": {
          "is_high": {
            "false": 3,
            "true": 1
          }
        },
        "lag": 0
      }
    ]
    "#);
    insta::assert_snapshot!(fixture.run(&["stats", "readings"]).success(), @"
    ┌───────────────────────────────────────────────────────────────────────────────────────────────────────────────────┐
    │ stream     rows   total   duplicates   dead letters   lag   labels                      dead letters by reason    │
    ╞═══════════════════════════════════════════════════════════════════════════════════════════════════════════════════╡
    │ readings      4       9            2              3     0   is_high false: 3, true: 1   bad_magic_byte: 1         │
    │                                                                                         rule:value_is_positive: 2 │
    └───────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
    ");
}

#[test]
fn stats_are_there_without_a_broker() {
    let mut fixture = Fixture::new();
    fixture.stream("others", readings());
    fixture.stream("readings", readings());
    let mut aggregates = readings();
    aggregates["sluicegate"]["table"] = json!("more");
    fixture.stream("more", aggregates);
    fixture.run(&["migrate"]).success();
    let started = Instant::now();
    let stats = fixture.run(&["stats", "--json", "--kafka-brokers", NOWHERE]).success();
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let stats: Vec<Json> = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats.len(), 3);
    assert!(stats.iter().all(|stream| stream["lag"].is_null() && stream["rows"] == 0));
}

/// Runs what can't work; gives the one line that it ends with, soon.
fn told(fixture: &Fixture, args: &[&str]) -> String {
    let started = Instant::now();
    let ran = Ran::of(fixture.command(args).env("SLUICEGATE_LOG", "warn"));
    assert!(started.elapsed() < SOON, "{args:?} took {:?}", started.elapsed());
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{args:?}: {}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{args:?}: {}", ran.stderr);
    redacted(fixture, &ran.one_clear_error())
}

fn redacted(fixture: &Fixture, text: &str) -> String {
    let schemas = fixture.schemas.path().to_str().unwrap();
    text.replace(schemas, "[schemas]").replace(&fixture.prefix, "[prefix]")
}

fn configure(fixture: &Fixture, toml: &str) {
    std::fs::write(fixture.schemas.path().join("sluicegate.toml"), toml).unwrap();
}

/// Produces readings of which the test says what matters.
fn produce(fixture: &Fixture, readings: &[Json]) {
    let line = |reading: &Json| {
        let mut reading = reading.clone();
        reading["device"] = json!("a");
        reading["ts"] = json!("2026-01-01T00:00:00Z");
        format!("{reading}\n")
    };
    let file = fixture.schemas.path().join("some.jsonl");
    std::fs::write(&file, readings.iter().map(line).collect::<String>()).unwrap();
    fixture.run(&["produce", "readings", "--from", file.to_str().unwrap()]).success();
}

/// Help as on a terminal of a hundred columns, with nothing set.
fn help(verb: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    let ran = Ran::of(command.args(verb).arg("--help").env_clear().env("COLUMNS", "100"));
    ran.success()
}

#[test]
fn who_reads_no_further_gets_no_complaint() {
    let fixture = Fixture::embedded(readings());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = fixture.command(&["stats"]);
    let output = command.stdout(writer).stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
